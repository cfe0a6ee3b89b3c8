"""What the total scatter says: its eigenvalues, and the targets in its units."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import gram, matmul, noise, pseudo_solve
from jaxte.statistics.measure import Moments, divisors
from jaxte.statistics.rows import weighted_sum
from jaxte.statistics.spectrum import (
    eigenvalues,
    eigenvalues_of_gram,
    gram_terms,
    scaled_eigh,
    unit_diagonal,
)

if TYPE_CHECKING:
    from jaxte.statistics.statistics import Statistics


def total_eigenvalues(statistics: Statistics, *, centred: bool) -> Array:
    """Eigenvalues of the scatter about the mean of all rows, or about 0, from the smaller side."""
    state = statistics.measured.moments
    if statistics.reduced is not None:
        return statistics.reduced.eigenvalues(state.total, centred=centred)
    mean = jnp.where(centred, 0, state.origin + state.relative_mean)
    if statistics.in_memory and not (statistics.by_columns and mean.dtype == jnp.float64):
        x, weights = statistics.centred, statistics.rows.weights
        varies = weighted_sum(x**2, weights) > state.rounding
        return eigenvalues(jnp.where(varies[None], x, 0) + mean[None], weights)
    a = statistics.moments.total_scatter
    varies = jnp.diagonal(a) > state.rounding
    a = jnp.where(varies[:, None] & varies[None], a, 0)
    a += state.total * mean[:, None] * mean[None]
    return eigenvalues_of_gram(a, state.samples)


def total_products(statistics: Statistics, varies: Array | None = None) -> Array:
    """S_T, or where rows are fewer their products [n, n]: of one trace and one Frobenius norm.

    ``varies`` [d]: columns that count, or None for all.
    """
    if statistics.by_columns:
        total = statistics.moments.total_scatter
        return total if varies is None else jnp.where(varies[:, None] & varies[None], total, 0)
    rows = statistics.centred * jnp.sqrt(statistics.rows.weights)[:, None]
    return gram((rows if varies is None else jnp.where(varies[None], rows, 0)).T)


def inverse_or_0(values: Array) -> Array:
    """1 / x of what is positive, 0 of anything else."""
    return jnp.where(values > 0, 1 / jnp.where(values > 0, values, 1), 0)


def whitened_targets(state: Moments) -> tuple[Array, Array]:
    """Scatter of the targets [k, k] of a regression, and R [k, k] with R R' its inverse."""
    assert state.targets is not None
    scatter, far = state.targets.scatter, state.targets.origin + state.targets.mean
    varies = jnp.diagonal(scatter) > noise(jnp.abs(far) * jnp.sqrt(state.total)) ** 2
    scatter = jnp.where(varies[:, None] & varies[None], scatter, 0)
    values, axes, scale = scaled_eigh(lax.stop_gradient(scatter), state.samples)
    return scatter, scale[:, None] * axes * jnp.sqrt(inverse_or_0(values))[None]


class Explained(NamedTuple):
    """What the total scatter of the features explains of k columns of the targets.

    Attributes:
        crossed: [d, k] products of features and columns.
        solved: [d, k] S_T^+ times them.
        products: [k, k] their products in units of the total scatter.
    """

    crossed: Array
    solved: Array
    products: Array


def explained(statistics: Statistics) -> Explained:
    """Least squares of class indicators over sqrt(n_c), or of whitened targets, on the features.

    From whichever is smaller, the scatter [d, d] or the products of the rows [n, n]. No derivative.
    """
    state = lax.stop_gradient(statistics.measured.moments)
    crossed = _crossed(state)
    if statistics.by_columns:
        total = lax.stop_gradient(statistics.moments.total_scatter)
        scale, terms = unit_diagonal(total, state.samples)
        scaled = scale[:, None] * total * scale[None]
        found = pseudo_solve(scaled, scale[:, None] * crossed, terms)
        return Explained(crossed, scale[:, None] * found.solution, _products(found.half))
    root = jnp.sqrt(statistics.rows.weights)[:, None]
    rows = lax.stop_gradient(statistics.centred) * root
    scale = jnp.sqrt(inverse_or_0(jnp.sum(rows**2, axis=0)))
    rows = rows * scale[None]
    terms = gram_terms(state.samples, jnp.sum(scale > 0))
    columns = root * _columns(statistics, state)
    null = root[:, 0] / jnp.sqrt(state.total)  # the rows are centred
    found = pseudo_solve(gram(rows.T), columns, terms, null)
    solved = scale[:, None] * matmul(rows.T, found.solution)
    return Explained(crossed, solved, _products(found.half))


def _products(half: Array) -> Array:
    return matmul(half.T, half)


def _crossed(state: Moments) -> Array:
    if state.targets is None:
        return (jnp.sqrt(divisors(state.counts))[:, None] * state.deviations).T
    return matmul(state.targets.cross, lax.stop_gradient(whitened_targets(state)[1]))


def _columns(statistics: Statistics, state: Moments) -> Array:
    """The columns themselves [n, k], of which `_crossed` has the products with the features."""
    if state.targets is not None:
        centre = state.targets.origin + state.targets.mean
        return matmul(statistics.columns - centre[None], whitened_targets(state)[1])
    own = jax.nn.one_hot(statistics.labels, len(state.counts), dtype=state.counts.dtype)
    return own / jnp.sqrt(divisors(state.counts))[None]


def target_products(statistics: Statistics) -> Array:
    """Products [k, k] of the targets' columns in units of the total scatter of the features.

    Columns are class means times sqrt(n_c), or the products of features and whitened targets. The
    eigenvalues are the squared canonical correlations of the features with the targets.
    """
    state = statistics.measured.moments
    _, solved, products = lax.stop_gradient(explained(statistics))
    crossed = _crossed(state)
    # at constant rank the derivative is that of M P M' as if P did not move, 2 M P - P S_T P
    half = matmul(solved.T, crossed)
    moving = half + half.T
    if statistics.by_columns:
        moving -= matmul(solved.T, matmul(statistics.moments.total_scatter, solved))
    else:
        along = matmul(statistics.centred, solved)
        moving -= matmul(along.T, statistics.rows.weights[:, None] * along)
    if state.targets is not None:  # and that of the whitening, in the same way
        own, white = whitened_targets(state)
        white = lax.stop_gradient(white)
        half = 0.5 * matmul(products, matmul(white.T, matmul(own, white)))
        moving -= half + half.T
    return products + moving - lax.stop_gradient(moving)
