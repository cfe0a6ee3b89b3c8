"""The journal of a store: one line for every batch that is safely stored."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.store.columns import from_hex, inside, to_hex

__all__ = ["JOURNAL", "StoredBatch", "read"]

JOURNAL = "journal.jsonl"
_CHECK = ', "check": "{:08x}"}}'
_TAIL = len(_CHECK.format(0)) + 1  # with the newline


class StoredBatch(NamedTuple):
    """One batch that is stored.

    Attributes:
        rows: how many rows of features it became.
        examples: how many examples of the data set it was made of.
        digest: of its inputs.
        crc32: folder of each array -> checksum of the rows of the shard up to and with this batch.
        skipped: number of an example that was left out -> why; they count as examples.
    """

    rows: int
    examples: int
    digest: str
    crc32: Mapping[str, int]
    skipped: Mapping[int, str] = {}


class Group(NamedTuple):
    """The batches of one shard, and whether it takes no more."""

    shard: int
    first: int
    batches: Sequence[StoredBatch]
    full: bool

    @property
    def rows(self) -> int:
        """Of the shard."""
        return sum(batch.rows for batch in self.batches)


def groups(batches: Sequence[StoredBatch], shard_rows: int) -> list[Group]:
    """Batches by shard: each ends with the first batch that brings it to ``shard_rows`` rows."""
    by_shard: list[Group] = []
    first = rows = 0
    for index, batch in enumerate(batches):
        rows += batch.rows
        if rows >= shard_rows:
            by_shard.append(Group(len(by_shard), first, batches[first : index + 1], True))
            first, rows = index + 1, 0
    if rows:
        by_shard.append(Group(len(by_shard), first, batches[first:], False))
    return by_shard


def line(batch: StoredBatch) -> bytes:
    """A batch as a line that knows whether it is whole."""
    entry: dict[str, Any] = batch._asdict()
    entry["crc32"] = to_hex(batch.crc32)
    if not batch.skipped:
        del entry["skipped"]
    text = json.dumps(entry)[:-1]
    return (text + _CHECK.format(zlib.crc32(text.encode())) + "\n").encode()


def read(directory: Path) -> tuple[list[StoredBatch], list[int]]:
    """The batches of all whole lines up to the first that is not, and where each line ends."""
    path = inside(directory, directory / JOURNAL)
    if not os.path.lexists(path):
        raise InputError(
            f"{directory} is an unfinished store without its {JOURNAL}: what is in it cannot be "
            "trusted, delete the directory"
        )
    batches: list[StoredBatch] = []
    ends: list[int] = []
    for raw in disk.read_bytes(path, "journal").splitlines(keepends=True):
        batch = _parsed(raw)
        if batch is None:
            break
        batches.append(batch)
        ends.append(len(raw) + (ends[-1] if ends else 0))
    return batches, ends


def _parsed(raw: bytes) -> StoredBatch | None:
    """The batch of a line, or None for one that was torn or changed."""
    text = raw[:-_TAIL]
    if raw[-_TAIL:] != (_CHECK.format(zlib.crc32(text)) + "\n").encode():
        return None
    try:
        entry = json.loads(text + b"}")
        sums = from_hex(entry["crc32"])
        skipped = {int(row): str(why) for row, why in entry.get("skipped", {}).items()}
        batch = StoredBatch(entry["rows"], entry["examples"], entry["digest"], sums, skipped)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    sound = type(batch.rows) is int and type(batch.examples) is int and batch.rows >= 0
    return batch if sound and isinstance(batch.digest, str) else None
