"""The arrays of a store: their types, and the .npy shards that they lie in."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxte.errors import InputError

__all__ = ["FEATURE_TYPES", "LABEL_TYPES", "Column", "check_type", "in_memory"]

FEATURE_TYPES = ("float32", "float16", "bfloat16", "float64")
LABEL_TYPES = ("int32", "int64", "float32", "float64")

HEADER = 128  # bytes before the first row, whatever the number of rows
_REMEDY = "delete the store and extract again"
_PART = ".part"  # the ending of a shard that is still written


class Column(NamedTuple):
    """One array of a store: the features of a layer, the labels or the logits.

    Attributes:
        folder: directory of its shards, inside the store's.
        prefix: of the names of its shards.
        dtype: name of the type of its numbers.
        width: numbers in a row; None where a row is one number.
    """

    folder: str
    prefix: str
    dtype: str
    width: int | None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in a file."""
        return _on_disk(self.dtype).itemsize * (1 if self.width is None else self.width)

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of so many rows."""
        return (rows,) if self.width is None else (rows, self.width)

    def size(self, rows: int) -> int:
        """Bytes of a file of so many rows."""
        return HEADER + rows * self.row_bytes

    def file(self, root: Path, shard: int, *, part: bool = False) -> Path:
        """Where a shard lies; ``part`` while it is still written."""
        return root / self.folder / f"{self.prefix}-{shard:06d}.npy{_PART if part else ''}"

    def files(self, root: Path) -> dict[int, list[Path]]:
        """All files in its directory that are named like its shards, by number."""
        files: dict[int, list[Path]] = {}
        folder = root / self.folder
        for file in folder.iterdir() if folder.is_dir() else ():
            name = file.name.removesuffix(_PART)
            prefix, _, number = name.removesuffix(".npy").rpartition("-")
            if name.endswith(".npy") and prefix == self.prefix and number.isdecimal():
                files.setdefault(int(number), []).append(file)
        return files

    def header(self, rows: int) -> bytes:
        """What an .npy file of so many rows begins with: always `HEADER` bytes."""
        # NumPy itself writes bfloat16 as <V2
        descr = "<V2" if self.dtype == "bfloat16" else _on_disk(self.dtype).str
        shape = f"{self.shape(rows)}"
        text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10)
        return start + text.encode("latin1").ljust(HEADER - 11) + b"\n"

    def check(self, root: Path, shard: int, rows: int) -> Path:
        """The file of a finished shard."""
        file = inside(root, self.file(root, shard))
        if not file.is_file():
            raise InputError(f"{file} is missing: {_REMEDY}")
        size, wanted = file.stat().st_size, self.size(rows)
        if size != wanted:
            state = "truncated" if size < wanted else "too long"
            raise InputError(f"{file} is {state}, {size} bytes instead of {wanted}: {_REMEDY}")
        with file.open("rb") as stream:
            if stream.read(HEADER) != self.header(rows):
                raise InputError(
                    f"{file} is not {self.dtype} {list(self.shape(rows))}, as the manifest says: "
                    f"{_REMEDY}"
                )
        return file

    def mapped(self, file: Path, rows: int) -> np.ndarray:
        """The first rows of a shard, memory-mapped."""
        kind = _on_disk(self.dtype)
        if not rows * self.row_bytes:  # nothing cannot be mapped
            return np.zeros(self.shape(rows), in_memory(self.dtype))
        array = np.memmap(file, kind, mode="r", offset=HEADER, shape=self.shape(rows))
        return array.view(in_memory(self.dtype)) if kind.kind == "V" else array


def check_type(name: str) -> None:
    """Raise `InputError` for a type of features that a store cannot hold."""
    if name not in FEATURE_TYPES:
        raise InputError(
            f"features of type {name} cannot be stored: choose {', '.join(FEATURE_TYPES)}"
        )


def _on_disk(name: str) -> np.dtype:
    """The type as .npy files have it, of fixed byte order."""
    return np.dtype("V2") if name == "bfloat16" else np.dtype(name).newbyteorder("<")


def in_memory(name: str) -> np.dtype:
    """The type that arrays have."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return _on_disk(name)


def inside(root: Path, path: Path) -> Path:
    """The path, unless it leads out of the directory, be it by a symbolic link: an `InputError`."""
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if not real.is_relative_to(home):
        raise InputError(f"{path} leads out of the store, to {real}: it is not followed")
    return path


def as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def to_hex(crc32: Mapping[str, int]) -> dict[str, str]:
    """Checksums by folder as files have them."""
    return {folder: f"{value:08x}" for folder, value in crc32.items()}


def from_hex(crc32: Mapping[str, str]) -> dict[str, int]:
    """And back."""
    return {str(folder): int(value, 16) for folder, value in crc32.items()}
