"""Data sets of tensorflow-datasets, read without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.data import _digests, _targets, images
from jaxte.data._columns import Choice, Columns, Request
from jaxte.data._shards import FORMATS, RecordFiles
from jaxte.data._specs import split_off
from jaxte.data._targets import LabelSpec, Targets
from jaxte.data.records import Records, card
from jaxte.errors import InputError, did_you_mean

__all__ = ["tfds"]

_WHAT = "data sets of tensorflow-datasets"


def tfds(where: str, request: Request, data_dir: str | None) -> Records:
    """A split of a data set of tensorflow-datasets, with its slices.

    What is not prepared yet is downloaded and prepared, for which many of its data sets need
    TensorFlow; reading never does. A row is read when it is asked for.
    """
    name, (title, split) = request.name, split_off(where)
    info = _builder(where if split is None else title, data_dir, name).info
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
    stored = RecordFiles(parts, format)
    if len(stored) == 0:
        raise InputError(f"{name} has no rows")
    library = require("tensorflow_datasets", _WHAT, "data")
    kinds = {
        key: _kind(feature, library.features) for key, feature in sorted(info.features.items())
    }
    choice = _choose(request.columns, kinds, info.supervised_keys, name)
    files = sorted({Path(part.filename) for part in parts})
    facts = {
        "source": "tfds",
        "name": info.name,
        "config": info.config_name,
        "version": str(info.version),
        "split": split,
        "files": _digests.of_files(files, files[0].parent),
        "columns": choice.card(),
    }
    facts = {key: value for key, value in facts.items() if value}
    return _Prepared(request, stored, info.features, choice, facts)


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
        listed = library.list_builders(with_community_datasets=False)
        hint = did_you_mean(re.split("[/:]", title)[0], listed)
        raise InputError(
            f"{name}: there is no such data set, and none in data_dir: {hint}Check the name"
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
    """The features that are asked for, else those that the data set names as its task."""
    example, label = supervised if supervised and len(supervised) == 2 else (None, None)
    if not columns.label and isinstance(label, str):
        columns = replace(columns, label=(label,))
    asked = columns.image or columns.text or columns.words
    if not asked and isinstance(example, str) and kinds.get(example) in ("image", "text", "words"):
        of_task: dict[str, Any] = {kinds[example]: example}
        columns = replace(columns, **of_task)
    choice = columns.choose(kinds, name)
    if len(choice.labels) > 1:
        raise InputError(f"{name}: choose one feature as the label")
    kind = kinds[choice.input]
    if kind != choice.kind and not (choice.kind == "image" and kind == "numbers"):
        raise InputError(f"{name}: {choice.input} holds {kind}, not {choice.kind}")
    return choice


def _completed(labels: LabelSpec, feature: Any, kind: str, words: bool) -> LabelSpec:
    """Task and classes, as far as the feature of the label says them."""
    named = getattr(feature, "feature", feature)
    if labels.number is None and getattr(named, "num_classes", None):
        labels = labels._replace(names=tuple(named.names), number=named.num_classes)
    tasks = {"class": "classification", "image": "segmentation"}
    tasks["classes"] = "tokens" if words else "multilabel"
    if kind.startswith("number") and feature.np_dtype.kind == "f":
        tasks[kind] = "regression"
    return labels.of_task(labels.task or tasks.get(kind))._replace(ids=kind == "classes")


class _Prepared(Records):
    """Rows parsed when they are asked for, and of them only the features that are needed."""

    def __init__(
        self,
        request: Request,
        stored: RecordFiles,
        features: Mapping[str, Any],
        choice: Choice,
        facts: Mapping[str, Any],
    ) -> None:
        library = require("tensorflow_datasets", _WHAT, "data")
        self._stored, self.name = stored, request.name
        self._input, (self._label,) = choice.input, choice.labels
        self._features = {key: features[key] for key in (self._input, self._label)}
        self._kinds = {key: _kind(each, library.features) for key, each in self._features.items()}
        self._words = choice.kind == "words"
        self._spec = _completed(
            request.labels._replace(where=f"{self.name}, {self._label}"),
            self._features[self._label],
            self._kinds[self._label],
            self._words,
        )
        self._as_files = {  # images as they are stored; floats in the guise of one are left to tfds
            key: library.decode.SkipDecoding()
            for key, feature in self._features.items()
            if self._kinds[key] == "image" and feature.np_dtype.kind == "u"
        }
        self._parsers: dict[tuple[str, ...], Any] = {
            names: library.features.FeaturesDict({key: self._features[key] for key in names})
            for names in ((self._label,), (self._input, self._label))
        }
        targets = self._all_targets()
        super().__init__(
            self.name, lambda row: self.read(row)[0], targets, card(self.name, targets, facts)
        )

    def read(self, row: int) -> tuple[Any, Any]:
        """Example and label of a row, which is parsed once for both."""
        parsed = self._parse(row, self._input, self._label)
        lazy = isinstance(self._targets.values, _targets.Lazy)
        label = self._target(parsed, row) if lazy else self._targets.values[row]
        example = parsed[self._input]
        if self._input in self._as_files:
            channels = self._features[self._input].shape[-1] or 3
            example = images.decode(example, f"{self.name}, row {row}, {self._input}", channels)
        if self.task == "tokens" and len(example) != len(label):
            raise InputError(f"{self.name}: row {row} has {len(example)} words, {len(label)} tags")
        return example, int(label) if self.task == "classification" else label

    def _parse(self, row: int, *names: str) -> dict[str, Any]:
        """Some features of a row; image files as they are stored, texts decoded."""
        as_files = {key: skip for key, skip in self._as_files.items() if key in names}
        parsed = self._parsers[names].deserialize_example_np(self._stored[row], decoders=as_files)
        for key in names:
            if self._kinds[key] == "text":
                parsed[key] = parsed[key].decode()
            elif self._kinds[key] == "words":
                parsed[key] = [word.decode() for word in parsed[key]]
        return dict(parsed)

    def _target(self, parsed: Mapping[str, Any], row: int) -> Any:
        """The label of a parsed row."""
        value, spec = parsed[self._label], self._spec
        if spec.task == "segmentation":
            if self._label in self._as_files:
                value = images.decode_map(value, f"{self.name}, row {row}, {self._label}")
            return _targets.check_map(np.asarray(value), spec, row)
        return _targets.make([value], spec._replace(rows=(row,)), words=self._words).values[0]

    def _all_targets(self) -> Targets:
        """Labels read one by one where task and classes are plain, else all at once."""
        spec, rows = self._spec, len(self._stored)
        if spec.task and (spec.number or spec.task in ("regression", "segmentation")):
            lazy = _targets.Lazy(rows, lambda row: self._target(self._parse(row, self._label), row))
            return Targets(spec.task, lazy, spec.number, spec.names, spec.ignore)
        values = [self._parse(row, self._label)[self._label] for row in range(rows)]
        return _targets.make(values, spec, words=self._words)
