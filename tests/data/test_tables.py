"""CSV, Parquet, JSON lines and tables in memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxte import InputError, data

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pd = pytest.importorskip("pandas")

REVIEWS: dict[str, list[Any]] = {
    "review": ['dull, "very" dull', "bright\nand long", "1984", "", "na\u00efve"],
    "mood": ["bad", "good", "good", "bad", "good"],
    "stars": [1, 5, 4, 1, 4],
    "score": [0.5, 2.0, 1.25, 0.0, -1.0],
    "funny": [0, 1, 1, 0, 0],
    "sad": [1, 0, 1, 0, 0],
}


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    """A table in the format of the file's ending; its specification."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([columns, *zip(*columns.values(), strict=True)])
    return f"{'csv' if path.suffix == '.tsv' else path.suffix[1:]}:{path}"


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_texts_and_labels(tmp_path: Path, ending: str) -> None:
    spec = write(tmp_path / f"reviews.{ending}", REVIEWS)
    mood = data.load(f"{spec}?text=review&label=mood")
    assert (mood.task, mood.class_names, len(mood)) == ("classification", ("bad", "good"), 5)
    assert [text for text, _ in mood] == REVIEWS["review"]
    assert [label for _, label in mood] == [0, 1, 1, 0, 1]
    assert data.load(spec, text="review", label="mood").card == mood.card
    assert mood.card["name"] == f"reviews.{ending}"
    assert mood.card["columns"] == {"text": "review", "label": "mood"}
    assert mood.card["files"]["of"] == "names, sizes and contents"
    stars = data.load(f"{spec}?text=review&label=stars")
    assert stars.class_names == ("1", "4", "5")
    score = data.load(f"{spec}?text=review&label=score")
    np.testing.assert_array_equal(score.labels(), REVIEWS["score"])
    rating = data.load(f"{spec}?text=review&label=stars&task=regression")
    np.testing.assert_array_equal(rating.labels(), REVIEWS["stars"])
    several = data.load(f"{spec}?text=review&label=funny,sad")
    assert (several.task, several.class_names) == ("multilabel", ("funny", "sad"))
    np.testing.assert_array_equal(several.labels(), np.stack([REVIEWS["funny"], REVIEWS["sad"]], 1))
    both = data.load(spec, text="review", label=("score", "stars"))
    assert (both.task, both.labels().shape) == ("regression", (5, 2))  # type: ignore[union-attr]


def test_usual_names_need_not_be_given(tmp_path: Path) -> None:
    spec = write(tmp_path / "mail.csv", {"id": [7, 8], "text": ["a", "b"], "label": ["x", "y"]})
    mail = data.load(spec)
    assert [example for example, _ in mail] == ["a", "b"]
    assert mail.card["columns"] == {"text": "text", "label": "label"}


def test_escapes_in_a_specification(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    columns: dict[str, list[Any]] = {"a&b": ["x", "y"], "p=q,r": ["u", "v"]}
    write(path, columns)
    odd = data.load(f"csv:{path}?text=a%26b&label=p%3Dq%2Cr")
    assert odd.class_names == ("u", "v")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_words_and_tags(tmp_path: Path, ending: str) -> None:
    columns: dict[str, list[Any]] = {
        "tokens": [["Ada", "codes"], ["so"]],
        "ner": [["PER", "O"], ["O"]],
        "topics": [["art", "sea"], []],
    }
    spec = write(tmp_path / f"words.{ending}", columns)
    tagged = data.load(f"{spec}?words=tokens&label=ner")
    assert (tagged.task, tagged.class_names) == ("tokens", ("O", "PER"))
    assert tagged[0][0] == ["Ada", "codes"]
    np.testing.assert_array_equal(tagged[0][1], [1, 0])
    pairs: dict[str, list[Any]] = {"tokens": [["a", "b"], ["c"]], "ner": [[0, 1], [0, 1]]}
    with pytest.raises(InputError, match="row 1 has 1 words but 2 tags"):
        data.load(write(tmp_path / f"pairs.{ending}", pairs) + "?label=ner")


def images(folder: Path) -> list[np.ndarray]:
    folder.mkdir()
    pixels = list(np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8))
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return pixels


def test_paths_of_images_are_relative_to_the_table(tmp_path: Path) -> None:
    pixels = images(tmp_path / "photos")
    columns = {"path": [f"photos/{i}.png" for i in range(4)], "label": ["a", "b", "a", "b"]}
    spec = write(tmp_path / "index.csv", columns)
    shown = data.load(spec)
    assert shown.task == "classification"
    np.testing.assert_array_equal(next(shown.batches(4))[0], pixels)
    assert shown.card["images"]["number"] == 4
    before = shown.card["images"]["digest"]
    Image.fromarray(pixels[0] // 2).save(tmp_path / "photos" / "0.png")
    assert data.load(spec).card["images"]["digest"] != before
    (tmp_path / "photos" / "2.png").unlink()
    (tmp_path / "photos" / "3.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"2 image files do not exist or are empty: .*2\.png, .*3"):
        data.load(spec)


def test_label_maps_in_files(tmp_path: Path) -> None:
    images(tmp_path / "photos")
    columns: dict[str, list[Any]] = {"image": [], "mask": []}
    masks = np.random.default_rng(1).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(tmp_path / f"{number}.png")
        columns["image"].append(f"photos/{number}.png")
        columns["mask"].append(f"{number}.png")
    spec = write(tmp_path / "pairs.jsonl", columns)
    scenes = data.load(f"{spec}?label=mask&task=segmentation&classes=sky,sea,land")
    assert (scenes.class_names, scenes.card["images"]["number"]) == (("sky", "sea", "land"), 8)
    np.testing.assert_array_equal(next(scenes.batches(4, workers=2))[1], masks)
    unnamed = data.load(spec, label="mask", task="segmentation", ignore=0)
    assert (unnamed.num_classes, unnamed.ignore) == (None, 0)


def test_images_within_a_table(tmp_path: Path) -> None:
    """As bytes, and as Hugging Face stores them."""
    pixels = images(tmp_path / "photos")
    contents = [(tmp_path / "photos" / f"{i}.png").read_bytes() for i in range(4)]
    stored: list[dict[str, Any]] = [{"bytes": content, "path": None} for content in contents]
    stored[3] = {"bytes": None, "path": "photos/3.png"}
    columns: dict[str, list[Any]] = {"a": contents, "b": stored, "label": [0, 1, 0, 1]}
    spec = write(tmp_path / "images.parquet", columns)
    for column in "ab":
        result = data.load(spec, image=column)
        np.testing.assert_array_equal(next(result.batches(4))[0], pixels)


def test_tables_in_memory() -> None:
    table = data.load(pa.table(REVIEWS), text="review", label="mood")
    assert table[4] == ("na\u00efve", 1)
    pandas = pytest.importorskip("pandas")
    frame = data.load(pandas.DataFrame(REVIEWS), text="review", label="mood")
    assert list(frame) == list(table)
    assert frame.card == table.card
    changed = data.load(pa.table({**REVIEWS, "review": list("abcde")}), text="review", label="mood")
    assert changed.card["inputs"] != table.card["inputs"]
    categories = pandas.DataFrame(REVIEWS).astype({"mood": "category"})
    assert list(data.load(categories, text="review", label="mood")) == list(table)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "text=reviews&label=mood",
            r"no column 'reviews': there are review \(text\), mood \(text\)",
        ),
        ("text=review&label=moods", "no column 'moods': there are"),
        ("text=review", r"say which column is the label=; there are review \(text\)"),
        ("label=stars", r"say which column has the examples, image=, text= or words=; there are"),
        ("text=review&image=mood&label=stars", "choose one of image and text"),
        ("words=review&label=stars", "column 'review' holds text, not words"),
        ("image=stars&label=mood", "column stars holds number, not images or paths"),
        ("text=review&label=mood,stars", "mood holds no numbers"),
        ("text=review&label=mood&classes=good,worse", "row 0 has label 'bad'"),
        ("text=review&label=stars&classes=3", "row 0 .*|row 1 has label 5"),
        ("text=review&label=mood&subset=9", "a subset of 9 rows"),
        ("text=review&label=mood&data_dir=x", "data_dir is for tfds:"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path: Path, query: str, message: str) -> None:
    spec = write(tmp_path / "reviews.csv", REVIEWS)
    with pytest.raises(InputError, match=message):
        data.load(f"{spec}?{query}")


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_files_that_cannot_be_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"broken.{ending}"
    with pytest.raises(InputError, match=r"broken\.\w+ is no file"):
        data.load(f"{ending}:{path}")
    path.write_bytes(b'{"a": [1, 2\n\x00\x93PAR1')
    with pytest.raises(InputError):
        data.load(f"{ending}:{path}?text=a&label=b")


def test_gaps_are_named(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": ["a", None, "c"], "label": [1, 0, None]}
    spec = write(tmp_path / "gaps.jsonl", columns)
    with pytest.raises(InputError, match="row 2 has no label in label"):
        data.load(spec)
    filled = write(tmp_path / "text.jsonl", {**columns, "label": [1, 0, 1]})
    with pytest.raises(InputError, match="row 1, text is missing"):
        list(data.load(filled))
    with pytest.raises(InputError, match="has no rows"):
        data.load(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.int8())}))


def test_a_row_may_be_long(tmp_path: Path) -> None:
    long = "word " * 600_000
    for ending in ("csv", "jsonl"):
        spec = write(tmp_path / f"long.{ending}", {"text": ["a", long], "label": [0, 1]})
        assert data.load(spec)[1][0] == long


# --- what may be wrong with a table --------------------------------------------------------------

TEXT = "text,label\ncafé,0\nnaïve,1\n"
LINES = '{"text": "café", "label": 0}\n{"text": "naïve", "label": 1}\n'


@pytest.mark.parametrize(("kind", "text"), [("csv", TEXT), ("jsonl", LINES)])
@pytest.mark.parametrize(
    ("encoding", "asked"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16-le"),
        ("latin-1", "latin-1"),
        ("cp1252", "cp1252"),
    ],
)
def test_encodings_that_are_known(
    kind: str, text: str, encoding: str, asked: str | None, tmp_path: Path
) -> None:
    file = tmp_path / f"t.{kind}"
    file.write_bytes(text.encode(encoding))
    result = data.load(f"{kind}:{file}", encoding=asked)
    assert list(result) == [("café", 0), ("naïve", 1)]
    if asked:
        assert list(data.load(f"{kind}:{file}?encoding={asked}")) == list(result)


# content -> the file, the line and the column that the message names
FAULTS: dict[str, tuple[bytes, str]] = {
    "latin-1": (TEXT.encode("latin-1"), r"line 2, column 'text': byte 0xe9 is not UTF-8.*latin-1"),
    "latin-1 behind": (
        "a,text,label\n1,b,0\n2,é,1\n".encode("latin-1"),
        r"line 3, column 'text': byte 0xe9",
    ),
    "latin-1 header": ("tëxt,label\na,0\n".encode("latin-1"), r"line 1, .*byte 0xeb"),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), "line 1 has NUL bytes: if it is UTF-16"),
    "too many": (b"text,label\na,0\nb,1,2\nc,1\n", r"line 3 \(row 1\) has 3 cells for 2"),
    "too few": (b"text,label\na,0\n\nb\nc,1\n", r"line 4 \(row 1\) has 1 cells.*none for 'label'"),
    "open quote": (b'text,label\na,0\n"b,1\nc,0\n', r"line 3 \(row 1\): a quote"),
    "open at the end": (b'text,label\na,0\nb,"1\n', r"line 3 \(row 1\): a quote"),
    "swallowed": (b'label,text\n0,"a\n1,"b\n', r"line 2 \(row 0\): a quote"),
    "label twice": (b"text,label,label\na,0,1\nb,1,1\n", "column 'label' occurs 2 times"),
    "text twice": (b"text,text,label\na,c,0\nb,d,1\n", "column 'text' occurs 2 times"),
    "NUL in a text": (b"text,label\na,0\nb\0c,1\n", "column 'text', row 1 has a NUL"),
    "NUL in a label": (b"text,label\na,x\nb,x\0\n", "column 'label', row 1 has a NUL"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_csv_are_named(fault: str, tmp_path: Path) -> None:
    content, said = FAULTS[fault]
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as raised:
        data.load(f"csv:{file}")
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'text,label\n"a, ""b""\nc",0\nd,1\n', [('a, "b"\nc', 0), ("d", 1)]),
        (b'text,label\n5" disk,0\nd,1\n', [('5" disk', 0), ("d", 1)]),
        (b"text,label,z,z\na,0,1,2\nb,1,1,2\n", [("a", 0), ("b", 1)]),
        (b"text,label\n007,0\n1.50,1\n", [("007", 0), ("1.50", 1)]),
        (b"text,label\ntrue,0\nfalse,1\n", [("true", 0), ("false", 1)]),
        (b"text,label\n2020-01-01,0\n2020-02-01,1\n", [("2020-01-01", 0), ("2020-02-01", 1)]),
    ],
)
def test_what_is_no_fault(content: bytes, rows: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert list(data.load(f"csv:{tmp_path / 't.csv'}")) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LINES.encode("latin-1"), "line 1: byte 0xe9 is not UTF-8"),
        (b'{"text":"a","label":0}\n{"text":"b","label":"x"}\n', r"Column\(/label\).*in row 1"),
        (b'{"text":"a","label":0,"label":1}\n', r"Column\(/label\) was specified twice in row 0"),
        (b'{"text":"a","label":0}\n{"text":"b","label":\n', "in row 1"),
    ],
)
def test_faults_of_json_lines_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=said) as raised:
        data.load(f"jsonl:{tmp_path / 't.jsonl'}")
    assert "t.jsonl" in str(raised.value)


def test_a_column_twice_in_tables_of_every_kind(tmp_path: Path) -> None:
    frame = pd.DataFrame([["a", 0, 1], ["b", 1, 1]], columns=["text", "label", "label"])
    arrow = pa.table([["a", "b"], [0, 1], [1, 1]], names=["text", "label", "label"])
    pq.write_table(arrow, tmp_path / "t.parquet")
    for source in (frame, arrow, f"parquet:{tmp_path / 't.parquet'}"):
        with pytest.raises(InputError, match="column 'label' occurs 2 times"):
            data.load(source)
    frame.columns = pd.Index(["text", "z", "z"])
    frame["label"] = [0, 1]
    assert list(data.load(frame)) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("label", ["x", 1, 2.5], "column 'label', row 1: 1 is of type int among .* str"),
        ("label", [0, 1, "x"], "column 'label', row 2: 'x' is of type str among .* int"),
        ("text", ["a", None, 3], "column 'text', row 2: 3 is of type int"),
        ("text", ["a", b"b", "c"], "column 'text', row 1: b'b' is of type bytes"),
    ],
)
def test_a_column_of_mixed_types(column: str, values: list[Any], said: str) -> None:
    columns: dict[str, Any] = {"text": list("abc"), "label": [0, 1, 1]}
    with pytest.raises(InputError, match=said):
        data.load(pd.DataFrame({**columns, column: pd.Series(values, dtype=object)}))
    unused = pd.DataFrame({**columns, "more": pd.Series(values, dtype=object)})
    assert len(data.load(unused)) == 3


def test_encodings_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(TEXT.encode("latin-1"))
    for encoding, said in (("klingon", "no encoding 'klingon'"), ("utf-8", "is not utf-8")):
        with pytest.raises(InputError, match=said):
            data.load(f"csv:{tmp_path / 't.csv'}", encoding=encoding)
    with pytest.raises(InputError, match="encoding is for csv: and jsonl:, not zoo:"):
        data.load("zoo:digits", encoding="latin-1")
