"""The arrays of a store as they are read: shard by shard, each compared with its checksum."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxte.errors import InputError
from jaxte.intake.sources import Rows, Source
from jaxte.store.columns import HEADER, Column, as_bytes

__all__ = ["Parts", "ShardFile", "ShardedArray", "StoreSource"]

_BLOCK = 1 << 20


class Parts:
    """Arrays one after the other along the rows, read only where they are indexed.

    Args:
        parts: at least one, all of one type and width.

    Example:
        >>> import numpy as np
        >>> whole = Parts([np.arange(4), np.arange(4, 6)])
        >>> whole.shape, int(whole[5]), whole[3:].tolist(), whole[[5, 0]].tolist()
        ((6,), 5, [3, 4, 5], [5, 0])
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *self._parts[0].shape[1:])
        self.dtype = self._parts[0].dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False and len(self._parts) > 1:
            raise ValueError("an array of several parts is a copy of them")
        whole = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return np.array(whole, dtype, copy=copy)

    def __getitem__(self, rows: Any) -> Any:
        """Rows by number, slice, list of numbers or mask."""
        chosen = np.arange(len(self))[rows]
        where = np.searchsorted(self._ends, chosen, side="right")
        starts = self._ends - [len(part) for part in self._parts]
        if chosen.ndim == 0:
            return self._parts[int(where)][chosen - starts[where]]
        result = np.empty((*chosen.shape, *self.shape[1:]), self.dtype)
        for index in np.unique(where):
            here = where == index
            result[here] = self._parts[index][chosen[here] - starts[index]]
        return result


class ShardFile(NamedTuple):
    """A shard as it lies on the disk, and the checksum that it was stored with."""

    file: Path
    rows: int
    crc32: int


class ShardedArray:
    """One array of a store; its files are mapped when they are needed.

    A shard is compared with its checksum when it is first read, and again after its file changed.
    The shards are ``files`` or, in memory, ``parts``; ``renamed`` says whether a file may have
    another name by now, as in a store that is written.
    """

    def __init__(
        self,
        column: Column,
        files: Sequence[ShardFile] = (),
        *,
        renamed: bool = False,
        parts: Sequence[np.ndarray] = (),
    ) -> None:
        self.column, self.files = column, files
        self._renamed, self._parts = renamed, tuple(parts)
        self.rows = sum(shard.rows for shard in files) + sum(map(len, parts))
        self._sound: dict[int, Any] = {}  # shard -> the state of its file when it was compared

    @cached_property
    def parts(self) -> tuple[np.ndarray, ...]:
        """The shards, unread where they lie in files."""
        mapped = [self.column.mapped(shard.file, shard.rows) for shard in self.files]
        if self._renamed:  # such a file must not be opened by its name again
            mapped = [part.view(np.ndarray) for part in mapped]
        return self._parts or tuple(mapped)

    def checked(self) -> tuple[np.ndarray, ...]:
        """The shards, once all are compared."""
        for index in range(len(self.files)):
            self.check(index)
        return self.parts

    def check(self, index: int) -> None:
        """Compare a shard, unless it was; a damaged one is an `InputError`."""
        if self.files and self._is_due(index):
            state = self._state(index)
            self._judge(index, self._is_sound(index), state)

    def read(self, size: int) -> Iterator[np.ndarray]:
        """Slices of one shard after the other, compared before the last of each comes out."""
        for index, part in enumerate(self.parts):
            due = bool(self.files) and self._is_due(index)
            state = self._state(index) if due else None
            value = rows = 0
            for block, _ in Rows(part).read(size):
                rows += len(block)
                if due:
                    value = zlib.crc32(as_bytes(np.ascontiguousarray(block)), value)
                    if rows == len(part):
                        self._judge(index, value == self.files[index].crc32, state)
                yield block

    def damaged(self) -> list[str]:
        """Compare all shards, even if they were; the files that were damaged."""
        states = [self._state(index) for index in range(len(self.files))]
        sound = [self._is_sound(index) for index in range(len(self.files))]
        self._sound |= {i: state for i, state in enumerate(states) if sound[i]}
        return [str(shard.file) for i, shard in enumerate(self.files) if not sound[i]]

    def _state(self, index: int) -> Any:
        """What tells whether a file was written to since."""
        if self._renamed:
            return None
        state = self.files[index].file.stat()
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _is_due(self, index: int) -> bool:
        return index not in self._sound or self._sound[index] != self._state(index)

    def _is_sound(self, index: int) -> bool:
        """Whether every byte is as it was stored; reads them all."""
        shard, value = self.files[index], 0
        if self._renamed:
            return zlib.crc32(as_bytes(self.parts[index])) == shard.crc32
        with shard.file.open("rb", buffering=0) as stream:
            stream.seek(HEADER)
            while block := stream.read(_BLOCK):
                value = zlib.crc32(block, value)
        return value == shard.crc32

    def _judge(self, index: int, sound: bool, state: Any) -> None:
        if not sound:
            raise damage([str(self.files[index].file)])
        self._sound[index] = state


def damage(files: list[str]) -> InputError:
    """What is said of shards that are not what was stored."""
    return InputError(
        f"{', '.join(files)}: damaged, the checksum is not the one that was stored; delete the "
        "store and extract again"
    )


class StoreSource(Source):
    """One layer of a store, and its labels."""

    def __init__(
        self, array: ShardedArray, labels: np.ndarray, logits: ShardedArray | None = None
    ) -> None:
        self._array, self._labels, self._logits = array, labels, logits
        self.rows, self.width = len(labels), array.parts[0].shape[1]

    def read(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Slices of one shard after the other."""
        return ((block, None) for block in self._array.read(size))

    def parts(self) -> Iterator[np.ndarray]:
        """The shards, which `check` compares."""
        yield from self._array.parts

    def check(self, part: int) -> None:
        """Compare a shard with its checksum."""
        self._array.check(part)

    def labels(self) -> np.ndarray:
        """Those of the store."""
        return self._labels

    def logits(self) -> Parts | None:
        """Those of the store, compared with their checksums."""
        return None if self._logits is None else Parts(self._logits.checked())
