"""Outputs of a model's own head as metrics see them inside jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.intake.outputs import SUM_TOLERANCE, SourceOutputs
from jaxte.statistics.tiles import sum_over_rows

if TYPE_CHECKING:
    from jaxte.statistics.sample import Batch

__all__ = ["rows_of_outputs", "sum_with_outputs"]


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
    fill = 1 / values.shape[1] if source.logits is None else 0.0
    instead = jnp.where(weights > 0, jnp.nan, fill)
    values = jnp.where(_can_be(source, values)[:, None], values, instead[:, None])
    return _prepared(source, values)


def sum_with_outputs(
    function: Callable[[Batch], Any], batch: Batch, source: SourceOutputs, *, unweighted: bool
) -> Any:
    """Sum of what a function makes of rows and outputs, of which few are prepared at a time.

    ``unweighted``: whether all weights are 1. Then that of a row which cannot be becomes NaN, and
    no copy of the outputs is needed for that.
    """

    def of_block(rows: tuple[Batch, Array], counted: Array) -> Any:
        own, values = rows
        logits: Array | None
        probabilities: Array | None
        weights = jnp.where(counted, own.weights, 0)
        if unweighted:
            values = values.astype(weights.dtype)
            weights = jnp.where(_can_be(source, values), weights, jnp.nan)
            logits, probabilities = _prepared(source, values)
        else:
            part = source._replace(**{source.kind: values})
            logits, probabilities = rows_of_outputs(part, weights)
        return function(own._replace(weights=weights, probabilities=probabilities, logits=logits))

    values = jnp.asarray(source.values)
    return sum_over_rows(of_block, (batch, values), values.shape[1])


def _can_be(source: SourceOutputs, values: Array) -> Array:
    """Which rows are finite logits, or probabilities that sum to 1 [n]."""
    values = lax.stop_gradient(values)
    least = values.min(axis=1)  # NaN if any is
    if source.logits is not None:
        return jnp.isfinite(least) & jnp.isfinite(values.max(axis=1))
    return (least >= 0) & (jnp.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)


def _prepared(source: SourceOutputs, values: Array) -> tuple[Array | None, Array]:
    if source.logits is None:
        return None, values
    if source.width is not None:
        values = jnp.where((jnp.arange(values.shape[1]) < source.width)[None], values, -jnp.inf)
    return values, jax.nn.softmax(values, axis=1)
