"""Scores of the models that `jaxte extract` or `jaxte run` has extracted, and the report of `run`.

The report is of all models that lie in its directory, earlier ones included.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jaxte
from jaxte import _progress, report
from jaxte.cli import _output, _tables
from jaxte.cli._errors import warn
from jaxte.cli._extraction import FAILED, Outcome, directory_name, size_of
from jaxte.data import Dataset
from jaxte.errors import InputError
from jaxte.extraction.plan import describe_data
from jaxte.intake import disk
from jaxte.metrics import DEFAULT_METRICS, get_metric
from jaxte.ranking import Ranking
from jaxte.store import FeatureStore, is_store
from jaxte.store.manifest import differing, plain

__all__ = ["EarlierReport", "choose_metrics", "earlier_report", "rank_models"]
__all__ += ["stored_models", "write_report"]

_JSON = "ranking.json"


def choose_metrics(names: Sequence[str] | None, dataset: Dataset) -> tuple[str, ...]:
    """The metrics, by default those of the usual ones that the task allows."""
    task = "regression" if dataset.task in ("regression", "multilabel") else "classification"
    if names is None:
        return tuple(name for name in DEFAULT_METRICS if task in get_metric(name).tasks)
    unable = [name for name in names if task not in get_metric(name).tasks]
    if unable:
        raise InputError(
            f"{dataset.name} is a {dataset.task} data set, but {', '.join(unable)} cannot score "
            f"that: choose of {', '.join(choose_metrics(None, dataset))}"
        )
    return tuple(get_metric(name).name for name in names)


def rank_models(outcomes: Sequence[Outcome], metrics: Sequence[str], **options: Any) -> Ranking:
    """The models that could be extracted, by their layers."""
    features = {name: one for outcome in outcomes for name, one in outcome.features.items()}
    with _progress.bar("scoring", unit="") as progress:
        return jaxte.rank(features, metrics=metrics, progress=progress, **options)


class EarlierReport(NamedTuple):
    """The models that have scores in the report of a directory."""

    directory: Path
    models: tuple[str, ...]

    def check(self, names: Collection[str]) -> None:
        """Raise `InputError` if models would not be in the next report."""
        lost = [
            model
            for model in self.models
            if not any(model == name or model.startswith(f"{name}@") for name in names)
        ]
        if lost:
            raise InputError(
                f"{self.directory} has a report with scores of {', '.join(lost)}, which are not "
                "stored and would be lost: name another --out, or these models too"
            )


def earlier_report(out: Path, dataset: Dataset) -> EarlierReport:
    """The report that a directory has, if any."""
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out} is no directory: name one for the report")
    path = out / _JSON
    if not os.path.lexists(path):
        return EarlierReport(out, ())
    try:
        content: Any = json.loads(disk.read_bytes(path, "JSON"))
        data = content["meta"]["data"]
        scored = [r["model"] for r in content["records"] if r["score"] is not None]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is not known as a report on {dataset.name}: name another --out, or move it "
            "away"
        ) from error
    if data != dataset.name:
        raise InputError(f"{out} has a report on {data}, not on {dataset.name}: name another --out")
    return EarlierReport(out, tuple(dict.fromkeys(map(str, scored))))


def stored_models(root: Path, dataset: Dataset, without: Collection[str]) -> list[Outcome]:
    """The models whose features of a data set lie in a directory, but those of some names."""
    outcomes: list[Outcome] = []
    folder = directory_name(dataset.name)
    now = plain(describe_data(dataset, None), "data")
    for place in disk.listing(root) if root.is_dir() else ():
        if not is_store(place / folder):
            continue
        name = place.name
        try:
            store = FeatureStore.open(place / folder)
            name = store.name or name
            if name in without:
                continue
            if different := differing(store.manifest["data"], now):
                raise InputError(f"it was made of other data ({different[0]}): extract it again")
            width = sum(store[layer].shape[1] for layer in store.layers)
            size = size_of(place / folder)
            outcome = Outcome(name, "stored", store.rows, width, 0.0, size, {name: store})
        except (InputError, OSError) as error:
            if name in without:
                continue
            outcome = Outcome(name, FAILED, None, None, 0.0, None, {}, str(error))
        outcomes.append(outcome)
    return outcomes


def write_report(
    ranking: Ranking, outcomes: Sequence[Outcome], before: EarlierReport, data: str
) -> None:
    """Show the ranking and, unless models of an earlier one are missing, write it to files."""
    problems = {one.name: one.reason for one in outcomes if one.status == FAILED}
    out = before.directory
    replaces = (out / _JSON).exists()
    ranking = dataclasses.replace(ranking, meta=MappingProxyType({**ranking.meta, "data": data}))
    table = report.table(ranking, problems=problems)
    models = _tables.outcomes(outcomes)._replace(notes=())  # which the ranking has
    verdict = [said] if (said := _output.answer(ranking)) else []
    _output.write_page([table, *verdict, models], None)
    before.check([one.name for one in outcomes])
    files = {
        "ranking.csv": report.to_csv(ranking, problems=problems),
        _JSON: report.to_json(ranking, problems=problems),
        "ranking.md": "\n".join([report.to_markdown(table), report.to_markdown(models), *verdict]),
        "ranking.html": _output.as_html([table, *verdict, models]),
    }
    for name, text in files.items():
        disk.replace(out / name, text)
    if importlib.util.find_spec("matplotlib") is not None:
        ranking.plot(out / "ranking.png")
    warn(f"wrote {out}" + (", in place of an earlier report" if replaces else ""))
