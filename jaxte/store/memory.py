"""A store that is never written, for features that fit in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxte.store._appending import SHARD_ROWS, Appending
from jaxte.store._journal import Batch
from jaxte.store._manifest import Manifest, Shard
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
        super().__init__(Manifest.new(model, data, layers, dtype, shard_rows, settings))
        self._parts: dict[str, list[np.ndarray]] = {}

    @property
    def _where(self) -> str:
        return "this store in memory"

    def _settle(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._parts = {column.folder: [] for column in manifest.columns}

    def _add(self, batch: Batch, arrays: Mapping[str, np.ndarray]) -> Batch:
        for folder, array in arrays.items():
            self._parts[folder].append(array.copy())  # the caller may fill its own again
        return batch

    def _complete(self) -> None:
        for parts in self._parts.values():  # one after the other, so that memory is not doubled
            parts[:] = [np.concatenate(parts)] if len(parts) > 1 else parts
        shard = Shard(self.rows, {folder: 0 for folder in self._parts})
        self._manifest = self._final([shard])

    def _finished(self) -> FeatureStore:
        return FeatureStore(self._manifest, {f: tuple(p) for f, p in self._parts.items()})
