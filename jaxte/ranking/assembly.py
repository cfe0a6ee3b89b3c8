"""The `Ranking` of what the metrics gave for the models of a pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxte.intake import class_names, listed
from jaxte.metrics import Metric
from jaxte.metrics.options import shortlist
from jaxte.ranking.chance import Chance, chance_notes, chance_of, pooled, too_few
from jaxte.ranking.intervals import Draws, Interval, intervals_of, spread_of
from jaxte.ranking.notes import notes_on, verdict
from jaxte.ranking.options import RankOptions
from jaxte.ranking.outcomes import Outcomes
from jaxte.ranking.result import Ranking
from jaxte.ranking.verdict import HISTORY

__all__ = ["Measured", "assembled", "choices"]


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
        **({"permutations": asked.permutations} if asked.permutations else {}),
        **({"intervals": [m.name for m in asked.intervals]} if asked.intervals else {}),
        **({"seed": asked.seed} if asked.permutations or asked.intervals else {}),
    }


class Measured(NamedTuple):
    """What the metrics gave for the models of a call.

    Attributes:
        names: of all models.
        metrics: in the order of the call.
        outcomes: what they gave.
        meta: how it was computed.
        past: model -> its place in a history, or None.
        layered: models of several layers that are joined.
        weighted: whether rows have weights.
        notes: on layers.
    """

    names: tuple[str, ...]
    metrics: tuple[Metric, ...]
    outcomes: Outcomes
    meta: Mapping[str, Any]
    past: Mapping[str, float] | None = None
    layered: Sequence[str] = ()
    weighted: bool = False
    notes: Sequence[str] = ()


def assembled(measured: Measured) -> Ranking:
    """Scores, terms, chance levels, intervals and notes of all metrics."""
    names, metrics, outcomes, meta, past, layered, weighted, on_layers = measured
    columns = {one.name: _column(one, names, outcomes, meta) for one in metrics}
    shown = meta["class_names"]
    notes = [] if shown is None else [f"{len(shown)} classes: {listed(shown)}"]
    notes += [*on_layers, *too_few(meta.get("permutations", 0))]
    for metric in metrics:
        notes += _notes_on_call(metric, names, layered, weighted=weighted)
        notes += columns[metric.name].notes
    if past is not None:
        columns[HISTORY] = _Column(
            {name: past.get(name, math.nan) for name in names},
            {n: "ok" if n in past else "the history does not name it" for n in names},
        )

    def merged(part: str) -> dict[tuple[str, str], Any]:
        return {
            (name, metric): value
            for metric, column in columns.items()
            for name, value in getattr(column, part).items()
        }

    ranking = Ranking(
        models=names,
        metrics=tuple(columns),
        notes=tuple(notes),
        meta=meta,
        _scores=merged("scores"),
        _statuses=merged("statuses"),
        _terms=merged("terms"),
        _chances=merged("chances"),
        _intervals=merged("intervals"),
    )
    draws = columns[ranking.decisive].draws if ranking.decisive else Draws(())
    if past is None or not draws.names:
        return ranking
    return replace(ranking, meta={**meta, "p_best": draws.chances(past)})


class _Column(NamedTuple):
    """What is known of one metric: model -> its score and all that goes with it."""

    scores: Mapping[str, float]
    statuses: Mapping[str, str]
    terms: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    chances: Mapping[str, Chance] = MappingProxyType({})
    intervals: Mapping[str, Interval] = MappingProxyType({})
    draws: Draws = Draws(())
    notes: Sequence[str] = ()


def _column(
    metric: Metric, names: Sequence[str], outcomes: Outcomes, meta: Mapping[str, Any]
) -> _Column:
    outputs = outcomes.outputs.get(metric.name, {})
    outputs = {name: outputs[name] for name in names if name in outputs}  # not as they came
    precision, seed = meta["precision"], meta.get("seed", 0)
    over_pool = partial(_combined, metric, normalize=meta["normalize"], precision=precision)
    scores = over_pool(outputs)
    statuses = {
        name: outcomes.problems.get(name)
        or outcomes.reasons.get((name, metric.name))
        or verdict(metric, outputs.get(name, {}), scores.get(name, math.nan))
        for name in names
    }
    scored = [name for name in names if metric.terms and statuses[name] == "ok"]
    notes, draws = [], Draws(())
    chances: dict[str, Chance] = {}
    intervals: dict[str, Interval] = {}
    if nulls := outcomes.nulls.get(metric.name):
        for name, null in pooled(metric, nulls, over_pool, outputs).items():
            one = chance_of(metric, scores.get(name, math.nan), null, precision)
            chances |= {} if one is None else {name: one}
        notes += chance_notes(metric.name, chances, meta["permutations"])
    if rows := outcomes.influences.get(metric.name):
        spread = spread_of(metric, rows, outputs, over_pool, seed)
        intervals, draws = intervals_of(metric, scores, spread, seed=seed, precision=precision)
        if lost := [name for name in scores if name in rows and name not in intervals]:
            notes.append(
                f"{metric.name} has no interval for {shortlist(lost)}: the score is lost where "
                "some of the rows are left out."
            )
        bare = [n for n, score in scores.items() if math.isfinite(score) and n not in intervals]
        if intervals and bare:
            notes.append(
                f"{metric.name}: which model leads on other samples is not known, as "
                f"{shortlist(bare)} {'have' if len(bare) > 1 else 'has'} no interval."
            )
    number = None if outcomes.classes is None else len(outcomes.classes)
    notes += notes_on(metric, outputs, scores, number, precision)
    return _Column(
        {name: scores.get(name, math.nan) for name in names},
        statuses,
        {name: {term: outputs[name][term] for term in metric.terms} for name in scored},
        chances,
        intervals,
        draws,
        notes,
    )


def _notes_on_call(
    metric: Metric, names: Sequence[str], layered: Sequence[str], *, weighted: bool
) -> Iterator[str]:
    """What a metric makes of the layers and weights of the call."""
    if layered and metric.joins_layers:
        whose, rest = "each model", ""
        if len(layered) < len(names):
            whose, rest = shortlist(layered), "; of the others, which is less, features alone"
        yield f"{metric.name} reads all layers of {whose}{rest}."
    if weighted and not metric.takes_weights:
        yield f"{metric.name}: it takes no weights, so that all rows count the same."


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
