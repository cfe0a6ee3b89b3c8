"""Readers of the original files, on tiny files made here."""

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxte import InputError
from jaxte.zoo.sources import load_source, read_cifar10, read_idx, read_mnist, read_quickdraw

from .originals import (
    drawings,
    write_cifar_bin,
    write_cifar_png,
    write_drawings,
    write_idx,
    write_idx_set,
)


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_idx_gives_back_what_was_written(tmp_path: Path, name: str) -> None:
    """Plain and gzipped files hold the same array."""
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / name, array)
    np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_idx_damaged(tmp_path: Path) -> None:
    """A cut file, a file of another kind and a broken archive are told apart, all by name."""
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"0123456789")[:-4])
    with pytest.raises(InputError, match=r"cut\.gz cannot be unpacked"):
        read_idx(tmp_path / "cut.gz")
    path = tmp_path / "cut"
    write_idx(path, np.zeros((4, 5), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cut holds 19 values .* \(4, 5\)"):
        read_idx(path)
    path.write_bytes(b"\x00\x00\x08\x03\x00")
    with pytest.raises(InputError, match="cut is cut short within its header"):
        read_idx(path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"cut is not an idx file"):
        read_idx(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(tmp_path: Path, suffix: str) -> None:
    """The four files come as two parts with their labels."""
    write_idx_set(tmp_path / "mnist", train=20, test=10, suffix=suffix)
    source = read_mnist(tmp_path / "mnist")
    assert source.train.images.shape == (20, 28, 28)
    assert source.test.labels.tolist() == list(range(10))
    brightness = source.train.images.mean((1, 2))
    np.testing.assert_allclose(brightness, 9.5 + 22 * source.train.labels, atol=1.5)


def test_mnist_file_missing(tmp_path: Path) -> None:
    """The message names the file and the folder."""
    write_idx_set(tmp_path, train=10, test=10)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte.* in .*put the original"):
        read_mnist(tmp_path)


def test_mnist_lengths_disagree(tmp_path: Path) -> None:
    """Images without labels are an error, not a shorter set."""
    write_idx_set(tmp_path, train=10, test=10)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(9, np.uint8))
    with pytest.raises(InputError, match="10 train images but 9 labels"):
        read_mnist(tmp_path)


def test_cifar_binary_and_png_agree(tmp_path: Path) -> None:
    """All layouts give the images that were written, in order, channels last."""
    images, labels = write_cifar_bin(tmp_path / "bin", 4)
    write_cifar_png(tmp_path / "png", 4, "labels")
    write_cifar_png(tmp_path / "npm", 4, "lables")
    for kind in ("bin", "png", "npm"):
        source = read_cifar10(tmp_path / kind)
        np.testing.assert_array_equal(source.train.images, images[:5].reshape(20, 32, 32, 3))
        np.testing.assert_array_equal(source.train.labels, labels[:5].ravel())
        np.testing.assert_array_equal(source.test.images, images[5])
        np.testing.assert_array_equal(source.test.labels, labels[5])


def test_cifar_missing_and_damaged(tmp_path: Path) -> None:
    """An absent batch, a cut batch and a short label file are named."""
    with pytest.raises(InputError, match=r"no train_labels\.json"):
        read_cifar10(tmp_path)
    write_cifar_bin(tmp_path / "bin", 4)
    (tmp_path / "bin" / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"no data_batch_3\.bin"):
        read_cifar10(tmp_path / "bin")
    (tmp_path / "bin" / "data_batch_3.bin").write_bytes(b"x" * 3074)
    with pytest.raises(InputError, match=r"data_batch_3\.bin: 3074 bytes"):
        read_cifar10(tmp_path / "bin")
    write_cifar_png(tmp_path / "png", 4, "labels")
    (tmp_path / "png" / "test_batch.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"test_batch\.png cannot be read"):
        read_cifar10(tmp_path / "png")
    write_cifar_png(tmp_path / "png", 4, "labels")
    (tmp_path / "png" / "test_labels.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"test_labels\.json has 2 labels for 4 images"):
        read_cifar10(tmp_path / "png")


@pytest.mark.parametrize("kind", ["npy", "ndjson"])
def test_drawings(tmp_path: Path, kind: str) -> None:
    """Both layouts give the first 100 of a class, the last of them as the test part."""
    names = ("ant", "bee")
    write_drawings(tmp_path, names, 103, kind=kind)
    source = read_quickdraw(tmp_path, names, tests=10)
    assert source.class_names == names
    assert source.train.labels.tolist() == [0] * 90 + [1] * 90
    assert source.test.labels.tolist() == [0] * 10 + [1] * 10
    whole = drawings("bee", 103).reshape(-1, 28, 28)
    np.testing.assert_array_equal(source.train.images[90:], whole[:90])
    np.testing.assert_array_equal(source.test.images[10:], whole[90:100])


def test_drawings_missing_short_and_pickled(tmp_path: Path) -> None:
    """A missing class, a short one and a pickle are refused."""
    write_drawings(tmp_path, ("ant",), 99)
    with pytest.raises(InputError, match=r"ant\.npy has 99 drawings, 100 are needed"):
        read_quickdraw(tmp_path, ("ant",), tests=10)
    with pytest.raises(InputError, match=r"no bee\.npy or bee\.ndjson\.gz"):
        read_quickdraw(tmp_path, ("bee",), tests=10)
    np.save(tmp_path / "cat.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"cat\.npy cannot be read"):
        read_quickdraw(tmp_path, ("cat",), tests=10)
    np.save(tmp_path / "dog.npy", np.zeros((100, 784)))
    with pytest.raises(InputError, match=r"dog\.npy holds float64 of shape \(100, 784\)"):
        read_quickdraw(tmp_path, ("dog",), tests=10)
    (tmp_path / "eel.ndjson.gz").write_bytes(gzip.compress(b"[0, 1]\n[0.5, 2]\n"))
    with pytest.raises(InputError, match=r"eel\.ndjson\.gz holds .* \(2, 2\)"):
        read_quickdraw(tmp_path, ("eel",), tests=10)
    (tmp_path / "eel.ndjson.gz").write_bytes(gzip.compress(b"[0, 1]\n" * 99)[:-9])
    with pytest.raises(InputError, match=r"eel\.ndjson\.gz cannot be read"):
        read_quickdraw(tmp_path, ("eel",), tests=10)


def test_digits_from_file_and_from_scikit_learn_agree(tmp_path: Path) -> None:
    """The file inside scikit-learn and its loader give the same 1797 images of 8x8."""
    import sklearn.datasets

    (tmp_path / "digits").mkdir()
    original = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    (tmp_path / "digits" / "digits.csv.gz").write_bytes(original.read_bytes())
    read = load_source("digits", tmp_path)
    loaded = load_source("digits", None)
    assert read.test.images.shape == (1797, 8, 8)
    assert read.test.images.max() == 255
    np.testing.assert_array_equal(read.test.images, loaded.test.images)
    np.testing.assert_array_equal(read.test.labels, loaded.test.labels)


def test_no_directory() -> None:
    """Without a directory the message says what can be given."""
    with pytest.raises(InputError, match="no directory given to read mnist from"):
        load_source("mnist", None)


# --- tensorflow-datasets, by a stand-in that knows the three calls made of it ---------------------


class _Datasets:
    """`load` and `as_numpy` over examples held in a list, as tensorflow-datasets shapes them."""

    def __init__(self, names: list[str], parts: dict[str, Any]) -> None:
        self.info = SimpleNamespace(features={"label": SimpleNamespace(names=names)})
        self.parts = parts
        self.calls: list[tuple[str, str, str | None]] = []

    def load(
        self, name: str, *, split: str, data_dir: str | None, shuffle_files: bool, with_info: bool
    ) -> tuple[Any, Any]:
        assert with_info
        assert not shuffle_files
        self.calls.append((name, split, data_dir))
        return self.parts[split], self.info

    def as_numpy(self, dataset: Any) -> Any:
        return iter(dataset)


def test_tfds_images_and_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both splits are read under the name given, in order."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 28, 28, 1)).astype(np.uint8)
    examples = [{"image": image, "label": np.int64(i % 2)} for i, image in enumerate(images)]
    stand_in = _Datasets(["no", "yes"], {"train": examples[:4], "test": examples[4:]})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stand_in)
    source = load_source("mnist", tmp_path, tfds=True)
    np.testing.assert_array_equal(source.train.images, images[:4])
    assert source.train.labels.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(source.test.images, images[4:])
    assert source.class_names == ("no", "yes")
    assert stand_in.calls == [("mnist", "train", str(tmp_path)), ("mnist", "test", str(tmp_path))]


def _stream(known: list[str], count: int) -> list[dict[str, Any]]:
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(len(known)), count))
    seen = dict.fromkeys(range(len(known)), 0)
    examples = []
    for label in order.tolist():
        image = np.full((28, 28, 1), seen[label], np.uint8)
        examples.append({"image": image, "label": label})
        seen[label] += 1
    return examples


def test_tfds_drawings_stop_when_all_classes_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mixed stream the first hundred of each wanted class are taken, and no more is read."""
    known = ["ant", "axe", "bee"]
    examples = _stream(known, 105)

    def stream() -> Any:
        yield from examples
        raise AssertionError("read beyond the last class that was filled")

    stand_in = _Datasets(known, {"train": stream()})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stand_in)
    source = load_source("quickdraw", None, tfds=True, drawings=("bee", "ant"), tests=10)
    assert source.train.labels.tolist() == [0] * 90 + [1] * 90
    order = np.r_[np.arange(90), np.arange(90)]
    np.testing.assert_array_equal(source.train.images[:, 0, 0], order)
    np.testing.assert_array_equal(source.test.images[:, 0, 0], np.r_[90:100, 90:100])


def test_tfds_drawings_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that is not there and a stream that ends early are errors."""
    known = ["ant", "axe"]
    stand_in = _Datasets(known, {"train": _stream(known, 99)})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stand_in)
    with pytest.raises(InputError, match="no class 'bee'"):
        load_source("quickdraw", None, tfds=True, drawings=("bee",))
    with pytest.raises(InputError, match="2 classes have under 100"):
        load_source("quickdraw", None, tfds=True, drawings=("ant", "axe"))


def test_tfds_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        load_source("cifar10", None, tfds=True)
