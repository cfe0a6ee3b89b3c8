"""Tables: CSV, Parquet, JSON lines, and tables in memory; read by pyarrow."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxte._optional import require
from jaxte.data import _digests
from jaxte.data._columns import Request
from jaxte.data._tabular import ArrowTable, kind_of, records
from jaxte.data.records import Records
from jaxte.errors import InputError

__all__ = ["table", "table_file"]

_WHAT = "reading tables"
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def table_file(kind: str, where: str, request: Request, encoding: str | None = None) -> Records:
    """The rows of a CSV (.tsv: separated by tabs), Parquet or JSON lines file.

    Paths in it are relative to the file. Texts are UTF-8, unless a byte order mark or ``encoding``
    says something else.
    """
    path = Path(where)
    if not path.is_file():
        raise InputError(f"{path} is no file")
    pyarrow = require("pyarrow", _WHAT, "data")
    source: Any = path
    if kind != "parquet" and (encoding := encoding or _marked(path)) is not None:
        source = pyarrow.BufferReader(_decoded(path, encoding).encode())
    try:
        content = _read(kind, source, path)
        content.validate(full=True)  # whether texts are UTF-8
        names = content.column_names
        if kind == "csv" and any(map(pyarrow.types.is_binary, content.schema.types)):
            raise pyarrow.ArrowInvalid("texts are not UTF-8")
        if kind == "csv" and (fault := _open_quote(path, encoding, len(content))):
            raise InputError(fault)
        if kind == "csv" and (texts := _meant_as_texts(content, request)):
            if not isinstance(source, Path):
                source.seek(0)
            content = _read(kind, source, path, texts)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        fault = None if kind == "parquet" else _fault(kind, path, encoding or "utf-8")
        raise InputError(fault or f"{path} cannot be read as {kind} ({error})") from error
    facts = {"source": kind, "name": path.name, "files": _digests.of_files([path], path.parent)}
    return _records(content, request, path.parent, facts, _twice(names))


def table(content: Any, request: Request) -> Records:
    """The rows of a pandas data frame or a pyarrow table; paths are relative to the directory."""
    pyarrow = require("pyarrow", _WHAT, "data")
    faults: dict[str, str] = {}
    if not isinstance(content, pyarrow.Table):
        arrays, names = [], [str(name) for name in content.columns]
        for place, name in enumerate(names):
            series = content.iloc[:, place]
            try:
                arrays.append(pyarrow.Array.from_pandas(series))
                if pyarrow.types.is_binary(arrays[-1].type) and (fault := _mixed(name, series)):
                    faults[name] = fault  # texts among bytes
            except (pyarrow.ArrowException, TypeError, ValueError) as error:
                faults[name] = _mixed(name, series) or f"column {name!r}: {error}"
                arrays.append(pyarrow.nulls(len(series)))
        content = pyarrow.table(arrays, names)
    faults |= _twice(content.column_names)
    return _records(content, request, Path(), {"source": "table"}, faults)


def _records(
    content: Any, request: Request, root: Path, facts: dict[str, Any], faults: dict[str, str]
) -> Records:
    """The rows of a pyarrow table; of columns of one name the last counts, and is a fault."""
    once = {field.name: place for place, field in enumerate(content.schema)}
    columns = ArrowTable(
        len(content),
        {field.name: kind_of(field.type) for field in content.schema},
        lambda column, row: content.column(once[column])[row].as_py(),
        lambda column: content.column(once[column]),
        root=root,
        faults=faults,
    )
    return records(columns, request, facts)


def _read(kind: str, source: Any, path: Path, texts: Collection[str] = ()) -> Any:
    """The table in a file; of a CSV some columns as texts."""
    arrow = require(f"pyarrow.{kind.removesuffix('l')}", _WHAT, "data")
    if kind == "parquet":
        with arrow.ParquetFile(source) as file:
            return file.read()
    # types are inferred from the first block, and a row must fit into one
    block = min(max(2 * path.stat().st_size, 1 << 20), 1 << 28)
    if kind == "jsonl":
        return arrow.read_json(source, read_options=arrow.ReadOptions(block_size=block))
    string = require("pyarrow", _WHAT, "data").string()
    return arrow.read_csv(
        source,
        read_options=arrow.ReadOptions(block_size=block),
        parse_options=arrow.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(texts, string)),
    )


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _marked(path: Path) -> str | None:
    """The encoding that a byte order mark says; UTF-8 needs none."""
    with path.open("rb") as stream:
        start = stream.read(4)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


def _decoded(path: Path, encoding: str) -> str:
    try:
        return path.read_bytes().decode(encoding)
    except LookupError as error:
        raise InputError(f"{path}: there is no encoding {encoding!r}") from error
    except UnicodeError as error:
        raise InputError(f"{path} is not {encoding} ({error}): give encoding=") from error


def _open_quote(path: Path, encoding: str | None, rows: int) -> str | None:
    """The fault of a quote without an end, which takes the rows behind it into its cell.

    The file is read for it where there is an odd number of them, or a cell of several lines.
    """
    content = path.read_bytes()
    several = b'"' in content and content.count(b"\n") > rows + 1
    if not several and content.count(b'"') % 2 == 0:
        return None
    return _ragged(_decoded(path, encoding or "utf-8-sig"), path)


def _meant_as_texts(content: Any, request: Request) -> tuple[str, ...]:
    """The column of texts where its cells could be numbers or dates."""
    kinds = {field.name: kind_of(field.type) for field in content.schema}
    choice = request.columns.choose(kinds, request.name)
    return (choice.input,) if choice.kind == "text" and kinds[choice.input] != "text" else ()


def _twice(names: Sequence[str]) -> dict[str, str]:
    """Fault of each column whose name occurs more than once."""
    counts = [(name, count) for name, count in Counter(names).items() if count > 1]
    return {n: f"column {n!r} occurs {count} times: rename all but one" for n, count in counts}


def _mixed(name: str, values: Iterable[Any]) -> str | None:
    """The fault of a column whose values are of different kinds."""
    first: Any = None
    for row, value in enumerate(values):
        missing = value is None or value != value
        first = value if first is None and not missing else first
        if not missing and type(value) is not type(first):
            kinds = " among values of type ".join(type(one).__name__ for one in (value, first))
            return (
                f"column {name!r}, row {row}: {value!r} is of type {kinds}: convert the column to "
                "one type"
            )
    return None


def _fault(kind: str, path: Path, encoding: str) -> str | None:
    """What is wrong with a file of texts, and where."""
    content = path.read_bytes()
    if encoding == "utf-8" and b"\0" in content[:4096]:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        return f"{path}, line {line} has NUL bytes: if it is UTF-16, say encoding=utf-16-le or -be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        begun = content[: error.start].rpartition(b"\n")[2].decode(errors="replace")
        header = content.partition(b"\n")[0].decode(errors="replace").split(_delimiter(path))
        column = header[min(begun.count(_delimiter(path)), len(header) - 1)].strip()
        place = f"line {line}, column {column!r}" if kind == "csv" else f"line {line}"
        return (
            f"{path}, {place}: byte {content[error.start]:#04x} is not UTF-8: convert the file, or "
            "say which encoding it has, as encoding=latin-1"
        )
    return _ragged(text, path) if kind == "csv" else None


def _ragged(text: str, path: Path) -> str | None:
    """The first row of a CSV that has other cells than the header, or a quote without an end."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path), strict=True)
    header: list[str] | None = None
    row, line = -1, 1
    try:
        for cells in reader:
            if header is None:
                header = cells
            elif cells and len(cells) != len(header):
                missing = "" if len(cells) > len(header) else f", none for {header[len(cells)]!r}"
                return (
                    f"{path}, line {line} (row {row}) has {len(cells)} cells for {len(header)} "
                    f"columns{missing}: quote cells that hold the separator"
                )
            row, line = row + bool(cells), reader.line_num + 1
    except csv.Error as error:
        return f"{path}, line {line} (row {row}): a quote is wrong or has no end ({error})"
    return None
