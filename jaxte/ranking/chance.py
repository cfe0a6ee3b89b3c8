"""What scores are without any signal: the targets are dealt anew to the rows, many times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import Metric
from jaxte.metrics.options import shortlist, split_options
from jaxte.perturb.transform import moved_features
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.pool import call_own
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.principal import Principal, Relabelled, permuted, principal_of

__all__ = ["CHANCE", "Chance", "chance_notes", "chance_of", "null_outputs"]

_UNLIKELY = 0.05  # p above which a score is said not to differ from chance
_NEAR = 0.01  # share of a metric's range within which the null is at its ceiling

Null = dict[str, np.ndarray]  # "score" and terms -> [permutations]


class Chance(NamedTuple):
    """A score beside what it is for targets that were dealt anew to the rows.

    Attributes:
        null_mean: mean score of the permuted targets.
        null_sd: their standard deviation.
        z: how many of these the score lies above that mean.
        p_value: share of permutations, the true targets among them, that score as much.
        saturated: whether permuted targets reach the highest score there is.
    """

    null_mean: float
    null_sd: float
    z: float
    p_value: float
    saturated: bool


CHANCE = Chance._fields


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


def chance_of(metric: Metric, score: float, null: np.ndarray, precision: str) -> Chance | None:
    """A score beside the scores [permutations] of permuted targets; None where there are none."""
    null = null[np.isfinite(null)]
    if not math.isfinite(score) or len(null) == 0:
        return None
    tolerance = 1e-9 if precision == "float64" else 1e-6
    rounding = tolerance * max(abs(score), float(np.abs(null).max()))
    mean, sd = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else 0.0
    p_value = (1 + int((null >= score - rounding).sum())) / (1 + len(null))
    gap = score - mean
    if sd > rounding:
        z = gap / sd
    else:
        z = 0.0 if abs(gap) <= rounding else math.copysign(math.inf, gap)
    floor, ceiling = metric.range
    saturated = sd <= rounding
    if math.isfinite(ceiling):
        room = ceiling - (floor if math.isfinite(floor) else min(mean, ceiling - 1))
        saturated |= ceiling - mean <= _NEAR * room
    return Chance(mean, sd, z, p_value, bool(saturated))


def chance_notes(metric: str, chances: Mapping[str, Chance]) -> list[str]:
    """What a user should read before trusting scores that random targets reach as well."""
    notes = []
    if full := [model for model, chance in chances.items() if chance.saturated]:
        notes.append(
            f"{metric} is saturated for {shortlist(full)}: permuted labels reach its ceiling, so "
            "that it tells nothing."
        )
    weak = [m for m, one in chances.items() if one.p_value > _UNLIKELY and not one.saturated]
    if weak:
        notes.append(
            f"{metric} of {shortlist(weak)} is no more than chance: permuted labels score as much "
            f"(p > {_UNLIKELY})."
        )
    return notes


def combined_nulls(
    nulls: Mapping[str, Null], combine: Any, outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    """Null scores of the models of a pool, of which ``combine`` makes one labelling's scores."""
    if len(outputs) == 1:
        return {model: null["score"] for model, null in nulls.items()}
    count = min(len(null["score"]) for null in nulls.values())
    rows: list[Mapping[str, float]] = []
    for i in range(count):
        rows.append(combine({m: {key: null[key][i] for key in outputs} for m, null in nulls.items()}))
    return {model: np.array([row.get(model, math.nan) for row in rows]) for model in nulls}
