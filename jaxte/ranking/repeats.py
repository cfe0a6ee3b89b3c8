"""What scoring a model again, with other targets or weights, begins with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.metrics import Metric
from jaxte.perturb.transform import moved_features
from jaxte.ranking.blocks import width_of
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.pool import call_own
from jaxte.statistics import Sample, Statistics

__all__ = [
    "CURVATURE",
    "Repeats",
    "called_score",
    "deviations_of_groups",
    "repeated_metrics",
    "statistics_of",
    "whole_sample",
    "without_groups",
]

Repeats: TypeAlias = dict[str, np.ndarray]  # "score" and terms -> a number for each time
CURVATURE = "curvature"  # beside deviations: what share of their square counts twice, a number
_GROUPS = 20  # of rows


def whole_sample(candidate: Candidate) -> Sample:
    """All rows of a model, padded in width, so that models of about one width share programs."""
    dtype = jnp.zeros(()).dtype
    features = jnp.asarray(candidate.features).astype(dtype)
    d = features.shape[1]
    features = jnp.pad(features, ((0, 0), (0, width_of(d) - d)))
    weights = None if candidate.weights is None else jnp.asarray(candidate.weights, dtype)
    source = jax.tree.map(lambda outputs: jnp.asarray(outputs, dtype), candidate.source)
    return Sample(features, candidate.targets, weights, np.asarray(d), source)


def repeated_metrics(plan: ScoringPlan, candidate: Candidate) -> Iterator[Metric]:
    """Metrics that can score this model."""
    unable = plan.reasons(candidate.source is not None)
    return (metric for metric in plan.metrics if metric.name not in unable)


def called_score(plan: ScoringPlan, metric: Metric, candidate: Candidate) -> float:
    """The score of a metric that is a user's own function; NaN where it fails."""
    output = call_own(plan, metric, candidate)
    return math.nan if isinstance(output, Exception) else float(output["score"])


def statistics_of(
    sample: Sample, num_classes: int | None, perturb: Callable[..., Any] | None
) -> Statistics:
    """Statistics of rows inside jit, perturbed first where that was asked for."""
    if perturb is not None:
        features, width = moved_features(
            perturb, sample.features, sample.targets, num_classes=num_classes,
            weights=sample.weights, num_features=sample.num_features,
        )  # fmt: skip
        sample = sample._replace(features=features, num_features=width)
    return Statistics(sample, num_classes=num_classes)


def without_groups(targets: np.ndarray, weights: np.ndarray, seed: int) -> np.ndarray:
    """Which rows are kept where one group of them after the other is left out [g, n].

    Rows that count are dealt to the groups class by class, in random order.
    """
    dealt = np.random.default_rng(seed).permutation(np.flatnonzero(weights > 0))
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        dealt = dealt[np.argsort(targets[dealt], kind="stable")]
    number = min(_GROUPS, len(dealt))
    group = np.full(len(weights), -1)
    group[dealt] = np.arange(len(dealt)) % number
    return group[None] != np.arange(number)[:, None]


def deviations_of_groups(outputs: Mapping[str, Any]) -> Repeats:
    """Outputs without a group of rows each, as deviations that add up to the variance."""
    scores = {key: np.asarray(own, np.float64) for key, own in outputs.items()}
    return {
        key: math.sqrt((len(own) - 1) / len(own)) * (own - own.mean())
        for key, own in scores.items()
    }
