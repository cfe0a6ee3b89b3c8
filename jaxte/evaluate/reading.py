"""Tables of scores and of accuracies in every form that users have them, as plain entries."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.intake.checks import short

__all__ = ["Entry", "accuracy_table", "mixed_units", "read_accuracies", "read_scores"]

# The columns of a tidy table, and under which names other tools write them.
_NAMES = {
    "model": ("model",),
    "dataset": ("dataset", "target"),
    "metric": ("metric", "transf_metric"),
    "seed": ("seed", "run"),
    "status": ("status",),
    "score": ("score", "transf_score"),
    "accuracy": ("accuracy", "test_score", "finetune_mean"),
}
_GAPS = ("", "nan", "none", "null", "na", "n/a")
# Of those in a directory with one stem the first is read.
_FILES = (".json", ".csv", ".parquet", ".xlsx")


class Entry(NamedTuple):
    """One value of a table; `dataset` and `metric` are None where the table does not say."""

    model: str
    dataset: str | None
    metric: str | None
    seed: str | None
    value: float
    reason: str  # why there is no value, as far as the table says


def read_scores(source: Any) -> list[Entry]:
    """Scores from a file, a directory, a ranking, a frame, records, or nested mappings."""
    entries = _entries(source, "score", "scores")
    _check_twice(((e.model, e.dataset, e.metric), e) for e in entries)
    return entries


def read_accuracies(source: Any) -> list[Entry]:
    """Accuracies from the same forms; several of one model need a seed, equal ones count once."""
    entries = list(dict.fromkeys(_entries(source, "accuracy", "accuracies")))
    _check_twice(((e.model, e.dataset, e.seed), e) for e in entries)
    return entries


def accuracy_table(source: Any) -> dict[str, dict[str, list[float]]]:
    """Data set -> model -> its accuracies that are numbers, one for each seed."""
    table: dict[str, dict[str, list[float]]] = {}
    for entry in read_accuracies(source):
        if math.isfinite(entry.value):
            models = table.setdefault(entry.dataset or "", {})
            models.setdefault(entry.model, []).append(entry.value)
    return table


def mixed_units(entries: Iterable[Entry]) -> list[str]:
    """A note on every data set whose accuracies are percents beside fractions."""
    table: dict[str, list[float]] = {}
    for entry in entries:
        if math.isfinite(entry.value):
            table.setdefault(entry.dataset or "the accuracies", []).append(entry.value)
    return [
        f"{name}: accuracies above 1 ({max(values):g}) beside fractions ({min(values):g}): are "
        "they in percent?"
        for name, values in table.items()
        if any(value > 1.5 for value in values) and any(0 < value < 1 for value in values)
    ]


def _check_twice(keyed: Iterable[tuple[tuple[str | None, ...], Entry]]) -> None:
    known: dict[tuple[str | None, ...], Entry] = {}
    for key, entry in keyed:
        if key in known:
            where = ", ".join(part for part in key if part)
            kind = "a column `seed`" if entry.metric is None else "one score each"
            raise InputError(
                f"{where} has two values, {known[key].value:g} and {entry.value:g}: give {kind}"
            )
        known[key] = entry


def _entries(source: Any, value: str, what: str) -> list[Entry]:
    records = list(_records(source, value, what))
    what = f"{what} of {source}" if isinstance(source, str | Path) else what
    if not records:
        raise InputError(f"{what}: the table is empty")
    return [_entry(record, number, value, what) for number, record in enumerate(records, 1)]


def _entry(record: Any, number: int, value: str, what: str) -> Entry:
    if not isinstance(record, Mapping):
        raise InputError(f"{what}: record {number} is {short(record)}, not a mapping of columns")

    def cell(column: str) -> Any:
        return next((record[name] for name in _NAMES[column] if name in record), None)

    missing = [c for c in ("model", value) if not set(_NAMES[c]) & set(record)]
    if missing:
        columns = (
            "model, dataset, metric, score" if value == "score" else "model, dataset, accuracy"
        )
        if any(";" in str(name) for name in record):
            raise InputError(f"{what}: the file seems to be separated by ';': commas are needed")
        raise InputError(
            f"{what}: no column {' or '.join(missing)} among {', '.join(map(str, record))}: the "
            f"columns are {columns}"
        )
    texts = {name: _text(cell(name)) for name in ("model", "dataset", "metric", "seed", "status")}
    if texts["model"] is None:
        raise InputError(f"{what}: record {number} names no model")
    where = ", ".join(t for t in (texts["model"], texts["dataset"], texts["metric"]) if t)
    measured = _number(cell(value), f"{what}: the {value} of {where}")
    status = texts["status"] if texts["status"] not in (None, "ok") else None
    reason = (
        "" if math.isfinite(measured) else status or ("infinite" if math.isinf(measured) else "")
    )
    metric = None if value == "accuracy" else texts["metric"] or "score"
    finite = measured if math.isfinite(measured) else math.nan
    return Entry(texts["model"], texts["dataset"], metric, texts["seed"], finite, reason)


def _text(cell: Any) -> str | None:
    """A name; None for an empty cell, also pandas' NaN."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return str(cell).strip() or None


def _number(cell: Any, where: str) -> float:
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in _GAPS):
        return math.nan
    try:
        if isinstance(cell, bool):
            raise ValueError("true or false")
        return float(cell)
    except (TypeError, ValueError):
        raise InputError(f"{where} is {short(cell)}, not a number") from None


def _records(source: Any, value: str, what: str) -> Iterator[Any]:
    """The rows of a table, of whatever form, as mappings of columns."""
    if isinstance(source, str | Path):
        yield from _of_path(Path(source), value, what)
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):  # a DataFrame
        yield from source.to_dict("records")
    elif hasattr(source, "to_records"):  # a Ranking
        yield from source.to_records()
    elif isinstance(source, Mapping):
        yield from _of_mapping(source, value, what)
    elif isinstance(source, Iterable):
        yield from source
    else:
        raise InputError(
            f"{what}: {short(source)} is no table: give a path, a DataFrame, a list of records or "
            "a mapping"
        )


def _of_mapping(content: Mapping[Any, Any], value: str, what: str) -> Iterator[dict[str, Any]]:
    """Records of `Ranking.to_json`, or {data set: {metric: {model: value}}} from any level on.

    `jaxte rank` writes the rankings of several data sets, and an evaluation, into one file.
    """
    several = content.get("rankings")
    if isinstance(several, Mapping) and all(
        isinstance(one, Mapping) and "records" in one for one in several.values()
    ):
        content = several
    if isinstance(content.get("records"), list):
        meta = content.get("meta") or {}
        dataset = {"dataset": meta["data"]} if "data" in meta else {}
        yield from ({**dataset, **record} for record in content["records"])
        return
    for key, below in content.items():
        if hasattr(below, "to_records") or (isinstance(below, Mapping) and "records" in below):
            yield from ({"dataset": key, **record} for record in _records(below, value, what))
        elif isinstance(below, Mapping) and value == "score":
            inner = any(isinstance(one, Mapping) for one in below.values())
            for name, leaf in below.items():
                if inner and not isinstance(leaf, Mapping):
                    raise InputError(f"{what}: {key} holds mappings and values side by side")
                rows = _leaves(leaf, value) if inner else _leaves({name: leaf}, value)
                metric = {"metric": name} if inner else {}
                yield from ({"dataset": key, **metric, **row} for row in rows)
        elif isinstance(below, Mapping):
            yield from ({"dataset": key, **row} for row in _leaves(below, value))
        else:
            yield from _leaves({key: below}, value)


def _leaves(models: Mapping[Any, Any], value: str) -> Iterator[dict[str, Any]]:
    """A record a model, or, where a model has a list of accuracies, one for each seed."""
    for model, cell in models.items():
        cell = getattr(cell, "finetune", cell)  # the seeds of a zoo accuracy
        if value == "accuracy" and np.ndim(cell) > 0:
            yield from ({"model": model, "seed": s, value: one} for s, one in enumerate(cell))
        else:
            yield {"model": model, value: cell}


def _of_path(path: Path, value: str, what: str) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        yield from _of_directory(path, value, what)
        return
    if path.suffix.lower() == ".parquet":
        with disk.reading(path, "Parquet file"):
            parquet = require("pyarrow.parquet", f"reading {path.name}", "data")
            with parquet.ParquetFile(path) as file:
                records = file.read().to_pylist()
        yield from records
        return
    if path.suffix.lower() == ".xlsx":
        with disk.reading(path, "Excel file"):  # as texts: a model may be called 007
            require("openpyxl", f"reading {path.name}", "pandas")
            pandas = require("pandas", f"reading {path.name}", "pandas")
            records = pandas.read_excel(path, dtype=str, keep_default_na=False).to_dict("records")
        yield from records
        return
    text = disk.read_bytes(path, "table").decode("utf-8-sig", errors="replace")
    if path.suffix.lower() == ".json" or text.lstrip().startswith(("{", "[")):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is no JSON ({error})") from None
        yield from _records(content, value, str(path))
        return
    try:
        yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise InputError(f"{path} is no CSV ({error})") from None


def _of_directory(directory: Path, value: str, what: str) -> Iterator[dict[str, Any]]:
    """A file for each data set; the SFDA family has <metric>/<data set>_metrics.json of scores.

    What a file itself says of data set and metric goes before its name; `jaxte run` writes
    <data set>/ranking.json beside the same as CSV, which is not read twice.
    """
    files: dict[Path, Path] = {}
    for ending in _FILES:
        for file in sorted(directory.rglob("*")):
            if file.suffix.lower() == ending:
                files.setdefault(file.with_suffix(""), file)
    if not files:
        raise InputError(f"{directory} holds no {', '.join(_FILES)} with {what}")
    for _, file in sorted(files.items()):
        stem = re.sub(r"_metrics$", "", file.stem)
        nested = file.parent != directory
        names = {"dataset": file.parent.name if nested and stem == "ranking" else stem}
        if nested and value == "score" and stem != "ranking":
            names["metric"] = file.parent.name
        for record in _of_path(file, value, str(file)):
            own = {key for key, cell in record.items() if cell not in (None, "")}
            yield record | {k: v for k, v in names.items() if not own & set(_NAMES[k])}
