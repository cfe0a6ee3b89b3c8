"""Data sets of tensorflow-datasets, read without TensorFlow."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.data import _digests, _images, _targets
from jaxte.data._columns import Choice, Columns
from jaxte.data._shards import FORMATS, Shards
from jaxte.data._specs import split_off
from jaxte.data._targets import Known, Targets
from jaxte.data.records import Records, card
from jaxte.errors import InputError

__all__ = ["tfds"]

_WHAT = "data sets of tensorflow-datasets"


def tfds(where: str, columns: Columns, known: Known, name: str, data_dir: str | None) -> Records:
    """A split of a data set of tensorflow-datasets, with its slices.

    What is not prepared yet is downloaded and prepared, for which many of its data sets need
    TensorFlow; reading never does. A row is read when it is asked for.

    Raises:
        InputError: if there is no such data set, split or feature.
        ImportError: if a package is missing.
    """
    title, split = split_off(where)
    builder = _builder(where if split is None else title, data_dir, name)
    info = builder.info
    if split is None:
        raise InputError(f"{name}: name the split, as in {name}/{next(iter(info.splits), 'train')}")
    try:
        parts = info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise InputError(
            f"no split {split!r} in {title}: there are {', '.join(info.splits)}"
        ) from error
    format = info.file_format.value
    if format not in FORMATS:
        raise InputError(f"{name} is stored as {format}: prepare it as {' or '.join(FORMATS)}")
    shards = Shards(parts, format)
    if len(shards) == 0:
        raise InputError(f"{name} has no rows")
    library = require("tensorflow_datasets", _WHAT, "data")
    kinds = {
        key: _kind(feature, library.features) for key, feature in sorted(info.features.items())
    }
    choice = _choose(columns, kinds, info.supervised_keys, name)
    files = sorted({Path(part.filename) for part in parts})
    facts = {
        "source": "tfds",
        "name": info.name,
        "config": info.config_name,
        "version": str(info.version),
        "split": split,
        "files": _digests.of_files(files, files[0].parent),
        "columns": choice.named(),
    }
    facts = {key: value for key, value in facts.items() if value}
    return _Prepared(_Rows(shards, info.features, choice, known, name), facts)


def _builder(title: str, data_dir: str | None, name: str) -> Any:
    """The builder of a data set that is prepared, or is prepared now."""
    library = require("tensorflow_datasets", _WHAT, "data")
    head, colon, tail = title.rpartition(":")
    if colon and not re.match(r"[\d*]+\.", tail):  # NAME:CONFIG
        title = f"{head}/{tail}"
    try:
        builder = library.builder(title, data_dir=data_dir)
        if not builder.is_prepared():
            builder = library.builder(title, data_dir=data_dir, file_format="array_record")
            builder.download_and_prepare()
        return builder
    except library.core.registered.DatasetNotFoundError as error:
        near = difflib.get_close_matches(
            re.split("[/:]", title)[0], library.list_builders(with_community_datasets=False), 3
        )
        hint = f"similar names are {', '.join(near)}" if near else "check the name"
        raise InputError(
            f"{name}: there is no such data set, and none in data_dir: {hint}"
        ) from error
    except Exception as error:  # builders, downloads and TensorFlow raise many kinds
        if missing := _missing(error):
            raise ImportError(
                f"{name} is not prepared yet, and needs {missing} for that, once: pip install "
                f"{missing}"
            ) from error
        raise InputError(f"{name} cannot be prepared: {type(error).__name__}: {error}") from error


def _missing(error: BaseException | None) -> str | None:
    """The package that an error, or its cause, says is not installed."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__
    return None


def _kind(feature: Any, kinds: Any) -> str:
    """What a feature holds, in the words of `Columns.choose`."""
    if isinstance(feature, kinds.ClassLabel):
        return "class"
    if isinstance(feature, kinds.Image):
        return "image"
    if isinstance(feature, kinds.Video | kinds.Audio):
        return "other"
    if isinstance(feature, kinds.Sequence):
        inner = _kind(feature.feature, kinds)
        return {"class": "classes", "text": "words", "number": "numbers"}.get(inner, "other")
    if isinstance(feature, kinds.Tensor):
        if feature.np_dtype.kind in "biuf":
            return "numbers" if feature.shape else "number"
        return "other" if feature.shape else "text"
    return "other"


def _choose(columns: Columns, kinds: Mapping[str, str], supervised: Any, name: str) -> Choice:
    """The features that are asked for, else those that the data set names as its own task."""
    example, label = supervised if supervised and len(supervised) == 2 else (None, None)
    if not columns.label and isinstance(label, str):
        columns = replace(columns, label=(label,))
    asked = columns.image or columns.text or columns.words
    if not asked and isinstance(example, str) and kinds.get(example) in ("image", "text", "words"):
        found: dict[str, Any] = {kinds[example]: example}
        columns = replace(columns, **found)
    choice = columns.choose(kinds, name)
    if len(choice.labels) > 1:
        raise InputError(f"{name}: choose one feature as the label")
    held = kinds[choice.input]
    if held != choice.kind and not (choice.kind == "image" and held == "numbers"):
        raise InputError(f"{name}: {choice.input} holds {held}, not {choice.kind}")
    return choice


def _completed(known: Known, feature: Any, kind: str, words: bool) -> Known:
    """Task and classes, as far as the feature of the label tells them."""
    named = getattr(feature, "feature", feature)
    if known.number is None and getattr(named, "num_classes", None):
        known = known._replace(names=tuple(named.names), number=named.num_classes)
    tasks = {"class": "classification", "image": "segmentation"}
    tasks["classes"] = "tokens" if words else "multilabel"
    if kind.startswith("number") and feature.np_dtype.kind == "f":
        tasks[kind] = "regression"
    task = known.task or tasks.get(kind)
    ignore = _targets.IGNORE.get(task or "") if known.ignore is None else known.ignore
    return known._replace(task=task, ignore=ignore, ids=kind == "classes")


class _Rows:
    """Rows parsed when they are asked for, and of them only the features that are needed."""

    def __init__(
        self, shards: Shards, features: Mapping[str, Any], choice: Choice, known: Known, name: str
    ) -> None:
        library = require("tensorflow_datasets", _WHAT, "data")
        self.shards, self.name = shards, name
        self.input, (self.label,) = choice.input, choice.labels
        self.features = {key: features[key] for key in (self.input, self.label)}
        self.kinds = {key: _kind(each, library.features) for key, each in self.features.items()}
        self.words = choice.kind == "words"
        known = known._replace(where=f"{name}, {self.label}")
        kind = self.kinds[self.label]
        self.known = _completed(known, self.features[self.label], kind, self.words)
        self._stored = {key: library.decode.SkipDecoding() for key in self.kinds if self._file(key)}
        self._parsers: dict[tuple[str, ...], Any] = {
            names: library.features.FeaturesDict({key: self.features[key] for key in names})
            for names in ((self.label,), (self.input, self.label))
        }

    def parse(self, row: int, *names: str) -> dict[str, Any]:
        """Some features of a row; image files as they are stored, texts decoded."""
        stored = {key: skip for key, skip in self._stored.items() if key in names}
        parsed = self._parsers[names].deserialize_example_np(self.shards[row], decoders=stored)
        for key in names:
            if self.kinds[key] == "text":
                parsed[key] = parsed[key].decode()
            elif self.kinds[key] == "words":
                parsed[key] = [word.decode() for word in parsed[key]]
        return dict(parsed)

    def example(self, parsed: Mapping[str, Any], row: int) -> Any:
        """The example of a parsed row."""
        value = parsed[self.input]
        if self.input not in self._stored:
            return value
        channels = self.features[self.input].shape[-1] or 3
        return _images.decode(value, f"{self.name}, row {row}, {self.input}", channels)

    def target(self, parsed: Mapping[str, Any], row: int) -> Any:
        """The label of a parsed row."""
        value, known = parsed[self.label], self.known
        if known.task == "segmentation":
            if self.label in self._stored:
                value = _images.decode_map(value, f"{self.name}, row {row}, {self.label}")
            return _targets.check_map(np.asarray(value), known, row)
        return _targets.make([value], known.of_row(row), words=self.words).values[0]

    def targets(self) -> Targets:
        """Labels read one by one where task and classes are known, else all at once."""
        known, rows = self.known, range(len(self.shards))
        if known.task is not None and (
            known.number or known.task in ("regression", "segmentation")
        ):
            lazy = _targets.Lazy(
                len(rows), lambda row: self.target(self.parse(row, self.label), row)
            )
            return Targets(known.task, lazy, known.number, known.names, known.ignore)
        values = [self.parse(row, self.label)[self.label] for row in rows]
        return _targets.make(values, known, words=self.words)

    def _file(self, key: str) -> bool:
        """Whether a feature is an image file; floats in the guise of one are left to tfds."""
        return self.kinds[key] == "image" and self.features[key].np_dtype.kind == "u"


class _Prepared(Records):
    """Reads a row once for its example and its label."""

    def __init__(self, rows: _Rows, facts: Mapping[str, Any]) -> None:
        targets = rows.targets()
        super().__init__(
            rows.name, lambda row: self.read(row)[0], targets, card(rows.name, targets, facts)
        )
        self._rows, self._lazy = rows, isinstance(targets.values, _targets.Lazy)

    def read(self, row: int) -> tuple[Any, Any]:
        """Example and label of a row."""
        parsed = self._rows.parse(row, self._rows.input, self._rows.label)
        label = self._rows.target(parsed, row) if self._lazy else self._targets.values[row]
        example = self._rows.example(parsed, row)
        if self.task == "tokens" and len(example) != len(label):
            raise InputError(f"{self.name}: row {row} has {len(example)} words, {len(label)} tags")
        return example, int(label) if self.task == "classification" else label
