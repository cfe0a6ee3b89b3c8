"""Data sets of Hugging Face's `datasets`: by name, saved on disk, or as objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxte._optional import require
from jaxte.data._columns import Request
from jaxte.data._specs import split_off
from jaxte.data._tabular import ArrowTable, kind_of, records
from jaxte.data.records import Records
from jaxte.errors import InputError

__all__ = ["hugging_face", "of_object"]

_WHAT = "data sets of Hugging Face"


def hugging_face(where: str, request: Request) -> Records:
    """A split of a data set of the hub, of a folder of files, or of what save_to_disk wrote."""
    datasets, name = require("datasets", _WHAT, "data"), request.name
    path, split = split_off(where)
    of_several = (Path(path) / "dataset_dict.json").is_file()
    if (Path(where) / "state.json").is_file() and not of_several:  # one split, saved alone
        return of_object(datasets.load_from_disk(where), request, Path(where).name)
    whole = Path(where) / "dataset_dict.json"
    if split is None or whole.is_file():
        there = json.loads(whole.read_text())["splits"] if whole.is_file() else ["train"]
        raise InputError(f"{name}: name the split, as in {name}/{' or /'.join(there)}")
    try:
        if of_several or (Path(path) / "state.json").is_file():
            loaded = _cut(datasets.load_from_disk(path), split, datasets)
        else:
            repository, _, config = (path, "", "") if Path(path).exists() else path.partition(":")
            loaded = datasets.load_dataset(repository, config or None, split=split)
    except InputError:
        raise
    except Exception as error:  # the library, the hub and their clients raise many kinds
        raise InputError(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    title = Path(path).name if Path(path).exists() else path
    return of_object(loaded, request, f"{title}/{split}")


def _cut(saved: Any, split: str, datasets: Any) -> Any:
    """A split with slices, as "train[:10%]", of a saved data set."""
    parts = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
    asked = datasets.ReadInstruction.from_spec(split)
    try:
        cuts = asked.to_absolute({key: len(part) for key, part in parts.items()})
    except ValueError as error:
        raise InputError(f"no split {split!r}: there are {', '.join(parts)} ({error})") from error
    return datasets.concatenate_datasets(
        [parts[cut.splitname].select(range(cut.from_, cut.to)) for cut in cuts]
    )


def of_object(dataset: Any, request: Request, title: str) -> Records:
    """A `datasets.Dataset`, called ``title`` in its card."""
    datasets = require("datasets", _WHAT, "data")
    if isinstance(dataset, dict):
        raise InputError(f"{request.name} has splits: choose one of {', '.join(dataset)}")
    if not isinstance(dataset, datasets.Dataset):
        raise InputError(
            f"{request.name} is a {type(dataset).__name__}, which has no rows by number: load it "
            "without streaming, or give its batches to jaxte.extract"
        )
    features, plain, info = dataset.features, dataset.with_format("arrow"), dataset.info
    views = {name: plain.select_columns(name) for name in features}
    kinds = {name: _kind(feature, datasets) for name, feature in features.items()}
    table = ArrowTable(
        len(dataset),
        kinds,
        lambda column, row: views[column][row].column(column)[0].as_py(),
        lambda column: views[column][:].column(column),
        {
            name: tuple(getattr(features[name], "feature", features[name]).names)
            for name, kind in kinds.items()
            if kind in ("class", "classes")
        },
    )
    facts = {
        "source": "hf",
        "name": title,
        "builder": info.builder_name,
        "config": info.config_name,
        "version": None if info.version is None else str(info.version),
        "split": None if dataset.split is None else str(dataset.split),
    }
    return records(table, request, {key: value for key, value in facts.items() if value})


def _kind(feature: Any, datasets: Any) -> str:
    if isinstance(feature, datasets.ClassLabel):
        return "class"
    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(getattr(feature, "feature", None), datasets.ClassLabel):
        return "classes"
    if isinstance(feature, datasets.Value | datasets.List | datasets.LargeList):
        return kind_of(datasets.Features({"": feature}).arrow_schema.field(0).type)
    return "other"
