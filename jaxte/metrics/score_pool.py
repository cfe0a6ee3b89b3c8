"""Scores of a whole pool in one array, under jit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import as_features, checks
from jaxte.intake.outputs import outputs_of
from jaxte.metrics.metric import SOURCE_OUTPUTS, Metric, MetricFunction
from jaxte.metrics.registry import get_metric

__all__ = ["score_pool"]


def score_pool(
    metric: str | Metric | MetricFunction,
    features: ArrayLike,
    targets: ArrayLike | None,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    normalise: str | None = None,
    **options: Any,
) -> Array:
    r"""Scores of a pool of models in one array, combined over the pool where the metric asks so.

    .. math:: s = \mathrm{combine}\bigl(\text{terms}(X_1, y), \dots, \text{terms}(X_M, y)\bigr)

    What `jaxte.rank` does, as one function under jit; models that fail are NaN and count nowhere.

    Args:
        metric: its name, or its record.
        features: [m, n, d], padded with columns of zeros to one width.
        targets: [n] classes, or floats; None for a metric that is label-free.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0.
        num_features: [m] true widths.
        logits: [m, n, z] of the models' own heads, for metrics that read them.
        probabilities: instead of them.
        normalise: as in `combine`; None: as the metric is published.
        options: of the metric.

    Returns:
        [m] scores, larger is better.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: those of the metric.

    Example:
        >>> import jax, jaxte
        >>> y = jax.numpy.arange(90) % 3
        >>> x = jax.random.normal(jax.random.key(0), (4, 90, 8))
        >>> x = x.at[2, :, 0].add(3.0 * y)
        >>> int(jaxte.metrics.score_pool("ncti", x, y).argmax())
        2
    """
    record = get_metric(metric)
    features = jnp.asarray(features if checks.is_traced(features) else as_features(features))
    if features.ndim != 3:
        raise InputError(
            f"features have shape {features.shape}: a pool is [models, rows, columns], each model "
            "padded with columns of zeros to the width of the widest"
        )
    if record.call is not None:
        raise InputError(f"{record.name} is a function of a user: score its models by jaxte.rank")

    heads = _heads(record, logits, probabilities, options, features.shape)

    def outputs(own: Array, width: Any, head: dict[str, Array]) -> Any:
        return record.outputs(own, targets, num_classes, weights, width, **head, **options)

    widths = features.shape[2] if num_features is None else jnp.asarray(num_features)
    axes = (0, None if num_features is None else 0, 0)
    made = jax.vmap(outputs, in_axes=axes)(features, widths, heads)
    return jnp.asarray(record.over_pool(made, normalise=normalise))


def _heads(
    metric: Metric, logits: Any, probabilities: Any, options: dict[str, Any], shape: Any
) -> dict[str, Array]:
    """Outputs of the models' own heads, by their kind; raises `InputError` where they lack."""
    source = outputs_of(logits, probabilities)
    wanted = metric.needed(options) & set(SOURCE_OUTPUTS)
    if not wanted:
        return {}
    if source is None:
        raise InputError(
            f"{metric.name} reads the outputs of the models' own heads: give logits= or "
            "probabilities= [models, rows, source classes] beside the features"
        )
    values = source.values
    if not checks.is_traced(values):
        values = as_features(values, source.kind)
    if np.ndim(values) != 3 or np.shape(values)[:2] != shape[:2]:
        raise InputError(
            f"{source.kind} have shape {np.shape(values)}, but features {tuple(shape)}: give "
            "[models, rows, source classes]"
        )
    return {source.kind: jnp.asarray(values)}
