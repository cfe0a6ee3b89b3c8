"""What a score has to beat, and what no score can: static ranking, chance, noise ceiling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.evaluate.measures import weighted_tau

__all__ = ["halves", "noise_ceiling", "permuted", "static_ranking"]

_HALVES = 100  # of many seeds so many splits are drawn


def static_ranking(
    accuracies: Mapping[str, Mapping[str, ArrayLike]], dataset: str | None = None
) -> dict[str, float]:
    """Mean place of each model on the other data sets: a ranking that never sees the target.

    Args:
        accuracies: data set -> model -> accuracy, or the accuracies of several seeds.
        dataset: the one that is left out, if any.

    Returns:
        Model -> 1 if it is the best on every other data set, 0 if the last; ties share the mean
        of their places. Accuracies that are no numbers are left out; data sets with fewer than
        two models say nothing.

    References:
        Singh, Hess, Vanschoren, arXiv 2510.06448, ICLR 2026.

    Example:
        >>> import jaxte
        >>> accuracies = jaxte.evaluate.published("sfda_cnn")
        >>> static = jaxte.evaluate.static_ranking(accuracies, "flowers")
        >>> max(static, key=static.get)
        'resnet152'
    """
    places: dict[str, list[float]] = {}
    for other, models in accuracies.items():
        if other == dataset:
            continue
        own = {name: float(np.mean(np.asarray(v))) for name, v in models.items() if np.size(v)}
        own = {name: mean for name, mean in own.items() if math.isfinite(mean)}
        if len(own) < 2:
            continue
        means = np.array(list(own.values()))
        below = (means[:, None] > means).sum(axis=1) - (means[:, None] < means).sum(axis=1)
        for name, value in zip(own, below / (len(means) - 1), strict=True):
            places.setdefault(name, []).append((1 + value) / 2)
    # rounded, so that equal means are ties whatever the order of their terms
    return {name: round(float(np.mean(values)), 12) for name, values in places.items()}


def halves(values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean accuracy of each model by half of the seeds and by the others; [] of a single seed."""
    seeds = range(values.shape[1])
    splits = list(combinations(seeds, len(seeds) // 2)) if len(seeds) > 1 else []
    chosen = np.unique(np.linspace(0, len(splits) - 1, min(len(splits), _HALVES)).astype(int))
    return [
        (values[:, list(half)].mean(1), values[:, [s for s in seeds if s not in half]].mean(1))
        for half in (splits[i] for i in chosen)
    ]


def noise_ceiling(values: ArrayLike, measure: Callable[..., Any] = weighted_tau) -> float:
    """How well the ranking by half of the seeds agrees with that by the others.

    The mean over all splits (100 of them where there are more). It is stated as it is, so that it
    lies below what a ranking without noise would reach against the mean of all seeds.

    Args:
        values: [m, seeds] the accuracy that each model reached by each seed.
        measure: one of this module, as `weighted_tau` or `top1_regret`.

    Returns:
        The mean of the measure; NaN for a single seed.

    Example:
        >>> import jaxte
        >>> jaxte.evaluate.noise_ceiling([[90, 91], [80, 79], [70, 71]])
        1.0
    """
    table = np.asarray(values, float)
    if table.ndim != 2:
        raise InputError(f"values {table.shape} must be [models, seeds]")
    measured = [measure(*pair) for pair in halves(table)]
    finite = [value for value in measured if not np.isnan(value)]
    return float(np.mean(finite)) if finite else float("nan")


def permuted(scores: np.ndarray, keep: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """[draws, m] the scores permuted among the models that count, in the order of random keys.

    The same keys [draws, m] for all data sets move whole models: a ranking that is the same on all
    of them stays so, as it must for the chance of a mean over data sets.
    """
    dealt = np.tile(scores, (len(keys), 1))
    dealt[:, keep] = scores[keep][np.argsort(keys[:, keep], axis=1)]
    return dealt
