"""Features to store, and a store of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxte.store import FeatureStore, MemoryWriter, Writer

AnyWriter = TypeVar("AnyWriter", Writer, MemoryWriter)
RANDOM = np.random.default_rng(0)
Y = np.arange(60) % 3
X = (RANDOM.normal(size=(60, 5)) + 2 * np.eye(3, 5)[Y]).astype(np.float32)
Z = np.ascontiguousarray(X[:, :3] * X[:, 2:])
LOGITS = RANDOM.normal(size=(60, 7)).astype(np.float32)
SIZES = (7, 4, 9, 1, 0, 12, 3, 8, 8, 8)  # of batches; the zero is one without rows
WHAT: dict[str, Any] = {
    "model": {"name": "net", "fingerprint": "abc", "card": {"size": 32, "versions": {"flax": "1"}}},
    "data": {"name": "toy", "split": "train"},
    "layers": ("blocks/1", "head"),
    "shard_rows": 16,
    "settings": {"pool": "mean"},
}


def batches() -> Iterator[tuple[Any, ...]]:
    """(features, labels, logits, examples, digest) of every batch."""
    start = 0
    for index, size in enumerate(SIZES):
        rows = slice(start, start + size)
        start += size
        features = {"blocks/1": X[rows], "head": Z[rows]}
        yield features, Y[rows], LOGITS[rows], max(size, 1), f"digest {index}"


def go_on(writer: AnyWriter, until: int = len(SIZES)) -> AnyWriter:
    """Append what is not stored yet, up to a number of batches."""
    for features, labels, logits, examples, digest in list(batches())[len(writer.batches) : until]:
        writer.append(features, labels, logits, examples=examples, digest=digest)
    return writer


def begun(directory: Path, until: int, **changes: Any) -> Path:
    """An unfinished store."""
    with Writer(directory, **WHAT | changes) as writer:
        go_on(writer, until)
    return directory


def stored(directory: Path, **changes: Any) -> FeatureStore:
    """A complete store."""
    with Writer(directory, **WHAT | changes) as writer:
        return go_on(writer).finish()


def content(directory: Path) -> dict[str, bytes]:
    """Every file of a store, but the name of a writer that was killed."""
    files = (f for f in directory.rglob("*") if f.is_file() and f.name != ".writer")
    return {f.relative_to(directory).as_posix(): f.read_bytes() for f in files}


def assert_whole(store: FeatureStore) -> None:
    """It holds what was given, in float32."""
    np.testing.assert_array_equal(store["blocks/1"], X)
    np.testing.assert_array_equal(store["head"].features(), Z)
    np.testing.assert_array_equal(store.labels, Y)
    assert store.logits is not None
    np.testing.assert_array_equal(store.logits, LOGITS)
