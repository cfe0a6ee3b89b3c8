"""Data sets that tensorflow-datasets itself wrote, read back without TensorFlow."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxte import InputError, data

from .builders import DIGITS, digits, png, prepare, prepare_digits

tfds = pytest.importorskip("tensorflow_datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
features = tfds.features


def load(spec: str, directory: Path, **options: Any) -> data.Dataset:
    return data.load(f"tfds:{spec}", data_dir=str(directory), **options)


def test_rows_are_the_images_and_labels_that_went_in(prepared: Path) -> None:
    images, classes = digits()
    train = load("scanned_digits/train", prepared)
    assert (len(train), train.task, train.class_names) == (1000, "classification", DIGITS)
    for row in (0, 1, 333, 334, 999):  # on both sides of a shard's end
        image, label = train[row]
        np.testing.assert_array_equal(image, images[row][..., None])
        assert (image.dtype, label, train.label(row)) == (np.uint8, classes[row], classes[row])
        assert type(label) is type(train.label(row)) is int
    labels = train.labels()
    assert labels is not None
    np.testing.assert_array_equal(labels, classes[:1000])
    assert labels.dtype == np.int32


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train[:5]", range(5)),
        ("train[330:340]", range(330, 340)),
        ("train[10%:20%]", range(100, 200)),
        ("train[-3:]", range(997, 1000)),
        ("test[:2]+train[332:336]", [1000, 1001, 332, 333, 334, 335]),
    ],
)
def test_slices(prepared: Path, split: str, rows: Any) -> None:
    images, classes = digits()
    part = load(f"scanned_digits/{split}", prepared)
    np.testing.assert_array_equal(part.labels(), classes[list(rows)])
    result = np.stack([part[row][0][..., 0] for row in range(len(part))])
    np.testing.assert_array_equal(result, images[list(rows)])
    assert part.card["split"] == split


def test_agrees_with_the_library_on_a_shuffled_set(tmp_path: Path) -> None:
    """Where tensorflow-datasets has shuffled, its own order is the order."""

    known = features.FeaturesDict({"text": features.Text(), "label": np.int64})
    rows = [{"text": f"number {row}", "label": row % 3} for row in range(50)]
    prepare(tmp_path, "shuffled_numbers", known, {"train": rows}, shuffle=True)
    own = tfds.data_source("shuffled_numbers", split="train[5:30]", data_dir=tmp_path)
    read = load("shuffled_numbers/train[5:30]", tmp_path)
    assert [read[row][0] for row in range(25)] == [each["text"].decode() for each in own]
    assert [read[row][1] for row in range(25)] == [each["label"] for each in own]
    assert [read[row][0] for row in range(25)] != [f"number {i}" for i in range(5, 30)]


def rewrite(directory: Path, stored: str) -> None:
    """Prepared array_record shards in another format.

    The library needs TensorFlow to write TFRecord, and its Parquet (4.9.10) lacks most rows.
    """
    source = pytest.importorskip("array_record.python.array_record_data_source")
    (info,) = directory.rglob("dataset_info.json")
    for shard in list(directory.rglob("*.array_record*")):
        records = list(source.ArrayRecordDataSource(str(shard)))
        path = shard.with_name(shard.name.replace("array_record", stored))
        if stored == "parquet":
            pq.write_table(pa.table({"data": pa.array(records, pa.binary())}), path)
        else:
            checksum = b"\0" * 4
            parts = ((struct.pack("<Q", len(r)), checksum, r, checksum) for r in records)
            path.write_bytes(b"".join(b"".join(part) for part in parts))
        shard.unlink()
    content = json.loads(info.read_text())
    content["fileFormat"] = stored
    info.write_text(json.dumps(content))


@pytest.mark.parametrize("stored", ["tfrecord", "parquet"])
def test_other_formats_have_random_access_too(tmp_path: Path, stored: str) -> None:
    images, classes = digits()
    prepare_digits(tmp_path, num_shards=2)
    rewrite(tmp_path, stored)
    part = load("scanned_digits/train[490:510]", tmp_path)
    np.testing.assert_array_equal(part.labels(), classes[490:510])
    np.testing.assert_array_equal(part[15][0][..., 0], images[505])


@pytest.mark.parametrize("stored", ["tfrecord", "parquet"])
def test_missing_records_are_named(tmp_path: Path, stored: str) -> None:
    prepare_digits(tmp_path)
    rewrite(tmp_path, stored)
    (shard,) = tmp_path.rglob(f"*train.{stored}*")
    if stored == "parquet":
        pq.write_table(pq.read_table(shard).slice(0, 999), shard)
    else:
        shard.write_bytes(shard.read_bytes()[:-10])
    assert len(load("scanned_digits/train[:999]", tmp_path)) == 999
    with pytest.raises(InputError, match=rf"{shard.name} holds 999 whole records of 1000"):
        load("scanned_digits/train", tmp_path)


def test_damaged_array_record_is_an_input_error(tmp_path: Path) -> None:
    prepare_digits(tmp_path)
    (shard,) = tmp_path.rglob("*train.array_record*")
    shard.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        load("scanned_digits/train", tmp_path)[0]


def test_no_tensorflow_is_imported(prepared: Path) -> None:
    code = f"""
import sys
from jaxte import data
part = data.load("tfds:scanned_digits/train[:3]", data_dir={str(prepared)!r})
assert part[2][0].shape == (8, 8, 1)
assert not {{"tensorflow", "tf", "torch", "datasets"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_names_configs_and_versions(prepared: Path, tmp_path: Path) -> None:
    assert len(load("scanned_digits:1.2.3/test", prepared)) == 797
    with pytest.raises(InputError, match="there is no such data set"):
        load("scanned_digits:3.2.1/test", prepared)
    whole, config = prepared / "scanned_digits" / "1.2.3", tmp_path / "scanned_digits" / "small"
    config.mkdir(parents=True)
    (config / "1.2.3").symlink_to(whole)
    for spec in ("scanned_digits/small/test", "scanned_digits:small/test"):
        assert len(load(spec, tmp_path)) == 797
    assert len(load("scanned_digits/small:1.2.3/test[:7]", tmp_path)) == 7


def test_words_and_their_tags(tmp_path: Path) -> None:
    names = ["O", "PERSON"]
    known = features.FeaturesDict(
        {
            "tokens": features.Sequence(features.Text()),
            "ner": features.Sequence(features.ClassLabel(names=names)),
        }
    )
    rows = [
        {"tokens": ["Ada", "thinks", "\u00fcber"], "ner": [1, 0, 0]},
        {"tokens": ["so"], "ner": [0]},
    ]
    prepare(tmp_path, "sentences", known, {"train": rows})
    tagged = load("sentences/train", tmp_path)
    assert (tagged.task, tagged.class_names, tagged.ignore) == ("tokens", tuple(names), -100)
    assert tagged[0][0] == ["Ada", "thinks", "\u00fcber"]
    _, labels = next(tagged.batches(2))
    np.testing.assert_array_equal(labels, [[1, 0, 0], [0, -100, -100]])
    assert tagged.labels() is None
    wrong = [{"tokens": ["one"], "ner": [0, 0]}]
    prepare(tmp_path, "wrong", known, {"train": wrong})
    with pytest.raises(InputError, match="row 0 has 1 words, 2 tags"):
        load("wrong/train", tmp_path)[0]


def test_label_maps(tmp_path: Path) -> None:
    known = features.FeaturesDict(
        {"image": features.Image(), "mask": features.Image(shape=(None, None, 1))}
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    masks = generator.integers(0, 3, (4, 6, 5)).astype(np.uint8)
    masks[0, 0, 0] = 255
    rows = [
        {"image": io.BytesIO(png(image)), "mask": io.BytesIO(png(mask))}
        for image, mask in zip(images, masks, strict=True)
    ]
    prepare(tmp_path, "scenes", known, {"train": rows})
    scenes = load("scenes/train", tmp_path, image="image", label="mask", classes=3)
    assert (scenes.task, scenes.num_classes, scenes.ignore) == ("segmentation", 3, 255)
    inputs, maps = next(scenes.batches(4))
    np.testing.assert_array_equal(inputs, images)
    np.testing.assert_array_equal(maps, masks)
    np.testing.assert_array_equal(scenes.label(2), masks[2])
    few = load("scenes/train", tmp_path, image="image", label="mask", classes=2)
    with pytest.raises(
        InputError, match=r"row \d has label 2, which is neither a class \(0 to 1\)"
    ):
        list(few.batches(4))


def test_regression_and_multilabel(tmp_path: Path) -> None:
    known = features.FeaturesDict(
        {
            "text": features.Text(),
            "grade": np.float32,
            "place": features.Tensor(shape=(2,), dtype=np.float64),
            "topics": features.Sequence(features.ClassLabel(names=["art", "law", "sea"])),
            "stars": np.int64,
            "mood": features.Text(),
        }
    )
    rows: list[dict[str, Any]] = [
        {"text": "a", "grade": 0.5, "place": [1, 2], "topics": [0, 2], "stars": 5, "mood": "sad"},
        {"text": "b", "grade": 1.5, "place": [3, 4], "topics": [], "stars": 2, "mood": "gay"},
        {"text": "c", "grade": 2.5, "place": [5, 6], "topics": [1], "stars": 5, "mood": "sad"},
    ]
    prepare(tmp_path, "reports", known, {"train": rows})

    def labelled(column: str) -> data.Dataset:
        return load("reports/train", tmp_path, text="text", label=column)

    grade, place, topics = labelled("grade"), labelled("place"), labelled("topics")
    assert (grade.task, place.task, topics.task) == ("regression", "regression", "multilabel")
    np.testing.assert_array_equal(grade.labels(), [0.5, 1.5, 2.5])
    np.testing.assert_array_equal(place.labels(), [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(topics.labels(), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert topics.class_names == ("art", "law", "sea")
    stars, mood = labelled("stars"), labelled("mood")
    assert (stars.class_names, mood.class_names) == (("2", "5"), ("gay", "sad"))
    assert [mood[row] for row in range(3)] == [("a", 1), ("b", 0), ("c", 1)]


def test_missing_labels_are_named(tmp_path: Path) -> None:
    """Test splits without labels have -1 for them."""
    known = features.FeaturesDict(
        {"text": features.Text(), "label": features.ClassLabel(names=["a"])}
    )
    prepare(tmp_path, "bare", known, {"test": [{"text": "x", "label": -1}]})
    with pytest.raises(InputError, match="row 0 has label -1, outside the 1 classes"):
        load("bare/test", tmp_path).labels()


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("scanned_digit/train", {}, "there is no such data set, and none in data_dir"),
        ("mnis/train", {}, "did you mean 'mnist' or 'kmnist' or 'emnist'"),
        ("scanned_digits", {}, "name the split, as in tfds:scanned_digits/"),
        ("scanned_digits/val", {}, "no split 'val' in scanned_digits: there are train, test"),
        ("scanned_digits/train[:0]", {}, "has no rows"),
        (
            "scanned_digits/train",
            {"label": "class"},
            r"no column 'class': there are image \(image\), label \(class\)",
        ),
        ("scanned_digits/train", {"text": "image"}, "image holds image, not text"),
    ],
)
def test_errors_say_what_there_is(
    prepared: Path, spec: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(spec, prepared, **options)


def test_what_must_be_prepared_first_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preparing may need TensorFlow; reading does not."""

    def fail(self: Any, **options: Any) -> None:
        raise RuntimeError("while encoding") from ModuleNotFoundError(name="tensorflow")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ImportError, match="not prepared yet, and needs tensorflow"):
        load("mnist/train", tmp_path)


def test_card_identifies_the_files(prepared: Path, tmp_path: Path) -> None:
    card = load("scanned_digits/train[:10]", prepared).card
    assert json.loads(json.dumps(card)) == card
    assert (card["source"], card["name"], card["version"]) == ("tfds", "scanned_digits", "1.2.3")
    assert card["columns"] == {"image": "image", "label": "label"}
    assert card["class_names"] == list(DIGITS)
    prepare_digits(tmp_path, num_shards=3)
    assert load("scanned_digits/train[:10]", tmp_path).card == card  # wherever it lies
