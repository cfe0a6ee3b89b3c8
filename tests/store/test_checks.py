"""A changed bit in a finished store is noticed by whoever reads it."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.cli import processes
from jaxte.store import FeatureStore, Writer, import_features, read_features

from .data import WHAT, X, Y, Z, begun, go_on, stored

FEATURES, LABELS = "layer-head/features-000002.npy", "labels/labels-000001.npy"
LOGITS = "logits/logits-000000.npy"


def flip(file: Path, bit: int) -> None:
    """Change one bit of the numbers; the size and even the time of the file stay."""
    state = file.stat()
    content = bytearray(file.read_bytes())
    content[128 + bit // 8 % (len(content) - 128)] ^= 1 << bit % 8
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    return str(raised.value)


def ranked(features: Any, **options: Any) -> str:
    result = jaxte.rank({"net": features, "good": X}, {"good": Y}, metrics="face", **options)
    assert result.status("good", "face") == "ok"
    return next(s for m in result.models if (s := result.status(m, "face")) != "ok")


def shared(root: Path) -> str:
    """As the second of two processes reads its rows."""
    np.savez(root.parent / "good.npz", features=X, labels=Y)
    result = read_features(root.parent)
    if result.problems:
        return "".join(result.problems.values())
    part = processes.share(result, processes.Processes(None, 2, "host:1", 1))
    (said,) = (str(v) for v in part.features.values() if isinstance(v, InputError))
    return said


def in_a_directory(root: Path) -> str:
    np.savez(root.parent / "good.npz", features=X, labels=Y)
    result = read_features(root.parent)
    ranking = jaxte.rank(result.features, result.labels, metrics="face")
    assert ranking.status("good", "face") == "ok"
    said = [ranking.status(model, "face") for model in ranking.models]
    return next(s for s in [*result.problems.values(), *said] if s != "ok")


READERS: dict[str, Callable[[Path], str]] = {
    "rank a path": ranked,
    "rank a store": lambda root: ranked(FeatureStore.open(root)),
    "rank in batches": lambda root: ranked(root, memory_limit=1000),
    "rank a directory": in_a_directory,
    "processes": shared,
    "an array": lambda root: refused(lambda: np.asarray(FeatureStore.open(root)["head"])),
    "a source": lambda root: refused(lambda: [*FeatureStore.open(root)["head"].source().read(7)]),
    "write again": lambda root: refused(lambda: Writer(root, **WHAT).finish()),
}


@pytest.mark.parametrize(
    ("reader", "file"),
    [*((reader, FEATURES) for reader in READERS)]
    + [(reader, LABELS) for reader in READERS if reader != "an array"],
)
def test_a_changed_bit_is_noticed(reader: str, file: str, tmp_path: Path) -> None:
    root = tmp_path / "all" / "net"
    stored(root)
    flip(root / file, 333)
    said = READERS[reader](root)
    assert file in said
    assert "damaged, the checksum is not the one that was stored" in said


def test_every_bit_counts(tmp_path: Path) -> None:
    stored(tmp_path)
    for bit in np.random.default_rng(0).integers(0, 1 << 20, 30).tolist():
        flip(tmp_path / FEATURES, bit)
        assert FEATURES in refused(lambda: FeatureStore.open(tmp_path)["head"].features())
        flip(tmp_path / FEATURES, bit)  # back again
    assert FeatureStore.open(tmp_path)["head"].features().shape == Z.shape


def test_logits_are_compared_when_they_are_read(tmp_path: Path) -> None:
    stored(tmp_path)
    flip(tmp_path / LOGITS, 5)
    store = FeatureStore.open(tmp_path)
    np.testing.assert_array_equal(store["head"].features(), Z)  # which are whole
    assert LOGITS in refused(lambda: store.logits)


def test_extracting_again_notices_it(tmp_path: Path) -> None:
    def extract() -> FeatureStore:
        return jaxte.extract(lambda x: x, [(X, Y)], out=tmp_path / "net")

    extract()
    (file,) = (tmp_path / "net").glob("layer-*/*.npy")
    flip(file, 77)
    assert file.name in refused(extract)


def test_importing_again_notices_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=X, labels=Y)
    import_features(tmp_path / "a.npz", tmp_path / "net")
    (file,) = (tmp_path / "net").glob("layer-*/*.npy")
    flip(file, 77)
    assert file.name in refused(lambda: import_features(tmp_path / "a.npz", tmp_path / "net"))


def test_what_an_unfinished_store_holds_is_compared_too(tmp_path: Path) -> None:
    begun(tmp_path, 8)
    flip(tmp_path / "layer-head" / "features-000000.npy", 9)  # a shard that is finished
    store = FeatureStore.open(tmp_path, partial=True)
    said = refused(lambda: store["head"].features())
    assert "features-000000.npy: damaged" in said


def test_a_shard_is_read_for_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    real = zlib.crc32

    def crc32(content: Any, value: int = 0) -> int:
        counted.append(memoryview(content).nbytes)
        return real(content, value)

    stored(tmp_path)
    store = FeatureStore.open(tmp_path)
    monkeypatch.setattr(zlib, "crc32", crc32)
    for _ in range(3):
        _ = [*store["head"].source().read(5)], store["head"].features(), store.labels
    assert sum(counted) == Z.nbytes + Y.astype(np.int64).nbytes
    os.utime(tmp_path / FEATURES)  # written to, for all that is known
    _ = store["head"].features()
    assert sum(counted) > Z.nbytes + Y.astype(np.int64).nbytes


def test_a_store_that_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    stored(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with Writer(tmp_path, **WHAT) as writer:
        store = go_on(writer).finish()
    np.testing.assert_array_equal(store["head"].features(), Z)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
