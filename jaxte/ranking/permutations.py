"""Scores of targets that are dealt anew to the rows, many times, in one program per metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import Metric
from jaxte.metrics.options import split_options
from jaxte.perturb.transform import moved_features
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.pool import call_own
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.principal import Principal, Relabelled, permuted, principal_of

__all__ = ["null_outputs"]

Null = dict[str, np.ndarray]  # "score" and terms -> [permutations]


def null_outputs(
    plan: ScoringPlan, candidate: Candidate, permutations: int, seed: int
) -> dict[str, Null]:
    """Outputs of every metric that reads targets, for targets [n] in so many random orders.

    Models of as many rows get the same orders. In the principal axes of the features, which
    are found once, where the metric does not depend on the axes.
    """
    dtype = jnp.zeros(()).dtype
    head = jax.tree.map(lambda outputs: outputs.astype(dtype), candidate.source)
    features = jnp.asarray(candidate.features).astype(dtype)
    weights = None if candidate.weights is None else jnp.asarray(candidate.weights)
    sample = Sample(features, candidate.targets, weights, None, head)
    keys = jax.random.split(jax.random.key(seed), permutations)
    unable = plan.reasons(candidate.source is not None)
    principal: Principal | None = None
    nulls: dict[str, Null] = {}
    for metric in plan.metrics:
        if metric.label_free or metric.name in unable:
            continue
        if metric.call is not None:
            nulls[metric.name] = _called(plan, metric, candidate, keys)
            continue
        source: Principal | Sample = sample
        if metric.in_any_axes and plan.perturb is None:
            principal = _principal(sample) if principal is None else principal
            source = principal
        own = metric.all_options(plan.options.get(metric.name, {}))
        static, dynamic = split_options(own)
        made = _null(
            source, candidate.targets, head, keys, dynamic, metric=metric,
            num_classes=plan.num_classes, static=static, perturb=plan.perturb,
        )  # fmt: skip
        nulls[metric.name] = {name: np.asarray(values) for name, values in made.items()}
    return nulls


_principal = jax.jit(principal_of)


@partial(jax.jit, static_argnames=("metric", "num_classes", "static", "perturb"))
def _null(
    source: Principal | Sample,
    targets: Array,
    head: SourceOutputs | None,
    keys: Array,
    dynamic: Mapping[str, Any],
    *,
    metric: Metric,
    num_classes: int | None,
    static: tuple[tuple[str, Any], ...],
    perturb: Any,
) -> dict[str, Array]:
    def one(key: Array) -> dict[str, Array]:
        drawn = _permuted(targets, source.weights, key)
        statistics: Statistics
        if isinstance(source, Principal):
            statistics = Relabelled(source, drawn, num_classes, head)
        else:
            sample = source._replace(targets=drawn)
            if perturb is not None:
                moved, width = moved_features(
                    perturb, sample.features, drawn, num_classes=num_classes,
                    weights=sample.weights, num_features=None,
                )  # fmt: skip
                sample = sample._replace(features=moved, num_features=width)
            statistics = Statistics(sample, num_classes=num_classes)
        outputs = metric.evaluate(statistics, {**dict(static), **dynamic})
        return {name: outputs[name] for name in ("score", *metric.terms)}

    return lax.map(one, keys)


@jax.jit
def _permuted(targets: Array, weights: Array | None, key: Array) -> Array:
    return permuted(targets, weights, jax.random.bits(key, (len(targets),), "uint32"))


def _called(plan: ScoringPlan, metric: Metric, candidate: Candidate, keys: Array) -> Null:
    """The same of a metric that is a user's own function."""
    scores = []
    for key in keys:
        drawn = np.asarray(_permuted(candidate.targets, candidate.weights, key))
        output = call_own(plan, metric, replace(candidate, targets=drawn))
        scores.append(math.nan if isinstance(output, Exception) else float(output["score"]))
    return {"score": np.array(scores)}
