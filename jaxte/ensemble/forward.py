"""Greedy forward selection: the model that adds most joins, again and again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.ensemble.blocks import blocks_of
from jaxte.ensemble.result import Ensemble
from jaxte.errors import InputError
from jaxte.intake.checks import check_whole
from jaxte.metrics import Metric, get_metric
from jaxte.metrics.metric import SOURCE_OUTPUTS
from jaxte.metrics.options import split_options
from jaxte.runtime.precision import precision_context
from jaxte.statistics import Measured, Sample, Statistics

__all__ = ["greedy"]


def greedy(
    features: Mapping[str, ArrayLike],
    targets: ArrayLike,
    *,
    size: int = 3,
    metric: str | Metric = "ridge_probe",
    options: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    precision: str = "auto",
) -> Ensemble:
    r"""Build an ensemble model by model, each time with the one that raises the score most.

    .. math:: S_{t+1} = S_t \cup \{\arg\max_m \; \text{metric}([X_s]_{s \in S_t \cup m}, y)\}

    Features of one ensemble stand side by side, each model's centred and of total variance 1, as
    `jaxte.join_layers` makes them. Moments and Gram matrix of all models together are made once:
    every ensemble's are blocks of them. All ensembles share one compiled program.

    By "ridge_probe", which judges on rows that it was not fitted to, or "logme", the evidence of
    the concatenated features, a model that adds nothing does not raise the score; scores that are
    fitted to the rows that they judge (SFDA, H-score) rise with any further column.

    Args:
        features: model name -> features [n, d] of the same samples.
        targets: [n] classes, or floats [n] or [n, k] for metrics of regressions.
        size: how many models.
        metric: which score; a name of ``jaxte.metrics.REGISTRY`` or a `jaxte.metrics.Metric`.
        options: of the metric.
        num_classes: C, if not all classes occur.
        weights: [n] sample weights >= 0.
        precision: "auto" (float64 where it is fast), "float32" or "float64".

    Returns:
        `Ensemble`; ``scores`` may fall, where another model does harm: take the members up to the
        highest.

    Raises:
        InputError: for models that differ in rows, or a metric that reads more than features.

    References: Caruana et al., ICML 2004 (forward selection of ensembles).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> a, b = x.at[:, 0].add(4.0 * (y == 0)), x.at[:, 1].add(4.0 * (y == 1))
        >>> "b" in jaxte.ensemble.greedy({"a": a, "a2": 2 * a, "b": b}, y, size=2).members
        True
    """
    record, size = get_metric(metric), check_whole("size", size)
    for name in options or {}:
        if name not in record.parameters:
            raise InputError(f"{record.name} has no option {name!r}")
    own = record.checked_options(options or {})
    if record.call is not None or record.needed(own) & set(SOURCE_OUTPUTS):
        raise InputError(f"{record.name} is no function of features alone: choose another metric")
    blocks = blocks_of(
        features, targets, size, num_classes, weights, regression="regression" in record.tasks
    )
    width = int(np.sort(blocks.widths)[-size:].sum())
    static, dynamic = split_options(own)
    members: tuple[int, ...] = ()
    scores: list[float] = []
    steps: list[dict[str, float]] = []
    with precision_context(precision):
        dtype = jnp.zeros(()).dtype
        columns = jnp.asarray(blocks.columns, dtype)
        pool = Sample(columns, jnp.asarray(blocks.targets), blocks.weights)
        score = partial(_scores, blocks.num_classes, record, static)
        measured, scatter = _measure(blocks.num_classes, len(columns) >= width, pool)
        for _ in range(size):
            left = [m for m in range(len(blocks.names)) if m not in members]
            # one shape for all steps, so that they share a program
            places = [blocks.places((*members, m), width) for m in left]
            places += [places[0]] * len(members)
            widths = [blocks.widths[[*members, m]].sum() for m in left]
            widths += [widths[0]] * len(members)
            made = score(
                pool, measured, scatter, np.array(places), np.array(widths, dtype), dynamic
            )
            values = np.asarray(made)[: len(left)]
            if not np.isfinite(values).any():
                raise InputError(f"no ensemble of {len(members) + 1} has a score by {record.name}")
            best = int(np.nanargmax(values))
            steps.append({blocks.names[m]: float(v) for m, v in zip(left, values, strict=True)})
            members = (*members, left[best])
            scores.append(float(values[best]))
    return Ensemble(tuple(blocks.names[m] for m in members), tuple(scores), tuple(steps))


@partial(jax.jit, static_argnums=(0, 1))
def _measure(
    num_classes: int | None, by_columns: bool, pool: Sample
) -> tuple[Measured, Array | None]:
    """Moments of all models together; their scatter if ensembles have fewer columns than rows."""
    statistics = Statistics(pool, num_classes=num_classes)
    return statistics.measured, statistics.scatter if by_columns else None


@partial(jax.jit, static_argnums=(0, 1, 2))
def _scores(
    num_classes: int | None,
    metric: Metric,
    static: tuple[tuple[str, Any], ...],
    pool: Sample,
    measured: Measured,
    scatter: Array | None,
    places: Array,
    widths: Array,
    dynamic: Mapping[str, Any],
) -> Array:
    """The score of each ensemble, of which ``places`` [m, width] are the columns."""
    options = {**dict(static), **dynamic}

    def score(own: tuple[Array, Array]) -> Array:
        place, width = own

        def columns(values: Array, axis: int = -1) -> Array:
            return jnp.take(values, place, axis, mode="fill", fill_value=0)

        state, targets = measured.moments, measured.moments.targets
        assert measured.residuals is not None
        if targets is not None:
            targets = targets._replace(cross=columns(targets.cross, 0))
        state = state._replace(
            origin=columns(state.origin), means=columns(state.means), targets=targets
        )
        shared: dict[str, Any] = {}
        if scatter is not None:
            shared["scatter"] = columns(columns(scatter), 0)
        residuals = columns(measured.residuals)
        shared["measured"] = Measured(state, residuals, measured.unit, width)
        sample = pool._replace(features=columns(pool.features), num_features=width)
        statistics = Statistics(sample, num_classes=num_classes, **shared)
        return metric.evaluate(statistics, options)["score"]

    return lax.map(score, (places, widths))
