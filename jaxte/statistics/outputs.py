"""Outputs of a model's own head as metrics see them inside jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.intake.outputs import SourceOutputs, sound_rows
from jaxte.statistics.tiles import sum_over_rows

if TYPE_CHECKING:
    from jaxte.statistics.sample import Batch

__all__ = ["rows_of_outputs", "sum_with_outputs"]


def rows_of_outputs(
    source: SourceOutputs | None, weights: Array, *, unweighted: bool = False
) -> tuple[Array, Array | None, Array | None]:
    """Weights [n], logits [n, z], None if only probabilities are known, and probabilities [n, z].

    The weight of a row that cannot be becomes NaN; where it is 0 the row becomes the same for all
    classes, because the derivative with respect to its weight needs a number. ``unweighted``: there
    is no such derivative, and no copy is made for it. Padding has logits of -inf.
    """
    if source is None:
        return weights, None, None
    values = jnp.asarray(source.values).astype(weights.dtype)
    sound = sound_rows(source.kind, lax.stop_gradient(values))
    weights = jnp.where(sound | (weights <= 0), weights, jnp.nan)
    if not unweighted:
        fill = 1 / values.shape[1] if source.logits is None else 0.0
        values = jnp.where(sound[:, None], values, fill)
    if source.logits is None:
        return weights, None, values
    if source.width is not None:
        values = jnp.where((jnp.arange(values.shape[1]) < source.width)[None], values, -jnp.inf)
    return weights, values, jax.nn.softmax(values, axis=1)


def sum_with_outputs(
    function: Callable[[Batch], Any],
    batch: Batch,
    source: SourceOutputs | None,
    *,
    unweighted: bool,
) -> Any:
    """Sum of what a function makes of rows and outputs, of which few are prepared at a time."""
    if source is None:
        return function(batch)

    def of_block(rows: tuple[Batch, Array], counted: Array) -> Any:
        own, values = rows
        part = source._replace(**{source.kind: values})
        weights, logits, probabilities = rows_of_outputs(
            part, jnp.where(counted, own.weights, 0), unweighted=unweighted
        )
        return function(own._replace(weights=weights, probabilities=probabilities, logits=logits))

    values = jnp.asarray(source.values)
    return sum_over_rows(of_block, (batch, values), values.shape[1])
