"""Damaged and hostile files beside good ones, through every door: named, cheap, others scored."""

import importlib
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.store import import_features, read_features

from .broken import NPY, NPZ, OTHERS, SPECIAL, X, Y, npy, npz, saved

_MOST = 32 << 20  # bytes that reading a bad file of a few kB may take

Put = Callable[[Path], object]


def putting(content: bytes) -> Put:
    return lambda path: path.write_bytes(content)


CASES: dict[str, tuple[str, Put]] = {
    **{f"npy, {what}": ("bad.npy", putting(content)) for what, content in NPY.items()},
    **{f"npz, {what}": ("bad.npz", putting(content)) for what, content in NPZ.items()},
    **{
        f"{kind}, {what}": (f"bad.{kind}", putting(content))
        for kind, files in OTHERS.items()
        for what, content in files.items()
    },
    **{
        f"{ending}, {what}": (f"bad.{ending}", put)
        for ending in ("npy", "npz", "safetensors", "pt", "parquet")
        for what, put in SPECIAL.items()
        if os.name == "posix"
    },
}


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What is imported and compiled at the first use is not what a file takes."""
    jaxte.rank({"good": X, "other": X}, Y, metrics="face")
    for name in ("torch", "pyarrow.parquet"):
        with suppress(ImportError):
            importlib.import_module(name)


@contextmanager
def little_memory() -> Iterator[None]:
    """What a header claims is never allocated."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < _MOST
    finally:
        tracemalloc.stop()


def in_a_directory(path: Path) -> str:
    result = read_features(path.parent)
    assert list(result.features) == ["good"]
    (said,) = result.problems.values()
    return said


def as_a_path(path: Path) -> str:
    result = jaxte.rank({"bad": path, "good": X}, Y, metrics="face")
    assert result.status("good", "face") == "ok"
    assert np.isnan(result.score("bad", "face"))
    return result.status("bad", "face")


def as_an_import(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        import_features(path, labels=Y)
    return str(raised.value)


@pytest.mark.parametrize("door", [in_a_directory, as_a_path, as_an_import])
@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_named_and_stops_nothing(
    case: str, door: Callable[[Path], str], tmp_path: Path
) -> None:
    name, put = CASES[case]
    directory = tmp_path / "stored"
    directory.mkdir()
    np.savez(directory / "good.npz", features=X, labels=Y)
    np.save(directory / "labels.npy", Y)
    if name == "bad.pt" and door is in_a_directory:
        pytest.skip("directories of features have none of these")
    put(directory / name)
    with little_memory():
        said = door(directory / name)
    assert "bad" in said
    assert "\n" not in said
    assert "Traceback" not in said


def in_the_shards(directory: Path, name: str, put: Put) -> None:
    np.save(directory / "features-0.npy", X[:20])
    put(directory / f"features-1{Path(name).suffix}")
    np.save(directory / "labels.npy", Y)


def in_the_labels(directory: Path, name: str, put: Put) -> None:
    np.save(directory / "features-0.npy", X)
    put(directory / "labels.npy")


@pytest.mark.parametrize("place", [in_the_shards, in_the_labels])
@pytest.mark.parametrize("case", [*(f"npy, {w}" for w in NPY), *(f"npy, {w}" for w in SPECIAL)])
def test_so_are_shards_and_labels(case: str, place: Callable[..., None], tmp_path: Path) -> None:
    name, put = CASES[case]
    (tmp_path / "bad").mkdir()
    np.savez(tmp_path / "good.npz", features=X, labels=Y)
    place(tmp_path / "bad", name, put)
    if case == "npy, a directory" and place is in_the_shards:
        np.save(tmp_path / "bad" / "labels.npy", Y[:30])  # a directory is no shard
    with little_memory():
        result = read_features(tmp_path)
    assert list(result.features) == ["good"]
    assert "bad" in result.problems
    ranking = jaxte.rank({"bad": tmp_path / "bad", "good": X}, {"good": Y}, metrics="face")
    assert ranking.status("good", "face") == "ok"
    assert np.isnan(ranking.score("bad", "face"))
    assert "\n" not in ranking.status("bad", "face")


@pytest.mark.parametrize(
    "content",
    [
        npy(),
        saved(np.asfortranarray(X)),
        saved(X.astype(">f4")),
        saved(X.astype(np.float64)),
        b"\x93NUMPY\x02\x00" + (118).to_bytes(4, "little") + npy()[10:],
        b"\x93NUMPY\x03\x00" + (118).to_bytes(4, "little") + npy()[10:],
    ],
    ids=["plain", "Fortran", "big-endian", "float64", "version 2", "version 3"],
)
def test_what_is_sound_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    np.save(tmp_path / "labels.npy", Y)
    for method in (0, 8, 12, 14):  # stored, deflated, bzip2, LZMA
        (tmp_path / f"b{method}.npz").write_bytes(npz(method, features=content))
    result = read_features(tmp_path)
    assert result.problems == {}
    assert list(result.features) == ["a", "b0", "b12", "b14", "b8"]
    for features in result.features.values():
        np.testing.assert_array_equal(np.asarray(features), X)


def test_what_an_archive_takes_in_memory_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "bad.npz", features=np.zeros((1000, 1000)), labels=np.arange(9))
    monkeypatch.setattr(os, "sysconf", lambda name: 1000)
    with pytest.raises(InputError, match=r"bad\.npz takes 0\.0 GB of memory, .*save it as \.npy"):
        read_features(tmp_path)


def test_a_tensor_that_says_it_is_larger_than_its_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(1).expand(10**9, 6), tmp_path / "bad.pt")
    with (
        little_memory(),
        pytest.raises(InputError, match=r"bad\.pt holds a tensor \[1000000000, 6\], larger than"),
    ):
        import_features(tmp_path / "bad.pt", labels=Y)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", features=X, labels=Y)
    np.savez(tmp_path / "bad.npz", features=X, labels=Y)
    (tmp_path / "bad.npz").chmod(0)
    assert "bad.npz may not be read" in read_features(tmp_path).problems["bad"]


def test_directories_that_may_not_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "good.npz", features=X, labels=Y)
    (tmp_path / "bad").mkdir()
    whole = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "bad":
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    result = read_features(tmp_path)
    assert list(result.features) == ["good"]
    assert "bad cannot be read (Permission denied)" in result.problems["bad"]
    with pytest.raises(InputError, match=r"bad cannot be read \(Permission denied\)"):
        read_features(tmp_path / "bad")
    ranking = jaxte.rank({"bad": tmp_path / "bad", "good": X}, Y, metrics="face")
    assert "Permission denied" in ranking.status("bad", "face")


def test_texts_are_names_of_classes(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "eel"])[Y]
    np.savez(tmp_path / "a.npz", features=X, labels=names)
    np.save(tmp_path / "b.npy", X)
    np.save(tmp_path / "labels.npy", names.astype("S"))
    result = read_features(tmp_path)
    np.testing.assert_array_equal(result.labels["a"], names)
    np.testing.assert_array_equal(result.labels["b"], names)
    assert jaxte.rank(result.features, result.labels).meta["class_names"] == ("cat", "dog", "eel")
