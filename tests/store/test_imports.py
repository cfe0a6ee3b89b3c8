"""Features that other tools have saved, brought into stores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxte import InputError
from jaxte.store import FeatureStore, import_features

from .data import LOGITS, X, Y, Z, content
from .saved import lists, parquet_save, safetensors_save, torch_save

BF16 = X.astype(ml_dtypes.bfloat16)
NAMES = np.array(["ant", "bee", "cat"])

# --- whole files ----------------------------------------------------------------------------------


def sfda_pair(path: Path) -> Path:
    np.save(path / "resnet50_dtd_feature.npy", X)
    np.save(path / "resnet50_dtd_label.npy", Y)
    np.save(path / "resnet50_dtd_output.npy", LOGITS)
    return path / "resnet50_dtd_feature.npy"


def te_bench_probe(path: Path) -> Path:
    folder = path / "imagenet" / "resnet50"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "dtd.npz", features=X, labels=Y, logits=LOGITS)
    (folder / "dtd.json").write_text('{"feature_dim": 5}')
    np.savez(folder / "_weights.npz", W_classifier=X)
    return folder / "dtd.npz"


def safetensors_file(path: Path) -> Path:
    safetensors_save(path / "net.safetensors", features=X, labels=Y, logits=LOGITS)
    return path / "net.safetensors"


def torch_dict(path: Path) -> Path:
    torch_save(path / "net.pt", {"embeddings": X, "labels": Y, "logits": LOGITS})
    return path / "net.pt"


@pytest.mark.parametrize(
    ("write", "name", "dataset"),
    [
        (sfda_pair, "resnet50", "dtd"),
        (te_bench_probe, "resnet50", "dtd"),
        (safetensors_file, "net", None),
        (torch_dict, "net", None),
    ],
)
def test_files_with_features_labels_and_logits(
    write: Callable[[Path], Path], name: str, dataset: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path)
    for out in (None, tmp_path / "out"):
        store = import_features(path, out)
        np.testing.assert_array_equal(store, X)
        np.testing.assert_array_equal(store.labels, Y)
        np.testing.assert_array_equal(store.logits, LOGITS)
        assert (store.name, store.dataset, store.complete) == (name, dataset, True)
    store.verify()
    named = import_features(path, name="mine", dataset="my own")
    assert (named.name, named.dataset) == ("mine", "my own")


def test_imports_keep_the_type_or_take_another(tmp_path: Path) -> None:
    safetensors_save(tmp_path / "half.safetensors", features=BF16, labels=Y)
    np.savez(tmp_path / "bytes.npz", features=(9 * X).astype(np.int8), labels=Y)
    half = import_features(tmp_path / "half.safetensors")
    assert half.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(half, BF16)
    assert import_features(tmp_path / "bytes.npz").dtype == np.float32
    assert import_features(tmp_path / "half.safetensors", dtype="float16").dtype == np.float16
    torch_save(tmp_path / "half.pt", {"features": BF16, "labels": Y})
    np.testing.assert_array_equal(import_features(tmp_path / "half.pt"), BF16)


def test_directories_of_shards(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    for index, rows in enumerate(np.split(np.arange(60), [22, 40])):
        np.save(tmp_path / "net" / f"features-{index}.npy", X[rows])
    np.save(tmp_path / "net" / "labels.npy", Y)
    store = import_features(tmp_path / "net", tmp_path / "out")
    np.testing.assert_array_equal(store, X)
    assert store.name == "net"


def test_labels_may_come_apart(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(InputError, match=r"x.npy holds no labels: give them as labels="):
        import_features(tmp_path / "x.npy")
    for labels in (Y, Y.tolist(), tmp_path / "y.npy", str(tmp_path / "y.npy")):
        np.testing.assert_array_equal(import_features(tmp_path / "x.npy", labels=labels).labels, Y)
    with pytest.raises(InputError, match=r"x.npy has 60 rows but the labels 59 labels"):
        import_features(tmp_path / "x.npy", labels=Y[1:])


def test_texts_become_classes(tmp_path: Path) -> None:
    source = NAMES[::-1][Y]
    np.savez(tmp_path / "net.npz", features=X, labels=source)
    parquet_save(tmp_path / "net.parquet", {"x": lists(X), "label": source.tolist()})
    for name in ("net.npz", "net.parquet"):
        store = import_features(tmp_path / name, tmp_path / f"{name}.store")
        np.testing.assert_array_equal(store.labels, 2 - Y)
        assert store.meta["data"]["class_names"] == NAMES.tolist()


# --- resuming -------------------------------------------------------------------------------------


def test_an_import_is_resumed_and_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxte.store import imports, writer

    monkeypatch.setattr(imports, "_ROWS", 9)
    np.savez(tmp_path / "net.npz", features=X, labels=Y)
    append = writer.Writer.append
    left = [3]

    def failing(*arguments: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        append(*arguments, **options)

    monkeypatch.setattr(writer.Writer, "append", failing)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        import_features(tmp_path / "net.npz", out)
    assert FeatureStore.open(out, partial=True).rows == 27
    left[0] = 4  # the rest
    np.testing.assert_array_equal(import_features(tmp_path / "net.npz", out), X)
    before = content(out)
    import_features(tmp_path / "net.npz", out)
    assert content(out) == before
    np.savez(tmp_path / "net.npz", features=2 * X, labels=Y)
    with pytest.raises(InputError, match=r"model\.card\.sha256 was"):
        import_features(tmp_path / "net.npz", out)
    np.savez(tmp_path / "net.npz", features=X, labels=1 + Y)
    with pytest.raises(InputError, match=r"data\.sha256 was"):
        import_features(tmp_path / "net.npz", out)


# --- layers ---------------------------------------------------------------------------------------


def by_sample() -> list[np.ndarray]:
    """What transformer-ranker holds: for each text one tensor [layers, d]."""
    return list(np.stack([X, 2 * X], axis=1))


LAYERED: dict[str, tuple[Any, list[str]]] = {
    "of each sample": (by_sample(), ["0", "1"]),
    "of each layer": ([X, 2 * X], ["0", "1"]),
    "one tensor": (np.stack([X, 2 * X], axis=1), ["0", "1"]),
    "by name": ({"low": X, "high": 2 * X}, ["low", "high"]),
}


@pytest.mark.parametrize("case", LAYERED)
@pytest.mark.parametrize("apart", [False, True])
def test_layers_of_tensors(case: str, apart: bool, tmp_path: Path) -> None:
    source, names = LAYERED[case]
    path = tmp_path / "bert.pt"
    torch_save(path, source if apart else {"hidden_states": source, "labels": Y})
    store = import_features(path, labels=Y if apart else None)
    assert store.layers == tuple(names)
    for factor, name in enumerate(names, 1):
        np.testing.assert_array_equal(store[name], factor * X)
    np.testing.assert_array_equal(store.labels, Y)


def test_a_list_of_vectors_and_a_state_dict(tmp_path: Path) -> None:
    torch_save(tmp_path / "one.pt", list(X))
    np.testing.assert_array_equal(import_features(tmp_path / "one.pt", labels=Y), X)
    torch_save(tmp_path / "many.pth", {"a": X, "b.c": Z, "y": Y})
    store = import_features(tmp_path / "many.pth")
    assert store.layers == ("a", "b.c")
    np.testing.assert_array_equal(store["b.c"], Z)
    safetensors_save(tmp_path / "many.safetensors", a=X, b=Z, labels=Y)
    np.testing.assert_array_equal(import_features(tmp_path / "many.safetensors")["b"], Z)


UNPLAIN: dict[str, tuple[Any, str]] = {
    "as many samples as layers": ([X[:5]] * 5, "not plain whether they are samples or layers"),
    "no labels": ([X, X], "not plain whether they are samples or layers"),
    "other lengths": ([X, X[:5]], "tensors of other shapes"),
    "numbers": ([1, 2], "something else than tensors"),
    "a number": (3, "holds a int, no tensor"),
    "images": (np.zeros((2, 3, 4, 5), np.float32), r"shape \[2, 3, 4, 5\], not \[n, d\]"),
    "weights": ({"conv": np.zeros((8, 3, 3, 3), np.float32)}, r"conv \[8, 3, 3, 3\]: it needs"),
    "both": ({"features": X, "embeddings": X}, "holds both features and embeddings"),
    "mixed": ({"a": X, "b": X[:5]}, "one matrix of n rows for each layer"),
}


@pytest.mark.parametrize("case", UNPLAIN)
def test_tensors_that_are_no_features_are_refused(case: str, tmp_path: Path) -> None:
    source, message = UNPLAIN[case]
    torch_save(tmp_path / "x.pt", source)
    labels = np.arange(5) % 2 if case == "as many samples as layers" else None
    with pytest.raises(InputError, match=message):
        import_features(tmp_path / "x.pt", labels=labels)


def test_a_sparse_tensor_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.from_numpy(X.copy()).to_sparse(), tmp_path / "x.pt")
    with pytest.raises(InputError, match="sparse or quantised"):
        import_features(tmp_path / "x.pt", labels=Y)
