"""Data sets of Hugging Face: objects, saved directories and folders of data files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxte import InputError, data

hub = pytest.importorskip("datasets")

MOODS = ("sad", "gay", "calm")


@pytest.fixture(autouse=True)
def quiet_and_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress bars, no network, and what is cached goes to the test's own directory."""
    hub.disable_progress_bars()
    monkeypatch.setattr(hub.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def moods(n: int = 20) -> Any:
    features = hub.Features({"text": hub.Value("string"), "label": hub.ClassLabel(names=MOODS)})
    columns = {"text": [f"text {i}" for i in range(n)], "label": [i % 3 for i in range(n)]}
    return hub.Dataset.from_dict(columns, features=features)


def test_texts_and_class_names() -> None:
    result = data.load(moods())
    assert (result.task, result.class_names, len(result)) == ("classification", MOODS, 20)
    assert result[4] == ("text 4", 1)
    np.testing.assert_array_equal(result.labels(), np.arange(20) % 3)
    assert json.loads(json.dumps(result.card)) == result.card
    assert data.load(moods(), subset=6, seed=2).card["subset"]["n"] == 6


def test_selected_shuffled_and_formatted_data_sets() -> None:
    plain = moods()
    shuffled = plain.shuffle(seed=0)
    expected = [(row["text"], row["label"]) for row in shuffled]
    assert list(data.load(shuffled)) == expected
    assert list(data.load(plain.with_format("numpy"))) == list(data.load(plain))
    assert list(data.load(plain.select([7, 2]))) == [("text 7", 1), ("text 2", 2)]
    assert data.load(shuffled).card["inputs"] != data.load(plain).card["inputs"]


def test_saved_data_sets(tmp_path: Path) -> None:
    parts = hub.DatasetDict({"train": moods(20), "test": moods(7)})
    parts.save_to_disk(tmp_path / "both")
    moods(20).save_to_disk(tmp_path / "one")
    texts = [f"text {i}" for i in range(20)]
    for spec, expected in {
        "both/train": texts,
        "both/test": texts[:7],
        "both/train[5:8]": texts[5:8],
        "both/train[50%:]+test[:1]": [*texts[10:], "text 0"],
        "one": texts,
        "one/train[:3]": texts[:3],
    }.items():
        result = data.load(f"hf:{tmp_path}/{spec}")
        assert [text for text, _ in result] == expected
        assert (result.card["name"], result.class_names) == (spec, MOODS)


def test_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    for split, rows in {"train": 6, "test": 2}.items():
        lines = ("".join(f"mail {i},{'spam' if i % 2 else 'ham'}\n" for i in range(rows)),)
        (folder / f"{split}.csv").write_text("text,kind\n" + "".join(lines))
    result = data.load(f"hf:{folder}/train[1:4]?label=kind")
    assert (len(result), result.class_names, result[0]) == (3, ("ham", "spam"), ("mail 1", 1))


def test_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    features = hub.Features({"img": hub.Image(), "label": hub.ClassLabel(names=["a", "b"])})
    columns = {"img": [Image.fromarray(image) for image in pixels], "label": [0, 1, 1, 0]}
    result = data.load(hub.Dataset.from_dict(columns, features=features))
    inputs, labels = next(result.batches(4, workers=2))
    np.testing.assert_array_equal(inputs, pixels)
    np.testing.assert_array_equal(labels, [0, 1, 1, 0])


def test_label_maps() -> None:
    maps = np.random.default_rng(0).integers(0, 4, (3, 5, 6)).astype(np.uint8)
    features = hub.Features({"image": hub.Image(), "annotation": hub.Image()})
    columns = {key: [Image.fromarray(one) for one in maps] for key in features}
    scenes = hub.Dataset.from_dict(columns, features=features)
    result = data.load(scenes, image="image", label="annotation", ignore=3)
    assert (result.task, result.ignore, result.num_classes) == ("segmentation", 3, None)
    np.testing.assert_array_equal(next(result.batches(3))[1], maps)
    assert {"inputs", "maps"} <= result.card.keys()


def test_tags_of_words() -> None:
    names = ["O", "PER"]
    features = hub.Features(
        {
            "id": hub.Value("string"),
            "tokens": hub.List(hub.Value("string")),
            "ner_tags": hub.List(hub.ClassLabel(names=names)),
        }
    )
    columns = {"id": ["0", "1"], "tokens": [["Ada", "codes"], ["so"]], "ner_tags": [[1, 0], [0]]}
    result = data.load(hub.Dataset.from_dict(columns, features=features))
    assert (result.task, result.class_names, result[0][0]) == (
        "tokens",
        tuple(names),
        ["Ada", "codes"],
    )
    np.testing.assert_array_equal(next(result.batches(2))[1], [[1, 0], [0, -100]])


def test_several_classes_per_text() -> None:
    """Two classes of two are both, not a multi-hot row."""
    features = hub.Features(
        {"text": hub.Value("string"), "topics": hub.List(hub.ClassLabel(names=["art", "sea"]))}
    )
    columns = {"text": ["a", "b"], "topics": [[0, 1], [0, 1]]}
    result = data.load(hub.Dataset.from_dict(columns, features=features))
    assert (result.task, result.class_names) == ("multilabel", ("art", "sea"))
    np.testing.assert_array_equal(result.labels(), [[1, 1], [1, 1]])


def test_numbers() -> None:
    columns = {"text": ["a", "b"], "label": [0.5, 2.0], "stars": [4, 2]}
    table = hub.Dataset.from_dict(columns)
    assert data.load(table, label="label").task == "regression"
    assert data.load(table, label="stars").class_names == ("2", "4")
    assert data.load(table, label=["label", "stars"]).labels().shape == (2, 2)  # type: ignore[union-attr]


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    moods(4).save_to_disk(tmp_path / "one")
    hub.DatasetDict({"a": moods(4), "b": moods(4)}).save_to_disk(tmp_path / "both")
    for spec, message in {
        "both": r"name the split, as in hf:.*both/a or /b",
        "both/c": "no split 'c': there are a, b",
        "both/a[:x]": "cannot be loaded: ValueError",
        "nowhere/train": "cannot be loaded: FileNotFoundError",
        "both/a?label=mood": r"no column 'mood': there are text \(text\), label \(class\)",
    }.items():
        with pytest.raises(InputError, match=message):
            data.load(f"hf:{tmp_path}/{spec}")
    with pytest.raises(InputError, match="cannot be loaded"):
        data.load("hf:nobody/has-such-a-thing/train")
    with pytest.raises(InputError, match="name the split, as in hf:imdb/train"):
        data.load("hf:imdb")
    with pytest.raises(InputError, match="has splits: choose one of a, b"):
        data.load(hub.load_from_disk(tmp_path / "both"))
    with pytest.raises(InputError, match="IterableDataset, which has no rows by number"):
        data.load(moods().to_iterable_dataset())
    unlabelled = moods().map(lambda row: {"label": -1})
    with pytest.raises(InputError, match="row 0 has label -1, outside the 3 classes"):
        data.load(unlabelled)
