"""Records by their number in the shards that tensorflow-datasets writes, without TensorFlow."""

from __future__ import annotations

import bisect
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError

# In a TFRecord file each record is its length, a checksum of that, its bytes, a checksum of those.
_LENGTH = struct.Struct("<Q")
_BEFORE, _AFTER = 12, 4


class RecordFiles:
    """The records of parts of several files, one after the other.

    Of each part there is the file (filename), how many records to skip, and how many to take.
    """

    def __init__(self, parts: Sequence[Any], format: str) -> None:
        self._paths = [Path(part.filename) for part in parts]
        self._read = []
        for part, path in zip(parts, self._paths, strict=True):
            with _named(path):
                self._read.append(FORMATS[format](path, part.skip, part.take))
        self._ends = list(accumulate(part.take for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, row: int) -> bytes:
        part = bisect.bisect_right(self._ends, row)
        before = self._ends[part - 1] if part else 0
        with _named(self._paths[part]):
            return self._read[part](row - before)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong with a file is an `InputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read ({error}): prepare it again") from error


def _tfrecord(path: Path, skip: int, take: int) -> Callable[[int], bytes]:
    """Records, located by one walk over their headers."""
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    starts = np.empty(skip + take, np.int64)
    place, size = 0, len(mapped)
    for number in range(skip + take):
        starts[number] = place
        place += _BEFORE
        if place <= size:
            place += _LENGTH.unpack_from(mapped, starts[number])[0] + _AFTER
        if place > size:
            raise _short(path, number, skip + take)

    def read(row: int) -> bytes:
        start = int(starts[skip + row])
        (length,) = _LENGTH.unpack_from(mapped, start)
        return mapped[start + _BEFORE : start + _BEFORE + length]

    return read


def _array_record(path: Path, skip: int, take: int) -> Callable[[int], bytes]:
    source = require("array_record.python.array_record_data_source", "reading array_record", "data")
    records = source.ArrayRecordDataSource(f"{path}[{skip}:{skip + take}]")
    read: Callable[[int], bytes] = records.__getitem__
    return read


def _parquet(path: Path, skip: int, take: int) -> Callable[[int], bytes]:
    table = require("pyarrow.parquet", "reading Parquet", "data").read_table(path)
    if len(table) < skip + take:
        raise _short(path, len(table), skip + take)
    column = table.column(0).slice(skip, take)
    return lambda row: bytes(column[row].as_py())


def _short(path: Path, whole: int, wanted: int) -> InputError:
    return InputError(f"{path} holds {whole} whole records of {wanted}: prepare it again")


FORMATS = {"array_record": _array_record, "parquet": _parquet, "tfrecord": _tfrecord}
