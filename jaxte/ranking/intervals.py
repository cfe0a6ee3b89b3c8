"""How far a score would be another on other rows of the same kind, and which model leads then."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxte.metrics import Metric
from jaxte.metrics.combination import tolerance_of
from jaxte.ranking.chance import pooled
from jaxte.ranking.repeats import CURVATURE
from jaxte.ranking.verdict import recommended

__all__ = ["INTERVAL", "Draws", "Interval", "Spread", "covariance_of", "intervals_of", "spread_of"]

_CONFIDENCE = 0.9
_DRAWS = 400  # of scores that are made over the pool


class Interval(NamedTuple):
    """A score beside what it may be on other rows, as many and of the same kind.

    How it drifts with ever more rows, of which scores of few are all too high or all too low, is no
    part of it: `jaxte.score_curve` shows that.

    Attributes:
        lo: lower end of the 90 % interval of its mean over such samples.
        hi: upper end.
        standard_error: standard deviation of the score over such samples, as estimated.
        p_best: chance that the model's mean is the highest of all; NaN where another model has no
            interval.
    """

    lo: float
    hi: float
    standard_error: float
    p_best: float


INTERVAL = Interval._fields


class Draws(NamedTuple):
    """Scores that models may have on other rows: names, and [draws, models]."""

    names: tuple[str, ...]
    scores: np.ndarray = np.zeros((0, 0))

    def chances(self, past: Mapping[str, float] | None = None) -> dict[str, float]:
        """Model -> chance to lead; with a past, to lead the recommended order that it counts in."""
        from jaxte.evaluate.posterior import best_chances

        scores = self.scores
        if past is not None:
            joined = (recommended(dict(zip(self.names, one, strict=True)), past) for one in scores)
            scores = np.array([list(one.values()) for one in joined])
        return dict(zip(self.names, best_chances(scores).tolist(), strict=True))


class Spread(NamedTuple):
    """What makes up the covariance of the scores of models, by their names.

    Attributes:
        deviations: whose products are the covariance; of as many rows, the same rows.
        middles: of an interval where that is not the score.
        curvature: share of the variance that counts twice, and is taken off by division, so that
            something stays.
    """

    deviations: Mapping[str, np.ndarray]
    middles: Mapping[str, float] = MappingProxyType({})
    curvature: Mapping[str, float] = MappingProxyType({})


def spread_of(
    metric: Metric,
    influences: Mapping[str, Mapping[str, np.ndarray]],
    outputs: Mapping[str, Mapping[str, float]],
    over_pool: Callable[[Mapping[str, Mapping[str, float]]], Mapping[str, float]],
    seed: int,
) -> Spread:
    """Of the scores, from what each row does to the outputs.

    Scores that are made of terms over the pool are drawn with all their terms; one at an end of the
    pool's range can move to one side only.
    """
    if not metric.terms:
        return Spread(
            {name: own["score"] for name, own in influences.items()},
            curvature={n: float(own.get(CURVATURE, 0)) for n, own in influences.items()},
        )
    rng = np.random.default_rng(seed)
    rows = dict.fromkeys(len(u) for own in influences.values() for u in own.values())
    half = {n: rng.normal(size=(_DRAWS // 2, n)) for n in rows}
    normal = {n: np.concatenate([z, -z]) for n, z in half.items()}  # a sum keeps its middle
    drawn = {
        name: {key: outputs[name][key] + normal[len(u)] @ u for key, u in own.items()}
        for name, own in influences.items()
    }
    scores = pooled(metric, drawn, over_pool)
    middles = {name: float(own.mean()) for name, own in scores.items()}
    deviations = {name: (own - middles[name]) / _DRAWS**0.5 for name, own in scores.items()}
    return Spread(deviations, middles)


def covariance_of(deviations: Sequence[np.ndarray]) -> np.ndarray:
    """Of the scores of models, from what each of the same rows adds to them.

    Of many models few rows leave it singular. So it is shrunk towards one correlation of all pairs,
    by as much as makes the expected error least.

    References: Ledoit and Wolf, "Honey, I shrunk the sample covariance matrix", 2004.
    """
    x = np.stack(deviations)
    cov = x @ x.T
    rows, sd = x.shape[1], np.sqrt(np.diag(cov))
    if len(x) < 3 or not (sd > 0).all():
        return cov
    x = x / sd[:, None]  # of variance 1, as the sums over the rows are
    r = x @ x.T
    others = ~np.eye(len(x), dtype=bool)
    target = np.where(others, r[others].mean(), 1.0)
    noise = rows * (x**2 @ (x**2).T) - r**2
    third = rows * (x**3 @ x.T) - r  # of each variance with each covariance
    shared = target * (third + third.T) / 2
    error = noise[others].sum() - shared[others].sum()
    apart = ((r - target) ** 2).sum()
    share = min(max(error / (rows * apart), 0.0), 1.0) if apart > 0 else 0.0
    return (share * target + (1 - share) * r) * np.outer(sd, sd)


def _within(draws: np.ndarray, floor: float, ceiling: float) -> np.ndarray:
    """Draws [draws, models] inside a range, in the same order: normals cut off at its ends."""
    mean, sd = np.clip(draws.mean(0), floor, ceiling), draws.std(0)
    beyond = ((draws < floor) | (draws > ceiling)).any(0) & (sd > 0)
    if not beyond.any():
        return draws
    from scipy.special import ndtr, ndtri

    mean, sd = mean[beyond], sd[beyond]
    low, high = ndtr((floor - mean) / sd), ndtr((ceiling - mean) / sd)
    share = low + ndtr((draws[:, beyond] - mean) / sd) * (high - low)
    draws = draws.copy()
    draws[:, beyond] = np.clip(mean + sd * ndtri(share), floor, ceiling)
    return draws


def intervals_of(
    metric: Metric, scores: Mapping[str, float], spread: Spread, *, seed: int, precision: str
) -> tuple[dict[str, Interval], Draws]:
    """Intervals of the models that have one, and if all have, draws of scores that they may have.

    Args:
        metric: whose scores they are.
        scores: model -> its score.
        spread: what makes up their covariance.
        seed: of the draws.
        precision: in which they were computed: models that differ by rounding alone tie.
    """
    from jaxte.evaluate.posterior import best_chances, of_scores  # 0.1 s that few need

    deviations = spread.deviations
    names = [
        name
        for name, own in deviations.items()
        if math.isfinite(scores.get(name, math.nan)) and np.isfinite(own).all()
    ]
    if not names:
        return {}, Draws(())
    y = np.array([scores[name] for name in names])
    cov = np.zeros((len(names), len(names)))
    for length in {len(deviations[name]) for name in names}:  # of others nothing is shared
        own = [i for i, name in enumerate(names) if len(deviations[name]) == length]
        cov[np.ix_(own, own)] = covariance_of([deviations[names[i]] for i in own])
    errors = np.sqrt(np.diag(cov))
    half = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * errors
    once = np.array([(1 + spread.curvature.get(name, 0)) ** -0.5 for name in names])
    floor, ceiling = metric.range
    rounding = np.diag((tolerance_of(precision) * y) ** 2)
    draws, chances = Draws(()), np.full(len(y), np.nan)
    if all(name in names for name, score in scores.items() if math.isfinite(score)):
        made = of_scores(y, cov * np.outer(once, once) + rounding).draws(seed)
        if ((floor <= y) & (y <= ceiling)).all():  # not where terms are normalised otherwise
            made = _within(made, floor, ceiling)
        draws, chances = Draws(tuple(names), made), best_chances(made)
    middle = np.array([spread.middles.get(name, scores[name]) for name in names])
    lo = np.minimum(np.maximum(middle - half, floor), y)
    hi = np.maximum(np.minimum(middle + half, ceiling), y)
    numbers = np.stack([lo, hi, errors, chances], 1).tolist()
    intervals = {name: Interval(*own) for name, own in zip(names, numbers, strict=True)}
    return intervals, draws
