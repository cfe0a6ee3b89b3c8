"""A store that is never written, for features that fit in memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxte.store._appending import Appending
from jaxte.store._shards import ShardedArray
from jaxte.store.journal import StoredBatch
from jaxte.store.manifest import Manifest, Shard
from jaxte.store.reader import FeatureStore

__all__ = ["MemoryWriter"]


class MemoryWriter(Appending):
    """The same as `Writer`, for features that stay in memory.

    Args:
        model: what the features are of.
        data: what they were made from.
        layers: names of the layers.
        dtype: of features and logits.
        shard_rows: of no meaning here.
        settings: what else decides about the features.

    Raises:
        InputError: for what could not be stored either.

    Example:
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
