"""Scores and accuracies brought together by data set and model; what does not match is said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxte.errors import InputError
from jaxte.evaluate.baselines import static_ranking
from jaxte.evaluate.reading import Entry

__all__ = ["LEAST", "MEAN", "STATIC", "Pools", "paired"]

LEAST = 3  # models; fewer have no order worth a measure
STATIC = "static ranking"
MEAN = "mean"  # the data set of a record that is a mean over data sets


class Pools(NamedTuple):
    """Scores and accuracies as arrays over metrics, data sets and models, NaN where there is none.

    `accuracies` are means over seeds and `spreads` their standard deviations, 0 of a single seed.
    `seeds` holds for each data set the accuracies [models, seeds], None where one is known alone.
    """

    metrics: tuple[str, ...]
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    scores: np.ndarray
    accuracies: np.ndarray
    spreads: np.ndarray
    seeds: tuple[np.ndarray | None, ...]
    notes: tuple[str, ...]

    def keep(self) -> np.ndarray:
        """[metrics, data sets, models] which models have both a score and an accuracy."""
        return np.isfinite(self.scores) & np.isfinite(self.accuracies)


def paired(scores: Sequence[Entry], truth: Sequence[Entry], dataset: str | None) -> Pools:
    """Match the two tables by data set and model, and add the static ranking.

    Raises:
        InputError: if a table without data sets cannot be told which it is of, or nothing matches.
    """
    scores, truth = _named(scores, truth, dataset)
    by_seed: dict[str, dict[str, dict[str, float]]] = {}
    for entry in truth:
        of_model = by_seed.setdefault(str(entry.dataset), {}).setdefault(entry.model, {})
        of_model[entry.seed or ""] = entry.value
    by_seed = {
        name: {model: own for model, own in table.items() if np.isfinite([*own.values()]).all()}
        for name, table in by_seed.items()
    }
    accuracies = {
        name: {model: [*own.values()] for model, own in table.items()}
        for name, table in by_seed.items()
    }
    scored = list(dict.fromkeys(str(entry.dataset) for entry in scores))
    datasets = [name for name in scored if name in accuracies]
    if MEAN in datasets:
        raise InputError(f"a data set is called {MEAN!r}, as what stands for all: rename it")
    if not datasets:
        raise InputError(
            f"the data sets of the scores ({_some(scored)}) are none of those of the accuracies "
            f"({_some(accuracies)}): name them alike"
        )
    metrics = list(dict.fromkeys(str(e.metric) for e in scores if e.dataset in datasets))
    models = list(dict.fromkeys(e.model for e in scores if e.dataset in datasets))
    table = np.full((len(metrics) + 1, len(datasets), len(models)), math.nan)
    for e in scores:
        if e.dataset in datasets:
            place = metrics.index(str(e.metric)), datasets.index(e.dataset), models.index(e.model)
            table[place] = e.value
    means, spreads = np.full((2, *table.shape[1:]), math.nan)
    for d, name in enumerate(datasets):
        static = static_ranking(accuracies, name)
        for m, model in enumerate(models):
            if model in accuracies[name] and np.isfinite(table[:-1, d, m]).any():
                values = accuracies[name][model]
                means[d, m] = np.mean(values)
                spreads[d, m] = np.std(values, ddof=1) if len(values) > 1 else 0.0
                table[-1, d, m] = static.get(model, math.nan)
    notes = _notes(scores, accuracies, datasets, models, chosen=dataset is not None)
    if len(accuracies) < 2:
        notes.append(f"{STATIC}: none, because it takes accuracies on other data sets")
    if STATIC in metrics or not np.isfinite(table[-1]).any():
        table = table[:-1]
    else:
        metrics.append(STATIC)
    seeds = tuple(
        _seeds(by_seed[name], models, row) for name, row in zip(datasets, means, strict=True)
    )
    notes += _few(metrics, datasets, np.isfinite(table) & np.isfinite(means))
    return Pools(
        tuple(metrics), tuple(datasets), tuple(models),
        table, means, spreads, seeds, tuple(notes),
    )  # fmt: skip


def _named(
    scores: Sequence[Entry], truth: Sequence[Entry], dataset: str | None
) -> tuple[list[Entry], list[Entry]]:
    """Both tables with a data set in every entry."""
    known = [
        list(dict.fromkeys(e.dataset for e in entries if e.dataset is not None))
        for entries in (scores, truth)
    ]
    tables = []
    for what, entries, own, other in (
        ("scores", scores, known[0], known[1]),
        ("accuracies", truth, known[1], known[0]),
    ):
        if all(entry.dataset is not None for entry in entries):
            tables.append(list(entries))
            continue
        if own and dataset is None:
            raise InputError(f"the {what} name a data set in some rows only: name it in all")
        if dataset is None and len(other) > 1:
            raise InputError(
                f"the {what} do not say of which data set they are, the other table has "
                f"{_some(other)}: add a column `dataset`, or name it (dataset=, --dataset)"
            )
        name = dataset or (other[0] if other else "data")
        tables.append([e if e.dataset is not None else e._replace(dataset=name) for e in entries])
    if dataset is not None:  # accuracies on others serve the static ranking
        tables[0] = [entry for entry in tables[0] if entry.dataset == dataset]
        if not tables[0] or all(entry.dataset != dataset for entry in tables[1]):
            raise InputError(
                f"no data set {dataset!r}: there are {_some(dict.fromkeys([*known[0], *known[1]]))}"
            )
    return tables[0], tables[1]


def _seeds(
    accuracies: dict[str, dict[str, float]], models: Sequence[str], means: np.ndarray
) -> np.ndarray | None:
    """[models, seeds] of all models that are evaluated, by the seeds that all of them have."""
    own = [accuracies[m] for m, mean in zip(models, means, strict=True) if np.isfinite(mean)]
    if len(own) < LEAST:
        return None
    shared = [seed for seed in own[0] if all(seed in values for values in own)]
    if len(shared) > 1:
        return np.array([[values[seed] for seed in shared] for values in own])
    count = min(map(len, own))  # of seeds that are called otherwise, as many as each has
    return np.array([[*values.values()][:count] for values in own]) if count > 1 else None


def _notes(
    scores: Sequence[Entry],
    accuracies: dict[str, dict[str, list[float]]],
    datasets: Sequence[str],
    models: Sequence[str],
    *,
    chosen: bool,
) -> list[str]:
    """What is in one of the tables alone; ``chosen``: but for data sets that nobody asks for."""
    notes = []
    if lost := [d for d in dict.fromkeys(str(e.dataset) for e in scores) if d not in accuracies]:
        notes.append(f"no accuracies on {_some(lost)}: the scores there are left out")
    if not chosen and (lost := [d for d in accuracies if d not in datasets]):
        notes.append(f"no scores on {_some(lost)}: accuracies there serve the {STATIC} alone")
    failed: dict[str, list[str]] = {}
    by_key: dict[tuple[str, str], dict[str, Entry]] = {}
    for e in scores:
        by_key.setdefault((str(e.metric), str(e.dataset)), {})[e.model] = e
    metrics = list(dict.fromkeys(metric for metric, _ in by_key))
    for d in datasets:
        measured = accuracies[d]
        scored = {e.model for (_, at), table in by_key.items() if at == d for e in table.values()}
        if lost := [m for m in models if m in scored and m not in measured]:
            failed.setdefault(f"no accuracy of {_some(lost)}, which are left out", []).append(d)
        if lost := [m for m in measured if m not in scored]:
            failed.setdefault(f"no score of {_some(lost)}, which are left out", []).append(d)
        for metric in metrics:
            table = by_key.get((metric, d), {})
            if not table:
                failed.setdefault(
                    f"{metric} has no scores, its means are over the others", []
                ).append(d)
                continue
            for model in (m for m in models if m in scored and m in measured):
                entry = table.get(model)
                if entry is None or not math.isfinite(entry.value):
                    why = f" ({entry.reason})" if entry and entry.reason else ""
                    text = f"{metric} has no score of {model}{why}, and is measured without it"
                    failed.setdefault(text, []).append(d)
    notes += [f"{_where(where, datasets)}: {text}" for text, where in failed.items()]
    return notes


def _few(metrics: Sequence[str], datasets: Sequence[str], keep: np.ndarray) -> list[str]:
    """Where there are too few models."""
    counts = keep.sum(axis=2)
    lines: dict[str, list[str]] = {}
    for d, name in enumerate(datasets):
        few = [m for m, n in zip(metrics, counts[:, d], strict=True) if 0 < n < LEAST]
        if few:
            most = counts[[metrics.index(m) for m in few], d].max()
            text = f"{most} models have both score and accuracy, fewer than {LEAST}: not evaluated"
            lines.setdefault(f"{', '.join(few)}: {text}", []).append(name)
    return [f"{_where(where, datasets)}: {text}" for text, where in lines.items()]


def _where(some: Sequence[str], datasets: Sequence[str]) -> str:
    return "all data sets" if len(some) == len(datasets) > 1 else _some(some)


def _some(names: Iterable[str]) -> str:
    listed = list(map(str, names))
    rest = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + rest
