"""The `Ranking` of what the metrics gave for the models of a pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxte.intake import class_names, listed
from jaxte.metrics import Metric
from jaxte.metrics.options import shortlist
from jaxte.ranking.chance import Chance, chance_notes, chance_of, pooled
from jaxte.ranking.intervals import Draws, Interval, deviations_of, intervals_of
from jaxte.ranking.notes import notes_on, verdict
from jaxte.ranking.options import CHECKS, RankOptions
from jaxte.ranking.outcomes import Outcomes
from jaxte.ranking.result import Ranking
from jaxte.ranking.verdict import HISTORY

__all__ = ["assembled", "choices"]


def choices(
    asked: RankOptions, normalize: str, num_classes: int | None, classes: Sequence[Any] | None
) -> dict[str, Any]:
    """What was chosen of the classes and of the options, for the result."""
    number = None if classes is None else len(classes)
    return {
        "num_classes": number if num_classes is None or number is None else int(num_classes),
        "class_names": None if classes is None else class_names(classes),
        "perturb": None if asked.perturb is None else _name_of(asked.perturb),
        "normalize": normalize,
        "options": {name: dict(value) for name, value in asked.options.items()},
        **{name: value for name, value in asked._asdict().items() if name in CHECKS and value},
        **({"seed": asked.seed} if asked.permutations or asked.intervals else {}),
    }


def assembled(
    names: tuple[str, ...],
    metrics: Sequence[Metric],
    outcomes: Outcomes,
    meta: Mapping[str, Any],
    past: Mapping[str, float] | None,
    layered: Sequence[str],
    *,
    weighted: bool,
) -> Ranking:
    """Scores, terms, chance levels, intervals and notes of all metrics.

    Args:
        names: of all models.
        metrics: in the order of the call.
        outcomes: what they gave.
        meta: how it was computed.
        past: model -> its place in a history, or None.
        layered: models of several layers.
        weighted: whether rows have weights.
    """
    scores: dict[tuple[str, str], float] = {}
    statuses: dict[tuple[str, str], str] = {}
    terms: dict[tuple[str, str], Mapping[str, float]] = {}
    chances: dict[tuple[str, str], Chance] = {}
    intervals: dict[tuple[str, str], Interval] = {}
    leading: dict[str, Draws] = {}
    classes, precision = outcomes.classes, meta["precision"]
    shown = meta["class_names"]
    notes = [] if shown is None else [f"{len(shown)} classes: {listed(shown)}"]
    for metric in metrics:
        outputs = outcomes.outputs.get(metric.name, {})
        outputs = {name: outputs[name] for name in names if name in outputs}  # not as they came
        combined = _combined(metric, outputs, meta["normalize"], precision)
        for name in names:
            key = (name, metric.name)
            scores[key] = combined.get(name, math.nan)
            reason = outcomes.problems.get(name) or outcomes.reasons.get(key)
            statuses[key] = reason or verdict(metric, outputs.get(name, {}), scores[key])
            if statuses[key] == "ok" and metric.terms:
                terms[key] = {term: outputs[name][term] for term in metric.terms}
        if layered and metric.joins_layers:
            whose, rest = "each model", ""
            if len(layered) < len(names):
                whose, rest = shortlist(layered), "; of the others, which is less, features alone"
            notes.append(f"{metric.name} reads all layers of {whose}{rest}.")
        if weighted and not metric.takes_weights:
            notes.append(f"{metric.name}: it takes no weights, so that all rows count the same.")
        again = _again(metric, combined, outputs, outcomes, meta)
        chances |= {(name, metric.name): one for name, one in again.chances.items()}
        intervals |= {(name, metric.name): one for name, one in again.intervals.items()}
        leading[metric.name] = again.draws
        notes += again.notes
        number = None if classes is None else len(classes)
        notes += notes_on(metric, outputs, combined, number, precision)
    columns = [metric.name for metric in metrics]
    if past is not None:
        columns.append(HISTORY)
        for name in names:
            scores[name, HISTORY] = past.get(name, math.nan)
            statuses[name, HISTORY] = "ok" if name in past else "the history does not name it"
    ranking = Ranking(
        models=names,
        metrics=tuple(columns),
        notes=tuple(notes),
        meta=meta,
        _scores=scores,
        _statuses=statuses,
        _terms=terms,
        _chances=chances,
        _intervals=intervals,
    )
    if past is None or not intervals or ranking.decisive is None:
        return ranking
    likely = leading[ranking.decisive].with_past(past)
    return replace(ranking, meta={**meta, "p_best": likely})


class _Again(NamedTuple):
    """What one metric gave for permuted targets and without some of the rows."""

    chances: Mapping[str, Chance]
    intervals: Mapping[str, Interval]
    draws: Draws
    notes: list[str]


def _again(
    metric: Metric,
    scores: Mapping[str, float],
    outputs: Mapping[str, Mapping[str, float]],
    outcomes: Outcomes,
    meta: Mapping[str, Any],
) -> _Again:
    precision, notes = meta["precision"], []
    over_pool = partial(_combined, metric, normalize=meta["normalize"], precision=precision)
    chances: dict[str, Chance] = {}
    if nulls := outcomes.nulls.get(metric.name):
        for name, null in pooled(metric, nulls, over_pool, outputs).items():
            one = chance_of(metric, scores.get(name, math.nan), null, precision)
            chances |= {} if one is None else {name: one}
        notes += chance_notes(metric.name, chances)
    intervals: dict[str, Interval] = {}
    draws = Draws(())
    if rows := outcomes.influences.get(metric.name):
        deviations = deviations_of(metric, rows, outputs, over_pool, meta["seed"])
        intervals, draws = intervals_of(scores, deviations, seed=meta["seed"])
        if lost := [name for name in scores if name in rows and name not in intervals]:
            notes.append(
                f"{metric.name} has no interval for {shortlist(lost)}: it has no derivative there, "
                "or none without some of the rows."
            )
    return _Again(chances, intervals, draws, notes)


def _combined(
    metric: Metric, outputs: Mapping[str, Mapping[str, float]], normalize: str, precision: str
) -> dict[str, float]:
    """Scores over the pool, of those models that have one."""
    usable = [name for name, values in outputs.items() if math.isfinite(values["score"])]
    if not usable:
        return {}
    table = {
        key: np.array([outputs[name][key] for name in usable], precision)
        for key in ("score", *metric.terms)
    }
    combined = metric.over_pool(table, None if normalize == "sum" else normalize)
    return dict(zip(usable, combined.tolist(), strict=True))


def _name_of(function: Callable[..., Any]) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    name = getattr(inner, "__name__", type(inner).__name__)
    keywords = getattr(function, "keywords", None) or {}
    return name + "".join(f" {key}={value}" for key, value in keywords.items())
