"""What the writers of stores share, and the one of a store that stays in memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from jaxte.errors import InputError
from jaxte.store import _batch
from jaxte.store.arrays import ShardedArray
from jaxte.store.journal import StoredBatch
from jaxte.store.manifest import Manifest, Shard
from jaxte.store.reader import FeatureStore

__all__ = ["SHARD_ROWS", "Appending", "MemoryWriter"]

SHARD_ROWS = 1 << 14


class Appending(ABC):
    """Takes batches, and keeps count of the rows of features and the examples that are stored."""

    _where = "this store in memory"  # in messages

    def __init__(
        self,
        *,
        model: Mapping[str, Any],
        data: Mapping[str, Any],
        layers: Sequence[str],
        dtype: str = "float32",
        shard_rows: int = SHARD_ROWS,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._manifest = Manifest.new(model, data, layers, dtype, shard_rows, settings)
        self._batches: list[StoredBatch] = []
        self.rows = self.examples = 0
        self._closed = False

    @property
    def batches(self) -> tuple[StoredBatch, ...]:
        """Of each stored batch rows, examples, digest and checksums."""
        return tuple(self._batches)

    @property
    def digests(self) -> list[str]:
        """Of the inputs of each stored batch."""
        return [batch.digest for batch in self._batches]

    @property
    def complete(self) -> bool:
        """Whether the store is finished, so that nothing can be appended."""
        return self._manifest.complete

    def append(
        self,
        features: Mapping[str, Any],
        labels: Any,
        logits: Any = None,
        *,
        examples: int,
        digest: str,
        skipped: Mapping[int, str] | None = None,
    ) -> None:
        """Store one more batch; once this returns, a killed process does not lose it.

        Args:
            features: layer -> [r, d]; the same layers and widths every time. r may be 0.
            labels: [r] integer classes; [r] or [r, k] floats.
            logits: [r, s] of the source head, or None; with every batch or with none.
            examples: how many examples of the data set the rows were made of.
            digest: of the inputs, by which a resumed run compares them.
            skipped: number of an example that was left out -> why; counted in ``examples``.

        Raises:
            InputError: if the batch does not fit the others, or a number the type of the store.
        """
        if self.complete:
            raise InputError(f"{self._where} is complete: nothing can be appended")
        self._check_open()
        manifest = self._manifest
        if not manifest.columns:
            manifest = _batch.settled(manifest, features, labels, logits)
        arrays = _batch.prepared(manifest, features, labels, logits, len(self._batches))
        rows = len(arrays["labels"])
        batch = StoredBatch(rows, int(examples), str(digest), {}, skipped or {})
        try:
            if not self._manifest.columns:
                self._settle(manifest)
            batch = self._add(batch, arrays)
        except BaseException:
            self.close()  # half a batch may be written: opening the store again cuts it off
            raise
        self._take([batch])

    def leave_out(self, skipped: Mapping[int, str]) -> None:
        """Count examples at the end of the data that were left out; after the first batch."""
        arrays = {c.folder: np.zeros(c.shape(0)) for c in self._manifest.columns}
        self._take([self._add(StoredBatch(0, len(skipped), "", {}, skipped), arrays)])

    def finish(self) -> FeatureStore:
        """Declare the store complete.

        Returns:
            The store, open for reading.

        Raises:
            InputError: if there are no rows.
        """
        if not self.complete:
            self._check_open()
            if not self.rows:
                raise InputError(f"{self._where}: there are no rows to store")
            self._complete()
            self.close()
        return self._finished()

    def close(self) -> None:
        """End the writing; what is stored stays, to be resumed."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"the writer of {self._where} is closed: open another to go on")

    def _take(self, batches: Sequence[StoredBatch]) -> None:
        """Count batches that are stored."""
        self._batches += batches
        self.rows += sum(batch.rows for batch in batches)
        self.examples += sum(batch.examples for batch in batches)

    def _final(self, shards: Sequence[Shard]) -> Manifest:
        digest = hashlib.sha256("\n".join(self.digests).encode()).hexdigest()
        return replace(
            self._manifest,
            complete=True,
            rows=self.rows,
            examples=self.examples,
            batches=len(self._batches),
            shards=tuple(shards),
            digest=digest,
            skipped={row: why for batch in self._batches for row, why in batch.skipped.items()},
        )

    @abstractmethod
    def _settle(self, manifest: Manifest) -> None: ...

    @abstractmethod
    def _add(self, batch: StoredBatch, arrays: Mapping[str, np.ndarray]) -> StoredBatch: ...

    @abstractmethod
    def _complete(self) -> None: ...

    @abstractmethod
    def _finished(self) -> FeatureStore: ...


class MemoryWriter(Appending):
    """The same as `Writer`, for features that stay in memory.

    The arguments are those of `Writer`; ``shard_rows`` has no meaning here.

    Example:
        >>> import numpy as np
        >>> writer = MemoryWriter(model={"name": "tiny"}, data={}, layers=["last"])
        >>> writer.append({"last": np.eye(3)}, np.arange(3), examples=3, digest="a")
        >>> writer.finish().shape
        (3, 3)
    """

    def _settle(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._parts: dict[str, list[np.ndarray]] = {c.folder: [] for c in manifest.columns}

    def _add(self, batch: StoredBatch, arrays: Mapping[str, np.ndarray]) -> StoredBatch:
        for folder, array in arrays.items():
            self._parts[folder].append(array.copy())  # the caller may fill the same array again
        return batch

    def _complete(self) -> None:
        for parts in self._parts.values():  # one after the other, so that memory is not doubled
            parts[:] = [np.concatenate(parts)] if len(parts) > 1 else parts
        self._manifest = self._final([Shard(self.rows, dict.fromkeys(self._parts, 0))])

    def _finished(self) -> FeatureStore:
        arrays = {
            column.folder: ShardedArray(column, parts=self._parts[column.folder])
            for column in self._manifest.columns
        }
        return FeatureStore(self._manifest, arrays)
