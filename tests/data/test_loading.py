"""`load`: specifications, arrays, .npz files, the zoo, and what it costs to import."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxte import InputError, data, zoo


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits", r"'digits' is no data set: the forms are tfds:NAME\[/CONFIG\]"),
        ("tdfs:digits/train", "is no data set"),
        ("", "is no data set"),
        ("folder:", "does not say which: write folder:DIR"),
        ("zoo:digits?", None),
        ("zoo:digits?subset", "'subset' must be OPTION=VALUE"),
        ("zoo:digits?subset=5&subset=6", "each option once"),
        ("zoo:digits?subset=many", "subset is 'many', not an integer"),
        ("zoo:digits?size=5", "has no option 'size': there are image, text"),
        ("zoo:digits?seed=5", "seed is 5, but no subset is asked for"),
        ("zoo:digits?label=y", "has no columns to choose"),
        ("zoo:figures", "no zoo target named 'figures': The zoo has digits"),
        ("zoo:digits/val", "unknown part of a zoo target 'val'"),
    ],
)
def test_specifications(spec: str, message: str | None) -> None:
    if message is None:
        assert len(data.load(spec)) == 500
        return
    with pytest.raises(InputError, match=message):
        data.load(spec)


def test_an_option_is_given_once() -> None:
    assert len(data.load("zoo:digits", subset=40, seed=2)) == 40
    with pytest.raises(InputError, match="has subset already"):
        data.load("zoo:digits?subset=5", subset=6)


def test_zoo_targets() -> None:
    for name in zoo.targets():
        target = zoo.load_target(name)
        train, test = data.load(f"zoo:{name}"), data.load(f"zoo:{name}/test")
        np.testing.assert_array_equal(train.labels(), target.train_labels)
        np.testing.assert_array_equal(test.labels(), target.test_labels)
        assert train.class_names == target.class_names
        image = test[3][0]
        np.testing.assert_array_equal(image.squeeze(), target.test_images[3].squeeze())
        assert (train.card["split"], test.card["split"]) == ("train", "test")


def test_npz_files(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    labels = np.arange(6) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels, other=labels[::-1])
    result = data.load(f"npz:{tmp_path}/a.npz")
    np.testing.assert_array_equal(next(result.batches(6))[0], images)
    np.testing.assert_array_equal(result.labels(), labels)
    assert result.card["columns"] == {"image": "images", "label": "labels"}
    other = data.load(f"npz:{tmp_path}/a.npz?label=other")
    np.testing.assert_array_equal(other.labels(), labels[::-1])
    both = data.load(f"npz:{tmp_path}/a.npz", label=("labels", "other"))
    assert (both.task, both.card["labels"] != other.card["labels"]) == ("multilabel", True)
    np.savez(tmp_path / "b.npz", x_train=np.asarray(["good", "bad"]), y_train=[0.5, 1])
    texts = data.load(f"npz:{tmp_path}/b.npz?text=x_train&label=y_train")
    assert (texts[0][0], texts.task) == ("good", "regression")
    np.savez_compressed(tmp_path / "c.npz", x=images[..., 0], y=labels)
    grey = data.load(f"npz:{tmp_path}/c.npz")
    np.testing.assert_array_equal(grey[2][0], images[2, :, :, :1])


def test_npz_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match=r"a\.npz does not exist"):
        data.load(f"npz:{path}")
    np.savez(path, images=np.zeros(3), labels=np.asarray([{}, 1, "a"], object))
    with pytest.raises(InputError, match=r"a\.npz cannot be read .*allow_pickle"):
        data.load(f"npz:{path}")
    np.savez(path, pictures=np.zeros(3), labels=np.zeros(3, int), more=np.zeros(3))
    with pytest.raises(InputError, match="say which column has the examples"):
        data.load(f"npz:{path}")
    with pytest.raises(InputError, match="no column 'label': there are pictures, labels, more"):
        data.load(f"npz:{path}?label=label")
    np.savez(path, images=np.zeros(3), labels=np.zeros(4, int))
    with pytest.raises(InputError, match="has 3 examples but 4 labels"):
        data.load(f"npz:{path}")
    np.savez(path, images=np.zeros((3, 2)), labels=np.int64(3))
    with pytest.raises(InputError, match="has a single label"):
        data.load(f"npz:{path}")
    np.savez(path, images=np.zeros((3, 2)), a=np.zeros(3, int), b=np.zeros(2, int))
    with pytest.raises(InputError, match=r"labels have shape \(2,\), for 3 rows"):
        data.load(f"npz:{path}?label=a,b")
    with pytest.raises(InputError, match="'a' is named twice"):
        data.load(f"npz:{path}?label=a,a")
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        data.load(f"npz:{path}")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(InputError, match="holds one array"):
        data.load(f"npz:{tmp_path}/b.npy")


def test_pairs_and_data_sets() -> None:
    pair = data.load((["a", "b", "c"], ["x", "y", "x"]), subset=2)
    assert (len(pair), pair.class_names) == (2, ("x", "y"))
    assert data.load(pair) is pair
    assert data.load((np.zeros((3, 2)), [3, 1, 1]), task="regression").task == "regression"
    with pytest.raises(InputError, match="is a data set already: it takes no task"):
        data.load(pair, task="regression")
    wrong: Any
    for wrong in (3, [1, 2], (1, 2, 3), iter([]), Path("x.csv")):
        with pytest.raises(InputError, match="is no data set: give a specification"):
            data.load(wrong)
    with pytest.raises(InputError, match="data_dir is for tfds:"):
        data.load((np.zeros(2), [0, 1]), data_dir="x")


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        (np.zeros((3, 5, 4), np.uint8), {(5, 4, 1)}),
        (np.zeros((3, 5, 4, 3), np.uint8), {(5, 4, 3)}),
        (np.zeros((3, 5, 4)), {(5, 4)}),
        ([np.zeros((2, 2, 3), np.uint8), np.zeros((4, 2), np.uint8)] * 2, {(2, 2, 3), (4, 2, 1)}),
        (np.asarray([np.zeros(2), np.zeros(3), None], object)[:2], {(2,), (3,)}),
    ],
)
def test_arrays_as_examples(inputs: Any, shapes: Any) -> None:
    result = data.as_dataset(inputs, list(range(len(inputs))))
    assert {example.shape for example, _ in result} == shapes


def test_examples_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="inputs are a single"):
        data.as_dataset(3.0, [1])
    with pytest.raises(InputError, match="mine has 2 examples but 3 labels"):
        data.as_dataset(["a", "b"], [1, 2, 3], name="mine")


def test_cards_tell_data_apart() -> None:
    images, labels = np.arange(24, dtype=np.uint8).reshape(6, 2, 2), [0, 1, 0, 1, 1, 1]
    cards = [
        data.as_dataset(images, labels).card,
        data.as_dataset(images.copy(), labels).card,
        data.as_dataset(images[::-1], labels).card,
        data.as_dataset(images.reshape(6, 4, 1), labels).card,
        data.as_dataset(images, labels[::-1]).card,
        data.as_dataset(images, labels, classes=("a", "b")).card,
    ]
    assert cards[0] == cards[1]
    texts = [json.dumps(card, sort_keys=True) for card in cards[1:]]
    assert len(set(texts)) == len(texts)
    assert data.as_dataset(images, labels).card["labels"] == "crc32:40184628"


def test_a_data_set_of_ones_own() -> None:
    class Squares(data.Dataset):
        name, num_classes = "squares", 2

        def __len__(self) -> int:
            return 9

        def read(self, row: int) -> tuple[np.ndarray, int]:
            return np.full((1,), row**2), row % 2

    squares = Squares()
    np.testing.assert_array_equal(squares.labels(), np.arange(9) % 2)
    inputs, _ = next(squares.subset(4).batches(3, start=1, workers=1))
    assert inputs.shape == (3, 1)
    assert repr(squares) == "Dataset('squares', classification, 9 rows, 2 classes)"


def test_importing_needs_numpy_and_jax_only() -> None:
    heavy = ("PIL", "array_record", "datasets", "flax", "pandas", "pyarrow", "tensorflow_datasets")
    code = f"""
import sys
from jaxte import data
assert len(data.load("zoo:digits").subset(30)) == 30
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "package"),
    [
        ("tfds:mnist/train", "tensorflow_datasets"),
        ("hf:imdb/train", "datasets"),
        ("csv:a.csv?text=a&label=b", "pyarrow"),
        ("folder:images", "PIL"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, package: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("a,b\nx,1\n")
    Path("images/x").mkdir(parents=True)
    Path("images/x/1.png").write_bytes(b"?")
    for module in ("tensorflow_datasets", "datasets", "pyarrow", "PIL"):
        monkeypatch.setitem(sys.modules, module, None)
    message = rf'needs {package}, which cannot be imported .*: pip install "jaxte\[data\]"'
    with pytest.raises(ImportError, match=message):
        data.load(spec)[0]
