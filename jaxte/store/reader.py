"""Reading a store: lazily, memory-mapped, and as a source for `jaxte.rank`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.store import journal
from jaxte.store.arrays import Parts, ShardedArray, ShardFile, StoreSource, damage
from jaxte.store.columns import Column, in_memory
from jaxte.store.manifest import Manifest

__all__ = ["FeatureStore", "layer_names", "model_and_layer"]

_TRIES = 5  # at a store that is written while it is opened


class FeatureStore:
    """The features of one model on one data set, of one or several layers.

    What lies on disk is mapped, not read. A shard is compared with its checksum when it is first
    read, and refused if it was damaged. `jaxte.rank` takes a store wherever it takes an array,
    and its labels, too; the layers of a store of several are ranked as "model@layer" each.

    Attributes:
        directory: where it lies; None in memory.
        manifest: what it is, in the terms of its manifest.json.
        complete: whether its extraction came to its end.
        name: of the model, where the manifest has it; else None.
        dataset: name of the data set, likewise.
        layers: their names.
        rows: n.
        dtype: of the features.

    Example:
        >>> import tempfile, jaxte, numpy as np
        >>> from jaxte.store import FeatureStore, Writer
        >>> y = np.arange(60) % 3
        >>> x = np.eye(3)[y] + np.random.default_rng(0).normal(size=(60, 3))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with Writer(directory, model={}, data={}, layers=["body", "head"]) as writer:
        ...         writer.append({"body": x, "head": x[:, :2]}, y, examples=60, digest="")
        ...         _ = writer.finish()
        ...     store = FeatureStore.open(directory)
        ...     ranking = jaxte.rank({"net": store}, metrics="logme")
        >>> store["head"].shape, ranking.models
        ((60, 2), ('net@body', 'net@head'))
    """

    def __init__(
        self,
        manifest: Manifest,
        arrays: Mapping[str, ShardedArray],
        *,
        directory: Path | None = None,
        layers: tuple[str, ...] | None = None,
    ) -> None:
        self._manifest, self._arrays = manifest, arrays
        self.directory = directory
        self.layers = tuple(manifest.layers) if layers is None else layers
        self.rows = arrays["labels"].rows
        self.complete, self.dtype = manifest.complete, in_memory(manifest.dtype)
        names = (card.get("name") for card in (manifest.model, manifest.data))
        self.name, self.dataset = (n if isinstance(n, str) else None for n in names)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], *, partial: bool = False) -> FeatureStore:
        """Open a store for reading.

        Args:
            directory: of the store.
            partial: whether to read what an unfinished store holds safely at this moment.

        Raises:
            InputError: if it is no store, damaged, or unfinished.
        """
        root = Path(directory)
        if not root.is_dir():
            raise InputError(f"{root} is no directory of a store")
        for attempt in range(_TRIES):
            manifest = Manifest.read(root)
            try:
                if manifest.complete:
                    arrays = _finished(root, manifest)
                else:
                    arrays = _unfinished(root, manifest, partial)
                return cls(manifest, arrays, directory=root)
            except FileNotFoundError:  # a shard got its final name in between
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    @property
    def manifest(self) -> dict[str, Any]:
        """What the store is, as its manifest.json says it."""
        return self._manifest.to_json()

    @property
    def meta(self) -> dict[str, Any]:
        """Of what the features were made: model, data, settings and versions of libraries."""
        return {name: self.manifest[name] for name in ("model", "data", "settings", "versions")}

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d) of the only layer."""
        width = self._only().width
        assert width is not None
        return self.rows, width

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        where = "in memory" if self.directory is None else f"at {self.directory}"
        widths = ", ".join(f"{name} {self._manifest.layers[name].width}" for name in self.layers)
        state = "" if self.complete else ", unfinished"
        return f"FeatureStore({where}: {self.rows} rows, {self.dtype}, {widths}{state})"

    def __getitem__(self, layer: str) -> FeatureStore:
        """The same store, of one layer alone."""
        if layer not in self.layers:
            raise InputError(f"no layer {layer!r} in the store: it has {', '.join(self.layers)}")
        return FeatureStore(self._manifest, self._arrays, directory=self.directory, layers=(layer,))

    @property
    def labels(self) -> np.ndarray:
        """[n] classes, or [n] or [n, k] targets, in memory."""
        return np.asarray(Parts(self._arrays["labels"].checked()))

    @property
    def logits(self) -> Parts | None:
        """[n, s] of the source head, read where it is indexed; None if there is none."""
        return Parts(self._arrays["logits"].checked()) if "logits" in self._arrays else None

    def features(self) -> np.ndarray:
        """The only layer as one array: mapped where it lies in one shard, else in memory."""
        parts = self._arrays[self._only().folder].checked()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.features(), dtype, copy=copy)

    def source(self) -> StoreSource:
        """The only layer in pieces, for `jaxte.rank`; read again from the files every time."""
        array, logits = self._arrays[self._only().folder], self._arrays.get("logits")
        return StoreSource(array, self.labels, logits)

    def sources(self, name: str) -> dict[str, StoreSource]:
        """The sources of all layers: by ``name`` alone, or "name@layer" where there are several."""
        names = layer_names(name, self.layers)
        return {key: self[layer].source() for layer, key in names.items()}

    def verify(self) -> None:
        """Compare every byte of features, labels and logits with the checksums.

        Raises:
            InputError: naming the files that were changed or damaged.
        """
        if self.directory is None:
            return
        if self.complete:
            _finished(self.directory, self._manifest)
        if files := [file for array in self._arrays.values() for file in array.damaged()]:
            raise damage(files)

    def _only(self) -> Column:
        if len(self.layers) > 1:
            raise InputError(
                f"the store has several layers: choose one of {', '.join(self.layers)}, as "
                f"store[{self.layers[0]!r}]"
            )
        return self._manifest.layers[self.layers[0]]


def layer_names(name: str, layers: Iterable[str]) -> dict[str, str]:
    """Layer -> what it is called in a ranking."""
    layers = list(layers)
    return {layer: name if len(layers) == 1 else f"{name}@{layer}" for layer in layers}


def model_and_layer(name: str) -> tuple[str, str]:
    """What "model@layer" stands for, where the last "@" counts; other names have no layer."""
    model, at, layer = name.rpartition("@")
    return (model, layer) if at else (name, "")


def _finished(root: Path, manifest: Manifest) -> dict[str, ShardedArray]:
    """The arrays of a complete store by their folder."""
    arrays = {}
    for column in manifest.columns:
        files = [
            ShardFile(column.check(root, index, rows), rows, crc32[column.folder])
            for index, (rows, crc32) in enumerate(manifest.shards)
        ]
        arrays[column.folder] = ShardedArray(column, files)
    return arrays


def _unfinished(root: Path, manifest: Manifest, partial: bool) -> dict[str, ShardedArray]:
    """The arrays of an unfinished store, as far as they are safe; mapped now."""
    batches = journal.read(root)[0]
    if not partial:
        rows = sum(batch.rows for batch in batches)
        raise InputError(
            f"{root} is unfinished: {rows} rows in {len(batches)} batches are stored. Run the "
            "extraction again to go on, or read what is there with "
            "FeatureStore.open(..., partial=True)"
        )
    plan = journal.groups(batches[: journal.safe(root, manifest, batches)], manifest.shard_rows)
    if not plan:
        raise InputError(f"{root} is unfinished, and nothing is stored in it yet")
    arrays = {}
    for column in manifest.columns:
        files = []
        for group in plan:
            file = journal.located(root, column, group.shard)
            if file is None:
                raise FileNotFoundError(root / column.folder)
            files.append(ShardFile(file, group.rows, group.batches[-1].crc32[column.folder]))
        arrays[column.folder] = ShardedArray(column, files, renamed=True)
    for array in arrays.values():  # now, before a writer gives them other names
        _ = array.parts
    return arrays
