"""Examples and labels from the columns of an Arrow table, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.data import _digests, _targets, images
from jaxte.data._columns import Request
from jaxte.data._targets import LabelSpec, Targets
from jaxte.data.records import Records, card, check_files, check_words
from jaxte.errors import InputError

_WHAT = "reading tables"


@dataclass(frozen=True)
class ArrowTable:
    """Columns by name."""

    rows: int
    kinds: Mapping[str, str]  # what each column holds, see `Columns.choose`
    cell: Callable[[str, int], Any]  # the value in a column and row, as Python has it
    column: Callable[[str], Any]  # all of it, as an Arrow array
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: Path = Path()  # what paths in it are relative to
    faults: Mapping[str, str] = field(default_factory=dict)  # columns of no use -> why


def kind_of(type: Any) -> str:
    """What a column may hold, by its Arrow type."""
    types = require("pyarrow.types", _WHAT, "data")
    if types.is_dictionary(type):
        return kind_of(type.value_type)
    if types.is_string(type) or types.is_large_string(type) or types.is_string_view(type):
        return "text"
    if types.is_integer(type) or types.is_floating(type) or types.is_boolean(type):
        return "number"
    if types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type):
        return {"text": "words", "number": "numbers"}.get(kind_of(type.value_type), "other")
    embedded = types.is_struct(type) and type.get_field_index("bytes") >= 0  # as datasets has them
    if embedded or types.is_binary(type) or types.is_large_binary(type):
        return "image"
    return "other"


def records(table: ArrowTable, request: Request, facts: Mapping[str, Any]) -> Records:
    """The rows of a table as a data set."""
    name = request.name
    if table.rows == 0:
        raise InputError(f"{name} has no rows")
    choice = request.columns.choose(table.kinds, name)
    for column in (choice.input, *choice.labels):
        if column in table.faults:
            raise InputError(f"{name}: {table.faults[column]}")
        if table.kinds[column] == "text":
            _check_nul(table.column(column), f"{name}, column {column!r}")
    facts = {**facts, "columns": choice.card()}
    files: list[Path] = []
    if choice.kind == "image":
        files += _image_files(table, choice.input, request)
        example = _image_reader(table, choice.input, name, images.decode)
    else:
        example = _reader(table, choice.input, choice.kind)
    labels = request.labels._replace(where=f"{name}, column {' and '.join(choice.labels)}")
    label, kind = choice.labels[0], table.kinds[choice.labels[0]]
    if labels.task == "segmentation" or kind == "image":
        files += _image_files(table, label, request)
        targets = _maps(table, label, name, labels.of_task("segmentation"))
    else:
        if labels.number is None and kind in ("class", "classes"):
            names = table.class_names[label]
            labels = labels._replace(names=names, number=len(names))
        if kind == "classes" and choice.kind != "words":
            labels = labels._replace(task=labels.task or "multilabel", ids=True)
        values = _labels(table, choice.labels, labels)
        targets = _targets.make(values, labels, words=choice.kind == "words")
    if targets.task == "tokens":
        compute = require("pyarrow.compute", _WHAT, "data")
        lengths = compute.list_value_length(table.column(choice.input)).to_pylist()
        check_words(lengths, targets, labels)
    if targets.task == "multilabel" and targets.class_names is None and len(choice.labels) > 1:
        targets = replace(targets, class_names=choice.labels)
    if "files" not in facts:  # a file is identified by the digest of its whole content
        facts["inputs"] = _checksum(table.column(choice.input))
        if kind == "image":
            facts["maps"] = _checksum(table.column(label))
    if files:
        facts["images"] = _digests.of_files(files, table.root)
    return Records(name, example, targets, card(name, targets, facts))


def _check_nul(column: Any, where: str) -> None:
    """Raise `InputError` for a text with a NUL character, as damaged files have them."""
    compute = require("pyarrow.compute", _WHAT, "data")
    if column.null_count == len(column):
        return
    damaged = compute.match_substring(column.cast("string"), "\0")
    if compute.any(damaged).as_py():
        row = damaged.to_pylist().index(True)
        raise InputError(f"{where}, row {row} has a NUL character: repair the row or leave it out")


def _checksum(column: Any) -> str | None:
    """Of a column of moderate size."""
    if column.nbytes > _digests.SMALL:
        return None
    return _digests.of_values(_stored(value) or "" for value in column.to_pylist())


def _stored(value: Any) -> Any:
    """The content, or the path, of an image as Hugging Face stores it; else the value."""
    if not isinstance(value, Mapping):
        return value
    return value["bytes"] if value["bytes"] is not None else value.get("path")


def _image_files(table: ArrowTable, column: str, request: Request) -> list[Path]:
    """The files that a column of paths names; none of a column of bytes."""
    kind = table.kinds[column]
    if kind not in ("text", "image"):
        raise InputError(f"{request.name}: column {column} holds {kind}, not images or paths")
    paths = table.column(column).to_pylist() if kind == "text" else []
    files = [table.root / path for path in paths if path is not None]
    if not request.skip:
        check_files(files)
    return files


def _image_reader(
    table: ArrowTable, column: str, name: str, decode: Callable[[Any, str], np.ndarray]
) -> Callable[[int], np.ndarray]:
    """Row -> image, or label map."""

    def read(row: int) -> np.ndarray:
        value, where = _stored(table.cell(column, row)), f"{name}, row {row}, {column}"
        if value is None:
            raise InputError(f"{where} is missing: leave out rows without an image")
        if isinstance(value, str):
            return decode(table.root / value, f"{where}, {value}")
        return decode(value, where)

    return read


def _maps(table: ArrowTable, column: str, name: str, labels: LabelSpec) -> Targets:
    """Label maps, read when they are asked for."""
    read = _image_reader(table, column, name, images.decode_map)
    maps = _targets.Lazy(table.rows, lambda row: _targets.check_map(read(row), labels, row))
    return Targets("segmentation", maps, labels.number, labels.names, labels.ignore)


def _reader(table: ArrowTable, column: str, kind: str) -> Callable[[int], Any]:
    """Row -> text, or words."""
    content = table.kinds[column]
    if content not in {"text": ("text", "number"), "words": ("words",)}.get(kind, ()):
        wanted = kind if kind in ("text", "words") else "images, texts or words"
        raise InputError(f"column {column!r} holds {content or 'no usual type'}, not {wanted}")

    def read(row: int) -> Any:
        value = table.cell(column, row)
        if value is None or (kind == "words" and None in value):
            raise InputError(f"row {row}, {column} is missing: leave out rows without {kind}")
        return value if kind == "words" else str(value)

    return read


def _labels(table: ArrowTable, columns: tuple[str, ...], labels: LabelSpec) -> Any:
    """The labels of one column, or several columns of numbers side by side."""
    values = [_label_column(table.column(column), column, labels) for column in columns]
    if len(values) == 1:
        return values[0]
    for column, array in zip(columns, values, strict=True):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise InputError(
                f"{labels.where}: {column} holds no numbers: name one column of labels"
            )
    return np.stack(values, axis=1)


def _label_column(column: Any, name: str, labels: LabelSpec) -> Any:
    """Labels as an array where they are single values, else as a list."""
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"{labels.row(row)} has no label in {name}: leave out such rows")
    kind = kind_of(column.type)
    if kind == "number":
        return column.to_numpy()
    if kind in ("text", "words", "numbers"):
        values = column.to_pylist()
        return np.asarray(values) if kind == "text" else values
    raise InputError(f"{labels.where} is of type {column.type}: labels are numbers, texts or lists")
