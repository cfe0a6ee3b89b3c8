"""Spectra of centred features, from the rows or from their products.

A Gram matrix squares the condition of the rows, and eigenvalues near its rounding error are noise
to it. `Spectrum.blurred` says where that hides some, so that only the rows can tell more.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike

from jaxte.statistics.linalg import gram, matmul, noise
from jaxte.statistics.pseudo import pseudo_solve
from jaxte.statistics.reduction import Reduction, leading_axes, reduce, tridiagonal_values

# Eigenvalues below so many times the rounding error of a Gram matrix are not known well enough: at
# 100 times it the evidence was off by 2e-4. Features of real networks stay well above.
BLUR = 1e4
_REDUCED = 1024  # size from which bisection of a tridiagonal form repays its compilation
_FEW = 4  # times the leading axes that make all of them the dearer


class Spectrum(NamedTuple):
    """Thin spectrum of A = X' diag(w) X for rows X [n, d], with r = min(n, d), largest first.

    ``values`` [r]: eigenvalues, exactly 0 where they are rounding error. ``axes`` [d, r]: their
    eigenvectors, the entry of largest magnitude of each positive; a full basis for n >= d.
    ``dual`` [n, r]: diag(w) X axes / sqrt(values), 0 where the value is 0; [0, r] where only a
    Gram matrix was at hand. ``blurred``: 1 if fewer eigenvalues are known than are not 0.
    """

    values: Array
    axes: Array
    dual: Array
    blurred: Array


@jax.custom_jvp
def spectrum(x: Array, weights: Array) -> Spectrum:
    """Spectrum of X' diag(w) X by the cheapest route; differentiable, also at weight 0.

    float64, n >= d: eigh of the d x d Gram matrix; n < d: of the n x n one; float32: QR and SVD.
    Between two equal eigenvalues the derivative of the vectors does not exist: such a pair
    contributes 0, which is right for everything that does not depend on the basis among them.
    """
    if x.dtype == jnp.float32:
        return spectrum_of_rows(x, weights)
    n, d = x.shape
    root = jnp.sqrt(weights)[:, None]
    rows = x * root
    a = gram(rows if n >= d else rows.T)
    squares = jnp.diagonal(a) if n >= d else jnp.sum(rows**2, axis=0)
    values, vectors, kept = _positive(a, max(n, d))
    blurred = is_blurred(values, max(n, d), (weights > 0).sum(), squares)
    sigma = jnp.sqrt(jnp.where(kept, values, 1))
    values = jnp.where(kept, values, 0)
    axes = vectors if n >= d else matmul(rows.T, vectors) * jnp.where(kept, 1 / sigma, 0)[None]
    left = matmul(rows, vectors) / sigma[None] if n >= d else vectors
    left = jnp.where(kept[None], left, 0)
    sign = _signs(axes)
    return Spectrum(values, axes * sign, root * left * sign, blurred)


def spectrum_of_gram(a: Array, samples: Array) -> Spectrum:
    """As `spectrum`, from X' diag(w) X [d, d] of so many samples alone; without the dual."""
    size = gram_terms(samples, len(a))
    values, axes, kept = _positive(a, size)
    blurred = is_blurred(values, size, samples, jnp.diagonal(a))
    values = jnp.where(kept, values, 0)
    return Spectrum(values, axes * _signs(axes), jnp.zeros((0, len(values)), a.dtype), blurred)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def leading(a: Array, number: int) -> tuple[Array, Array]:
    """The largest eigenvalues [k] of a symmetric matrix, in order, and their axes [d, k].

    The entry of largest magnitude of each axis is positive. The derivative is that of the space
    which the axes span, and of the values: right for all that does not depend on a basis of it.
    """
    if len(a) < _FEW * number or a.dtype != jnp.float64:
        return _leading_of_all(a, number)
    quick = partial(_leading_by_reduction, number=number)
    return lax.platform_dependent(a, cpu=quick, default=partial(_leading_of_all, number=number))


def _leading_of_all(a: Array, number: int) -> tuple[Array, Array]:
    values, axes = jnp.linalg.eigh(a)
    axes = axes[:, ::-1][:, :number]
    return values[::-1][:number], axes * _signs(axes)


def _leading_by_reduction(a: Array, number: int) -> tuple[Array, Array]:
    return leading_of(reduce(a), a, number)


def leading_of(form: Reduction, a: Array, number: int, scale: ArrayLike = 1) -> tuple[Array, Array]:
    """As `leading`, from the reduction of A / ``scale``; without a derivative."""
    if len(a) < _FEW * number:
        return _leading_of_all(a, number)

    @sequential_vmap  # or both sides of the condition would be computed
    def choose(form: Reduction, a: Array, scale: Array) -> tuple[Array, Array]:
        values, axes, exact = leading_axes(form, a, number, scale)
        eigenpairs = values, axes * _signs(axes)
        return lax.cond(exact, lambda: eigenpairs, lambda: _leading_of_all(a, number))

    return choose(form, a, jnp.asarray(scale, a.dtype))


@leading.defjvp
def _leading_jvp(
    number: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (a,), (da,) = primals, tangents
    values, axes = jnp.linalg.eigh(a)
    values, axes = values[::-1], axes[:, ::-1]
    axes *= _signs(axes)
    kept, rest = axes[:, :number], axes[:, number:]
    moved = matmul(da, kept)
    gap = values[None, :number] - values[number:, None]
    tied = gap <= 100 * jnp.finfo(a.dtype).eps * jnp.abs(values[0])
    turn = jnp.where(tied, 0, matmul(rest.T, moved) / jnp.where(tied, 1, gap))
    slopes = jnp.sum(kept * moved, axis=0)
    return (values[:number], kept), (slopes, matmul(rest, turn))


def root_sum(a: Array) -> Array:
    """Sum of the square roots of the eigenvalues of X'X [..., q, q]: the nuclear norm of X [...].

    Those that are rounding error count as 0; the derivative is that at constant rank.
    """
    constant = lax.stop_gradient(a)
    values, axes = jnp.linalg.eigh(constant)
    kept = values > noise(values[..., -1:], a.shape[-1])
    roots = jnp.sqrt(jnp.where(kept, values, 1))
    half = jnp.where(kept, 0.5 / roots, 0)
    slope = matmul(axes * half[..., None, :], jnp.swapaxes(axes, -1, -2))
    moving = jnp.sum(slope * a, axis=(-2, -1))
    return jnp.where(kept, roots, 0).sum(axis=-1) + moving - lax.stop_gradient(moving)


@jax.custom_jvp
def eigenvalues(x: Array, weights: Array) -> Array:
    """Eigenvalues alone [r] of X' diag(w) X, as `spectrum` has them."""
    n, d = x.shape
    rows = x * jnp.sqrt(weights)[:, None]
    if x.dtype == jnp.float64:
        return cut(_values(gram(rows if n >= d else rows.T)), max(n, d))
    if n >= d:  # a column keeps the digits that its own size has, sorted before any product
        order = jnp.argsort(-jnp.sum(rows**2, axis=0))
        rows = jnp.linalg.qr(rows[:, order], mode="r")
    singular = jnp.linalg.svd(rows, compute_uv=False)
    terms = jnp.maximum((weights > 0).sum(), jnp.any(x != 0, axis=0).sum())  # less the padding
    return jnp.where(singular > noise(singular[0], terms), singular, 0) ** 2


@eigenvalues.defjvp
def _eigenvalues_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    moved = jax.jvp(lambda x, w: spectrum(x, w).values, primals, tangents)[1]
    values = eigenvalues(*primals)
    return values, jnp.where(values > 0, moved, 0)


@jax.custom_jvp
def eigenvalues_of_gram(a: Array, samples: Array) -> Array:
    """Eigenvalues alone [d] of X' diag(w) X of so many samples; 0 where they are rounding error.

    Those that are alike have no derivative each, but their symmetric functions have it.
    """
    return cut(_values(a), gram_terms(samples, len(a)))


@eigenvalues_of_gram.defjvp
def _eigenvalues_of_gram_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    axes = jnp.linalg.eigh(primals[0])[1][:, ::-1]
    values = eigenvalues_of_gram(*primals)
    return values, jnp.where(values > 0, jnp.sum(axes * matmul(tangents[0], axes), axis=0), 0)


def _values(a: Array) -> Array:
    """Eigenvalues, largest first; `eigvalsh` makes the eigenvectors too, and drops them."""

    def reduced(a: Array) -> Array:
        form = reduce(a)
        return tridiagonal_values(form.diagonal, form.below)

    def by_eigenvectors(a: Array) -> Array:
        return jnp.linalg.eigvalsh(a)[::-1]

    if len(a) < _REDUCED or a.dtype != jnp.float64:
        return by_eigenvectors(a)
    return lax.platform_dependent(a, cpu=reduced, default=by_eigenvectors)


def cut(values: Array, size: ArrayLike) -> Array:
    """Eigenvalues, largest first, 0 below so many roundings of the largest."""
    return jnp.where(values > size * jnp.finfo(values.dtype).eps * values[0], values, 0)


def gram_terms(samples: Array, width: ArrayLike) -> Array:
    """How many roundings of its largest eigenvalue a Gram matrix is off by.

    Sums of n products carry errors of sqrt(n) roundings; a factor n would cut signal at 1e6.
    """
    return jnp.maximum(jnp.sqrt(samples), width)


def is_blurred(values: Array, size: ArrayLike, samples: Array, squares: Array) -> Array:
    """1 if fewer eigenvalues stand clear of the rounding error than centred rows may have.

    ``squares``: the diagonal of the d x d Gram matrix, 0 for columns that say nothing.
    """
    level = BLUR * size * jnp.finfo(values.dtype).eps * jnp.abs(values).max()
    return hides(jnp.sum(values > level), samples, squares)


def hides(clear: Array, samples: Array, squares: Array) -> Array:
    """1 if so many ``clear`` eigenvalues are fewer than centred rows may have."""
    possible = jnp.minimum(samples - 1, jnp.sum(squares > 0).astype(samples.dtype))
    return (clear < possible).astype(squares.dtype)


def scaled_eigh(a: Array, samples: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues, 0 where they are rounding error, and vectors of a scatter of unit diagonal.

    Also the scales [d] that make the diagonal 1, so that the scales of the columns do not matter.
    """
    scale, terms = unit_diagonal(a, samples)
    values, axes = jnp.linalg.eigh(scale[:, None] * a * scale[None])
    kept = values > noise(values[-1], terms**2)
    return jnp.where(kept, values, 0), axes, scale


def unit_diagonal(a: Array, samples: Array) -> tuple[Array, Array]:
    """What scales a scatter of so many samples to a unit diagonal [d], and its `gram_terms`."""
    root = jnp.sqrt(jnp.diagonal(a))
    scale = jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)
    return scale, gram_terms(
        samples, jnp.sum(root > 0)
    )  # zero columns, as of padding, round nothing


def rank_of_scatter(a: Array, samples: Array) -> Array:
    """Rank of a scatter matrix of so many samples, whatever the scales of its columns."""
    scale, terms = unit_diagonal(a, samples)
    return pseudo_solve(scale[:, None] * a * scale[None], jnp.zeros_like(a[:, :1]), terms).rank


def _positive(a: Array, size: ArrayLike) -> tuple[Array, Array, Array]:
    """Eigenvalues, largest first, eigenvectors, and which values are not rounding error."""
    values, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    return values, vectors, cut(values, size) > 0


def _thin_svd(x: Array) -> tuple[Array, Array, Array]:
    """Singular value decomposition; by QR on GPUs, whose Jacobi method leaves float32 four digits.

    JAX takes the latter up to a size of 1024.
    """
    usual = partial(lax.linalg.svd, full_matrices=False)
    by_qr = partial(usual, algorithm=lax.linalg.SvdAlgorithm.QR)
    left, singular, right = lax.platform_dependent(x, cuda=by_qr, default=usual)
    return left, singular, right


def _signs(axes: Array) -> Array:
    """What makes the entry of largest magnitude of each axis positive [1, r]."""
    peak = jnp.take_along_axis(axes, jnp.abs(axes).argmax(axis=0)[None], axis=0)
    return jnp.where(peak < 0, -1, 1).astype(axes.dtype)


def spectrum_of_rows(x: Array, weights: Array) -> Spectrum:
    """As `spectrum`, from the rows alone; without a derivative in float64.

    The digits of columns of very different scale survive a QR of sorted columns.
    """
    root = jnp.sqrt(weights)[:, None]
    rows = x * root
    d = x.shape[1]
    eps = jnp.finfo(x.dtype).eps
    norms = jnp.sqrt(jnp.sum(rows**2, axis=0))
    order = jnp.argsort(-norms)
    rows = rows[:, order]
    if len(x) >= d:
        q, upper = jnp.linalg.qr(rows)
        axes, singular, right = _thin_svd(upper.T)
        left = matmul(q, right.T)
        least = eps * jnp.maximum(4 * norms[order], singular[0])
    else:
        left, singular, right = _thin_svd(rows)
        axes = right.T
        least = d * eps * singular[0]
    kept = singular > least
    values, axes = jnp.where(kept, singular, 0) ** 2, axes[jnp.argsort(order)]
    sign = _signs(axes)
    dual = root * jnp.where(kept[None], left, 0) * sign
    return Spectrum(values, axes * sign, dual, jnp.zeros((), x.dtype))


@spectrum.defjvp
def _spectrum_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Spectrum, Spectrum]:
    (x, w), (dx, dw) = primals, tangents
    values, axes, dual, blurred = out = spectrum(x, w)
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
    return out, Spectrum(d_values, d_axes, d_dual, jnp.zeros_like(blurred))
