"""Reading feature directories: every layout, and every file that cannot be used."""

import pickle
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxte import InputError
from jaxte.intake.sources import Shards
from jaxte.store import read_features

X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
Y = np.arange(12) % 3


def test_npz_with_features_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=X, labels=Y)
    np.savez_compressed(tmp_path / "b.npz", features=X[:7, :2], labels=Y[:7])
    result = read_features(tmp_path)
    assert list(result.features) == ["a", "b"]
    np.testing.assert_array_equal(result.features["b"], X[:7, :2])
    np.testing.assert_array_equal(result.labels["b"], Y[:7])
    assert result.problems == {}


def test_npy_beside_labels_is_mapped_and_other_files_are_ignored(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", features=2 * X)
    np.save(tmp_path / "labels.npy", Y)
    (tmp_path / "probe_accuracy.csv").write_text("model,accuracy\na,0.5\n")
    (tmp_path / ".hidden.npy").write_bytes(b"")
    (tmp_path / "folder.npy").mkdir()
    result = read_features(str(tmp_path))
    assert list(result.features) == ["a", "b"]
    assert isinstance(result.features["a"], np.memmap)
    np.testing.assert_array_equal(result.features["b"], 2 * X)
    np.testing.assert_array_equal(result.labels["b"], Y)


def sfda_family(directory: Path, *stems: str) -> None:
    for stem in stems:
        np.save(directory / f"{stem}_feature.npy", X)
        np.save(directory / f"{stem}_label.npy", Y)
        np.save(directory / f"{stem}_output.npy", X)


def test_sfda_family_layout(tmp_path: Path) -> None:
    sfda_family(tmp_path, "resnet50_cifar10", "inception_v3_cifar10", "plain")
    result = read_features(tmp_path)
    assert list(result.features) == ["inception_v3", "plain", "resnet50"]
    np.testing.assert_array_equal(result.labels["inception_v3"], Y)


def test_sfda_family_layout_with_several_data_sets_needs_a_choice(tmp_path: Path) -> None:
    sfda_family(tmp_path, "a_cifar10", "b_cifar10", "a_dtd", "b_my_own")
    with pytest.raises(InputError, match=r"cifar10, dtd, own.*--dataset"):
        read_features(tmp_path)
    assert list(read_features(tmp_path, dataset="cifar10").features) == ["a", "b"]
    assert list(read_features(tmp_path, dataset="my_own").features) == ["b"]
    with pytest.raises(InputError, match=r"_flowers_feature\.npy"):
        read_features(tmp_path, dataset="flowers")


def test_bfloat16_is_recognised(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X.astype(ml_dtypes.bfloat16))
    np.save(tmp_path / "labels.npy", Y)
    features = read_features(tmp_path).features["a"]
    assert isinstance(features, np.ndarray)
    assert features.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(features.astype(np.float32), X.astype(ml_dtypes.bfloat16))


def written(path: Path, **arrays: np.ndarray) -> bytes:
    """What NumPy writes for these arrays: an archive, or an .npy for the single name `npy`."""
    with path.open("wb") as stream:
        if "npy" in arrays:
            np.save(stream, arrays["npy"])
        else:
            np.savez_compressed(stream, allow_pickle=True, **arrays)
    return path.read_bytes()


def shortened(path: Path, keep: int, **arrays: np.ndarray) -> None:
    path.write_bytes(written(path, **arrays)[:keep])


def damaged(path: Path, **arrays: np.ndarray) -> None:
    content = bytearray(written(path, **arrays))
    content[60:90] = bytes(30)
    path.write_bytes(content)


OBJECTS = np.array([{"a": 1}, None], dtype=object)
PICKLED = "holds pickled objects, which are refused"
CUT = "is truncated or no NumPy file"
BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "npy cut in the data": ("bad.npy", lambda p: shortened(p, 150, npy=X), CUT),
    "npy cut in the header": ("bad.npy", lambda p: shortened(p, 20, npy=X), CUT),
    "no array at all": ("bad.npy", lambda p: p.write_text("model,accuracy\n"), CUT),
    "empty file": ("bad.npy", lambda p: p.write_bytes(b""), CUT),
    "npz cut short": ("bad.npz", lambda p: shortened(p, 200, features=X, labels=Y), CUT),
    "npz damaged inside": ("bad.npz", lambda p: damaged(p, features=X, labels=Y), CUT),
    "npy of objects": ("bad.npy", lambda p: written(p, npy=OBJECTS), PICKLED),
    "npz of objects": ("bad.npz", lambda p: written(p, features=OBJECTS, labels=Y), PICKLED),
    "pickle": ("bad.npy", lambda p: p.write_bytes(pickle.dumps([X, Y])), PICKLED),
    "npz under the name npy": ("bad.npy", lambda p: written(p, features=X), "rename it to .npz"),
    "npy under the name npz": ("bad.npz", lambda p: written(p, npy=X), "rename it to .npy"),
    "other keys": (
        "bad.npz",
        lambda p: written(p, X=X, y=Y),
        "holds X, y: it needs features and labels",
    ),
    "images": ("bad.npy", lambda p: written(p, npy=X[:, None]), "of shape [12, 1, 5], not [n, d]"),
    "too few rows": (
        "bad.npy",
        lambda p: written(p, npy=X[:9]),
        "has 9 rows but labels.npy 12 labels",
    ),
    "no columns": ("bad.npy", lambda p: written(p, npy=X[:, :0]), "is empty, of shape [12, 0]"),
    "text": ("bad.npy", lambda p: written(p, npy=X.astype(str)), "holds features of type <U"),
    "labels of rank 3": (
        "bad.npz",
        lambda p: written(p, features=X, labels=Y[:, None, None]),
        "holds labels of shape [12, 1, 1]",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_file_is_named_and_stops_nothing(case: str, tmp_path: Path) -> None:
    name, write, message = BROKEN[case]
    written(tmp_path / "good.npy", npy=X)
    written(tmp_path / "labels.npy", npy=Y)
    write(tmp_path / name)
    result = read_features(tmp_path)
    assert list(result.features) == list(result.labels) == ["good"]
    assert list(result.problems) == ["bad"]
    assert result.problems["bad"].startswith(name)
    assert message in result.problems["bad"]
    assert "\n" not in result.problems["bad"]


def test_a_model_stored_twice_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.npy", npy=X)
    written(tmp_path / "a.npz", features=X, labels=Y)
    written(tmp_path / "b.npz", features=X, labels=Y)
    written(tmp_path / "labels.npy", npy=Y)
    result = read_features(tmp_path)
    assert list(result.features) == ["b"]
    assert result.problems == {"a": "stored more than once (a.npy, a.npz): keep one of them"}


def test_missing_labels_are_named(tmp_path: Path) -> None:
    written(tmp_path / "a.npy", npy=X)
    written(tmp_path / "b.npy", npy=X)
    with pytest.raises(InputError, match=r"none of its 2 models.* a: no labels\.npy beside a\.npy"):
        read_features(tmp_path)
    written(tmp_path / "c_cifar10_feature.npy", npy=X)
    written(tmp_path / "d.npz", features=X, labels=Y)
    result = read_features(tmp_path)
    assert list(result.features) == ["d"]
    assert result.problems["c"].startswith("no c_cifar10_label.npy beside c_cifar10_feature.npy")


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_features(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"{tmp_path.name} holds no features"):
        read_features(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match=r"notes\.txt is not a directory"):
        read_features(tmp_path / "notes.txt")


def test_directories_of_shards_stay_unread(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "hidden", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "hidden").rename(tmp_path / ".hidden")
    for index, rows in enumerate((slice(0, 5), slice(5, 12))):
        written(tmp_path / "a" / f"features-{index}.npy", npy=X[rows])
        written(tmp_path / "a" / f"labels-{index}.npy", npy=Y[rows])
        written(tmp_path / "b" / f"{index}.npz", features=X[rows], labels=-Y[rows])
        written(tmp_path / "c" / f"{index}.npy", npy=X[rows])
        written(tmp_path / ".hidden" / f"{index}.npy", npy=X[rows])
    written(tmp_path / "labels.npy", npy=Y)
    written(tmp_path / "d.npy", npy=X)
    result = read_features(tmp_path)
    assert list(result.features) == ["a", "b", "c", "d"]
    assert result.problems == {}
    for name, features in result.features.items():
        array = features.load() if isinstance(features, Shards) else features
        np.testing.assert_array_equal(array, X)
        np.testing.assert_array_equal(result.labels[name], -Y if name == "b" else Y)


def test_shards_come_in_natural_order(tmp_path: Path) -> None:
    for index in range(12):
        written(tmp_path / f"features-{index}.npy", npy=X[index : index + 1])
    written(tmp_path / "extra.npy", npy=X)
    np.testing.assert_array_equal(Shards(tmp_path).load(), X)


SHARDS: dict[str, tuple[dict[str, dict[str, np.ndarray]], str]] = {
    "other widths": ({"0.npy": {"npy": X}, "1.npy": {"npy": X[:, :2]}}, "1.npy has 2 columns, but"),
    "both kinds": ({"0.npy": {"npy": X}, "1.npz": {"features": X}}, "both .npy and .npz"),
    "too few labels": (
        {"0.npy": {"npy": X}, "labels.npy": {"npy": Y[:7]}},
        "bad has 12 rows but bad/labels 7 labels",
    ),
    "labels of some": (
        {"0.npz": {"features": X, "labels": Y}, "1.npz": {"features": X}},
        "1.npz has no labels, other shards have",
    ),
    "no labels": ({"0.npy": {"npy": X}}, "no labels.npy beside bad"),
    "images": ({"0.npy": {"npy": X[None]}}, "0.npy holds features of shape [1, 12, 5]"),
}


@pytest.mark.parametrize("case", SHARDS)
def test_bad_shards_are_named(case: str, tmp_path: Path) -> None:
    files, message = SHARDS[case]
    written(tmp_path / "good.npz", features=X, labels=Y)
    (tmp_path / "bad").mkdir()
    for name, arrays in files.items():
        written(tmp_path / "bad" / name, **arrays)
    result = read_features(tmp_path)
    assert list(result.features) == ["good"]
    assert message in result.problems["bad"]
