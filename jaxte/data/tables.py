"""Tables: CSV, Parquet, JSON lines, and tables in memory; read by pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxte._inputs import InputError
from jaxte._optional import require
from jaxte.data import _digests
from jaxte.data._columns import Columns
from jaxte.data._tabular import Table, kind_of, records
from jaxte.data._targets import Known
from jaxte.data.records import Records

__all__ = ["table", "table_file"]

_WHAT = "reading tables"


def table_file(kind: str, where: str, columns: Columns, known: Known, name: str) -> Records:
    """The rows of a CSV (.tsv: separated by tabs), Parquet or JSON lines file.

    Paths in it are relative to the file.

    Raises:
        InputError: if it cannot be read, or lacks a column.
    """
    path = Path(where)
    if not path.is_file():
        raise InputError(f"{path} is no file")
    pyarrow = require("pyarrow", _WHAT, "data")
    try:
        content = {"csv": _read_csv, "parquet": _read_parquet, "jsonl": _read_jsonl}[kind](path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as {kind} ({error})") from error
    facts = {"source": kind, "name": path.name, "files": _digests.of_files([path], path.parent)}
    return _of(content, columns, known, name, path.parent, facts)


def table(given: Any, columns: Columns, known: Known) -> Records:
    """The rows of a pandas data frame or a pyarrow table; paths are relative to the directory."""
    pyarrow = require("pyarrow", _WHAT, "data")
    if not isinstance(given, pyarrow.Table):
        given = pyarrow.Table.from_pandas(given, preserve_index=False)
    return _of(given, columns, known, "table", Path(), {"source": "table"})


def _of(
    content: Any, columns: Columns, known: Known, name: str, root: Path, facts: dict[str, Any]
) -> Records:
    read = Table(
        len(content),
        {field.name: kind_of(field.type) for field in content.schema},
        lambda column, row: content.column(column)[row].as_py(),
        content.column,
        root=root,
    )
    return records(read, columns, known, name, facts)


def _read_csv(path: Path) -> Any:
    csv = require("pyarrow.csv", _WHAT, "data")
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=_block(path)),
        parse_options=csv.ParseOptions(
            delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True
        ),
    )


def _read_parquet(path: Path) -> Any:
    return require("pyarrow.parquet", _WHAT, "data").read_table(path)


def _read_jsonl(path: Path) -> Any:
    json = require("pyarrow.json", _WHAT, "data")
    return json.read_json(path, read_options=json.ReadOptions(block_size=_block(path)))


def _block(path: Path) -> int:
    """Bytes read at once: types are inferred from the first block, and a row must fit into one."""
    return min(max(path.stat().st_size, 1 << 20), 1 << 28)
