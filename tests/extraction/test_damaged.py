"""Damaged examples: found beforehand, left out on request, mended while a store is unfinished."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import jaxte
from jaxte import InputError, data
from jaxte.data import Dataset
from jaxte.extraction.loop import Extraction, extraction
from jaxte.extraction.models import as_model
from jaxte.extraction.plan import plan
from jaxte.extraction.preprocess import Images
from jaxte.store import FeatureStore

BAD = 13  # of 20 rows, ten of each class: b/3.png
MODEL = as_model(lambda x: x.reshape(len(x), -1), prepare=Images(size=4, scale=1.0), name="m")


def folder(root: Path) -> Path:
    """20 small images in two classes, of which one is cut short."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (4, 4, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def cut(root: Path, row: int = BAD) -> tuple[Path, bytes]:
    file = root / "ab"[row // 10] / f"{row % 10}.png"
    content = file.read_bytes()
    file.write_bytes(content[:50])
    return file, content


def run(source: Any, out: Path | None = None, **options: Any) -> Extraction:
    return extraction(MODEL, source, out=out, **{"batch_size": 4} | options)


def loaded(root: Path) -> Dataset:
    return data.load(f"folder:{root}")


@pytest.mark.parametrize("workers", [0, 2])
def test_they_are_found_beforehand(workers: int, tmp_path: Path) -> None:
    whole = loaded(folder(tmp_path / "d"))
    assert whole.damaged() == {}
    file, _ = cut(tmp_path / "d")
    seen: list[int] = []
    result = whole.damaged(workers=workers, progress=lambda done, total, name: seen.append(done))
    assert list(result) == [BAD]
    assert f"{file} cannot be read as an image" in result[BAD]
    assert seen == list(range(1, 21))
    assert len(whole.without(result)) == 19


class Rows(Dataset):
    """Rows of arrays, of which some cannot be read."""

    name, num_classes = "own", 2

    def __init__(self, bad: tuple[int, ...]) -> None:
        self.bad = bad
        self.x = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
        self.card = {"rows": 20}

    def __len__(self) -> int:
        return len(self.x)

    def read(self, row: int) -> tuple[Any, Any]:
        if row in self.bad:
            raise KeyError(f"row {row} is gone")
        return self.x[row], row % 2


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "bad", [(13,), (0,), (0, 1, 2, 3), (4, 5, 6, 7), (19,), (16, 17, 18, 19), (1, 6, 13, 18, 19)]
)
def test_they_are_left_out_on_request(
    bad: tuple[int, ...], stored: bool, workers: int, tmp_path: Path
) -> None:
    out, source = tmp_path / "s" if stored else None, Rows(bad)
    options: dict[str, Any] = {"out": out, "batch_size": 4, "workers": workers}
    store = jaxte.extract(lambda x: 2 * x, source, on_error="skip", **options)
    kept = [row for row in range(20) if row not in bad]
    np.testing.assert_array_equal(np.asarray(store), 2 * source.x[kept])
    np.testing.assert_array_equal(store.labels, np.asarray(kept) % 2)
    assert list(store.manifest["skipped"]) == [str(row) for row in bad]
    assert f"row {bad[0]} is gone" in store.manifest["skipped"][str(bad[0])]
    assert store.manifest["examples"] == 20
    if out is not None:
        again = jaxte.extract(lambda x: 2 * x, source, on_error="skip", **options)
        assert again.manifest == store.manifest == FeatureStore.open(out).manifest


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_files_that_are_not_there(empty: bool, tmp_path: Path) -> None:
    """Named when the data are loaded, unless they are to be left out."""
    table(folder(tmp_path), True)
    (tmp_path / "b" / "3.png").write_bytes(b"") if empty else (tmp_path / "b" / "3.png").unlink()
    specs = [f"csv:{tmp_path / 't.csv'}", *([f"folder:{tmp_path}"] if empty else [])]
    for spec in specs:
        with pytest.raises(InputError, match=r"b/3.png: remove or replace them, .*'skip'"):
            data.load(spec)
        source = data.load(spec, on_error="skip")
        assert list(source.damaged()) == [BAD]
        result = run(source, on_error="skip")
        assert (list(result.store.manifest["skipped"]), result.store.rows) == ([str(BAD)], 19)


def test_streams_leave_them_out_too(caplog: pytest.LogCaptureFixture) -> None:
    source = Rows((1, 6, 18))
    state = jaxte.stream(lambda x: 2 * x, source, on_error="skip", batch_size=4)
    assert state.counts.tolist() == [8, 9]
    assert "3 examples could not be read and are left out: row 1" in caplog.text


def test_what_cannot_be_skipped() -> None:
    source = Rows(tuple(range(20)))
    with pytest.raises(
        InputError, match=r"no example can be read: row 0 \(KeyError.*row 0 is gone"
    ):
        jaxte.extract(lambda x: x, source, on_error="skip")
    batches = [(source.x, np.arange(20) % 2)]
    for call in (jaxte.extract, jaxte.stream):
        with pytest.raises(InputError, match="on_error='skip' needs a Dataset"):
            call(lambda x: x, batches, on_error="skip")
        with pytest.raises(InputError, match="unknown on_error 'ignore'"):
            call(lambda x: x, batches, on_error=cast(Any, "ignore"))


def test_the_error_says_what_to_do(tmp_path: Path) -> None:
    cut(folder(tmp_path / "d"))
    with pytest.raises(InputError, match=r"b/3.png cannot be read") as raised:
        run(loaded(tmp_path / "d"), tmp_path / "s")
    assert any("on_error='skip'" in note for note in raised.value.__notes__)


def test_skipping_survives_an_interruption_and_a_repair(tmp_path: Path) -> None:
    """What was stored stays as it is, though a row that it lacks can be read now."""
    cut(folder(tmp_path / "d"), 17)
    file, content = cut(tmp_path / "d", 2)
    with pytest.raises(InputError, match=r"b/7\.png"):
        run(loaded(tmp_path / "d").without([2]), tmp_path / "other")
    calls = []

    def stops(images: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("stopped")
        return MODEL.prepare(images) if MODEL.prepare else None

    model = as_model(MODEL, prepare=stops)
    with pytest.raises(RuntimeError, match="stopped"):
        extraction(model, loaded(tmp_path / "d"), out=tmp_path / "s", batch_size=4, on_error="skip")
    file.write_bytes(content)
    result = extraction(
        model, loaded(tmp_path / "d"), out=tmp_path / "s", batch_size=4, on_error="skip"
    )
    assert result.status == "resumed"
    assert list(result.store.manifest["skipped"]) == ["2", "17"]
    assert result.store.rows == 18
    assert result.notes == (
        f"2 examples could not be read and are left out: row 2 "
        f"({result.store.manifest['skipped']['2']}), ...",
    )


# --- repaired or removed while the store is unfinished -------------------------------------------


def begun(tmp_path: Path, bad: int = BAD) -> tuple[Path, Path, bytes]:
    root = folder(tmp_path / "d")
    file, content = cut(root, bad)
    with pytest.raises(InputError, match="cannot be read as an image"):
        run(loaded(root), tmp_path / "s")
    assert FeatureStore.open(tmp_path / "s", partial=True).rows == 12
    return root, file, content


@pytest.mark.parametrize("way", ["repaired", "removed", "replaced", "more behind"])
def test_a_row_that_is_not_stored_yet_may_change(way: str, tmp_path: Path) -> None:
    root, file, content = begun(tmp_path)
    file.unlink() if way == "removed" else file.write_bytes(content)
    if way == "replaced":
        Image.fromarray(np.full((7, 6, 3), 9, np.uint8)).save(file)
    if way == "more behind":
        Image.fromarray(np.full((7, 6, 3), 9, np.uint8)).save(root / "b" / "99.png")
    source = loaded(root)
    assert plan(MODEL, source, tmp_path / "s").state == "resume"
    result = run(source, tmp_path / "s")
    assert result.status == "resumed"
    fresh = run(source).store
    np.testing.assert_array_equal(np.asarray(result.store), np.asarray(fresh))
    np.testing.assert_array_equal(result.store.labels, fresh.labels)
    assert result.store.manifest["data"]["card"] == fresh.manifest["data"]["card"]
    assert run(source, tmp_path / "s").status == "cached"


@pytest.mark.parametrize("row", range(12))
@pytest.mark.parametrize("mended", [False, True])
def test_a_stored_row_may_not(row: int, mended: bool, tmp_path: Path) -> None:
    root, file, content = begun(tmp_path)
    if mended:
        file.write_bytes(content)
    other = root / "ab"[row // 10] / f"{row % 10}.png"
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(other)
    first = row // 4 * 4
    said = rf"inputs of batch {row // 4} are not those .*rows {first} to {first + 3}"
    with pytest.raises(InputError, match=said):
        run(loaded(root), tmp_path / "s")
    assert FeatureStore.open(tmp_path / "s", partial=True).rows == 12


@pytest.mark.parametrize("row", [0, 5, 11])
def test_nor_may_it_go(row: int, tmp_path: Path) -> None:
    root, file, content = begun(tmp_path)
    file.write_bytes(content)
    (root / "ab"[row // 10] / f"{row % 10}.png").unlink()
    with pytest.raises(InputError, match=r"of batch \d are not those that were stored"):
        run(loaded(root), tmp_path / "s")


def test_a_complete_store_is_of_all_its_rows(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    run(loaded(root), tmp_path / "s")
    (root / "b" / "9.png").unlink()
    with pytest.raises(InputError, match=r"something else: data.card.files.number was 20"):
        run(loaded(root), tmp_path / "s")


def table(root: Path, bad: bool) -> Dataset:
    """Paths of images in a CSV, as another kind of data whose card covers all rows."""
    rows = [f"{'ab'[i // 10]}/{i % 10}.png,{i // 10}" for i in range(20)]
    if not bad:
        rows.pop(BAD)
    (root / "t.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    return data.load(f"csv:{root / 't.csv'}")


def arrays(root: Path, bad: bool) -> Dataset:
    images = [
        np.asarray(Image.open(root / "ab"[i // 10] / f"{i % 10}.png"))
        for i in range(20)
        if i != BAD
    ]
    images.insert(BAD, np.zeros((4, 4, 3))) if bad else None
    return data.as_dataset(images, [0] * 10 + [1] * (len(images) - 10))


@pytest.mark.parametrize("make", [table, arrays])
def test_other_kinds_of_data(make: Any, tmp_path: Path) -> None:
    cut(folder(tmp_path / "d"))
    with pytest.raises(InputError):
        run(make(tmp_path / "d", True), tmp_path / "s")
    result = run(make(tmp_path / "d", False), tmp_path / "s")
    assert (result.status, result.store.rows) == ("resumed", 19)
