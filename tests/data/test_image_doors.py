"""An image of any kind gives the same pixels by every way in."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxte
from jaxte import InputError, data
from jaxte.extraction.preprocess import Images

from .builders import prepare

R = np.random.default_rng(0)
RGB = R.integers(0, 256, (4, 5, 3)).astype(np.uint8)
COLOUR = Image.fromarray(RGB)
ALPHA = R.integers(0, 256, (4, 5)).astype(np.uint8)
RGBA = Image.fromarray(np.dstack([RGB, ALPHA]))
DEEP = R.integers(0, 65536, (4, 5)).astype(np.uint16)
TURNED = COLOUR.getexif()
TURNED[0x0112] = 6  # to be turned by 90 degrees


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.rint((pixels * (alpha / 255)[..., None]) + (255 - alpha.astype(float))[..., None])


def rgb(grey: Any) -> np.ndarray:
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


GREY = np.asarray(COLOUR.convert("L"))
PALETTE = COLOUR.convert("P")
PLACES, COLOURS = np.asarray(PALETTE), np.asarray(PALETTE.convert("RGB"))
HOLE = int(PLACES[1, 1])
# name -> image, format, options of saving, the pixels that are right
KINDS: dict[str, tuple[Any, str, dict[str, Any], np.ndarray]] = {
    "RGB": (COLOUR, "PNG", {}, RGB),
    "L": (COLOUR.convert("L"), "PNG", {}, rgb(GREY)),
    "1": (COLOUR.convert("1"), "PNG", {}, rgb(np.asarray(COLOUR.convert("1")) * 255)),
    "P": (PALETTE, "PNG", {}, COLOURS),
    "P with a hole": (
        PALETTE,
        "PNG",
        {"transparency": HOLE},
        np.where((PLACES == HOLE)[..., None], 255, COLOURS),
    ),
    "RGB with a hole": (
        COLOUR,
        "PNG",
        {"transparency": tuple(int(one) for one in RGB[2, 2])},
        np.where((RGB[2, 2] == RGB).all(2)[..., None], 255, RGB),
    ),
    "RGBA": (RGBA, "PNG", {}, on_white(RGB, ALPHA)),
    "LA": (RGBA.convert("LA"), "PNG", {}, on_white(rgb(GREY), ALPHA)),
    "CMYK": (COLOUR.convert("CMYK"), "TIFF", {}, RGB),
    "I;16": (Image.fromarray(DEEP), "PNG", {}, rgb(np.floor(DEEP / 257 + 0.5))),
    "I": (Image.fromarray(DEEP.astype(np.int32)), "TIFF", {}, rgb(np.floor(DEEP / 257 + 0.5))),
    "turned": (COLOUR, "PNG", {"exif": TURNED}, np.rot90(RGB, -1)),
}


def content(image: Any, kind: str, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def opened(file: bytes) -> Any:
    return Image.open(io.BytesIO(file))


def of_folder(file: bytes, root: Path) -> Any:
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / "1.png").write_bytes(file)  # Pillow goes by the content
    return data.load(f"folder:{root}")


def of_paths(file: bytes, root: Path) -> Any:
    (root / "1.png").write_bytes(file)
    (root / "t.csv").write_text("image,label\n1.png,0\n1.png,1\n")
    return data.load(f"csv:{root / 't.csv'}")


def of_hugging_face(file: bytes, root: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    rows = {"image": [{"bytes": file, "path": None}] * 2, "label": [0, 1]}
    return data.load(datasets.Dataset.from_dict(rows, features=datasets.Features(features)))


def of_batches_of_hugging_face(file: bytes, root: Path) -> Any:
    source = of_hugging_face(file, root)
    assert len(source) == 2
    return [{"image": [opened(file), opened(file)], "label": [0, 1]}]


def of_tfds(file: bytes, root: Path) -> Any:
    tfds = pytest.importorskip("tensorflow_datasets")
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
    rows = [{"image": io.BytesIO(file), "label": label} for label in (0, 1)]
    prepare(root, "few", tfds.features.FeaturesDict(features), {"train": rows})
    return data.load("tfds:few/train", data_dir=str(root))


DOORS: dict[str, Callable[[bytes, Path], Any]] = {
    "folder": of_folder,
    "paths": of_paths,
    "Hugging Face": of_hugging_face,
    "dicts": of_batches_of_hugging_face,
    "batches": lambda file, root: [([opened(file), opened(file)], [0, 1])],
    "as_dataset": lambda file, root: data.as_dataset([opened(file), opened(file)], [0, 1]),
    "tfds": of_tfds,
}


@pytest.mark.parametrize("prepared", [False, True], ids=["as they are", "prepared"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_the_same_pixels(door: str, kind: str, prepared: bool, tmp_path: Path) -> None:
    image, form, options, expected = KINDS[kind]
    if door == "tfds" and form != "PNG":
        pytest.skip("tensorflow-datasets stores PNG and JPEG")
    source = DOORS[door](content(image, form, options), tmp_path)
    ready = Images(size=expected.shape[:2], scale=1.0) if prepared else None
    store = jaxte.extract(lambda x: x.reshape(len(x), -1), source, prepare=ready)
    for row in np.asarray(store):
        np.testing.assert_array_equal(row.reshape(expected.shape), expected)


@pytest.mark.parametrize("prepared", [False, True], ids=["as they are", "prepared"])
@pytest.mark.parametrize("door", [door for door in DOORS if door != "tfds"])
def test_floats_have_no_range_that_is_known(door: str, prepared: bool, tmp_path: Path) -> None:
    floats = Image.fromarray(R.random((4, 5)).astype(np.float32))
    ready = Images(size=(4, 5)) if prepared else None

    def run() -> None:
        source = DOORS[door](content(floats, "TIFF", {}), tmp_path)
        jaxte.extract(lambda x: x.reshape(len(x), -1), source, prepare=ready)

    with pytest.raises(InputError, match="dtype float32: give images as uint8 from 0 to 255"):
        run()


@pytest.mark.parametrize(
    "door", ["folder", "paths", "Hugging Face", "dicts", "batches", "as_dataset"]
)
def test_a_damaged_image_is_named(door: str, tmp_path: Path) -> None:
    noise = Image.fromarray(R.integers(0, 256, (40, 50, 3)).astype(np.uint8))
    file = content(noise, "PNG", {})[:3000]
    with pytest.raises(InputError, match="cannot be read as an image"):
        jaxte.extract(lambda x: x.reshape(len(x), -1), DOORS[door](file, tmp_path))


def test_palettes_tell_images_apart() -> None:
    other = PALETTE.copy()
    other.putpalette([255 - one for one in (PALETTE.getpalette() or [])])
    cards = [data.as_dataset([one, one], [0, 1]).card for one in (PALETTE, other)]
    assert cards[0]["inputs"] != cards[1]["inputs"]


def test_arrays_of_other_types() -> None:
    ready = Images(size=(4, 5), scale=1.0)
    for array, expected in (
        (DEEP, rgb(np.floor(DEEP / 257 + 0.5))),
        (DEEP.astype(">u2"), rgb(np.floor(DEEP / 257 + 0.5))),
        (ALPHA > 100, rgb((ALPHA > 100) * 255)),
        (np.dstack([GREY, ALPHA]), on_white(rgb(GREY), ALPHA)),
    ):
        np.testing.assert_array_equal(ready([array])[0], expected)
