"""The normal equations of the targets on centred features: what moments know about a fit."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.statistics.measure import Moments

__all__ = ["Normal", "normal_equations", "only_present"]


class Normal(NamedTuple):
    """Products of centred features and k target columns."""

    scatter: Array  # [d, d]
    cross: Array  # [d, k]
    square: Array  # [k] squared length of the centred targets
    mean: Array  # [d]
    y_mean: Array  # [k]
    n: Array
    samples: Array
    unit: ArrayLike = 1  # that the features were divided by


def normal_equations(state: Moments, present: Array, unit: ArrayLike = 1) -> Normal:
    """Normal equations from moments; for classification of the 0/1 column of every class.

    Features that vary only by rounding become 0, target columns that are not ``present`` copies of
    one that is. ``unit``: that of the moments.
    """
    mean, n = state.origin + state.relative_mean, state.total
    scatter = state.total_scatter
    varies = jnp.diagonal(scatter) > state.rounding
    scatter = jnp.where(varies[:, None] & varies[None], scatter, 0)
    cross, square, y_mean = targets_of(state)
    cross = jnp.where(varies[:, None], cross, 0)
    cross, square, y_mean = (only_present(part, present) for part in (cross, square, y_mean))
    return Normal(scatter, cross, square, mean, y_mean, n, state.samples, unit)


def targets_of(state: Moments) -> tuple[Array, Array, Array]:
    """Products [d, k] of features and target columns, squares [k] and means [k] of the latter."""
    if state.targets is not None:
        t = state.targets
        return t.cross, t.square, t.origin + t.mean
    y_mean = state.counts / jnp.where(state.total > 0, state.total, 1)
    cross = (state.counts[:, None] * state.deviations).T
    return cross, state.counts * (1 - y_mean), y_mean


def only_present(columns: Array, present: Array) -> Array:
    """Columns [..., k] that do not count replaced by one that does, so that all are finite."""
    copied = jnp.take(columns, jnp.argmax(present), axis=-1)[..., None]
    return jnp.where(present.reshape((1,) * (columns.ndim - 1) + (-1,)), columns, copied)
