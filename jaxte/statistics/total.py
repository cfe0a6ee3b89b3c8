"""What the total scatter says: its eigenvalues, and the targets in its units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import matmul, noise
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


def target_products(state: Moments) -> Array:
    """Products [k, k] of the targets' columns in units of the total scatter of the features.

    Columns are class means times sqrt(n_c), or the products of features and whitened targets. The
    eigenvalues are the squared canonical correlations of the features with the targets.
    """
    total = state.total_scatter
    if state.targets is None:
        crossed = (jnp.sqrt(divisors(state.counts))[:, None] * state.deviations).T
    else:
        own, white = whitened_targets(state)
        white = lax.stop_gradient(white)
        crossed = matmul(state.targets.cross, white)
    values, axes, scale = lax.stop_gradient(scaled_eigh(total, state.samples))
    root = jnp.sqrt(inverse_or_0(values))
    along = matmul(crossed.T * scale[None], axes) * root[None]  # in units of the spread
    products = lax.stop_gradient(matmul(along, along.T))
    # at constant rank the derivative is that of M P M' as if P did not move, 2 M P - P S_T P
    solved = lax.stop_gradient(matmul(along * root[None], axes.T) * scale[None])
    half = matmul(solved, crossed)
    moving = half + half.T - matmul(solved, matmul(total, solved.T))
    if state.targets is not None:  # and that of the whitening, in the same way
        half = 0.5 * matmul(products, matmul(white.T, matmul(own, white)))
        moving -= half + half.T
    return products + moving - lax.stop_gradient(moving)
