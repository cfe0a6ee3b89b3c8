"""A score beside chance: what it is for permuted targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxte.metrics import Metric
from jaxte.metrics.combination import tolerance_of
from jaxte.metrics.options import shortlist

__all__ = ["CHANCE", "Chance", "chance_notes", "chance_of", "pooled", "too_few"]

_UNLIKELY = 0.05  # p above which a score is said not to differ from chance
_NEAR = 0.01  # share of a metric's range within which the null is at its ceiling


class Chance(NamedTuple):
    """A score beside what it is for permuted targets.

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


def chance_of(metric: Metric, score: float, null: np.ndarray, precision: str) -> Chance | None:
    """A score beside the scores [permutations] of permuted targets; None where there are none."""
    null = null[np.isfinite(null)]
    if not math.isfinite(score) or len(null) == 0:
        return None
    rounding = tolerance_of(precision) * max(abs(score), float(np.abs(null).max()))
    mean, sd = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else 0.0
    p_value = (1 + int((null >= score - rounding).sum())) / (1 + len(null))
    gap = score - mean
    z = 0.0 if abs(gap) <= rounding else math.copysign(math.inf, gap)
    z = gap / sd if sd > rounding else z
    floor, ceiling = metric.range
    saturated = sd <= rounding and gap <= rounding and not metric.terms
    if math.isfinite(ceiling):
        room = ceiling - (floor if math.isfinite(floor) else min(mean, ceiling - 1))
        saturated |= ceiling - mean <= _NEAR * room
    return Chance(mean, sd, z, p_value, bool(saturated))


def too_few(permutations: int) -> list[str]:
    """A note, if so few permutations cannot tell any score from chance."""
    if not 0 < permutations < 1 / _UNLIKELY - 1:
        return []
    least, needed = 1 / (1 + permutations), round(1 / _UNLIKELY) - 1
    number = "one permutation" if permutations == 1 else f"{permutations} permutations"
    return [f"p is at least {least:.2f} of {number}: give {needed} or more."]


def chance_notes(metric: str, chances: Mapping[str, Chance], permutations: int) -> list[str]:
    """What a user should read before trusting scores that random targets reach as well."""
    unlikely = max(_UNLIKELY, 1 / (1 + permutations))
    weak = {model: one for model, one in chances.items() if one.p_value > unlikely}
    full = [model for model, one in weak.items() if one.saturated]
    rest = [model for model in weak if model not in full]
    notes = []
    if full:
        notes.append(
            f"{metric} is saturated for {shortlist(full)}: permuted labels score as much, since it "
            "is at its ceiling or reads no labels, so that it tells nothing."
        )
    if rest:
        notes.append(
            f"{metric} of {shortlist(rest)} is no more than chance: permuted labels score as much "
            f"(p > {unlikely:.2g})."
        )
    return notes


def pooled(
    metric: Metric,
    repeated: Mapping[str, Mapping[str, np.ndarray]],
    over_pool: Callable[[Mapping[str, Mapping[str, float]]], Mapping[str, float]],
    beside: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, np.ndarray]:
    """Model -> scores [repeats], of outputs that models gave repeatedly.

    Args:
        metric: whose they are.
        repeated: model -> "score" and terms [repeats].
        over_pool: makes the scores of a pool of its outputs, for one of them.
        beside: model -> outputs of the others, where only one model at a time is another.
    """
    if not metric.terms:
        return {name: own["score"] for name, own in repeated.items()}
    made = {name: np.full(len(own["score"]), np.nan) for name, own in repeated.items()}
    for i in range(len(next(iter(made.values())))):
        each = {n: {key: own[key][i] for key in own} for n, own in repeated.items()}
        together = over_pool(each) if beside is None else {}
        for name, column in made.items():
            scores = together or over_pool({**(beside or {}), name: each[name]})
            column[i] = scores.get(name, math.nan)
    return made
