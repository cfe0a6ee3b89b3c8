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
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxte.statistics.rows import HIGHEST

matmul = partial(jnp.matmul, precision=HIGHEST)
_REORDER, _HALVE = 1e8, 1e9  # multiplications in a Gram matrix that repay what each saves
# Conditions, as the factor shows them, up to which Cholesky loses no digit that matters, alone or
# mended by a step of refinement.
_HARMLESS, _HARMLESS_SINGLE, _MENDABLE, _MENDABLE_SINGLE = 1e5, 10.0, 1e14, 1e3
_STRIPS = 1024  # size from which a factor is made in strips
_ROUNDING = 4.0  # eps
_LOOPED = 64  # size up to which an inverse is made in a loop


def noise(size: Array, terms: ArrayLike = 1) -> Array:
    """What counts as zero beside ``size``: 4 eps of it, times the root of the ``terms`` summed.

    The one measure of rounding error: differences, residuals and eigenvalues are compared with the
    size of what they were computed from, in the units of that.
    """
    eps = jnp.finfo(size.dtype).eps
    return _ROUNDING * eps * jnp.sqrt(jnp.asarray(terms, size.dtype)) * size


def rounding_square(mean: Array, total: Array) -> Array:
    """Sum of squared deviations [k] that rounding leaves of columns of this mean that are constant.

    ``total``: of the weights.
    """
    return noise(jnp.abs(mean) * jnp.sqrt(total)) ** 2


def safe_root(square: Array) -> Array:
    """Square root with derivative 0 at 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def power_of_two(size: Array) -> Array:
    """The power of two nearest to a size, so that dividing by it costs no digit."""
    return jnp.exp2(jnp.round(jnp.log2(jnp.where(size > 0, size, 1))))


def unit_of(
    x: Array, weights: Array, across: Callable[[Array], Array] = lambda largest: largest
) -> Array:
    """Power of two near the largest entry of rows that count, in which to square them.

    The squares of ordinary features leave the range of float32, not that of float64: there it is 1.
    ``across`` is the maximum over devices.
    """
    if x.dtype != jnp.float32:
        return jnp.ones((), x.dtype)
    largest = jnp.abs(jnp.where((weights > 0)[:, None], x, 0)).max()
    return power_of_two(lax.stop_gradient(across(largest)))


def standardised(x: Array, weights: Array, mean: ArrayLike, number: Array) -> Array:
    """Columns less ``mean`` by the root of their squares over ``number``; constant ones are 0."""
    size = jnp.max(jnp.where((weights > 0)[:, None], jnp.abs(x), 0), axis=0)
    x = x - mean
    scale = safe_root(matmul(weights, x**2) / number)
    varies = scale > noise(size, weights.sum())
    return jnp.where(varies[None], x / jnp.where(varies, scale, 1)[None], 0)


def ledoit_wolf(size: Array, square: Array, fourth: Array, width: ArrayLike, n: Array) -> Array:
    """The share of a multiple of I in a covariance of Ledoit and Wolf.

    Args:
        size: trace of the covariance of n rows.
        square: sum of its squares.
        fourth: mean fourth power of the distances of the rows from their mean.
        width: columns.
        n: rows.
    """
    apart = square - size**2 / width  # d times the squared distance from a multiple of I
    far = apart > noise(square)
    return jnp.where(far, jnp.clip((fourth - square) / n / jnp.where(far, apart, 1), 0, 1), 0)


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


def ridge_solve(
    r: Array,
    weights: Array,
    scale: Array,
    ridge: Array,
    rhs: Array,
    scatter: Array | None = None,
    *,
    quick: bool = False,
) -> Array:
    """Solve (scale * R' diag(weights) R + ridge * I) Z = rhs for rows R [n, d], rhs [d, k].

    With ``scatter``, R' diag(weights) R as it is known already (for n >= d): Cholesky of the
    d x d matrix. Without: Cholesky of the n x n matrix ridge * I + scale * R R' and the
    push-through identity; in float32 QR of the rows stacked on sqrt(ridge) * I, which never forms
    a Gram matrix, and which both precisions fall back on where Cholesky would lose too much. Where
    the factor shows that digits are lost, one step of iterative refinement against the rows
    themselves takes them back. Where even that is not enough, eigenvectors or QR do, which take
    longer, also to compile; with ``quick`` the answer is NaN instead. Differentiable in every
    argument through the solution, never through the factorisation.
    """
    single = r.dtype == jnp.float32
    harmless, mendable = (_HARMLESS_SINGLE, _MENDABLE_SINGLE) if single else (_HARMLESS, _MENDABLE)
    c = lax.stop_gradient(ridge)

    def apply(z: Array) -> Array:
        return scale * matmul(r.T, weights[:, None] * matmul(r, z)) + ridge * z

    def mended(solve_once: Callable[[Array], Array], b: Array, z: Array) -> Array:
        return z + solve_once(b - lax.stop_gradient(apply(z)))

    root = jnp.sqrt(scale * weights)
    by_qr = partial(_solve_by_qr, lax.stop_gradient((r, root, c)))

    def by_rows(b: Array) -> Array:
        if single:
            return by_qr(b, b, jnp.ones((), bool))
        s = lax.stop_gradient(root[:, None] * r)
        inner = factor_of(_plus(gram(s.T), c))

        def once(b: Array) -> Array:
            return (b - matmul(s.T, inner.solve(matmul(s, b)))) / c

        z = mended(once, b, once(b))
        needed = ~(inner.condition < mendable)
        return jnp.where(needed, jnp.nan, z) if quick else by_qr(b, z, needed)

    def by_columns(known: Array, b: Array) -> Array:
        factor = factor_of(_plus(known, c))
        better = partial(mended, factor.solve, b)
        z = lax.cond(factor.condition < harmless, lambda z: z, better, factor.solve(b))
        needed = ~(factor.condition < mendable)
        if quick:
            return jnp.where(needed, jnp.nan, z)
        # what is not used takes memory all the same: in float64, where it seldom is, d x d only
        return by_qr(b, z, needed) if single else _solve_by_eigenvectors(needed, known, c, b, z)

    solve: Callable[[Array], Array] = by_rows
    if scatter is not None:
        solve = partial(by_columns, lax.stop_gradient(scale * scatter))
    return lax.custom_linear_solve(apply, rhs, lambda _, b: solve(b), symmetric=True)


@sequential_vmap  # or both sides of the condition would be computed
def _solve_by_qr(system: tuple[Array, Array, Array], b: Array, z: Array, needed: Array) -> Array:
    """(R'R + ridge * I)^-1 b from a QR of rows R = diag(root) r, if it is needed, else z."""

    def by_qr() -> Array:
        r, root, ridge = system
        rows = root[:, None] * r
        eye = jnp.eye(rows.shape[1], dtype=rows.dtype)
        upper = jnp.linalg.qr(jnp.concatenate([rows, jnp.sqrt(ridge) * eye]), mode="r")

        def once(b: Array) -> Array:
            return solve_triangular(upper, solve_triangular(upper, b, trans="T"))

        z = once(b)
        return z + once(b - matmul(rows.T, matmul(rows, z)) - ridge * z)

    return lax.cond(needed, by_qr, lambda: z)


def ridge_solve_scatter(scatter: Array, scale: Array, ridge: Array, rhs: Array) -> Array:
    """As `ridge_solve`, where the scatter matrix is all that there is."""
    a = scale * scatter
    factor = factor_of(_plus(a, ridge))
    z = factor.solve(rhs)
    z += factor.solve(rhs - matmul(a, z) - ridge * z)
    known = factor.condition < (jnp.inf if a.dtype == jnp.float32 else _MENDABLE)
    return _solve_by_eigenvectors(~known, a, ridge, rhs, z)


@sequential_vmap
def _solve_by_eigenvectors(needed: Array, a: Array, ridge: Array, b: Array, z: Array) -> Array:
    """(A + ridge * I)^-1 b, if needed, else z; eigenvalues that are rounding error count as 0."""

    def by_eigenvectors() -> Array:
        values, axes = jnp.linalg.eigh(a)
        kept = values > noise(values[-1], len(a))
        along = matmul(axes.T, b)
        # of what lies outside, rounding error would be blown up most
        real = jnp.abs(along) > noise(jnp.sqrt(jnp.sum(b**2, axis=0)), len(a))[None]
        along = jnp.where(kept[:, None] | real, along, 0)
        return matmul(axes, along / (jnp.where(kept, values, 0) + ridge)[:, None])

    return lax.cond(needed, by_eigenvectors, lambda: z)


def _plus(a: Array, ridge: Array) -> Array:
    return a + ridge * jnp.eye(len(a), dtype=a.dtype)


@jax.jit  # traced once for blocks of one size
def inverse_of_lower(a: Array) -> Array:
    """Inverse of a lower triangular matrix [q, q], from that of its blocks of half the size.

    The threads of OpenBLAS, which it takes for a triangular solve of any size, spin on after it on
    cores that the next products need.
    """
    q = len(a)
    if q > _LOOPED:
        half = -(-q // 2)
        padded = jnp.pad(a, (0, 2 * half - q)) + jnp.diag(jnp.arange(2 * half) >= q)
        upper, below, lower = padded[:half, :half], padded[half:, :half], padded[half:, half:]
        upper, lower = jax.vmap(inverse_of_lower)(jnp.stack([upper, lower]))
        corner = -matmul(lower, matmul(below, upper))
        return jnp.block([[upper, jnp.zeros_like(below)], [corner, lower]])[:q, :q]

    def double(level: Array, inverse: Array) -> Array:
        block = jnp.arange(q) >> level
        corner = (block[:, None] == block[None] + 1) & (block % 2 == 0)[None]
        return inverse - matmul(inverse, matmul(jnp.where(corner, a, 0), inverse))

    return lax.fori_loop(0, (q - 1).bit_length(), double, jnp.diag(1 / jnp.diagonal(a)))


def _inverse_by_lapack(a: Array) -> Array:
    return solve_triangular(a, jnp.eye(len(a), dtype=a.dtype), lower=True)


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
        return (self.diagonal.max() / self.diagonal.min()) ** 2

    @property
    def diagonal(self) -> Array:
        """That of L [d]."""
        return jnp.concatenate(
            [jnp.diagonal(strip[:, strip.shape[1] - len(strip) :]) for strip in self.strips]
        )

    def inverse_norm(self) -> Array:
        """Norm of A^-1 from below, by two steps of inverse iteration."""
        size = sum(len(strip) for strip in self.strips)
        v = jnp.cos(jnp.arange(1, size + 1, dtype=self.strips[0].dtype) ** 2)[:, None]
        for _ in range(2):
            v = self.solve(v / jnp.sqrt(jnp.sum(v**2)))
        return jnp.sqrt(jnp.sum(v**2))

    @jax.jit  # traced once for all its uses
    def solve(self, b: Array) -> Array:
        """A^-1 b for b [d, k]."""
        return self.back(self.half(b))

    def half(self, b: Array) -> Array:
        """L^-1 b."""
        if not self.inverses:
            return solve_triangular(self.strips[0], b, lower=True)
        done: list[Array] = []
        start = 0
        for strip, inverse in zip(self.strips, self.inverses, strict=True):
            part = b[start : start + len(strip)]
            if done:
                part = part - matmul(strip[:, :start], jnp.concatenate(done))
            done.append(matmul(inverse, part))
            start += len(strip)
        return jnp.concatenate(done)

    def back(self, rest: Array) -> Array:
        """L'^-1 b."""
        if not self.inverses:
            return solve_triangular(self.strips[0], rest, lower=True, trans="T")
        out: list[Array] = []
        for strip, inverse in zip(reversed(self.strips), reversed(self.inverses), strict=True):
            start = rest.shape[0] - len(strip)
            out.insert(0, matmul(inverse.T, rest[start:]))
            rest = rest[:start] - matmul(strip[:, :start].T, out[0])
        return jnp.concatenate(out)


def factor_of(a: Array) -> _Factor:
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
        inverses.append(
            lax.platform_dependent(lower, cpu=_inverse_by_lapack, default=inverse_of_lower)
        )
    return _Factor(strips, inverses)
