"""Parquet, damaged files of other tools, and such files without a store."""

import importlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.store import import_features, read_features

from .data import LOGITS, X, Y, Z
from .saved import lists, parquet_save, safetensors_save, torch_save

# --- Parquet --------------------------------------------------------------------------------------


def test_parquet_of_lists(tmp_path: Path) -> None:
    for kind in ("list", "fixed"):
        columns = {"id": list(range(60)), "embedding": lists(X, kind), "label": Y}
        parquet_save(tmp_path / f"{kind}.parquet", columns)
        store = import_features(tmp_path / f"{kind}.parquet")
        assert store.layers == ("features",)
        np.testing.assert_array_equal(store, X)
        np.testing.assert_array_equal(store.labels, Y)


def test_parquet_of_several_lists_and_of_many_columns(tmp_path: Path) -> None:
    parquet_save(tmp_path / "two.parquet", {"a": lists(X), "b": lists(Z), "y": Y})
    store = import_features(tmp_path / "two.parquet")
    assert store.layers == ("a", "b")
    np.testing.assert_array_equal(store["b"], Z)
    one = import_features(tmp_path / "two.parquet", columns=["b"])
    np.testing.assert_array_equal(one, Z)
    columns = {f"f{index}": X[:, index] for index in range(5)} | {"target": Y, "n": Y}
    parquet_save(tmp_path / "many.parquet", columns)
    np.testing.assert_array_equal(import_features(tmp_path / "many.parquet"), X)
    some = import_features(tmp_path / "many.parquet", columns=["f4", "f0"])
    np.testing.assert_array_equal(some, X[:, [4, 0]])


def test_parquet_of_several_labels_and_half_precision(tmp_path: Path) -> None:
    targets = np.eye(3, dtype=np.float32)[Y]
    columns = {"x": lists(X.astype(np.float16)), "labels": lists(targets)}
    parquet_save(tmp_path / "net.parquet", columns)
    store = import_features(tmp_path / "net.parquet")
    assert store.dtype == np.float16
    np.testing.assert_array_equal(store.labels, targets)


def ragged(**changes: Any) -> dict[str, Any]:
    return {"x": [*X[:40].tolist(), X[40, :3].tolist(), *X[41:].tolist()], "label": Y} | changes


PARQUET: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "ragged": (ragged, "column x has another length in row 40"),
    "a missing list": (
        lambda: {"x": [*X[:30].tolist(), None, *X[31:].tolist()], "label": Y},
        "column x has no value in row 30",
    ),
    "a missing number": (lambda: ragged(x=[[1.0, None]] * 60), "lists with missing numbers"),
    "a missing label": (
        lambda: {"x": lists(X), "label": [*Y[:59].tolist(), None]},
        "column label has no value in row 59",
    ),
    "only texts": (lambda: {"text": ["a"] * 60, "label": Y}, "no column of embeddings"),
    "no rows": (lambda: {"x": lists(X[:0]), "label": Y[:0]}, "has no rows"),
    "no labels": (lambda: {"x": lists(X)}, "holds no labels"),
}


@pytest.mark.parametrize("case", PARQUET)
def test_parquet_that_cannot_be_used_is_named(case: str, tmp_path: Path) -> None:
    make, message = PARQUET[case]
    parquet_save(tmp_path / "x.parquet", make())
    with pytest.raises(InputError, match=rf"x\.parquet.*{message}"):
        import_features(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no column 'z'"):
        import_features(tmp_path / "x.parquet", columns=["z"])


# --- damage ---------------------------------------------------------------------------------------


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("something was unpickled",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"features": Bomb(), "labels": Bomb()}, tmp_path / "archive.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("archive.pt", "plain.pt"):
        with pytest.raises(InputError, match="cannot be read without running code"):
            import_features(tmp_path / name)
    np.savez(tmp_path / "x.npz", features=X, labels=np.array([Bomb()] * 60), allow_pickle=True)
    with pytest.raises(InputError, match="pickled objects, which are refused"):
        import_features(tmp_path / "x.npz")


def header(entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def entry(begin: int, end: int, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 1], "data_offsets": [begin, end]} | changes


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "cut": header({"features": entry(0, 8)})[:-4],
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "a huge header": (1 << 62).to_bytes(8, "little") + b"{}",
    "behind the end": header({"features": entry(0, 800, shape=[200, 1])}),
    "before the start": header({"features": entry(-8, 0)}) + bytes(8),
    "backwards": header({"features": entry(8, 0)}) + bytes(8),
    "another size": header({"features": entry(0, 8, shape=[3, 1])}) + bytes(8),
    "a negative shape": header({"features": entry(0, 8, shape=[-2, -1])}) + bytes(8),
    "no shape": header({"features": entry(0, 8, shape=None)}) + bytes(8),
    "a list": header([1, 2]),
    "no object": header({"features": 3}),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_safetensors_are_named(case: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(DAMAGED[case])
    with pytest.raises(InputError, match=r"x\.safetensors is truncated or no safetensors file"):
        import_features(tmp_path / "x.safetensors", labels=Y[:2])


def test_other_damage_is_named(tmp_path: Path) -> None:
    torch_save(tmp_path / "x.pt", X)
    parquet_save(tmp_path / "x.parquet", {"x": lists(X), "label": Y})
    for name in ("x.pt", "x.parquet"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            import_features(path)
    np.savez(tmp_path / "x.npz", features=X, labels=Y, logits=LOGITS[:9])
    with pytest.raises(InputError, match=r"x\.npz has 60 rows but logits \[9, 7\]"):
        import_features(tmp_path / "x.npz")
    for name, message in (("x.csv", r"x\.csv cannot be imported"), ("y.npz", "does not exist")):
        (tmp_path / "x.csv").touch()
        with pytest.raises(InputError, match=message):
            import_features(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "install"), [("torch", "torch, the build"), ("pyarrow", r'"jaxte\[data\]"')]
)
def test_a_missing_package_is_named(
    name: str, install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("x.pt" if name == "torch" else "x.parquet")
    path.touch()
    real = importlib.import_module

    def missing(wanted: str, *rest: Any) -> Any:
        if wanted.split(".")[0] == name:
            raise ImportError(f"No module named {wanted!r}")
        return real(wanted, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=rf"{path.name} needs {name}.*pip install {install}"):
        import_features(path)


def test_an_old_pytorch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    torch_save(tmp_path / "x.pt", X)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ImportError, match=r"PyTorch 2\.6 or newer, here is 2\.5\.1"):
        import_features(tmp_path / "x.pt", labels=Y)


# --- without a store ------------------------------------------------------------------------------


def test_rank_takes_the_paths_of_such_files(tmp_path: Path) -> None:
    safetensors_save(tmp_path / "a.safetensors", all=X, some=Z, labels=Y)
    torch_save(tmp_path / "b.pt", X)
    parquet_save(tmp_path / "c.parquet", {"x": lists(X), "label": Y})
    (tmp_path / "d.pt").touch()
    source = {name: tmp_path / name for name in ("a.safetensors", "b.pt", "c.parquet", "d.pt")}
    result = jaxte.rank(source, Y, metrics="face")
    wanted = jaxte.rank({"x": X, "z": Z}, Y, metrics="face")
    names = ("a.safetensors@all", "a.safetensors@some", "b.pt", "c.parquet", "d.pt")
    assert result.models == names
    for name, same in zip(names, "xzxx", strict=False):
        assert result.score(name, "face") == pytest.approx(wanted.score(same, "face"), rel=1e-9)
    assert "d.pt cannot be read" in result.status("d.pt", "face")
    alone = jaxte.rank({"a": tmp_path / "a.safetensors"}, metrics="face")
    assert alone.models == ("a@all", "a@some")


def test_directories_hold_such_files_too(tmp_path: Path) -> None:
    safetensors_save(tmp_path / "a.safetensors", features=X, labels=Y)
    safetensors_save(tmp_path / "weights.safetensors", conv=X)  # of a model: passed over
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    parquet_save(tmp_path / "b.parquet", {"x": lists(X), "y": lists(Z), "label": -Y})
    parquet_save(tmp_path / "c.parquet", {"text": ["a"], "label": [1]})
    result = read_features(tmp_path)
    assert list(result.features) == ["a", "b@x", "b@y"]
    np.testing.assert_array_equal(result.features["b@y"], Z)
    np.testing.assert_array_equal(result.labels["b@x"], -Y)
    assert isinstance(result.features["a"], np.memmap)
    assert list(result.problems) == ["broken", "c"]
    assert "c.parquet has no column of embeddings" in result.problems["c"]
    np.save(tmp_path / "labels.npy", Y)
    np.testing.assert_array_equal(read_features(tmp_path).labels["b@x"], Y)
