r"""How far a score would be another on other rows: the infinitesimal jackknife.

.. math::
    \mathrm{cov}(s_a, s_b) = \sum_i u_{ai} u_{bi}, \quad
    u_{ai} = w_i \frac{\partial s_a}{\partial w_i} - \text{their mean over the rows}

The derivative of a score by the weight of a row says what the row does to it, so that one gradient
is what leaving out every row in turn would be; a metric may say what that misses, as of rows that
have much weight in their own fit. Models that share rows share what is odd about them,
which cancels where two are compared. A user's own function has no derivative, and some metrics one
that says little: they are scored without one group of rows after the other.

On average the jackknife's variance is :math:`V_1 + 2 V_2` where the true one is
:math:`V_1 + V_2 + \dots`, with :math:`V_2` of pairs of rows. Intervals keep that as a margin: with
few rows they do not know their own width well. Where models are compared it is taken off.

References: Jaeckel, Bell Laboratories 1972; Efron, SIAM 1982; Efron and Stein, Annals of Statistics
1981 (second order); Hutchinson, Communications in Statistics 1989 (its probe).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import Metric
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.repeats import (
    CURVATURE,
    Repeats,
    called_score,
    deviations_of_groups,
    repeated_metrics,
    statistics_of,
    whole_sample,
    without_groups,
)
from jaxte.runtime.programs import FAST_COMPILE, Program
from jaxte.statistics import Sample, Statistics

__all__ = ["influences"]

_STEP = 0.05  # of the weights: beyond what single precision rounds


def influences(
    plan: ScoringPlan, candidate: Candidate, seed: int, *, by_groups: bool = False
) -> dict[str, Repeats]:
    """Metric -> deviations of its outputs, whose products are their covariance.

    Of each row what it does to them; of a metric without a useful derivative, or of all of them,
    what each group of rows does.
    """
    sample = whole_sample(candidate)
    if sample.weights is None:
        sample = sample._replace(weights=jnp.ones(len(sample.features)))
    made: dict[str, Repeats] = {}
    for metric in repeated_metrics(plan, candidate):
        own = None if by_groups else _of_rows(plan, metric, sample, seed)
        made[metric.name] = own or _of_groups(plan, metric, candidate, sample, seed)
    return made


def _of_rows(plan: ScoringPlan, metric: Metric, sample: Sample, seed: int) -> Repeats | None:
    """From the derivatives by the weights, where these say something."""
    if metric.call is not None or not metric.smooth:
        return None
    static, dynamic = plan.options_of(metric)
    program = _slopes(metric, plan.num_classes, static, plan.perturb)
    try:
        slopes, inflation = program(sample, dynamic)
    except Exception:  # a user's metric may have no derivative
        return None
    if not all(np.isfinite(slope).all() for slope in slopes.values()):
        return None
    made = {key: _deviations(slope, inflation, sample.weights) for key, slope in slopes.items()}
    if metric.second_order:
        made[CURVATURE] = _curvature(
            lambda moved: program(moved, dynamic)[0]["score"], sample, made["score"], seed
        )
    return made


def _curvature(
    slopes: Callable[[Sample], Any], sample: Sample, deviations: np.ndarray, seed: int
) -> np.ndarray:
    """V2 over the jackknife's variance, by slopes at two opposite weightings; 0 if unknown."""
    w = np.asarray(sample.weights)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=len(w))
    signs -= np.average(signs, weights=w)
    up, down = (
        np.asarray(slopes(sample._replace(weights=jnp.asarray(w * (1 + step * signs), w.dtype))))
        for step in (_STEP, -_STEP)
    )
    moved = _deviations((up - down) / (2 * _STEP), 1.0, w)
    share = moved @ moved / 2 / max(deviations @ deviations, np.finfo(float).tiny)
    return np.asarray(share if np.isfinite(share) else 0.0)


def _deviations(slopes: Any, inflation: Any, weights: Any) -> np.ndarray:
    """Slopes times weights, less their mean over the rows that count, times the inflation."""
    w = np.asarray(weights, np.float64)
    slopes, inflation = (np.broadcast_to(one, w.shape)[w > 0] for one in (slopes, inflation))
    own = slopes * w[w > 0]
    own = (own - own.mean()) * inflation
    return own - own.mean()


def _statistics(sample: Sample, num_classes: int | None, perturb: Any) -> Statistics:
    statistics = statistics_of(sample, num_classes, perturb)
    statistics.whole_rows = True
    return statistics


def _by_weights(
    metric: Metric,
    num_classes: int | None,
    perturb: Any,
    options: Mapping[str, Any],
    sample: Sample,
) -> Callable[[Array], dict[str, Array]]:
    """The outputs as a function of the weights of the rows."""

    def outputs(weights: Array) -> dict[str, Array]:
        statistics = _statistics(sample._replace(weights=weights), num_classes, perturb)
        made = metric.evaluate(statistics, options)
        return {key: made[key] for key in ("score", *metric.terms)}

    return outputs


@lru_cache(maxsize=512)
def _slopes(
    metric: Metric, num_classes: int | None, static: tuple[tuple[str, Any], ...], perturb: Any
) -> Program:
    """(sample, options) -> derivatives of the outputs by the weights, and their inflation."""

    def slopes(sample: Sample, dynamic: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
        options = {**dict(static), **dynamic}
        inflation = jnp.ones(())
        if metric.inflation is not None:
            statistics = _statistics(sample, num_classes, perturb)
            inflation = metric.inflation(statistics, **metric.all_options(options))
        outputs = _by_weights(metric, num_classes, perturb, options, sample)
        return jax.jacrev(outputs)(sample.weights), inflation

    return Program(slopes, FAST_COMPILE)


@lru_cache(maxsize=512)
def _scores(
    metric: Metric, num_classes: int | None, static: tuple[tuple[str, Any], ...], perturb: Any
) -> Program:
    """(sample, options, weights [g, n]) -> the outputs [g] with each of these weights."""

    def scores(sample: Sample, dynamic: Mapping[str, Any], weights: Array) -> dict[str, Array]:
        options = {**dict(static), **dynamic}
        return lax.map(_by_weights(metric, num_classes, perturb, options, sample), weights)

    return Program(scores, FAST_COMPILE)


def _of_groups(
    plan: ScoringPlan, metric: Metric, candidate: Candidate, sample: Sample, seed: int
) -> Repeats:
    """Of scores without a group of rows each."""
    weights = np.asarray(sample.weights)
    kept = without_groups(np.asarray(candidate.targets), weights, seed)
    if metric.call is None:
        static, dynamic = plan.options_of(metric)
        program = _scores(metric, plan.num_classes, static, plan.perturb)
        return deviations_of_groups(program(sample, dynamic, kept * weights[None]))
    rows = (np.flatnonzero(one & (weights > 0)) for one in kept)
    return deviations_of_groups(
        {"score": [called_score(plan, metric, _only(candidate, own)) for own in rows]}
    )


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
