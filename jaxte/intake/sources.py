"""Where features come from that are not all in memory: files, shards, and whatever gives batches.

A `Source` hands out pieces (features, labels or None) of any number of rows, in order. It has its
size where that takes no reading.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.intake import as_features, disk, is_array

__all__ = ["Batches", "Rows", "Shards", "Source", "Unlabelled", "natural", "of"]

Piece: TypeAlias = tuple[Any, Any]

_LABELS = "labels.npy"


class Source:
    """Features of one model, a piece at a time.

    Attributes:
        rows: n, where that can be said beforehand.
        width: d, likewise.
        reiterable: whether the pieces can be had more than once.
    """

    rows: int | None = None
    width: int | None = None
    reiterable: bool = True

    def read(self, size: int) -> Iterator[Piece]:
        """Pieces in order; sources that can choose make them ``size`` rows long."""
        raise NotImplementedError

    def labels(self) -> np.ndarray | None:
        """All labels, where they lie apart from the features."""
        return None

    def logits(self) -> Any:
        """Outputs [n, z] of the model's own head, where they are kept beside the features."""
        return None

    def parts(self) -> Iterator[Any]:
        """The arrays that it consists of, mapped where they lie in files."""
        yield from (features for features, _ in self.read(self.rows or 1))

    def check(self, part: int) -> None:
        """Raise `InputError` if a part is not what was stored, where that can be said."""

    def load(self) -> np.ndarray:
        """All features at once, for those that are small."""
        pieces = [np.asarray(features) for features, _ in self.read(self.rows or 1)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class Rows(Source):
    """An array in memory or in a file, in slices of rows."""

    def __init__(self, array: Any, labels: np.ndarray | None = None, logits: Any = None) -> None:
        on_host = isinstance(array, jax.Array) and array.is_fully_addressable
        if on_host and all(device.platform == "cpu" for device in array.devices()):
            array = np.asarray(array)  # no copy, and slices of it need no compilation
        self.array = array
        self.rows, self.width = np.shape(array)
        self._labels, self._logits = labels, logits

    def read(self, size: int) -> Iterator[Piece]:
        """Slices; what lies in a file is read, not mapped, so that memory stays flat."""
        file = _whole_file(self.array)
        if file is not None:
            yield from ((block, None) for block in _read_file(self.array, *file, size))
            return
        for start in range(0, len(self.array), size):
            yield self.array[start : start + size], None

    def parts(self) -> Iterator[Any]:
        """The array."""
        yield self.array

    def labels(self) -> np.ndarray | None:
        """Those that came with the array."""
        return self._labels

    def logits(self) -> Any:
        """What came with the array."""
        return self._logits


class Shards(Source):
    """A directory of one model's features, in the natural order of its file names.

    ``features-*.npy`` (else any ``*.npy``) beside one ``labels.npy`` or ``labels-*.npy`` of the
    same endings, or ``*.npz`` with ``features`` and, unless there is a ``labels.npy``, ``labels``.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.files = shard_files(self.directory)
        if not self.files:
            raise InputError(
                f"{directory} holds no shards: expected features-*.npy, *.npy or *.npz"
            )
        if len({file.suffix for file in self.files}) > 1:
            raise InputError(f"{directory} holds both .npy and .npz shards: keep one kind")
        if self.files[0].suffix == ".npy":  # sizes stand in the headers
            shapes = [self._open(file).shape for file in self.files]
            self.rows, self.width = sum(n for n, _ in shapes), shapes[0][1]
            for file, (_, d) in zip(self.files, shapes, strict=True):
                if d != self.width:
                    first = self.files[0].name
                    raise InputError(f"{file.name} has {d} columns, but {first} has {self.width}")

    def read(self, size: int) -> Iterator[Piece]:
        """Slices of one shard after the other."""
        for part in self.parts():
            yield from Rows(part).read(size)

    def parts(self) -> Iterator[np.ndarray]:
        """The shards."""
        for file in self.files:
            if file.suffix == ".npy":
                yield self._open(file)
                continue
            features = disk.npz_arrays(file, ["features"])["features"]
            disk.check_matrix(features, file.name)
            yield features

    def labels(self) -> np.ndarray | None:
        """Those in files of labels, or in the shards; None if there are none."""
        return self._labels

    @cached_property
    def _labels(self) -> np.ndarray | None:
        whole = self.directory / _LABELS
        if os.path.lexists(whole):
            return disk.load_npy(whole, "labels")
        if self.files[0].suffix == ".npz":
            parts = [disk.npz_arrays(file, ["labels"]).get("labels") for file in self.files]
        else:
            beside = [_labels_beside(file) for file in self.files]
            parts = [None if f is None else disk.load_npy(f, "labels") for f in beside]
        present = [part for part in parts if part is not None]
        if present and len(present) < len(parts):
            lacking = self.files[[part is None for part in parts].index(True)]
            raise InputError(f"{lacking.name} has no labels, other shards have: save them too")
        return np.concatenate(present) if present else None

    def _open(self, file: Path) -> np.ndarray:
        features = disk.load_npy(file, "features")
        disk.check_matrix(features, file.name)
        return features


class Batches(Source):
    """Whatever gives batches: [b, d] or (features [b, d], labels [b])."""

    def __init__(self, make: Callable[[], Any], *, reiterable: bool) -> None:
        self._make = make
        self.reiterable = reiterable

    def read(self, size: int) -> Iterator[Piece]:
        """The batches as they come, except that empty ones are left out."""
        batches = self._make()
        if not isinstance(batches, Iterable):
            kind = type(batches).__name__
            raise InputError(f"the function gave {kind}, not an iterator of batches")
        for index, batch in enumerate(batches):
            features, labels = _as_piece(batch, index)
            if len(features):
                yield features, labels


class Unlabelled(Source):
    """Another source for metrics that read no labels: a constant in place of any."""

    def __init__(self, source: Source) -> None:
        self.source, self.reiterable = source, source.reiterable
        self.rows, self.width = source.rows, source.width

    def read(self, size: int) -> Iterator[Piece]:
        """The same pieces."""
        for features, _ in self.source.read(size):
            yield features, np.ones(len(features), np.float32)


def of(value: Any) -> Any:
    """The `Source` that a user's value stands for; arrays come back as arrays."""
    if isinstance(value, Source):
        return value
    if isinstance(value, str | os.PathLike):
        return _at(Path(value))
    if is_array(value):
        return as_features(value, lazy=True)
    if isinstance(value, Sequence) and not (len(value) and _is_batch(value[0])):
        return as_features(value)  # rows of numbers
    if callable(value) and not hasattr(value, "__iter__"):
        return Batches(value, reiterable=True)
    if isinstance(value, Iterable) and not isinstance(value, dict):
        return Batches(lambda: value, reiterable=not hasattr(value, "__next__"))
    raise InputError(
        f"features are a {type(value).__name__}: give an array [n, d], a path, or batches"
    )


def shard_files(directory: Path) -> list[Path]:
    """The files of a directory that hold the features of one model, in natural order."""
    # directories are others' business; a pipe or a dead link would be rows that are lost
    files = [f for f in disk.listing(directory) if not os.path.isdir(f)]
    files = [f for f in files if f.suffix in (".npy", ".npz") and not f.name.startswith("labels")]
    named = [f for f in files if f.name.startswith("features")]
    return sorted(named or files, key=natural)


def probe_files(directory: Path) -> dict[str, Path]:
    """Data set -> file, of a directory of TE-Bench probes of one model; empty if it is none.

    Such a probe is an .npz beside a .json of the same name; a name that begins with "_" is of
    something else (weights of the model).
    """
    files = {f.stem: f for f in sorted(directory.glob("*.npz")) if f.name[0] not in "._"}
    return files if all(f.with_suffix(".json").is_file() for f in files.values()) else {}


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Part 10 comes after part 9."""
    parts = re.split(r"(\d+)", path.name)
    return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def _labels_beside(file: Path) -> Path | None:
    """`labels-007.npy` beside `features-007.npy`."""
    if not file.name.startswith("features"):
        return None
    beside = file.with_name("labels" + file.name.removeprefix("features"))
    return beside if os.path.lexists(beside) else None


def _at(path: Path) -> Source:
    if os.path.isdir(path):
        if len(probes := probe_files(path)) > 1:
            raise InputError(
                f"{path} holds probes of several data sets ({', '.join(probes)}): name a file"
            )
        return Shards(path) if not probes else _at(*probes.values())
    if not os.path.lexists(path):
        raise InputError(
            f"{path} does not exist: name an .npy or .npz file, or a directory of them"
        )
    if path.suffix == ".npz":
        arrays = disk.npz_arrays(path, ["features", "labels", "logits"])
    else:
        arrays = {"features": disk.load_npy(path, "features")}
    disk.check_matrix(arrays["features"], path.name)
    return Rows(arrays["features"], arrays.get("labels"), arrays.get("logits"))


def _is_batch(item: Any) -> bool:
    """Whether an item of a list is a batch of rows rather than one row of numbers."""
    if getattr(item, "ndim", 0) >= 2:
        return True
    return isinstance(item, tuple | list) and bool(item) and getattr(item[0], "ndim", 0) >= 2


def _as_piece(batch: Any, index: int) -> Piece:
    labels = None
    if isinstance(batch, tuple | list):
        if not 1 <= len(batch) <= 2:
            raise InputError(
                f"batch {index} has {len(batch)} parts: give features, or (features, labels)"
            )
        batch, labels = (*batch, None)[:2]
    features = as_features(batch, f"features of batch {index}")
    if features.ndim != 2:
        raise InputError(
            f"batch {index} has shape {features.shape}, not [b, d]: flatten or pool each sample "
            "to one vector"
        )
    if labels is not None and (np.ndim(labels) == 0 or len(labels) != len(features)):
        raise InputError(f"batch {index} has {len(features)} rows but labels {np.shape(labels)}")
    return features, labels


def _whole_file(array: Any) -> tuple[str, int] | None:
    """The file and offset of an array that is mapped as a whole, row after row."""
    if not (isinstance(array, np.memmap) and array.flags.c_contiguous and array.filename):
        return None
    root: Any = array
    while isinstance(root.base, np.memmap):
        root = root.base
    same = root.ctypes.data == array.ctypes.data and root.nbytes == array.nbytes
    # a private copy may differ from the file; elsewhere than on POSIX a shared one may, too
    current = array.mode == "r" or (array.mode != "c" and os.name == "posix")
    if not (same and current and isinstance(root.base, mmap.mmap)):
        return None
    return str(array.filename), int(array.offset)


def _read_file(array: np.memmap, file: str, offset: int, size: int) -> Iterator[np.ndarray]:
    n, d = array.shape
    row_bytes = d * array.dtype.itemsize
    with open(file, "rb", buffering=0) as stream:
        stream.seek(offset)
        for start in range(0, n, size):
            rows = min(size, n - start)
            block = np.fromfile(stream, np.uint8, rows * row_bytes)
            if len(block) < rows * row_bytes:
                raise InputError(f"{Path(file).name} is truncated: it ends in row {start} or after")
            yield block.view(array.dtype).reshape(rows, d)
