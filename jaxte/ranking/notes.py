"""Sentences a user should read before trusting an order: ties, ceilings, exact fits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from jaxte.intake import Labels
from jaxte.metrics import Metric
from jaxte.metrics.options import shortlist
from jaxte.ranking.verdict import NO_GAIN, are_tied, tie_groups

__all__ = ["notes_on", "on_targets", "verdict"]

_CLASSES = 50  # so few whole numbers may have been meant as classes
_BY_CHANCE = 2.0  # nats, which one of twenty models without any signal gains at most


def verdict(metric: Metric, outputs: Mapping[str, float], score: float) -> str:
    """The status of one score."""
    if math.isfinite(score):
        return "ok"
    why = "singular or degenerate"
    if outputs.get("coincident"):
        why = "the class means coincide but for rounding: they are constant, or as good as"
    return f"{metric.name} has no finite value on these features ({why})"


def notes_on(
    metric: Metric,
    outputs: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, float],
    num_classes: int | None,
    precision: str,
) -> list[str]:
    """What is wrong, or merely degenerate, with one metric's scores over a pool."""
    finite = {name: score for name, score in scores.items() if math.isfinite(score)}
    sentences = [_ties(metric, finite, precision), _silent(outputs), _no_gain(outputs, num_classes)]
    if metric.notes is not None:
        sentences += metric.notes(outputs, num_classes)
    return [f"{metric.name}: {sentence}" for sentence in sentences if sentence]


def _ties(metric: Metric, scores: Mapping[str, float], precision: str) -> str:
    groups = tie_groups(scores, precision)
    if not groups or len(groups[0]) < 2:
        return ""
    top = scores[groups[0][0]]
    tied = [name for name in scores if name in groups[0]]
    where, advice = f"tie at {top:.6g}", ""
    if are_tied(top, metric.range[1], precision):
        where += ", the metric's ceiling"
        advice = f" {metric.at_ceiling}" if metric.at_ceiling else ""
    return (
        f"{len(tied)} of {len(scores)} models {where} ({shortlist(tied)}): "
        f"no ranking among them.{advice}"
    )


def _no_gain(outputs: Mapping[str, Mapping[str, float]], num_classes: int | None) -> str:
    """Where no model predicts better than chance: twice a gain in likelihood is chi-square."""
    gains = [own["gain"] for own in outputs.values() if math.isfinite(own.get("gain", math.nan))]
    most = max(gains, default=math.inf)
    if most >= (by_chance := _BY_CHANCE + math.log(max(1, len(gains)))):
        return ""
    known = "their mean" if num_classes is None else "their frequencies"
    return (
        f"{NO_GAIN} {known} (the best gains {max(0.0, most):.1f} "
        f"nats over all rows, chance {by_chance:.1f}): the order says nothing. Give more rows or "
        "other layers, or fine-tune a few (`jaxte race`)."
    )


def on_targets(labels: Iterable[Labels]) -> list[str]:
    """A note on floats that look like classes, as tables with a gap in them make of integers."""
    for own in {id(own.values): own for own in labels}.values():  # most models share theirs
        values = own.values
        if own.classes is not None or values.ndim > 1 or not np.all(values == np.round(values)):
            continue
        if 1 < len(kinds := np.unique(values)) <= min(_CLASSES, len(values) // 4):
            return [
                f"The targets are {values.dtype} with {len(kinds)} whole values, {kinds[0]:g} to "
                f"{kinds[-1]:g}: they count as numbers to predict. Integers or texts are classes."
            ]
    return []


def _silent(outputs: Mapping[str, Mapping[str, float]]) -> str:
    silent = [n for n, part in outputs.items() if part.get("constant") or part.get("coincident")]
    if not silent:
        return ""
    return (
        f"the features of {shortlist(silent)} are the same for every class, but for rounding: they "
        "say nothing about the targets, whatever the score."
    )
