"""What of an unfinished store is safe, and how the rest is cut off."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from jaxte.intake import disk
from jaxte.store.columns import HEADER, Column, inside
from jaxte.store.journal import StoredBatch, groups
from jaxte.store.manifest import Manifest, Shard


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
