"""The journal of a store: a line for every batch; which are safe, and how the rest is cut off."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.store.columns import HEADER, Column, from_hex, inside, to_hex
from jaxte.store.manifest import JOURNAL, Manifest, Shard

__all__ = ["JOURNAL", "StoredBatch", "read"]

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


def safe(root: Path, manifest: Manifest, batches: Sequence[StoredBatch]) -> int:
    """How many of the batches in the journal are whole, up to the first that is not.

    Shards that the manifest lists were on the disk before, so that their size is enough, and a
    wrong one is an `InputError`; of others every batch is read.
    """
    for group in groups(batches, manifest.shard_rows):
        if group.full and group.shard < len(manifest.shards):
            for column in manifest.columns:
                column.check(root, group.shard, group.rows)
            continue
        whole = len(group.batches)
        for column in manifest.columns:
            file = located(root, column, group.shard)
            whole = min(whole, 0 if file is None else _whole(column, file, group.batches))
        if whole < len(group.batches):
            return group.first + whole
    return len(batches)


def _whole(column: Column, file: Path, batches: Sequence[StoredBatch]) -> int:
    """How many batches lie in a file with all their bytes unchanged, from the first on."""
    left, value = file.stat().st_size - HEADER, 0
    with file.open("rb") as stream:
        stream.seek(HEADER)
        for index, batch in enumerate(batches):
            size = batch.rows * column.row_bytes
            if column.folder not in batch.crc32 or size > left:
                return index
            value = zlib.crc32(stream.read(size), value)
            if value != batch.crc32[column.folder]:
                return index
            left -= size
    return len(batches)


def located(root: Path, column: Column, shard: int) -> Path | None:
    """The file of a shard, finished or not; None if there is neither."""
    for part in (True, False):
        file = inside(root, column.file(root, shard, part=part))
        if file.is_file():
            return file
    return None


def cut(root: Path, manifest: Manifest, batches: Sequence[StoredBatch]) -> list[Shard]:
    """Bring the files of a store to just these batches, whose bytes are all there.

    Shards that are full get closed, a last one that is not gets opened again and shortened;
    whatever lies behind it goes. Returns the shards that are finished.
    """
    plan = groups(batches, manifest.shard_rows)
    for column in manifest.columns:
        for shard, files in column.files(root).items():
            for file in files if shard >= len(plan) else ():
                file.unlink()
    finished = []
    for group in plan:
        if not group.full:
            for column in manifest.columns:
                part = column.file(root, group.shard, part=True)
                if not part.is_file():
                    os.replace(column.file(root, group.shard), part)
                os.truncate(part, column.size(group.rows))
        elif group.shard < len(manifest.shards):
            finished.append(manifest.shards[group.shard])
        else:
            close_shard(root, manifest.columns, group.shard, group.rows)
            finished.append(Shard(group.rows, group.batches[-1].crc32))
    return finished


def close_shard(root: Path, columns: Sequence[Column], shard: int, rows: int) -> None:
    """Give a shard its final header and name, once all its bytes are on the disk."""
    parts = []
    for column in columns:
        part = column.file(root, shard, part=True)
        if not part.is_file():
            continue  # it has its name already
        with part.open("r+b") as stream:
            stream.write(column.header(rows))
            stream.truncate(column.size(rows))
            stream.flush()
            os.fsync(stream.fileno())
        disk.sync_directory(part.parent)
        parts.append((part, column.file(root, shard)))
    for part, file in parts:
        os.replace(part, file)
        disk.sync_directory(file.parent)
