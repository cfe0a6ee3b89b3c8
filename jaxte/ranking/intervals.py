"""How far a score would be another on other rows of the same kind, and which model leads then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from jaxte.ranking.jackknife import Jackknife
from jaxte.ranking.verdict import recommended

__all__ = ["CONFIDENCE", "INTERVAL", "Draws", "Interval", "intervals_of"]

CONFIDENCE = 0.9


class Interval(NamedTuple):
    """A score beside what it may be on other rows, as many and of the same kind.

    Attributes:
        lo: lower end of the 90 % interval of its mean over such samples.
        hi: upper end.
        standard_error: standard deviation of the score over such samples, as estimated.
        drift: by how much the score would be larger on ever more rows, as estimated. It is no part
            of the interval: scores of few rows are all too high, or all too low.
        p_best: chance that the model's mean is the highest of all.
    """

    lo: float
    hi: float
    standard_error: float
    drift: float
    p_best: float


INTERVAL = Interval._fields


class Draws(NamedTuple):
    """Scores that models may have on other rows: names, and [draws, models]."""

    names: tuple[str, ...]
    scores: np.ndarray = np.zeros((0, 0))

    def with_past(self, past: Mapping[str, float]) -> dict[str, float]:
        """Model -> chance to lead the recommended order, to which its past is added."""
        from jaxte.evaluate.posterior import best_chances

        joined = [
            list(recommended(dict(zip(self.names, one, strict=True)), past).values())
            for one in self.scores.tolist()
        ]
        return dict(zip(self.names, best_chances(np.array(joined)).tolist(), strict=True))


def intervals_of(
    scores: Mapping[str, float],
    without: Mapping[str, np.ndarray],
    plans: Mapping[str, Jackknife],
    *,
    seed: int = 0,
) -> tuple[dict[str, Interval], Draws]:
    """Intervals of the models that have one, and draws of the scores that they may have.

    Args:
        scores: model -> its score.
        without: model -> its scores [resamples] without some of the rows.
        plans: model -> which rows; models that share targets share them.
        seed: of the draws.
    """
    from jaxte.evaluate.posterior import best_chances, of_scores  # 0.1 s that few need

    names = [
        name
        for name, own in without.items()
        if math.isfinite(scores.get(name, math.nan)) and np.isfinite(own).all()
    ]
    if not names:
        return {}, Draws(())
    y = np.array([scores[name] for name in names])
    resampled = np.stack([without[name] for name in names])
    factors = np.array([plans[name].factor for name in names])
    deviations = resampled - resampled.mean(1, keepdims=True)
    deviations *= np.sqrt(factors / resampled.shape[1])[:, None]
    cov = deviations @ deviations.T
    errors = np.sqrt(np.diag(cov))
    half = errors * stdtrit([plans[name].degrees for name in names], (1 + CONFIDENCE) / 2)
    drifts = factors * (y - resampled.mean(1))
    draws = of_scores(y, cov).draws(seed)
    numbers = np.stack([y - half, y + half, errors, drifts, best_chances(draws)], 1).tolist()
    intervals = {name: Interval(*own) for name, own in zip(names, numbers, strict=True)}
    return intervals, Draws(tuple(names), draws)
