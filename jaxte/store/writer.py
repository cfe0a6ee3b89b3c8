"""Writing a store so that nothing that was stored is lost."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.store import _lock
from jaxte.store.columns import Column, as_bytes, inside
from jaxte.store.journal import JOURNAL, StoredBatch, close_shard, cut, groups, line, read, safe
from jaxte.store.manifest import MANIFEST, Manifest, Shard, differences, versions
from jaxte.store.memory import SHARD_ROWS, Appending
from jaxte.store.reader import FeatureStore

__all__ = ["SHARD_ROWS", "Writer"]

_LEFTOVERS = {_lock.LOCK, _lock.OWNER, JOURNAL, f"{MANIFEST}.part", f"{_lock.OWNER}.part"}


class Writer(Appending):
    """Writes the features of one model on one data set to a directory, batch by batch.

    Created anew, or resumed: the writer then holds what is stored already, and goes on after it.
    A batch first goes into the files of the open shard (``.npy.part``), then into the journal, as
    one line with checksums of its bytes. Resuming cuts off what the journal does not vouch for,
    so that a process that is killed at any moment loses at most the batch in flight. A shard with
    ``shard_rows`` rows is written through to the disk (fsync), journal and directories included,
    before it gets its final name and its entry in the manifest: a power loss costs nothing before
    it, and of the open shard what the system had not written yet, which the checksums show.

    The directory stays locked until the writer is closed or its process ends, however it ends.

    Args:
        directory: where to; created if it is missing, else empty or a store of the same.
        model: what the features are of: name, card, fingerprint, ...
        data: what they were made from: name, split, ...
        layers: names of the layers.
        dtype: of features and logits: "float32", "float16", "bfloat16" or "float64".
        shard_rows: rows from which on a shard is closed; a resumed store keeps what it has.
        settings: what else decides about the features.

    Raises:
        InputError: if the directory holds something else, a store of another model, data set or
            other settings (each difference is named; versions of libraries are none), or is being
            written by another process.

    Example:
        >>> import tempfile
        >>> made_of = {"model": {"name": "tiny"}, "data": {"name": "toy"}, "layers": ["last"]}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with Writer(directory, **made_of) as writer:
        ...         writer.append({"last": np.eye(3)}, np.arange(3), examples=3, digest="a")
        ...     with Writer(directory, **made_of) as writer:  # resumed
        ...         print(writer.rows, writer.digests)
        ...         writer.append({"last": np.ones((2, 3))}, [0, 1], examples=2, digest="b")
        ...         store = writer.finish()
        ...     np.asarray(store).shape
        3 ['a']
        (5, 3)
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        model: Mapping[str, Any],
        data: Mapping[str, Any],
        layers: Sequence[str],
        dtype: str = "float32",
        shard_rows: int = SHARD_ROWS,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = Path(directory)
        super().__init__(
            model=model, data=data, layers=layers, dtype=dtype, shard_rows=shard_rows,
            settings=settings,
        )  # fmt: skip
        self._where = str(self.directory)
        self._data = self._manifest.data
        self._files: dict[str, FileIO] = {}
        self._sums: dict[str, int] = {}
        self._open_rows = self._journal_size = 0
        self._lock: Any = None
        self._was_complete = False
        if self.directory.exists() and not self.directory.is_dir():
            raise InputError(f"{self.directory} is a file: name a directory")
        if self._is_complete():
            return
        disk.make_directory(self.directory)
        self._lock = _lock.acquire(self.directory)
        try:
            if os.path.lexists(self.directory / MANIFEST) and not self._is_complete():
                self._resume()
            elif not self.complete:
                self._create()
            if not self.complete:
                journal = inside(self.directory, self.directory / JOURNAL)
                self._files[JOURNAL] = FileIO(journal, "r+")
        except BaseException:
            self.close()
            raise
        if self.complete:  # finished by another process a moment ago
            self.close()

    def close(self) -> None:
        """Close the files and release the lock; the store can be resumed."""
        super().close()
        for file in self._files.values():
            file.close()
        self._files = {}
        if self._lock is not None:
            _lock.release(self._lock, self.directory)
            self._lock = None

    @property
    def other_data(self) -> bool:
        """Whether the data set is not what it was, so that every stored batch is in question."""
        return not self.complete and self._manifest.data != self._data

    def adopt(self) -> None:
        """Go on with the data set as it is, of which the caller has compared what is stored."""
        self._manifest = replace(self._manifest, data=self._data)
        self._manifest.write(self.directory)

    def _is_complete(self) -> bool:
        """Whether it was finished before, with the same settings; takes it over if so."""
        if not os.path.lexists(self.directory / MANIFEST):
            return False
        stored = Manifest.read(self.directory)
        if different := differences(stored, self._manifest):
            raise InputError(
                f"{self.directory} holds features of something else: {'; '.join(different)}. "
                "Write to another directory (out=...), or delete this one to start anew"
            )
        if stored.complete:
            self._manifest, self._was_complete = stored, True
            self.rows, self.examples = stored.rows, stored.examples
            if (self.directory / JOURNAL).exists():
                self._batches = read(self.directory)[0]
        return stored.complete

    def _create(self) -> None:
        others = sorted({file.name for file in self.directory.iterdir()} - _LEFTOVERS)
        if others:
            raise InputError(
                f"{self.directory} is no store and not empty (it holds {others[0]}): name a new "
                "directory"
            )
        journal = self.directory / JOURNAL
        journal.unlink(missing_ok=True)
        with journal.open("xb") as stream:
            os.fsync(stream.fileno())
        self._manifest.write(self.directory)

    def _resume(self) -> None:
        stored = Manifest.read(self.directory)
        batches, ends = read(self.directory)
        for column in stored.columns:
            inside(self.directory, self.directory / column.folder)
        whole = batches[: safe(self.directory, stored, batches)]
        self._journal_size = ends[len(whole) - 1] if whole else 0
        os.truncate(inside(self.directory, self.directory / JOURNAL), self._journal_size)
        shards = cut(self.directory, stored, whole)
        now = versions()
        wrote = stored.versions if now in stored.versions else (*stored.versions, now)
        resumed = replace(stored, shards=tuple(shards), versions=wrote)
        resumed = resumed if whole else resumed.unsettled()
        if resumed != stored:
            resumed.write(self.directory)
        self._manifest = resumed
        self._take(whole)
        plan = groups(whole, stored.shard_rows)
        if plan and not plan[-1].full:
            self._open_rows, self._sums = plan[-1].rows, dict(plan[-1].batches[-1].crc32)

    def _settle(self, manifest: Manifest) -> None:
        for column in manifest.columns:
            folder = inside(self.directory, self.directory / column.folder)
            folder.mkdir(exist_ok=True)
        disk.sync_directory(self.directory)
        manifest.write(self.directory)
        self._manifest = manifest

    def _add(self, batch: StoredBatch, arrays: Mapping[str, np.ndarray]) -> StoredBatch:
        """Bytes first, then the line that vouches for them."""
        for folder, array in arrays.items():
            self._sums[folder] = zlib.crc32(as_bytes(array), self._sums.get(folder, 0))
        batch = batch._replace(crc32=dict(self._sums))
        if batch.rows:
            for column in self._manifest.columns:
                at = column.size(self._open_rows)
                _write(self._part(column), at, as_bytes(arrays[column.folder]))
        entry = line(batch)
        _write(self._files[JOURNAL], self._journal_size, entry)
        self._journal_size += len(entry)
        self._open_rows += batch.rows
        if self._open_rows >= self._manifest.shard_rows:
            self._close_shard()
            self._manifest.write(self.directory)
        return batch

    def _part(self, column: Column) -> FileIO:
        """The file of the open shard."""
        if column.folder not in self._files:
            shard = len(self._manifest.shards)
            part = inside(self.directory, column.file(self.directory, shard, part=True))
            file = FileIO(part, "r+" if self._open_rows else "w+")
            self._files[column.folder] = file
            if not self._open_rows:
                _write(file, 0, column.header(0))
        return self._files[column.folder]

    def _close_shard(self) -> None:
        for column in self._manifest.columns:
            if column.folder in self._files:
                self._files.pop(column.folder).close()
        os.fsync(self._files[JOURNAL].fileno())
        done, columns = self._manifest.shards, self._manifest.columns
        close_shard(self.directory, columns, len(done), self._open_rows)
        shard = Shard(self._open_rows, dict(self._sums))
        self._manifest = replace(self._manifest, shards=(*done, shard))
        self._open_rows, self._sums = 0, {}

    def _complete(self) -> None:
        if self._open_rows:
            self._close_shard()
        os.fsync(self._files[JOURNAL].fileno())
        final = self._final(self._manifest.shards)
        final.write(self.directory)
        self._manifest = final

    def _finished(self) -> FeatureStore:
        store = FeatureStore.open(self.directory)
        if self._was_complete:  # long ago, maybe: it is handed out as good as new
            store.verify()
        return store


def _write(file: FileIO, at: int, content: Any) -> None:
    """All bytes at this place, handed to the system."""
    file.seek(at)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
