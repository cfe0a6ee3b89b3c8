"""What the total scatter says: its eigenvalues, and the targets in its units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import gram, matmul, rounding_square
from jaxte.statistics.measure import Moments, divisors
from jaxte.statistics.pseudo import pseudo_solve
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
    varies = jnp.diagonal(scatter) > rounding_square(far, state.total)
    scatter = jnp.where(varies[:, None] & varies[None], scatter, 0)
    values, axes, scale = scaled_eigh(lax.stop_gradient(scatter), state.samples)
    return scatter, scale[:, None] * axes * jnp.sqrt(inverse_or_0(values))[None]


class Explained(NamedTuple):
    """What the total scatter of the features explains of k columns of the targets.

    Attributes:
        solved: [d, k] S_T^+ times the products of features and columns.
        products: [k, k] products of these in units of the total scatter.
    """

    solved: Array
    products: Array


def explained(statistics: Statistics) -> Explained:
    """Least squares of class indicators over sqrt(n_c), or of whitened targets, on the features.

    From whichever is smaller, the scatter [d, d] or the products of the rows [n, n]. The derivative
    is that at constant rank.
    """
    state = statistics.measured.moments
    crossed = _crossed(state)
    if statistics.by_columns:
        total = statistics.moments.total_scatter
        scale, terms = lax.stop_gradient(unit_diagonal(total, state.samples))
        scaled = scale[:, None] * total * scale[None]
        solution, half = _solved(scaled, scale[:, None] * crossed, terms)
        solved = scale[:, None] * solution
        fixed = lax.stop_gradient(solved)
        moving = matmul(fixed.T, matmul(total, fixed))
    else:
        root = jnp.sqrt(statistics.rows.weights)[:, None]
        centred = statistics.centred
        scale = lax.stop_gradient(jnp.sqrt(inverse_or_0(jnp.sum((root * centred) ** 2, axis=0))))
        rows = root * centred * scale[None]
        terms = gram_terms(state.samples, jnp.sum(scale > 0))
        null = root[:, 0] / jnp.sqrt(state.total)  # the rows are centred
        solution, half = _solved(gram(rows.T), root * _columns(statistics, state), terms, null)
        solved = scale[:, None] * matmul(rows.T, solution)
        fixed = lax.stop_gradient(solved)
        along = matmul(centred, fixed)
        moving = matmul(along.T, statistics.rows.weights[:, None] * along)
    products = lax.stop_gradient(matmul(half.T, half))
    # that of M P M' is as if P did not move, 2 M P - P S_T P
    beside = matmul(fixed.T, crossed)
    moving = beside + beside.T - moving
    return Explained(solved, products + moving - lax.stop_gradient(moving))


def _solved(a: Array, b: Array, terms: Array, null: Array | None = None) -> tuple[Array, Array]:
    """`pseudo_solve` with the derivative of its solution."""

    def solve(_: Any, b: Array) -> tuple[Array, Array]:
        result = pseudo_solve(a, b, terms, null)
        return result.solution, result.half

    solution, half = lax.custom_linear_solve(
        lambda z: matmul(a, z), b, solve, symmetric=True, has_aux=True
    )
    return solution, half


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
    targets, products = statistics.measured.moments.targets, explained(statistics).products
    if targets is None:
        return products
    # the whitening moves in the same way
    own, white = whitened_targets(statistics.measured.moments)
    white = lax.stop_gradient(white)
    half = matmul(lax.stop_gradient(products), matmul(white.T, matmul(own, white))) / 2
    moving = half + half.T
    return products - moving + lax.stop_gradient(moving)
