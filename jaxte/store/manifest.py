"""The manifest of a store: what it holds and of what it was made, as JSON for people too."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxte import __version__
from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.store.columns import (
    FEATURE_TYPES,
    LABEL_TYPES,
    Column,
    check_type,
    from_hex,
    inside,
    to_hex,
)

__all__ = ["MANIFEST", "Manifest", "Shard", "differences", "differing", "is_store", "plain"]

MANIFEST, JOURNAL = "manifest.json", "journal.jsonl"
_FORMAT, _VERSION = "jaxte-store", 1
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# What a card says of all rows together: of how many, of their files, and of what they hold.
_CONTENT = re.compile(r"data\.card\.(rows|files|images|inputs|labels|maps|subset\.of)(\.|$)")
_VERSIONS = "versions"  # of libraries: written down, but no reason to refuse
_NOTHING = object()


class Shard(NamedTuple):
    """A finished shard: its rows, and folder of each array -> checksum of its bytes."""

    rows: int
    crc32: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    """What a store is.

    Attributes:
        model, data, settings: as they were passed, in JSON terms.
        dtype: of the features and logits.
        shard_rows: rows from which on a shard is closed.
        layers: name -> the array of its features; their widths are None until ``labels`` is set.
        labels: the array of labels; None until the first batch.
        logits: the array of source logits, if there is one.
        complete: whether nothing is missing.
        rows, examples, batches: how many there are; of a complete store.
        shards: those that are finished.
        digest: of the inputs of all batches; of a complete store.
        skipped: number of an example that was left out -> why; of a complete store.
        versions: of the libraries that wrote it, one entry for each that resumed it with others.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    settings: dict[str, Any]
    dtype: str
    shard_rows: int
    layers: dict[str, Column]
    labels: Column | None = None
    logits: Column | None = None
    complete: bool = False
    rows: int = 0
    examples: int = 0
    batches: int = 0
    shards: tuple[Shard, ...] = ()
    digest: str = ""
    skipped: Mapping[int, str] = field(default_factory=dict)
    versions: tuple[dict[str, str], ...] = field(default_factory=lambda: (versions(),))

    @staticmethod
    def new(
        model: Mapping[str, Any],
        data: Mapping[str, Any],
        layers: Sequence[str],
        dtype: str,
        shard_rows: int,
        settings: Mapping[str, Any] | None,
    ) -> Manifest:
        """The manifest of a store to be written."""
        names = list(layers)
        if not names or len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
            raise InputError(f"layers are {names}: give at least one name, and each only once")
        check_type(dtype)
        if isinstance(shard_rows, bool) or not isinstance(shard_rows, int) or shard_rows < 1:
            raise InputError(f"shard_rows is {shard_rows}: it must be a positive integer")
        columns = [Column(folder, "features", dtype, None) for folder in _folders(names)]
        return Manifest(
            model=plain(model, "model"),
            data=plain(data, "data"),
            settings=plain(settings or {}, "settings"),
            dtype=dtype,
            shard_rows=shard_rows,
            layers=dict(zip(names, columns, strict=True)),
        )

    @property
    def columns(self) -> list[Column]:
        """All arrays, in a fixed order; none before the first batch."""
        if self.labels is None:
            return []
        return [*self.layers.values(), self.labels, *([self.logits] if self.logits else [])]

    def unsettled(self) -> Manifest:
        """As before the first batch."""
        layers = {n: c._replace(width=None) for n, c in self.layers.items()}
        return replace(self, layers=layers, labels=None, logits=None, shards=())

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "state": "complete" if self.complete else "unfinished",
            **{name: getattr(self, name) for name in ("model", "data", "settings", "dtype")},
            "layers": {n: {"dir": c.folder, "width": c.width} for n, c in self.layers.items()},
            "labels": self.labels and {"dtype": self.labels.dtype, "width": self.labels.width},
            "logits": self.logits and {"width": self.logits.width},
            **{name: getattr(self, name) for name in ("rows", "examples", "batches")},
            "skipped": {str(row): why for row, why in self.skipped.items()},
            "digest": self.digest,
            "versions": list(self.versions),
            "shard_rows": self.shard_rows,
            "shards": [{"rows": s.rows, "crc32": to_hex(s.crc32)} for s in self.shards],
        }

    def write(self, directory: Path) -> None:
        """Replace the manifest of a store in one step."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        disk.replace(directory / MANIFEST, text + "\n")

    @staticmethod
    def read(directory: Path) -> Manifest:
        """The manifest of a store."""
        content = _read_json(directory / MANIFEST)
        where = directory / MANIFEST
        if content.get("format") != _FORMAT:
            raise InputError(f"{where} is no manifest of a jaxte store")
        if content.get("version") != _VERSION:
            raise InputError(
                f"{where} has format version {content.get('version')}, this jaxte reads "
                f"{_VERSION}: use the jaxte that wrote it, or a newer one"
            )
        try:
            return _parsed(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{where} is damaged ({reason}): extract again") from None


def is_store(directory: Path) -> bool:
    """Whether a directory is a store, maybe a damaged one."""
    try:
        return _read_json(directory / MANIFEST).get("format") == _FORMAT
    except InputError:
        return all(os.path.lexists(directory / name) for name in (MANIFEST, JOURNAL))


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an `InputError`."""
    inside(path.parent, path)
    if not os.path.lexists(path):
        raise InputError(f"{path.parent} is no store: it has no {path.name}")
    content = disk.read_json(path, "extract again")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object: extract again")
    return content


def versions() -> dict[str, str]:
    """Of what the numbers in a store may depend on."""
    libraries = {name: version(name) for name in ("jax", "jaxlib", "numpy")}
    return {"jaxte": __version__, "python": platform.python_version(), **libraries}


def plain(value: Any, where: str) -> Any:
    """A value in the terms of JSON, so that it equals itself after it was written and read."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(items)]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), where)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):  # names of files may hold what UTF-8 has not
        return value.encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    raise InputError(f"{where} is a {type(value).__name__}: a manifest holds texts and numbers")


def differences(old: Manifest, new: Manifest) -> list[str]:
    """Where two stores were not made of the same, apart from the versions of libraries.

    Of an unfinished store it is no difference what the data hold as a whole: only its rows count.
    """
    before, now = (
        {n: getattr(one, n) for n in ("model", "data", "settings", "dtype")}
        | {"layers": list(one.layers)}
        for one in (old, new)
    )
    return differing(before, now, None if old.complete else _CONTENT)


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any], ignored: re.Pattern[str] | None = None
) -> list[str]:
    """Where two objects of manifests are not the same, but for paths that match a pattern."""
    before, now = (dict(_leaves(dict(one), "")) for one in (old, new))
    return [
        f"{path} was {_short(before.get(path, _NOTHING))}, now it is "
        f"{_short(now.get(path, _NOTHING))}"
        for path in before | now
        if before.get(path, _NOTHING) != now.get(path, _NOTHING)
        and not (ignored is not None and ignored.match(path))
    ]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Entries of nested objects by dotted path; a list is one entry."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, item in value.items():
        if key != _VERSIONS:
            yield from _leaves(item, f"{path}.{key}".lstrip("."))


def _short(value: Any) -> str:
    text = "not there" if value is _NOTHING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:60] + " ... " + text[-15:]


def _folders(names: Sequence[str]) -> list[str]:
    """Names of layers as names of directories on any system."""
    folders: list[str] = []
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "unnamed"
        folder, number = f"layer-{slug}", 1
        while folder.casefold() in {other.casefold() for other in folders}:
            number += 1
            folder = f"layer-{slug}-{number}"
        folders.append(folder)
    return folders


def _parsed(content: Mapping[str, Any]) -> Manifest:
    """The manifest; what cannot be is a `ValueError` or whatever Python makes of it."""
    dtype = _one_of(content["dtype"], FEATURE_TYPES, "dtype")
    complete = _one_of(content["state"], ("complete", "unfinished"), "state") == "complete"
    layers, labels, logits = (content[name] for name in ("layers", "labels", "logits"))
    arrays: dict[str, Any] = {"layers": {}}
    for name, entry in layers.items():
        width = None if labels is None else _count(entry["width"], f"width of {name}")
        arrays["layers"][str(name)] = Column(entry["dir"], "features", dtype, width)
    if labels is not None:
        kind, width = _one_of(labels["dtype"], LABEL_TYPES, "type of the labels"), labels["width"]
        width = None if width is None else _count(width, "width of the labels")
        arrays["labels"] = Column("labels", "labels", kind, width)
    if labels is not None and logits is not None:
        width = _count(logits["width"], "width of the logits")
        arrays["logits"] = Column("logits", "logits", dtype, width)
    folders = [column.folder for column in arrays["layers"].values()]
    for folder in folders:
        if not isinstance(folder, str) or not _FOLDER.fullmatch(folder):
            raise ValueError(f"{folder!r} is no name of a directory in the store")
    if not folders or len(set(folders)) < len(folders) or {"labels", "logits"} & set(folders):
        raise ValueError("layers share a directory, or there are none")
    manifest = Manifest(
        **arrays,
        **{name: _object(content[name], name) for name in ("model", "data", "settings")},
        **{n: _count(content[n], n) for n in ("shard_rows", "rows", "examples", "batches")},
        dtype=dtype,
        complete=complete,
        shards=tuple(
            Shard(_count(shard["rows"], "rows of a shard"), from_hex(shard["crc32"]))
            for shard in content["shards"]
        ),
        digest=str(content["digest"]),
        skipped={int(row): str(why) for row, why in content.get("skipped", {}).items()},
        versions=tuple(_object(entry, "versions") for entry in content["versions"]),
    )
    if complete and (labels is None or not manifest.rows):
        raise ValueError("it says complete, but nothing is stored")
    if complete and sum(shard.rows for shard in manifest.shards) != manifest.rows:
        raise ValueError(f"its shards do not have {manifest.rows} rows")
    for shard in manifest.shards:
        if set(shard.crc32) != {column.folder for column in manifest.columns}:
            raise ValueError("checksums are missing")
    return manifest


def _count(value: Any, what: str) -> Any:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{what} is {value!r}, no count")
    return value


def _one_of(value: Any, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}")
    return str(value)


def _object(value: Any, what: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value
