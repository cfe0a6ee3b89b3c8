"""Folders of images, and what the decoder makes of odd ones."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxte import InputError, data
from jaxte.data.images import decode, decode_map

from .builders import DIGITS, digits, png


def fill(root: Path, count: int = 60) -> None:
    """The first digits, in folders by class, numbered within their class."""
    images, classes = digits()
    for number in range(count):
        folder = root / DIGITS[classes[number]]
        folder.mkdir(parents=True, exist_ok=True)
        place = len(list(folder.iterdir()))
        (folder / f"img{place}.png").write_bytes(png(images[number]))


def test_classes_are_folders_and_files_are_in_natural_order(tmp_path: Path) -> None:
    root = tmp_path / "digits"
    fill(root, 140)
    images, classes = digits()
    result = data.load(f"folder:{root}")
    assert (result.task, result.class_names) == ("classification", tuple(sorted(DIGITS)))
    row = 0
    for label, name in enumerate(sorted(DIGITS)):
        for image in images[:140][classes[:140] == DIGITS.index(name)]:  # img2 before img10
            example, source = result[row]
            assert (source, example.shape) == (label, (8, 8, 3))
            np.testing.assert_array_equal(example[..., 1], image)
            row += 1
    assert row == len(result) == 140


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "a", 20)
    before = data.load(f"folder:{tmp_path / 'a'}")
    for name in (".DS_Store", "._img0.png", "notes.txt", "Thumbs.db"):
        (tmp_path / "a" / "one" / name).write_bytes(b"?")
    (tmp_path / "a" / ".cache").mkdir()
    (tmp_path / "a" / ".cache" / "x.png").write_bytes(b"?")
    (tmp_path / "a" / "one" / ".trash").mkdir()
    (tmp_path / "a" / "one" / ".trash" / "x.png").write_bytes(b"?")
    (tmp_path / "a" / "README.png").write_bytes(b"?")
    after = data.load(f"folder:{tmp_path / 'a'}")
    assert after.card == before.card


def test_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    for name in ("cat/2/b.png", "cat/10/a.PNG", "dog/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(np.full((2, 2), len(name), np.uint8)))
    result = data.load(f"folder:{tmp_path}")
    assert [(int(image[0, 0, 0]), label) for image, label in result] == [(11, 0), (12, 0), (9, 1)]
    for part in ("train", "val"):
        (tmp_path / "parts" / part / "cat").mkdir(parents=True)
        (tmp_path / "parts" / part / "cat" / "x.png").write_bytes(png(np.zeros((2, 2), np.uint8)))
    with pytest.raises(InputError, match=r"holds parts of a data set \(train, val\): name one"):
        data.load(f"folder:{tmp_path / 'parts'}")
    assert len(data.load(f"folder:{tmp_path / 'parts' / 'val'}")) == 1


def test_card_follows_the_content_not_the_place(tmp_path: Path) -> None:
    fill(tmp_path / "x" / "digits", 30)
    card = data.load(f"folder:{tmp_path}/x/digits").card
    (tmp_path / "x").rename(tmp_path / "y")
    assert data.load(f"folder:{tmp_path}/y/digits").card == card
    (tmp_path / "y/digits/one/img0.png").write_bytes(png(np.zeros((8, 8), np.uint8)))
    assert data.load(f"folder:{tmp_path}/y/digits").card != card


def test_broken_images_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "one" / "img0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 image files .* are empty: .*one.img0\.png"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "one" / "img0.png").write_bytes(png(np.zeros((64, 64), np.uint8))[:60])
    broken = data.load(f"folder:{tmp_path}")
    for workers in (0, 2):
        with pytest.raises(InputError, match=r"one.img0\.png cannot be read as an image"):
            list(broken.batches(8, workers=workers))
    assert len(list(broken.batches(8, start=60 - 12, workers=2))) == 2  # behind it


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no directory"):
        data.load(f"folder:{tmp_path}/nowhere")
    with pytest.raises(InputError, match="holds no folders"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no images"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(InputError, match="has no columns to choose"):
        data.load(f"folder:{tmp_path}?label=x")


def test_named_classes_may_be_missing(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(np.zeros((2, 2), np.uint8)))
    result = data.load(f"folder:{tmp_path}?classes=dog,cow,cat")
    assert [label for _, label in result] == [2, 0]


# --- the decoder ---------------------------------------------------------------------------------


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_every_mode_becomes_rgb() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    colour = Image.fromarray(pixels)
    np.testing.assert_array_equal(decode(stored(colour), "x"), pixels)
    for mode in ("L", "1", "P", "LA", "RGBA", "CMYK"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        image = colour.convert(mode)
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decode(stored(image, kind), "x"), expected)
    grey = np.asarray(colour.convert("L"))
    np.testing.assert_array_equal(decode(stored(colour), "x", 1)[..., 0], grey)


def test_what_is_transparent_becomes_white() -> None:
    """A black drawing on a transparent ground must not become black on black."""
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0, 3], pixels[0, 1, 3] = 255, 128
    result = decode(stored(Image.fromarray(pixels)), "x")
    assert result[..., 0].tolist() == [[0, 127], [255, 255]]
    np.testing.assert_array_equal(decode(stored(Image.fromarray(pixels)), "x", 4), pixels)
    palette = Image.fromarray(np.asarray([[0, 1]], np.uint8)).convert("P")
    content = stored(palette, transparency=0)
    assert decode(content, "x")[0, 0].tolist() == [255, 255, 255]


def test_sixteen_bits_become_eight() -> None:
    deep = np.asarray([[0, 128, 256, 65535]], np.uint16)
    result = decode(stored(Image.fromarray(deep)), "x")
    assert result[..., 0].tolist() == [[0, 0, 1, 255]]


def test_images_stand_upright() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    result = decode(stored(image, exif=exif), "x")
    np.testing.assert_array_equal(result[..., 0], np.rot90(pixels, -1))


def test_label_maps_keep_their_numbers() -> None:
    classes = np.asarray([[0, 1, 2], [3, 200, 255]], np.uint8)
    palette = Image.fromarray(classes).convert("P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    for image in (Image.fromarray(classes), palette):
        np.testing.assert_array_equal(decode_map(stored(image), "x"), classes)
    deep = classes.astype(np.uint16) * 100
    np.testing.assert_array_equal(decode_map(stored(Image.fromarray(deep)), "x"), deep)
    two = Image.fromarray(classes == 1)
    np.testing.assert_array_equal(decode_map(stored(two), "x"), classes == 1)
    with pytest.raises(InputError, match="mask has mode RGB: a label map needs one channel"):
        decode_map(stored(palette.convert("RGB")), "mask")


NOISE = np.random.default_rng(0).integers(0, 256, (20, 20)).astype(np.uint8)


@pytest.mark.parametrize("content", [b"", b"no image", png(NOISE)[:200]])
def test_no_image(content: bytes) -> None:
    with pytest.raises(InputError, match="this one cannot be read as an image"):
        decode(content, "this one")
