"""Canonical correlations of the features with the classes, without an eigenproblem of theirs."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments, divisors
from jaxte.statistics.spectrum import scaled_eigh


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
