"""What the total scatter says: its eigenvalues, and the class means in its units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments, divisors
from jaxte.statistics.rows import weighted_sum
from jaxte.statistics.spectrum import eigenvalues, eigenvalues_of_gram, scaled_eigh

if TYPE_CHECKING:
    from jaxte.statistics.statistics import Statistics


def total_eigenvalues(statistics: Statistics, *, centred: bool) -> Array:
    """Eigenvalues of the scatter about the mean of all rows, or about 0, from the smaller side."""
    state = statistics.measured.moments
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


def class_products(state: Moments) -> Array:
    """Products [C, C] of class means times sqrt(n_c), in units of the total scatter.

    Their eigenvalues are the squared canonical correlations of the features with the classes.
    """
    total, roots = state.total_scatter, jnp.sqrt(divisors(state.counts))[:, None]
    means = roots * state.deviations
    values, axes, scale = lax.stop_gradient(scaled_eigh(total, state.samples))
    root = jnp.where(values > 0, 1 / jnp.sqrt(jnp.where(values > 0, values, 1)), 0)
    along = matmul(means * scale[None], axes) * root[None]  # in units of the spread
    products = lax.stop_gradient(matmul(along, along.T))
    # at constant rank the derivative is that of M P M' as if P did not move, 2 M P - P S_T P
    solved = lax.stop_gradient(matmul(along * root[None], axes.T) * scale[None])
    half = matmul(solved, means.T)
    moving = half + half.T - matmul(solved, matmul(total, solved.T))
    return products + moving - lax.stop_gradient(moving)
