"""Outputs of a model's own head as metrics see them inside jit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxte.intake.outputs import SUM_TOLERANCE, SourceOutputs

__all__ = ["rows_of_outputs"]


def rows_of_outputs(
    source: SourceOutputs | None, weights: Array
) -> tuple[Array | None, Array | None]:
    """Logits [n, z], None if only probabilities are known, and probabilities [n, z].

    A row that cannot be is NaN. One of weight 0 becomes the same for all classes, because the
    derivative with respect to its weight needs a number. Padding has logits of -inf.
    """
    if source is None:
        return None, None
    values = jnp.asarray(source.values).astype(weights.dtype)
    z = values.shape[1]
    if source.logits is not None:
        fine = jnp.isfinite(values).all(axis=1)
        logits = _replaced(values, fine, weights, 0.0)
        if source.width is not None:
            logits = jnp.where((jnp.arange(z) < source.width)[None], logits, -jnp.inf)
        return logits, jax.nn.softmax(logits, axis=1)
    fine = (values >= 0).all(axis=1) & (jnp.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)
    return None, _replaced(values, fine, weights, 1 / z)


def _replaced(values: Array, fine: Array, weights: Array, fill: float) -> Array:
    instead = jnp.where(weights > 0, jnp.nan, fill)
    return jnp.where(fine[:, None], values, instead[:, None])
