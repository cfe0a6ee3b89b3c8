"""Examples and labels from the columns of an Arrow table, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.data import _digests, _images, _targets
from jaxte.data._columns import Columns
from jaxte.data._targets import Known, Targets
from jaxte.data.folders import check_files
from jaxte.data.records import Records, card, check_words
from jaxte.errors import InputError

__all__ = ["Table", "kind_of", "records"]

_WHAT = "reading tables"


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes:
        rows: n.
        kinds: what each column holds, see `Columns.choose`.
        cell: (column, row) -> the value there, as Python has it.
        column: column -> all of it, as an Arrow array.
        class_names: of columns of classes, or of lists of them.
        root: what paths in it are relative to.
        faults: of columns that cannot be used -> why.
        skip: whether files that are missing or empty are left for whoever reads them.
    """

    rows: int
    kinds: Mapping[str, str]
    cell: Callable[[str, int], Any]
    column: Callable[[str], Any]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: Path = Path()
    faults: Mapping[str, str] = field(default_factory=dict)
    skip: bool = False


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


def records(
    table: Table, columns: Columns, known: Known, name: str, facts: Mapping[str, Any]
) -> Records:
    """The rows of a table as a data set.

    Raises:
        InputError: if a column is missing or holds something else than it should.
    """
    if table.rows == 0:
        raise InputError(f"{name} has no rows")
    choice = columns.choose(table.kinds, name)
    for column in (choice.input, *choice.labels):
        if column in table.faults:
            raise InputError(f"{name}: {table.faults[column]}")
        if table.kinds[column] == "text":
            _check_nul(table.column(column), f"{name}, column {column!r}")
    facts = {**facts, "columns": choice.named()}
    images = _Images(table, name)
    example = images.reader(choice.input) if choice.kind == "image" else _reader(table, *choice[:2])
    known = known._replace(where=f"{name}, column {' and '.join(choice.labels)}")
    kind = table.kinds[choice.labels[0]]
    if known.task == "segmentation" or kind == "image":
        targets = images.maps(choice.labels[0], known)
    else:
        if known.number is None and kind in ("class", "classes"):
            names = table.class_names[choice.labels[0]]
            known = known._replace(names=names, number=len(names))
        if kind == "classes" and choice.kind != "words":
            known = known._replace(task=known.task or "multilabel", ids=True)
        values = _labels(table, choice.labels, known)
        targets = _targets.make(values, known, words=choice.kind == "words")
    if targets.task == "tokens":
        compute = require("pyarrow.compute", _WHAT, "data")
        lengths = compute.list_value_length(table.column(choice.input)).to_pylist()
        check_words(lengths, targets, known)
    if targets.task == "multilabel" and targets.class_names is None and len(choice.labels) > 1:
        targets = replace(targets, class_names=choice.labels)
    if "files" not in facts:  # of a file the whole content is known by its digest
        facts["inputs"] = _checksum(table.column(choice.input))
        if kind == "image":
            facts["maps"] = _checksum(table.column(choice.labels[0]))
    if images.files:
        facts["images"] = _digests.of_files(images.files, table.root)
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


class _Images:
    """Reads images from columns of paths, of bytes, or of both (as Hugging Face stores them)."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name
        self.files: list[Path] = []

    def reader(self, column: str) -> Callable[[int], np.ndarray]:
        """Row -> image."""
        self._find(column)
        return lambda row: _images.decode(*self._content(column, row))

    def maps(self, column: str, known: Known) -> Targets:
        """Label maps, read when they are asked for."""
        self._find(column)
        task, ignore = "segmentation", known.ignore
        known = known._replace(ignore=_targets.IGNORE[task] if ignore is None else ignore)

        def read(row: int) -> np.ndarray:
            return _targets.check_map(_images.decode_map(*self._content(column, row)), known, row)

        maps = _targets.Lazy(self.table.rows, read)
        return Targets(task, maps, known.number, known.names, known.ignore)

    def _find(self, column: str) -> None:
        kind = self.table.kinds[column]
        if kind == "text":
            paths = self.table.column(column).to_pylist()
            files = [self.table.root / path for path in paths if path is not None]
            if not self.table.skip:
                check_files(files)
            self.files += files
        elif kind != "image":
            raise InputError(f"{self.name}: column {column} holds {kind}, not images or paths")

    def _content(self, column: str, row: int) -> tuple[Path | bytes, str]:
        value = _stored(self.table.cell(column, row))
        where = f"{self.name}, row {row}, {column}"
        if value is None:
            raise InputError(f"{where} is missing: leave out rows without an image")
        if isinstance(value, str):
            return self.table.root / value, f"{where}, {value}"
        return value, where


def _reader(table: Table, column: str, kind: str) -> Callable[[int], Any]:
    """Row -> text, or words."""
    held = table.kinds[column]
    if held not in {"text": ("text", "number"), "words": ("words",)}[kind]:
        raise InputError(f"column {column!r} holds {held or 'nothing that is known'}, not {kind}")

    def read(row: int) -> Any:
        value = table.cell(column, row)
        if value is None or (kind == "words" and None in value):
            raise InputError(f"row {row}, {column} is missing: leave out rows without {kind}")
        return value if kind == "words" else str(value)

    return read


def _labels(table: Table, columns: tuple[str, ...], known: Known) -> Any:
    """The labels of one column, or several columns of numbers side by side."""
    found = [_label_column(table.column(column), column, known) for column in columns]
    if len(found) == 1:
        return found[0]
    for column, values in zip(columns, found, strict=True):
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise InputError(f"{known.where}: {column} holds no numbers: name one column of labels")
    return np.stack(found, axis=1)


def _label_column(column: Any, name: str, known: Known) -> Any:
    """Labels as an array where they are single values, else as a list."""
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"{known.row(row)} has no label in {name}: leave out such rows")
    kind = kind_of(column.type)
    if kind == "text":
        return np.asarray(column.to_pylist())
    if kind == "number":
        return column.to_numpy()
    if kind in ("words", "numbers"):
        return column.to_pylist()
    raise InputError(f"{known.where} is of type {column.type}: labels are numbers, texts or lists")
