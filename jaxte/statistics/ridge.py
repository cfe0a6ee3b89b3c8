"""Ridge regression of the targets on centred features, for any penalty t, from one factorisation.

With X = Xc + 1 m' the uncentred Gram matrix is G = A + n m m', so that the mean enters as a
rank-one term in closed form. A common offset of the features, however large, then costs no
digits, and what is decomposed is A = Xc' Xc. Notation: lam and V the eigenpairs of A, xi = U'y,
mu = V'm, and ``off`` the part of m outside V.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

from jaxte.statistics.linalg import matmul, power_of_two
from jaxte.statistics.measure import centred
from jaxte.statistics.normal import Normal
from jaxte.statistics.profile import NEAR_EXACT
from jaxte.statistics.rows import Rows, centre
from jaxte.statistics.shifted import Shifted, shifted_normal, shifted_rows
from jaxte.statistics.spectrum import (
    Spectrum,
    gram_terms,
    spectrum,
    spectrum_of_gram,
    spectrum_of_rows,
)
from jaxte.statistics.tridiagonal import (
    Reduced,
    Tridiagonal,
    padded,
    reduce_normal,
    reduce_rows,
    reduced_products,
    reduced_scatter,
)

__all__ = [
    "Problem",
    "Ridge",
    "is_tridiagonal",
    "leverage_inflation",
    "problem_in_axes",
    "problem_of",
    "reduced_of",
    "repays",
    "ridge_of",
    "rows_of",
    "shifted_of",
    "tridiagonal_of",
]

RowsOf: TypeAlias = tuple[Array, Array, Array]  # features, target columns, weights
_REDUCED = 192  # size of the smaller Gram matrix from which its reduction beats its eigenvectors


class Problem(NamedTuple):
    """Everything about (features, targets, weights) that the evidence depends on."""

    spec: Spectrum
    lam: Array  # [r]
    mu: Array  # [r]
    off: Array  # [d]
    off_square: Array
    xi: Array  # [r, k]
    rest: Array  # [k] squared length of the targets outside the span of the centred features
    y_mean: Array  # [k]
    gap: Array  # [k] mean of the targets that the least-squares fit on centred features misses
    n: Array
    unit: Array  # power of two by which the features were divided
    blurred: Array  # 1 where the rows might tell more than their products do


def decompose_normal(normal: Normal) -> Problem:
    """Normal equations in the coordinates of the evidence."""
    unit = power_of_two(jnp.sqrt(jnp.abs(jnp.diagonal(normal.scatter) / normal.n).max()))
    unit = jnp.maximum(unit, power_of_two(jnp.abs(normal.mean).max()))
    spec = spectrum_of_gram(normal.scatter / unit**2, normal.samples)
    along = matmul(spec.axes.T, normal.cross / unit)
    return _in_axes(spec, along, normal, unit)


def problem_in_axes(values: Array, normal: Normal) -> Problem:
    """The same where the axes of the features are principal ones, of these eigenvalues [d]."""
    eye = jnp.eye(len(values), dtype=values.dtype)
    spec = Spectrum(
        values, eye, jnp.zeros((0, len(values)), values.dtype), jnp.zeros_like(normal.n)
    )
    return _in_axes(spec, normal.cross, normal, jnp.ones_like(normal.n))


def _in_axes(spec: Spectrum, along: Array, normal: Normal, unit: Array) -> Problem:
    """Products ``along`` [r, k] of the axes and the targets, in units of ``unit``."""
    kept = (spec.values > 0)[:, None]
    xi = jnp.where(kept, along / jnp.sqrt(jnp.where(kept, spec.values[:, None], 1)), 0)
    rest = normal.square - jnp.sum(xi**2, axis=0)
    mean, n, samples = normal.mean / unit, normal.n, normal.samples
    unit = unit * normal.unit
    return _assemble(spec, xi, rest, normal.square, mean, normal.y_mean, n, samples, unit)


def decompose(row: Rows, targets: Array, *, exact: bool = False) -> Problem:
    """Features and targets [n, k] themselves in the coordinates of the evidence.

    ``exact``: never from products of the rows, for which float64 has no derivative; float32 does
    so anyway.
    """
    counted = jnp.where(row.weights[:, None] > 0, row.features, 0)
    unit = power_of_two(lax.stop_gradient(jnp.abs(counted).max()))
    x, mean = centred(row._replace(features=row.features / unit))
    y, y_mean = centre(targets, row)
    exact |= x.dtype == jnp.float32
    spec = (spectrum_of_rows if exact and x.dtype == jnp.float64 else spectrum)(x, row.weights)
    kept = spec.values > 0
    square = matmul(row.weights, y**2)
    direct = exact or x.shape[0] < x.shape[1]
    if direct:
        xi = matmul(spec.dual.T, y)
    else:  # saves forming the dual
        along = matmul(spec.axes.T, matmul(x.T, row.weights[:, None] * y))
        xi = jnp.where(kept[:, None], along / jnp.sqrt(jnp.where(kept, spec.values, 1))[:, None], 0)
    rest = square - jnp.sum(xi**2, axis=0)
    if direct:  # the difference has the right derivative but not the digits
        rest += lax.stop_gradient(_outside(spec, row.weights, y, xi) - rest)
    samples = (row.weights > 0).sum()
    return _assemble(spec, xi, rest, square, mean, y_mean, row.total, samples, unit, direct=direct)


def sharpen(problem: Problem, row: Rows, targets: Array, *, dual: bool = False) -> Problem:
    """The same problem from the rows themselves, where their products hide something.

    Without a derivative, and without the dual unless it is asked for.
    """
    if problem.lam.dtype == jnp.float32:
        return problem

    def bare(p: Problem) -> Problem:
        return p if dual else p._replace(spec=p.spec._replace(dual=p.spec.dual[:0]))

    @sequential_vmap  # or both sides of the condition would be computed
    def choose(features: Array, weights: Array, y: Array, p: Problem) -> Problem:
        own = Rows(features, weights, weights.sum(), p.n)
        return lax.cond(p.blurred > 0, lambda: bare(decompose(own, y, exact=True)), lambda: bare(p))

    return choose(*lax.stop_gradient((row.features, row.weights, targets, problem)))


def _assemble(
    spec: Spectrum,
    xi: Array,
    rest: Array,
    square: Array,
    mean: Array,
    y_mean: Array,
    n: Array,
    samples: Array,
    unit: Array,
    *,
    direct: bool = False,
) -> Problem:
    """The problem, with what is only rounding error set to exactly zero.

    ``direct``: ``rest`` comes from residuals, which are known to relative precision, and not from
    a difference of squares.
    """
    kept, eps = spec.values > 0, jnp.finfo(xi.dtype).eps
    noise = (100 * eps) ** 2 if direct else 100 * eps
    blurred = spec.blurred
    if not direct:
        blurred = jnp.maximum(blurred, jnp.any(rest < NEAR_EXACT * square).astype(blurred.dtype))
    interpolated = kept.sum() >= samples - 1
    rest = jnp.where(interpolated | (rest <= noise * square), 0, rest)
    mu = matmul(spec.axes.T, mean)
    off = mean - matmul(spec.axes, mu)
    # a mean inside the span leaves only rounding error outside it
    alone = off @ off + jnp.sum(jnp.where(kept, 0, mu) ** 2)
    real = alone > (100 * eps) ** 2 * (mean @ mean)
    # and what is hidden among the eigenvalues that were cut is no direction of its own either
    cut = gram_terms(samples, len(mean)) * eps * spec.values[0]
    real &= (spec.blurred == 0) | (n * alone > cut)
    off, mu = jnp.where(real, off, 0), jnp.where(kept | real, mu, 0)
    sigma = jnp.sqrt(jnp.where(kept, spec.values, 1))
    shares = jnp.where(kept[:, None], (mu / sigma)[:, None] * xi, 0)
    gap = y_mean - shares.sum(axis=0)
    rounding = 100 * eps * (jnp.abs(y_mean) + jnp.abs(shares).sum(axis=0))
    gap = jnp.where(jnp.abs(gap) <= rounding, 0, gap)
    return Problem(spec, spec.values, mu, off, off @ off, xi, rest, y_mean, gap, n, unit, blurred)


def _outside(spec: Spectrum, weights: Array, y: Array, xi: Array) -> Array:
    """Squared length of the targets outside the features' span, from the residual itself."""
    inverse = jnp.where(weights > 0, 1 / jnp.sqrt(jnp.where(weights > 0, weights, 1)), 0)
    left = spec.dual * inverse[:, None]
    return jnp.sum((jnp.sqrt(weights)[:, None] * y - matmul(left, xi)) ** 2, axis=0)


def problem_of(
    rows: RowsOf | None, normal: Normal | None, *, dual: bool = False, sharp: bool = True
) -> Problem:
    """The problem in eigenvectors: from the normal equations, and if ``sharp`` from the rows too.

    The latter only where need be: where the problem is ``blurred``.
    """
    if rows is None:
        assert normal is not None
        return decompose_normal(normal)
    features, y, weights = rows
    row = rows_of(features, weights)
    problem = decompose(row, y) if normal is None else decompose_normal(normal)
    return sharpen(problem, row, y, dual=dual) if sharp else problem


def rows_of(features: Array, weights: Array) -> Rows:
    """Rows that are promoted and masked already."""
    width = jnp.asarray(features.shape[1], features.dtype)
    return Rows(features, weights, weights.sum(), width)


def is_tridiagonal(rows: RowsOf | None, normal: Normal | None) -> bool:
    """Whether the tridiagonal form beats eigenvectors, on a CPU."""
    array = rows[0] if normal is None and rows is not None else normal and normal.mean
    assert array is not None
    return repays(array.shape, array.dtype)


def repays(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether that is so for features of this shape, or for a mean [d]."""
    return min(shape) >= _REDUCED and dtype == jnp.float64


def reduced_of(row: Rows | None, normal: Normal | None) -> Reduced | None:
    """The tridiagonal form of the features alone, where it beats eigenvectors, on a CPU."""
    array = row.features if normal is None and row is not None else normal and normal.mean
    assert array is not None
    if not repays(array.shape, array.dtype):
        return None
    if normal is not None:
        return reduced_scatter(normal)
    assert row is not None
    return reduced_products(rows_of(row.features, row.weights))


def tridiagonal_of(
    rows: RowsOf | None, normal: Normal | None, reduced: Reduced | None = None
) -> Tridiagonal:
    """The problem without eigenvectors, in coordinates that may be known already."""
    if normal is not None:
        return reduce_normal(normal, reduced)
    assert rows is not None
    features, y, weights = rows
    return reduce_rows(rows_of(features, weights), y, reduced)


def shifted_of(rows: RowsOf | None, normal: Normal | None) -> Shifted:
    """The problem without eigenvectors, as accelerators do it."""
    if normal is not None:
        return shifted_normal(normal)
    assert rows is not None
    features, y, weights = rows
    return shifted_rows(rows_of(features, weights), y)


def leverage_inflation(features: Array, weights: Array, penalties: Array) -> Array:
    """1 / sqrt(1 - h) [n] of ridge regressions on the rows as they are, h their mean leverage.

    Penalties that are NaN are left out of the mean.

    A row pulls its own fit towards its target, so that what is left of it is too small: by 1 - h
    in the variance of errors of one size.

    References: MacKinnon and White, Journal of Econometrics 29(3), 1985 (HC2).
    """
    spec = spectrum(features, weights)
    share = jnp.nanmean(spec.values[:, None] / (spec.values[:, None] + penalties[None]), axis=1)
    h = matmul(spec.dual**2, share) / jnp.where(weights > 0, weights, 1)
    return 1 / jnp.sqrt(jnp.maximum(1 - h, jnp.sqrt(jnp.finfo(h.dtype).eps)))


class Ridge(NamedTuple):
    """Ridge regression of the target columns, in the form that costs least.

    Attributes:
        form: a `Tridiagonal` of few sizes, so that what reads it is compiled once for most
            widths, a `Shifted`, or a `Problem`.
        present: [k] which columns count.
        valid: whether there is a score at all.
        rough: 1 where the rows might tell more than ``form`` knows.
    """

    form: Tridiagonal | Shifted | Problem
    present: Array
    valid: Array
    rough: Array


def ridge_of(
    rows: RowsOf | None,
    normal: Normal | None,
    present: Array,
    valid: Array,
    *,
    quick: bool,
    batched: bool = False,
    reduced: Reduced | None = None,
) -> Ridge:
    """The cheapest form; ``quick``: it may be rough; ``batched``: by shifts, if that repays.

    Without ``rows`` the normal equations are all that there is. With ``reduced`` the tridiagonal
    form is.
    """
    if batched and is_tridiagonal(rows, normal):
        return Ridge(shifted_of(rows, normal), present, valid, jnp.zeros_like(valid, float))
    if reduced is not None:
        form = padded(tridiagonal_of(rows, normal, reduced))
        return Ridge(form, present, valid, form.blurred)
    problem = problem_of(rows, normal, sharp=not quick)
    rough = quick and rows is not None
    return Ridge(problem, present, valid, rough * problem.blurred)
