r"""How far a score would be another on other rows: the infinitesimal jackknife.

.. math::
    \mathrm{cov}(s_a, s_b) = \sum_i u_{ai} u_{bi}, \quad
    u_{ai} = w_i \frac{\partial s_a}{\partial w_i} - \text{their mean over the rows}

The derivative of a score by the weight of a row says what the row does to it, so that one gradient
is what leaving out every row in turn would be. Models that share rows share what is odd about them,
which cancels where two are compared. A user's own function has no derivative: it is called without
one group of rows after the other.

References: Jaeckel, Bell Laboratories 1972; Efron, SIAM 1982.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

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
from jaxte.runtime.programs import FAST_COMPILE, Program

__all__ = ["influences"]

_GROUPS = 20


def influences(plan: ScoringPlan, candidate: Candidate, seed: int) -> dict[str, Repeats]:
    """Metric -> what each row does to its outputs, whose products are their covariance.

    Of a user's own function what each group of rows does.
    """
    sample = whole_sample(candidate)
    weights = sample.weights
    weights = jnp.ones(len(sample.features)) if weights is None else weights
    made: dict[str, Repeats] = {}
    for metric in repeated_metrics(plan, candidate):
        if metric.call is not None:
            made[metric.name] = _without_groups(plan, metric, candidate, seed)
            continue
        static, dynamic = plan.options_of(metric)
        program = _program(metric, plan.num_classes, static, plan.perturb)
        try:
            slopes = program(sample._replace(weights=weights), dynamic)
        except Exception:  # a user's metric may have no derivative: it has no interval then
            slopes = {key: np.full(len(weights), np.nan) for key in ("score", *metric.terms)}
        made[metric.name] = {key: _centred(slope, weights) for key, slope in slopes.items()}
    return made


def _centred(slopes: Any, weights: Any) -> np.ndarray:
    """Slopes times weights, less their mean over the rows that count."""
    w = np.asarray(weights, np.float64)
    there = w > 0
    own = np.asarray(slopes, np.float64)[there] * w[there]
    return own - own.mean()


@lru_cache(maxsize=512)
def _program(
    metric: Metric,
    num_classes: int | None,
    static: tuple[tuple[str, Any], ...],
    perturb: Any,
) -> Program:
    def slopes(sample: Any, dynamic: Mapping[str, Any]) -> dict[str, Array]:
        def outputs(weights: Array) -> dict[str, Array]:
            own = sample._replace(weights=weights)
            statistics = statistics_of(own, num_classes, perturb)
            statistics.whole_rows = True
            made = metric.evaluate(statistics, {**dict(static), **dynamic})
            return {key: made[key] for key in ("score", *metric.terms)}

        return jax.jacrev(outputs)(sample.weights)

    return Program(slopes, FAST_COMPILE)


def _without_groups(plan: ScoringPlan, metric: Metric, candidate: Candidate, seed: int) -> Repeats:
    """Scores without a group of rows each, as deviations that add up to the variance.

    Rows are dealt to the groups class by class, in random order.
    """
    rng = np.random.default_rng(seed)
    targets, weights = np.asarray(candidate.targets), candidate.weights
    rows = np.arange(len(targets)) if weights is None else np.flatnonzero(np.asarray(weights) > 0)
    dealt = rng.permutation(rows)
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        dealt = dealt[np.argsort(targets[dealt], kind="stable")]
    groups = min(_GROUPS, len(rows))
    scores = []
    for group in range(groups):
        kept = np.sort(np.delete(dealt, slice(group, None, groups)))
        scores.append(called_score(plan, metric, _only(candidate, kept)))
    deviations = np.array(scores) - np.mean(scores)
    return {"score": deviations * math.sqrt((groups - 1) / groups)}


def _only(candidate: Candidate, rows: np.ndarray) -> Candidate:
    """Some of its rows, as a model of its own."""
    weights = candidate.weights
    source: SourceOutputs | None = jax.tree.map(lambda one: one[rows], candidate.source)
    return replace(
        candidate,
        features=candidate.features[rows],
        targets=candidate.targets[rows],
        weights=None if weights is None else np.asarray(weights)[rows],
        source=source,
    )
