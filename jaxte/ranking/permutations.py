"""Scores of permuted targets, many times, in one program per metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import Metric
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.repeats import (
    Repeats,
    called_score,
    repeated_metrics,
    statistics_of,
    whole_sample,
)
from jaxte.runtime.mesh import Layout
from jaxte.runtime.programs import FAST_COMPILE, Program
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.principal import Principal, Relabelled, permuted, principal_of

__all__ = ["null_outputs", "permuted_targets"]


def null_outputs(
    plan: ScoringPlan, candidate: Candidate, permutations: int, seed: int
) -> dict[str, Repeats]:
    """Outputs of every metric that reads targets, for targets [n] in so many random orders.

    Models of as many rows get the same orders. In the principal axes of the features, which
    are found once, where the metric does not depend on the axes.
    """
    sample = whole_sample(candidate)
    keys = jax.random.split(jax.random.key(seed), permutations)
    if plan.layout is not None:  # as many for every device
        devices = plan.layout.mesh.size
        keys = keys[np.arange(-(-permutations // devices) * devices) % permutations]
    principal: Principal | None = None
    nulls: dict[str, Repeats] = {}
    for metric in repeated_metrics(plan, candidate):
        if metric.label_free:
            continue
        if metric.call is not None:
            nulls[metric.name] = _called(plan, metric, candidate, keys)
            continue
        source: Principal | Sample = sample
        if metric.in_any_axes and plan.perturb is None:
            principal = _principal_axes(sample) if principal is None else principal
            source = principal
        static, dynamic = plan.options_of(metric)
        program = _program(metric, plan.num_classes, static, plan.perturb, plan.layout)
        made = program(source, candidate.targets, sample.source, keys, dynamic)
        nulls[metric.name] = {name: np.asarray(own)[:permutations] for name, own in made.items()}
    return nulls


_principal_axes = Program(principal_of, FAST_COMPILE)


@lru_cache(maxsize=512)
def _program(
    metric: Metric,
    num_classes: int | None,
    static: tuple[tuple[str, Any], ...],
    perturb: Any,
    layout: Layout | None,
) -> Program:
    """Each device of a mesh has all rows, and permutations of its own."""

    def null(
        source: Principal | Sample,
        targets: Array,
        head: SourceOutputs | None,
        keys: Array,
        dynamic: Mapping[str, Any],
    ) -> dict[str, Array]:
        def one(key: Array) -> dict[str, Array]:
            drawn = permuted_targets(targets, source.weights, key)
            if isinstance(source, Principal):
                statistics: Statistics = Relabelled(source, drawn, num_classes, head)
            else:
                statistics = statistics_of(source._replace(targets=drawn), num_classes, perturb)
            outputs = metric.evaluate(statistics, {**dict(static), **dynamic})
            return {name: outputs[name] for name in ("score", *metric.terms)}

        return lax.map(one, keys)

    if layout is None:
        return Program(null, FAST_COMPILE)
    every, own = PartitionSpec(), PartitionSpec(layout.mesh.axis_names)
    specs = every, every, every, own, every
    mesh = Mesh(layout.mesh.devices, layout.mesh.axis_names)  # one of explicit axes takes no keys
    return Program(jax.shard_map(null, mesh=mesh, in_specs=specs, out_specs=own, check_vma=False))


@jax.jit
def permuted_targets(targets: Any, weights: Any, key: Array) -> Array:
    """Targets [n, ...] permuted among the rows that count, by their weights [n] or None."""
    return permuted(targets, weights, jax.random.bits(key, (len(targets),), "uint32"))


def _called(plan: ScoringPlan, metric: Metric, candidate: Candidate, keys: Array) -> Repeats:
    """The same of a metric that is a user's own function."""
    scores = []
    for key in keys:
        drawn = np.asarray(permuted_targets(candidate.targets, candidate.weights, key))
        scores.append(called_score(plan, metric, replace(candidate, targets=drawn)))
    return {"score": np.array(scores)}
