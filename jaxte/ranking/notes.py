"""Sentences a user should read before trusting an order: ties, ceilings, exact fits."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxte.metrics import Metric
from jaxte.ranking.result import are_tied, tie_groups

__all__ = ["notes", "verdict"]


def verdict(metric: Metric, parts: Mapping[str, float], score: float) -> str:
    """The status of one score."""
    if math.isfinite(score):
        return "ok"
    why = "singular or degenerate"
    if parts.get("coincident"):
        why = "the class means coincide but for rounding: they are constant, or as good as"
    return f"{metric.name} has no finite value on these features ({why})"


def notes(
    metric: Metric,
    parts: Mapping[str, Mapping[str, float]],
    scores: Mapping[str, float],
    num_classes: int | None,
    precision: str,
) -> list[str]:
    """What is wrong, or merely degenerate, with one metric's scores over a pool."""
    finite = {name: score for name, score in scores.items() if math.isfinite(score)}
    said = [_ties(metric, finite, precision), _silent(parts)]
    if metric.name == "logme":
        said += [_exact(parts), _unconverged(parts), _blurred(parts)]
    if metric.name == "face":
        said.append(_flat_fairness(parts, num_classes))
    return [f"{metric.name}: {sentence}" for sentence in said if sentence]


def _ties(metric: Metric, scores: Mapping[str, float], precision: str) -> str:
    groups = tie_groups(scores, precision)
    if not groups or len(groups[0]) < 2:
        return ""
    top = scores[groups[0][0]]
    tied = [name for name in scores if name in groups[0]]  # as they were given
    where, advice = f"tie at {top:.6g}", ""
    if are_tied(top, metric.range[1], precision):
        where += ", the metric's ceiling"
        if metric.name == "sfda":
            advice = (
                " SFDA saturates when d is near or above n: use more samples, or perturb='pca'."
            )
    return (
        f"{len(tied)} of {len(scores)} models {where} ({_listed(tied)}): "
        f"no ranking among them.{advice}"
    )


def _silent(parts: Mapping[str, Mapping[str, float]]) -> str:
    silent = [n for n, part in parts.items() if part.get("constant") or part.get("coincident")]
    if not silent:
        return ""
    return (
        f"the features of {_listed(silent)} are the same for every class, but for rounding: they "
        "say nothing about the targets, whatever the score."
    )


def _blurred(parts: Mapping[str, Mapping[str, float]]) -> str:
    blurred = [name for name, part in parts.items() if part.get("blurred")]
    if not blurred:
        return ""
    return (
        f"the features of {_listed(blurred)} are so nearly dependent that their moments do not "
        "tell all: directions lost in rounding are left out. Arrays in memory are scored exactly."
    )


def _exact(parts: Mapping[str, Mapping[str, float]]) -> str:
    edge = [name for name, part in parts.items() if part["bounded"]]
    if not edge:
        return ""
    return (
        f"for {_listed(edge)} the evidence of some column has no interior maximum (an exact fit, "
        "which d >= n allows, or features without signal): its value at the bound is shown."
    )


def _unconverged(parts: Mapping[str, Mapping[str, float]]) -> str:
    lost = [name for name, part in parts.items() if part["unconverged"]]
    return f"the iteration had not converged for {_listed(lost)}." if lost else ""


def _flat_fairness(parts: Mapping[str, Mapping[str, float]], num_classes: int | None) -> str:
    if num_classes == 2:
        return "class fairness is 0 by construction with two classes; variance collapse decides."
    fairness = [p["class_fairness"] for p in parts.values() if math.isfinite(p["class_fairness"])]
    if num_classes is None or len(fairness) < 2:
        return ""
    highest = math.log(num_classes - 1)
    if min(fairness) < 0.99 * highest:
        return ""
    return (
        "class fairness is within 1 % of its maximum for every model; variance collapse decides "
        "(a lower temperature spreads it)."
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
