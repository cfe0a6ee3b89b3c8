"""Reading a store: lazily, memory-mapped, and as a source for `jaxte.rank`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.intake.sources import Rows, Source
from jaxte.store import _journal
from jaxte.store._checks import Checks, Stored, damaged
from jaxte.store._columns import Column, in_memory
from jaxte.store._manifest import Manifest
from jaxte.store._recovery import located, safe
from jaxte.store.parts import Parts

__all__ = ["FeatureStore", "StoreSource", "layer_names"]

_TRIES = 5  # at a store that is written while it is opened


class FeatureStore:
    """The features of one model on one data set, of one or several layers.

    What lies on disk is mapped, not read; a shard is compared with its checksum when it is first
    read, and refused if it was damaged. `jaxte.rank` takes a store wherever it takes an array,
    and its labels, too; the layers of a store of several are ranked as "model@layer" each.

    Attributes:
        directory: where it lies; None in memory.
        manifest: what it is, in the terms of its manifest.json.
        complete: whether its extraction came to its end.
        layers: their names.
        rows: n.

    Example:
        >>> import tempfile, jaxte
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
        arrays: Mapping[str, tuple[np.ndarray, ...]] | None = None,
        *,
        directory: Path | None = None,
        files: Mapping[str, list[tuple[Path, int]]] | None = None,
        layers: tuple[str, ...] | None = None,
        checks: Checks | None = None,
        batches: Sequence[_journal.Batch] = (),
    ) -> None:
        self._manifest, self._files = manifest, files
        self._arrays: dict[str, tuple[np.ndarray, ...]] = dict(arrays or {})
        self.directory = directory
        self.layers = tuple(manifest.layers) if layers is None else layers
        if files is not None:
            self.rows = sum(rows for _, rows in files["labels"])
        else:
            self.rows = sum(len(part) for part in self._arrays["labels"])
        self._checks = self._checks_of(batches) if checks is None else checks

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
                    return cls(manifest, directory=root, files=_finished(root, manifest))
                return cls._unfinished(root, manifest, partial)
            except FileNotFoundError:  # a shard got its final name in between
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    @classmethod
    def _unfinished(cls, root: Path, manifest: Manifest, partial: bool) -> FeatureStore:
        batches = _journal.read(root)[0]
        if not partial:
            rows = sum(batch.rows for batch in batches)
            raise InputError(
                f"{root} is unfinished: {rows} rows in {len(batches)} batches are stored. Run the "
                "extraction again to go on, or read what is there with "
                "FeatureStore.open(..., partial=True)"
            )
        batches = batches[: safe(root, manifest, batches)]
        plan = _journal.groups(batches, manifest.shard_rows)
        if not plan:
            raise InputError(f"{root} is unfinished, and nothing is stored in it yet")
        files: dict[str, list[tuple[Path, int]]] = {}
        for column in manifest.columns:
            found = [(located(root, column, group.shard), group.rows) for group in plan]
            if None in (file for file, _ in found):
                raise FileNotFoundError(root / column.folder)
            files[column.folder] = [(file, rows) for file, rows in found if file is not None]
        store = cls(manifest, directory=root, files=files, batches=batches)
        for column in manifest.columns:  # now, before a writer gives them other names
            store._parts(column)
        return store

    # --- what it is -------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        """What the store is, as its manifest.json says it."""
        return self._manifest.to_json()

    @property
    def meta(self) -> dict[str, Any]:
        """Of what the features were made: model, data, settings and versions of libraries."""
        return {name: self.manifest[name] for name in ("model", "data", "settings", "versions")}

    @property
    def name(self) -> str | None:
        """Of the model, if the store knows it."""
        name = self._manifest.model.get("name")
        return name if isinstance(name, str) else None

    @property
    def dataset(self) -> str | None:
        """Name of the data set, if the store knows it."""
        name = self._manifest.data.get("name")
        return name if isinstance(name, str) else None

    @property
    def complete(self) -> bool:
        """Whether the extraction came to its end."""
        return self._manifest.complete

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the features."""
        return in_memory(self._manifest.dtype)

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

    # --- what it holds ----------------------------------------------------------------------------

    def __getitem__(self, layer: str) -> FeatureStore:
        """The same store, of one layer alone."""
        if layer not in self.layers:
            raise InputError(f"no layer {layer!r} in the store: it has {', '.join(self.layers)}")
        return FeatureStore(
            self._manifest,
            self._arrays,
            directory=self.directory,
            files=self._files,
            layers=(layer,),
            checks=self._checks,
        )

    @property
    def labels(self) -> np.ndarray:
        """[n] classes, or [n] or [n, k] targets, in memory."""
        column = self._manifest.labels
        assert column is not None
        return np.asarray(Parts(self._checked(column)))

    @property
    def logits(self) -> Parts | None:
        """[n, s] of the source head, read where it is indexed; None if there is none."""
        return self._manifest.logits and Parts(self._checked(self._manifest.logits))

    def features(self) -> np.ndarray:
        """The only layer as one array: mapped where it lies in one shard, else in memory."""
        parts = self._checked(self._only())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.features(), dtype, copy=copy)

    def source(self) -> StoreSource:
        """The only layer in pieces, for `jaxte.rank`; read again from the files every time."""
        column = self._only()
        return StoreSource(self._parts(column), self.labels, column.folder, self._checks)

    def sources(self, name: str) -> dict[str, StoreSource]:
        """The sources of all layers: by ``name`` alone, or "name@layer" where there are several."""
        names = layer_names(name, self.layers)
        return {key: self[layer].source() for layer, key in names.items()}

    def verify(self) -> None:
        """Compare every byte of features, labels and logits with the checksums.

        Raises:
            InputError: naming the files that were changed or damaged.
        """
        if self._files is None:
            return
        assert self.directory is not None
        if self.complete:
            _finished(self.directory, self._manifest)
        if wrong := self._checks.everything():
            raise damaged(wrong)

    def _only(self) -> Column:
        if len(self.layers) > 1:
            raise InputError(
                f"the store has several layers: choose one of {', '.join(self.layers)}, as "
                f"store[{self.layers[0]!r}]"
            )
        return self._manifest.layers[self.layers[0]]

    def _parts(self, column: Column) -> tuple[np.ndarray, ...]:
        if column.folder not in self._arrays:
            assert self._files is not None
            files = self._files[column.folder]
            mapped = (column.mapped(file, rows) for file, rows in files)
            if not self.complete:  # files that may be renamed must not be opened by name again
                mapped = (part.view(np.ndarray) for part in mapped)
            self._arrays[column.folder] = tuple(mapped)
        return self._arrays[column.folder]

    def _checked(self, column: Column) -> tuple[np.ndarray, ...]:
        """The shards of an array, once they are known to be what was stored."""
        self._checks.check(column.folder)
        return self._parts(column)

    def _checks_of(self, batches: Sequence[_journal.Batch]) -> Checks:
        """The checksums of the manifest; of an unfinished store those of its journal."""
        plan = _journal.groups(batches, self._manifest.shard_rows)
        done = self._manifest.shards if self.complete else [g.batches[-1] for g in plan]
        sums = [one.crc32 for one in done]

        def shard(column: Column, index: int, file: Path) -> Stored:
            def array() -> np.ndarray:
                return self._parts(column)[index]

            return Stored(file, sums[index][column.folder], array, not self.complete)

        return Checks(
            {
                column.folder: [
                    shard(column, index, file)
                    for index, (file, _) in enumerate((self._files or {}).get(column.folder, ()))
                ]
                for column in self._manifest.columns
            }
        )


class StoreSource(Source):
    """One layer of a store, and its labels; shards are compared with their checksums."""

    def __init__(
        self, parts: tuple[np.ndarray, ...], labels: np.ndarray, folder: str, checks: Checks
    ) -> None:
        self._pieces, self._labels = parts, labels
        self._folder, self._checks = folder, checks
        self.rows, self.width = len(labels), parts[0].shape[1]

    def read(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Slices of one shard after the other."""
        in_memory = not self._checks.shards[self._folder]
        for index, part in enumerate(self._pieces):
            if in_memory:
                yield from Rows(part).read(size)
            else:
                read = self._checks.read(self._folder, index, part, size)
                yield from ((block, None) for block in read)

    def parts(self) -> Iterator[np.ndarray]:
        """The shards, which `check` compares."""
        yield from self._pieces

    def check(self, part: int) -> None:
        """Compare a shard with its checksum."""
        if self._checks.shards[self._folder]:
            self._checks.check(self._folder, part)

    def labels(self) -> np.ndarray:
        """Those of the store."""
        return self._labels


def layer_names(name: str, layers: Iterable[str]) -> dict[str, str]:
    """Layer -> what it is called in a ranking."""
    layers = list(layers)
    return {layer: name if len(layers) == 1 else f"{name}@{layer}" for layer in layers}


def _finished(root: Path, manifest: Manifest) -> dict[str, list[tuple[Path, int]]]:
    """The shards of every array of a complete store, and their rows."""
    return {
        column.folder: [
            (column.check(root, index, shard.rows), shard.rows)
            for index, shard in enumerate(manifest.shards)
        ]
        for column in manifest.columns
    }
