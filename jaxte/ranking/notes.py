"""Sentences a user should read before trusting an order: ties, ceilings, exact fits."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxte.metrics import Metric
from jaxte.metrics.options import shortlist
from jaxte.ranking.result import are_tied, tie_groups

__all__ = ["notes_on", "verdict"]


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
    sentences = [_ties(metric, finite, precision), _silent(outputs)]
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


def _silent(outputs: Mapping[str, Mapping[str, float]]) -> str:
    silent = [n for n, part in outputs.items() if part.get("constant") or part.get("coincident")]
    if not silent:
        return ""
    return (
        f"the features of {shortlist(silent)} are the same for every class, but for rounding: they "
        "say nothing about the targets, whatever the score."
    )
