"""The regularised Fisher discriminant analysis inside SFDA."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike

from jaxte.metrics._look import Look
from jaxte.statistics.linalg import gram, matmul, noise, ridge_solve, ridge_solve_scatter
from jaxte.statistics.measure import Moments, divisors
from jaxte.statistics.rows import Classes, of_row, weighted_sum
from jaxte.statistics.spectrum import rank_of_scatter

_FLOOR = 1e-10  # of the shrinkage, in the released code


class Settings(NamedTuple):
    """The readings of SFDA, as they are known while tracing."""

    identity: bool
    double_softmax: bool
    log_score: bool
    fixed: bool  # the shrinkage is the caller's, and may be 0
    quick: bool = False  # NaN where the usual factorisation is not enough


def diagonal(state: Moments, look: Look | None, residuals: Array | None = None) -> Array:
    """Diagonal of the within-class scatter [d], from the rows where the matrix is not formed."""
    if look is None or look.by_columns:
        return jnp.diagonal(state.scatter)
    rows = look.residuals if residuals is None else residuals
    return weighted_sum(rows**2, look.row.weights)


def shrinkage_of(
    given: ArrayLike | None,
    state: Moments,
    squares: Array,
    unit: ArrayLike,
    look: Look | None = None,
) -> Array:
    """The shrinkage asked for, or what the released code makes of the features."""
    if given is not None:
        return jnp.asarray(given).astype(squares.dtype)
    largest = _largest_eigenvalue(state, squares, look) * unit * unit
    return jnp.maximum(jnp.exp(-5 * largest), _FLOOR)


def _largest_eigenvalue(state: Moments, squares: Array, look: Look | None) -> Array:
    """The released estimate: three double power steps on S_W from its row sums."""
    total = _within(state, squares)
    scale = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)  # of S_W / tr S_W

    def within(v: Array) -> Array:
        if look is None or look.by_columns:
            return scale * matmul(state.scatter, v)
        along = look.row.weights * matmul(look.residuals, v)
        return scale * matmul(look.residuals.T, along)

    def unit(v: Array) -> Array:
        square = v @ v
        return jnp.where(square > 0, v / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    d = len(squares)
    v = within(jnp.ones(d, squares.dtype))
    # where rows sum to a constant the row sums vanish (released: NaN or noise); S_W's diagonal
    # cannot
    rounding = noise(jnp.ones((), v.dtype), state.samples + d)
    v = jnp.where(v @ v > rounding**2, v, scale * squares)
    for _ in range(3):
        u = unit(within(v))
        v = unit(within(u))
    return (v @ within(u)) * total / state.total


def _within(state: Moments, squares: Array) -> Array:
    """Trace of the within-class scatter, without columns that vary only by rounding."""
    return jnp.where(squares <= state.rounding, 0, squares).sum()  # keeps NaN


class Classifier(NamedTuple):
    """Linear discriminants of features measured from the mean of all samples.

    Where no class has any spread, and nothing is added to it, they are ``certain``: samples of
    classes whose means coincide are one and the same, and no others are taken for them. ConfMix
    moves such classes as one. ``owners`` are the first class of each mean.
    """

    means: Array  # [C, d]
    directions: Array  # [d, C]
    priors: Array  # [C] their logarithms; 0 for classes without rows
    offsets: Array  # [C]; -inf for classes without rows
    owners: Array  # [C]
    counts: Array  # [C]
    certain: Array


class _Ridge(NamedTuple):
    """(scale * S_W + ridge * I)^-1 is what the classifier is made with, unless it is certain."""

    scale: Array
    ridge: Array
    certain: Array


def _ridge(
    state: Moments, squares: Array, lam: Array, width: Array, unit: ArrayLike, settings: Settings
) -> _Ridge:
    """What shrinkage makes of the within-class scatter, of which ``squares`` is the diagonal."""
    within = _within(state, squares) / state.total
    ridge = lam * within / width
    if settings.identity:
        ridge = jnp.minimum(lam / unit / unit, jnp.finfo(lam.dtype).max / 1e8)
    lowest = noise(jnp.sqrt(within)) ** 2 / width  # less would be lost in S_W
    certain = (within <= 0) & (ridge <= 0)
    ridge = jnp.where(certain, 1, jnp.maximum(ridge, lowest))
    return _Ridge(jnp.where(within > 0, 1 - lam, 0), ridge, certain)


def fit_rows(
    state: Moments, residuals: Array, squares: Array, look: Look, lam: Array, settings: Settings
) -> Classifier:
    """Regularised Fisher discriminant analysis of rows."""
    if look.axis is not None:
        return fit_scatter(state, look.row.width, lam, look.unit, settings)
    n, weights = look.total, look.row.weights
    ridge = _ridge(state, squares, lam, look.row.width, look.unit, settings)
    scatter = state.scatter / n if look.by_columns else None
    means, owners = _distinct(state, ridge, settings)
    solved = ridge_solve(
        residuals,
        weights / n,
        ridge.scale,
        ridge.ridge,
        means.T,
        scatter,
        quick=settings.quick,
    )
    if settings.fixed:
        whole = state.scatter if look.by_columns else gram(residuals, weights)
        solved = _unless_singular(solved, state, whole, look.row.width, lam)
    return _classifier(state, means, owners, solved, ridge)


def fit_scatter(
    state: Moments, width: ArrayLike, lam: Array, unit: ArrayLike, settings: Settings
) -> Classifier:
    """The same from moments alone."""
    width = jnp.asarray(width).astype(lam.dtype)
    ridge = _ridge(state, diagonal(state, None), lam, width, unit, settings)
    means, owners = _distinct(state, ridge, settings)
    solved = ridge_solve_scatter(state.scatter / state.total, ridge.scale, ridge.ridge, means.T)
    if settings.fixed:
        solved = _unless_singular(solved, state, state.scatter, width, lam)
    return _classifier(state, means, owners, solved, ridge)


def _unless_singular(
    solved: Array, state: Moments, scatter: Array, width: Array, lam: Array
) -> Array:
    """NaN where nothing is added to a singular S_W."""

    @sequential_vmap
    def singular(lam: Array, scatter: Array, samples: Array, width: Array) -> Array:
        return lax.cond(
            lam > 0, lambda: jnp.zeros((), bool), lambda: rank_of_scatter(scatter, samples) < width
        )

    held = lax.stop_gradient((lam, scatter, state.samples, width))
    return jnp.where(singular(*held), jnp.nan, solved)


def _distinct(state: Moments, ridge: _Ridge, settings: Settings) -> tuple[Array, Array]:
    """Class means from the mean of all, and the first class of the same mean.

    Where that is certain, means that coincide but for rounding are made the same.
    """
    means, own = state.deviations, jnp.arange(len(state.counts))
    if settings.quick:
        return means, own
    tolerance = 2 * jnp.sqrt(state.rounding / state.total)

    @sequential_vmap
    def owners(certain: Array, means: Array, tolerance: Array, present: Array, own: Array) -> Array:
        def first(one: Array) -> Array:
            same = jnp.all(jnp.abs(means - one[None]) <= tolerance[None], axis=1)
            return jnp.argmax(same & present)

        return lax.cond(certain, lambda: lax.map(first, means), lambda: own)

    held = lax.stop_gradient((ridge.certain, means, tolerance, state.counts > 0, own))
    owner = jnp.where(state.counts > 0, owners(*held), own)
    return jnp.take(means, owner, axis=0), owner


def _classifier(
    state: Moments, means: Array, owners: Array, directions: Array, ridge: _Ridge
) -> Classifier:
    present = state.counts > 0
    prior = jnp.log(jnp.where(present, state.counts / state.total, 1))
    offsets = prior - 0.5 * jnp.sum(means.T * directions, axis=0)
    offsets = jnp.where(present, offsets, -jnp.inf)
    return Classifier(means, directions, prior, offsets, owners, state.counts, ridge.certain)


def apply(found: Classifier, residuals: Array, labels: Array) -> Array:
    """Logits of rows that are given by their class and their distance from its mean."""
    along = jnp.where(found.certain, 0, matmul(residuals, found.directions))
    return along + jnp.take(_of_means(found), labels, axis=0, mode="clip")


def _of_means(found: Classifier) -> Array:
    """Logits of the class means [C, C]."""
    logits = matmul(found.means, found.directions)
    same = found.owners[:, None] == found.owners[None]
    apart = jnp.where(same, found.priors[None], -jnp.inf)
    return jnp.where(found.certain, apart, logits + found.offsets[None])


def confidence(found: Classifier, residuals: Array, group: Classes, settings: Settings) -> Array:
    """How sure stage 1 is of each row's own class [n]."""

    def of(logits: Array) -> Array:
        p = jax.nn.softmax(logits)
        if settings.double_softmax:
            p = jax.nn.softmax(jnp.where(group.present[None], p, -jnp.inf))
        return p

    own = jnp.sum(of(apply(found, residuals, group.labels)) * group.one_hot, axis=1)
    if settings.quick:
        return own
    counts, number = found.counts, len(found.counts)
    alone = counts * jnp.diagonal(of(_of_means(found)))
    sums = (jax.ops.segment_sum(part, found.owners, number) for part in (alone, counts))
    together = jnp.take(jnp.divide(*map(divisors, sums)), found.owners, axis=0)
    return jnp.where(found.certain, of_row(together, group), own)


def mix(own: Array, first: Classifier, residuals: Array, labels: Array) -> Array:
    """ConfMix: rows, from the mean of all, pulled toward the other classes [n, d]."""
    means = first.means
    number = (first.counts > 0).sum().astype(means.dtype)
    others = (means.sum(axis=0)[None] - means) / jnp.maximum(number - 1, 1)
    toward, away = (jnp.take(part, labels, axis=0, mode="clip") for part in (means, others))
    return own * (residuals + toward) + (1 - own) * away


def gain(logits: Array, group: Classes, settings: Settings) -> Array:
    """What each row adds to the score [n]."""
    own = (group.one_hot > 0) & group.present[None]
    log_p = jnp.sum(jnp.where(own, jax.nn.log_softmax(logits), 0), axis=1)
    return log_p if settings.log_score else jnp.exp(log_p)
