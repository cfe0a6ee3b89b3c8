"""The few factorisations that metrics share, each with the derivative that exists.

Float64 takes the cheap route through a Gram matrix. Float32 never squares the condition number:
it takes an SVD or a QR of the rows themselves, which costs a few times more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.typing import ArrayLike

from jaxte._inputs import HIGHEST

matmul = partial(jnp.matmul, precision=HIGHEST)
_REORDER, _HALVE = 1e8, 1e9  # multiplications in a Gram matrix that repay what each saves
# Conditions, as the factor shows them, up to which Cholesky loses no digit that matters, alone or
# mended by a step of refinement.
_HARMLESS, _HARMLESS_SINGLE, _MENDABLE_SINGLE = 1e5, 10.0, 1e3
_STRIPS = 1024  # size from which a factor is made in strips


def safe_root(square: Array) -> Array:
    """Square root with derivative 0 at 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def trace(a: Array) -> Array:
    """Sum of the diagonal, of which ``jnp.trace`` makes a masked copy of the whole matrix."""
    return jnp.diagonal(a).sum()


@jax.custom_jvp
def gram(x: Array, weights: Array | None = None) -> Array:
    """X' diag(w) X [d, d] for rows X [n, d]; differentiable, also at weight 0.

    On CPUs a large one is taken from the transposed rows, which the product reads in order, and
    only on and below the diagonal: 1.8 times faster than ``x.T @ x`` at n = 5000, d = 2048.
    """
    if weights is not None:
        x = x * jnp.sqrt(weights)[:, None]
    if x.size * x.shape[1] < _REORDER:
        return matmul(x.T, x)
    return lax.platform_dependent(x, cpu=_gram_in_order, default=lambda x: matmul(x.T, x))


def _gram_in_order(x: Array) -> Array:
    d = x.shape[1]
    # barriers, or the product would read x itself, and whatever makes x would run out of order
    columns = lax.optimization_barrier(lax.optimization_barrier(x).T)
    if x.size * d < _HALVE:
        return matmul(columns, columns.T)
    cuts = [d * part // 4 for part in range(5)]
    strips = [columns[i:j] for i, j in pairwise(cuts)]
    below = [
        [matmul(strip, other.T) for other in strips[: row + 1]] for row, strip in enumerate(strips)
    ]
    whole = [
        [below[i][j] if j <= i else below[j][i].T for j in range(len(strips))]
        for i in range(len(strips))
    ]
    return jnp.block(whole)


@gram.defjvp
def _gram_jvp(
    primals: tuple[Array, Array | None], tangents: tuple[Array, Array | None]
) -> tuple[Array, Array]:
    (x, w), (dx, dw) = primals, tangents
    half = matmul(dx.T, x if w is None else w[:, None] * x)
    moved = half + half.T
    if dw is not None:
        moved += matmul(x.T, dw[:, None] * x)
    return gram(x, w), moved


class Spectrum(NamedTuple):
    """Thin spectrum of A = X' diag(w) X for rows X [n, d], with r = min(n, d), largest first.

    ``values`` [r]: eigenvalues, exactly 0 where they are rounding error. ``axes`` [d, r]: their
    eigenvectors, the entry of largest magnitude of each positive; a full basis for n >= d.
    ``dual`` [n, r]: diag(w) X axes / sqrt(values), 0 where the value is 0; [0, r] where only a
    Gram matrix was at hand.
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
        values, vectors, kept = _positive(gram(rows if n >= d else rows.T), max(n, d))
        sigma = jnp.sqrt(jnp.where(kept, values, 1))
        axes = vectors if n >= d else matmul(rows.T, vectors) * jnp.where(kept, 1 / sigma, 0)[None]
        left = matmul(rows, vectors) / sigma[None] if n >= d else vectors
        left = jnp.where(kept[None], left, 0)
    sign = _signs(axes)
    return Spectrum(values, axes * sign, root * left * sign)


def spectrum_of_gram(a: Array, samples: Array) -> Spectrum:
    """As `spectrum`, from X' diag(w) X [d, d] of so many samples alone; without the dual."""
    # sums of n products carry errors of sqrt(n) roundings; a factor n would cut signal at 1e6
    values, axes, _ = _positive(a, jnp.maximum(jnp.sqrt(samples), a.shape[0]))
    return Spectrum(values, axes * _signs(axes), jnp.zeros((0, len(values)), a.dtype))


def _positive(a: Array, size: ArrayLike) -> tuple[Array, Array, Array]:
    """Eigenvalues, largest first and 0 where rounding error, eigenvectors, and which are kept."""
    values, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > size * jnp.finfo(a.dtype).eps * values[0]
    return jnp.where(kept, values, 0), vectors, kept


def _signs(axes: Array) -> Array:
    """What makes the entry of largest magnitude of each axis positive [1, r]."""
    peak = jnp.take_along_axis(axes, jnp.abs(axes).argmax(axis=0)[None], axis=0)
    return jnp.where(peak < 0, -1, 1).astype(axes.dtype)


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


def ridge_solve(
    r: Array, weights: Array, scale: Array, ridge: Array, rhs: Array, scatter: Array | None = None
) -> Array:
    """Solve (scale * R' diag(weights) R + ridge * I) Z = rhs for rows R [n, d], rhs [d, k].

    With ``scatter``, R' diag(weights) R as it is known already (for n >= d): Cholesky of the
    d x d matrix. Without: Cholesky of the n x n matrix ridge * I + scale * R R' and the
    push-through identity; in float32 QR of the rows stacked on sqrt(ridge) * I, which never forms
    a Gram matrix, and which float32 also falls back on where Cholesky would lose too much. Where
    the factor shows that digits are lost, one step of iterative refinement against the rows
    themselves takes them back. Differentiable in every argument through the solution, never
    through the factorisation.
    """
    d = r.shape[1]
    single = r.dtype == jnp.float32

    def apply(z: Array) -> Array:
        return scale * matmul(r.T, weights[:, None] * matmul(r, z)) + ridge * z

    def mended(solve_once: Callable[[Array], Array], b: Array, z: Array) -> Array:
        return z + solve_once(b - lax.stop_gradient(apply(z)))

    def refined(solve_once: Callable[[Array], Array], b: Array) -> Array:
        return mended(solve_once, b, solve_once(b))

    c = lax.stop_gradient(ridge)

    def weighted_rows() -> Array:
        return lax.stop_gradient(jnp.sqrt(scale * weights)[:, None] * r)

    def by_qr(b: Array) -> Array:
        stacked = jnp.concatenate([weighted_rows(), jnp.sqrt(c) * jnp.eye(d, dtype=r.dtype)])
        upper = jnp.linalg.qr(stacked, mode="r")
        return refined(lambda b: solve_triangular(upper, solve_triangular(upper, b, trans="T")), b)

    def by_rows(b: Array) -> Array:
        s = weighted_rows()
        inner = _factor(_plus(gram(s.T), c))
        return refined(lambda b: (b - matmul(s.T, inner.solve(matmul(s, b)))) / c, b)

    def by_columns(known: Array, b: Array) -> Array:
        factor = _factor(_plus(known, c))
        z, better = factor.solve(b), partial(mended, factor.solve, b)
        if not single:
            return lax.cond(factor.condition < _HARMLESS, lambda z: z, better, z)
        route = jnp.where(factor.condition < _HARMLESS_SINGLE, 0, 1)
        route = jnp.where(factor.condition < _MENDABLE_SINGLE, route, 2)
        return lax.switch(route, [lambda z: z, better, lambda _: by_qr(b)], z)

    solve: Callable[[Array], Array]
    if scatter is not None:
        solve = partial(by_columns, lax.stop_gradient(scale * scatter))
    else:
        solve = by_qr if single else by_rows
    return lax.custom_linear_solve(apply, rhs, lambda _, b: solve(b), symmetric=True)


def ridge_solve_scatter(scatter: Array, scale: Array, ridge: Array, rhs: Array) -> Array:
    """As `ridge_solve`, where the scatter matrix is all that there is."""
    factor = _factor(_plus(scale * scatter, ridge))
    z = factor.solve(rhs)
    return z + factor.solve(rhs - scale * matmul(scatter, z) - ridge * z)


def _plus(a: Array, ridge: Array) -> Array:
    return a + ridge * jnp.eye(len(a), dtype=a.dtype)


class _Factor(NamedTuple):
    """A = L L' in strips of rows, with the inverses of the blocks on the diagonal of L.

    Products with those inverses take a quarter of the time of LAPACK's triangular solves, which
    first turn the whole matrix around. One strip, without its inverse, where d is small.
    """

    strips: list[Array]  # L[start:stop, :stop]
    inverses: list[Array]

    @property
    def condition(self) -> Array:
        """About the condition of A; NaN where A is not positive definite."""
        diagonal = jnp.concatenate(
            [jnp.diagonal(strip[:, strip.shape[1] - len(strip) :]) for strip in self.strips]
        )
        return (diagonal.max() / diagonal.min()) ** 2

    @jax.jit  # traced once for all its uses
    def solve(self, b: Array) -> Array:
        """A^-1 b for b [d, k]."""
        if not self.inverses:
            return cho_solve((self.strips[0], True), b)
        done: list[Array] = []
        start = 0
        for strip, inverse in zip(self.strips, self.inverses, strict=True):
            part = b[start : start + len(strip)]
            if done:
                part = part - matmul(strip[:, :start], jnp.concatenate(done))
            done.append(matmul(inverse, part))
            start += len(strip)
        rest = jnp.concatenate(done)
        out: list[Array] = []
        for strip, inverse in zip(reversed(self.strips), reversed(self.inverses), strict=True):
            start = rest.shape[0] - len(strip)
            out.insert(0, matmul(inverse.T, rest[start:]))
            rest = rest[:start] - matmul(strip[:, :start].T, out[0])
        return jnp.concatenate(out)


def _factor(a: Array) -> _Factor:
    """Cholesky factor of a symmetric matrix, of which the lower triangle is read."""
    d = len(a)
    if d < _STRIPS:
        return _Factor([jnp.linalg.cholesky(a, symmetrize_input=False)], [])
    strips: list[Array] = []
    inverses: list[Array] = []
    for start, stop in pairwise([d * part // 4 for part in range(5)]):
        row = a[start:stop, :stop]
        left: list[Array] = []
        for strip, inverse in zip(strips, inverses, strict=True):
            first, last = strip.shape[1] - len(strip), strip.shape[1]
            part = row[:, first:last]
            if left:
                part = part - matmul(jnp.concatenate(left, axis=1), strip[:, :first].T)
            left.append(matmul(part, inverse.T))
        own = row[:, start:]
        if left:
            known = jnp.concatenate(left, axis=1)
            own = own - matmul(known, known.T)
        lower = jnp.linalg.cholesky(own, symmetrize_input=False)
        strips.append(jnp.concatenate([*left, lower], axis=1))
        eye = jnp.eye(stop - start, dtype=a.dtype)
        inverses.append(solve_triangular(lower, eye, lower=True))
    return _Factor(strips, inverses)


def tridiagonal(a: Array, rhs: Array, block: int = 64) -> tuple[Array, Array, Array]:
    """Reduce symmetric A = Q T Q': the diagonal of T [d], the one below it [d-1] and Q' rhs.

    Costs about a third of an eigendecomposition. Q is never formed: its reflectors are applied
    in blocks, I - V S V' with S triangular.
    """
    d = a.shape[0]
    if d == 1:
        return a[0], jnp.zeros(0, a.dtype), rhs
    packed, diagonal, below, scales = lax.linalg.tridiagonal(a)
    block = min(block, d)
    count = -(-(d - 1) // block)
    packed = jnp.pad(packed, ((0, 0), (0, max(0, count * block - d))))
    scales = jnp.pad(scales, (0, count * block - (d - 1)))
    height = jnp.arange(d)[:, None]

    def apply(index: Array, z: Array) -> Array:
        start = index * block
        column = start + jnp.arange(block)[None]
        v = lax.dynamic_slice(packed, (0, start), (d, block))
        v = jnp.where(height == column + 1, 1, jnp.where(height > column + 1, v, 0))
        tau = lax.dynamic_slice(scales, (start,), (block,))
        mixed = jnp.tril(matmul(v.T, v), -1) * tau[None]
        mixed += jnp.eye(block, dtype=a.dtype)
        along = solve_triangular(mixed, matmul(v.T, z), lower=True, unit_diagonal=True)
        return z - matmul(v, tau[:, None] * along)

    return diagonal, below, lax.fori_loop(0, count, apply, rhs)
