"""The few factorisations that metrics share, each with the derivative that exists.

Float64 takes the cheap route through a Gram matrix. Float32 never squares the condition number:
it takes an SVD or a QR of the rows themselves, which costs a few times more.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxte._inputs import HIGHEST

matmul = partial(jnp.matmul, precision=HIGHEST)


def safe_root(square: Array) -> Array:
    """Square root with derivative 0 at 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


class Spectrum(NamedTuple):
    """Thin spectrum of A = X' diag(w) X for rows X [n, d], with r = min(n, d), largest first.

    ``values`` [r]: eigenvalues, exactly 0 where they are rounding error. ``axes`` [d, r]: their
    eigenvectors, the entry of largest magnitude of each positive; a full basis for n >= d.
    ``dual`` [n, r]: diag(w) X axes / sqrt(values), 0 where the value is 0.
    """

    values: Array
    axes: Array
    dual: Array


@jax.custom_jvp
def spectrum(x: Array, weights: Array) -> Spectrum:
    """Spectrum of X' diag(w) X by the cheapest accurate route; differentiable, also at weight 0.

    float64, n >= d: eigh of the d x d Gram matrix; n < d: of the n x n one; float32: QR and SVD.
    Between two equal eigenvalues the derivative of the vectors does not exist: such a pair
    contributes 0, which is right for everything that does not depend on the basis among them.
    """
    n, d = x.shape
    root = jnp.sqrt(weights)[:, None]
    rows = x * root
    if x.dtype == jnp.float32:
        values, axes, left = _spectrum_from_svd(rows)
    else:
        small = matmul(rows.T, rows) if n >= d else matmul(rows, rows.T)
        values, vectors = jnp.linalg.eigh(small, symmetrize_input=False)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = values > max(n, d) * jnp.finfo(x.dtype).eps * values[0]
        sigma = jnp.sqrt(jnp.where(kept, values, 1))
        values = jnp.where(kept, values, 0)
        axes = vectors if n >= d else matmul(rows.T, vectors) * jnp.where(kept, 1 / sigma, 0)[None]
        left = matmul(rows, vectors) / sigma[None] if n >= d else vectors
        left = jnp.where(kept[None], left, 0)
    peak = jnp.take_along_axis(axes, jnp.abs(axes).argmax(axis=0)[None], axis=0)
    sign = jnp.where(peak < 0, -1, 1).astype(x.dtype)
    return Spectrum(values, axes * sign, root * left * sign)


def _spectrum_from_svd(x: Array) -> tuple[Array, Array, Array]:
    """Float32: the digits of columns of very different scale survive a QR of sorted columns."""
    n, d = x.shape
    eps = jnp.finfo(x.dtype).eps
    norms = jnp.sqrt(jnp.sum(x**2, axis=0))
    order = jnp.argsort(-norms)
    x = x[:, order]
    if n >= d:
        q, upper = jnp.linalg.qr(x)
        axes, singular, right = jnp.linalg.svd(upper.T, full_matrices=False)
        left = matmul(q, right.T)
        cut = eps * jnp.maximum(4 * norms[order], singular[0])
    else:
        left, singular, right = jnp.linalg.svd(x, full_matrices=False)
        axes = right.T
        cut = d * eps * singular[0]
    kept = singular > cut
    values = jnp.where(kept, singular, 0) ** 2
    return values, axes[jnp.argsort(order)], jnp.where(kept[None], left, 0)


@spectrum.defjvp
def _spectrum_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Spectrum, Spectrum]:
    (x, w), (dx, dw) = primals, tangents
    values, axes, dual = out = spectrum(x, w)
    w, dw = w[:, None], dw[:, None]
    kept = values > 0
    safe = jnp.where(kept, values, 1)
    scores, d_scores = matmul(x, axes), matmul(dx, axes)
    moved = matmul(dx.T, w * scores) + matmul(x.T, w * d_scores + dw * scores)  # dA @ axes
    within = matmul(axes.T, moved)
    gap = values[None, :] - values[:, None]
    tied = jnp.abs(gap) <= 100 * jnp.finfo(x.dtype).eps * values[0]
    turn = jnp.where(tied, 0, within / jnp.where(tied, 1, gap))
    # for n < d the axes do not span the space; outside them all eigenvalues are 0
    outside = moved - matmul(axes, within)
    d_axes = matmul(axes, turn) + outside * jnp.where(kept, 1 / safe, 0)[None]
    d_values = jnp.where(kept, jnp.diagonal(within), 0)
    d_dual = (dw * scores + w * (d_scores + matmul(x, d_axes))) / jnp.sqrt(safe)[None]
    d_dual = jnp.where(kept[None], d_dual - dual * (d_values / (2 * safe))[None], 0)
    return out, Spectrum(d_values, d_axes, d_dual)


def ridge_solve(r: Array, weights: Array, scale: Array, ridge: Array, rhs: Array) -> Array:
    """Solve (scale * R' diag(weights) R + ridge * I) Z = rhs for rows R [n, d], rhs [d, k].

    float64, n >= d: Cholesky of the d x d matrix; n < d: Cholesky of the n x n matrix
    ridge * I + scale * R R' and the push-through identity; float32: QR of the rows stacked on
    sqrt(ridge) * I, which never forms a Gram matrix. One step of iterative refinement against the
    rows themselves takes back what the Gram matrix (or the identity's cancellation) lost.
    Differentiable in every argument through the solution, never through the factorisation.
    """
    n, d = r.shape

    def apply(z: Array) -> Array:
        return scale * matmul(r.T, weights[:, None] * matmul(r, z)) + ridge * z

    s = lax.stop_gradient(jnp.sqrt(scale * weights)[:, None] * r)
    c = lax.stop_gradient(ridge)
    if r.dtype == jnp.float32:
        stacked = jnp.concatenate([s, jnp.sqrt(c) * jnp.eye(d, dtype=r.dtype)])
        upper = jnp.linalg.qr(stacked, mode="r")

        def solve_once(b: Array) -> Array:
            return solve_triangular(upper, solve_triangular(upper, b, trans="T"))
    elif n >= d:
        lower = jnp.linalg.cholesky(
            matmul(s.T, s) + c * jnp.eye(d, dtype=r.dtype), symmetrize_input=False
        )

        def solve_once(b: Array) -> Array:
            return cho_solve((lower, True), b)
    else:
        lower = jnp.linalg.cholesky(
            matmul(s, s.T) + c * jnp.eye(n, dtype=r.dtype), symmetrize_input=False
        )

        def solve_once(b: Array) -> Array:
            return (b - matmul(s.T, cho_solve((lower, True), matmul(s, b)))) / c

    def solve(matvec: object, b: Array) -> Array:
        z = solve_once(b)
        residual = b - matmul(s.T, matmul(s, z)) - c * z
        return z + solve_once(residual)

    return lax.custom_linear_solve(apply, rhs, solve, symmetric=True)
