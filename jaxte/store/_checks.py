"""Shards compared with their checksums when they are read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxte.errors import InputError
from jaxte.intake.sources import Rows
from jaxte.store._columns import as_bytes
from jaxte.store._recovery import checksum

__all__ = ["Checks", "Stored", "damaged"]


class Stored(NamedTuple):
    """A shard as it lies on the disk, and the checksum that it was stored with.

    ``renamed``: whether the file may have another name by now, as in a store that is written.
    """

    file: Path
    crc32: int
    array: Callable[[], np.ndarray]
    renamed: bool

    def state(self) -> Any:
        """What tells whether the file was written to since."""
        if self.renamed:
            return None
        known = self.file.stat()
        return known.st_mtime_ns, known.st_size, known.st_ino

    def is_sound(self) -> bool:
        """Whether every byte is as it was stored; reads them all."""
        if self.renamed:
            return zlib.crc32(as_bytes(self.array())) == self.crc32
        return checksum(self.file) == self.crc32


class Checks:
    """The shards of a store by folder, each compared once, and again after its file has changed."""

    def __init__(self, shards: Mapping[str, list[Stored]]) -> None:
        self.shards = shards
        self._sound: dict[tuple[str, int], Any] = {}

    def is_due(self, folder: str, index: int) -> bool:
        """Whether a shard is still to be compared."""
        return self._sound.get((folder, index), ()) != self.shards[folder][index].state()

    def check(self, folder: str, index: int | None = None) -> None:
        """Compare a shard that is due, or all of a folder.

        Raises:
            InputError: naming the file that was damaged.
        """
        for number in range(len(self.shards[folder])) if index is None else [index]:
            if self.is_due(folder, number):
                state = self.shards[folder][number].state()
                self._judge(folder, number, self.shards[folder][number].is_sound(), state)

    def everything(self) -> list[str]:
        """Compare all shards, due or not; those that were damaged."""
        wrong = []
        for folder, shards in self.shards.items():
            for index, shard in enumerate(shards):
                state = shard.state()
                if shard.is_sound():
                    self._sound[folder, index] = state
                else:
                    wrong.append(str(shard.file))
        return wrong

    def read(self, folder: str, index: int, array: np.ndarray, size: int) -> Iterator[np.ndarray]:
        """Slices of a shard, compared on the way: before the last of them comes out."""
        due, state = self.is_due(folder, index), self.shards[folder][index].state()
        value = rows = 0
        for block, _ in Rows(array).read(size):
            rows += len(block)
            if due:
                value = zlib.crc32(as_bytes(np.ascontiguousarray(block)), value)
                if rows == len(array):
                    self._judge(folder, index, value == self.shards[folder][index].crc32, state)
            yield block

    def _judge(self, folder: str, index: int, sound: bool, state: Any) -> None:
        if not sound:
            raise damaged([str(self.shards[folder][index].file)])
        self._sound[folder, index] = state


def damaged(files: list[str]) -> InputError:
    """What is said of shards that are not what was stored."""
    return InputError(
        f"{', '.join(files)}: damaged, the checksum is not the one that was stored; delete the "
        "store and extract again"
    )
