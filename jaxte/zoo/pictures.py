"""Reading folders of pictures of any size: emoji and clip art, drawn on white, at 32x32."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.zoo.images import prepare

Labelled = tuple[np.ndarray, np.ndarray]  # images, labels
Split = tuple[Labelled, Labelled, tuple[str, ...]]  # train, test, class names

# folders of openclipart that are pre-trained on, a class each; the targets use the others
CLIPART_SOURCE = (
    "computer/icons", "computer/buttons", "computer/hardware", "shapes/stars", "shapes/arrows",
    "shapes/jigsaw", "shapes/flowchart", "shapes/callouts", "signs_and_symbols/flags",
    "signs_and_symbols/map_symbols", "signs_and_symbols/led", "signs_and_symbols/weather",
    "signs_and_symbols/clocks", "recreation/games", "recreation/music", "recreation/sports",
    "recreation/party", "recreation/toys",
)  # fmt: skip
CLIPART_CAP = 300  # images of one class
LARGEST = 8000  # pixels a side: a handful of pages above it would take a gigabyte each to read
_EVERY = 8  # of a picture source, each so-many-th image is its test part


def open_image(path: Path, mode: str) -> Any:
    """Read one image file with Pillow, converted to a mode.

    Raises:
        InputError: if it cannot be read.
        ImportError: if Pillow is missing.
    """
    image = require("PIL.Image", f"reading {path}", "data")
    try:
        with image.open(path) as file:
            return file.convert(mode)
    except (OSError, ValueError) as error:  # an image of no format that Pillow has is an OSError
        raise InputError(f"{path} cannot be read ({error}): fetch the original again") from error


def read_picture(path: Path) -> np.ndarray:
    """Read one image file as uint8 [32, 32, 3], transparency on white, padded to a square."""
    drawn = open_image(path, "RGBA")
    from PIL import Image

    side = max(drawn.size)
    page = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    page.alpha_composite(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    pixels: np.ndarray = prepare(np.asarray(page.convert("RGB"))[None])[0]
    return pixels


def read_pictures(paths: Sequence[Path]) -> np.ndarray:
    """Read many image files, uint8 [n, 32, 32, 3]."""
    return np.stack([read_picture(path) for path in paths])


def read_emoji(folder: Path, vendor: str, *, by: str = "subcategory", least: int = 12) -> Split:
    """Read the emoji of one vendor by a field of emoji.json; classes of under `least` are left out.

    Emoji come in the order of their code points, so that those of two vendors agree in order.
    """
    entries = disk.read_json(folder / "emoji.json", "unpack the package again")
    drawn = sorted(
        (entry["image"], entry[by])
        for entry in entries
        if entry["has_img_google"] and entry["has_img_twitter"]
    )
    kinds = [kind for _, kind in drawn]
    names = tuple(sorted(kind for kind in set(kinds) if kinds.count(kind) >= least))
    chosen = [(image, names.index(kind)) for image, kind in drawn if kind in names]
    images = read_pictures([folder / "img" / vendor / "64" / image for image, _ in chosen])
    return _every(images, np.asarray([label for _, label in chosen], np.int32), names)


def _every(images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Split:
    test = np.arange(len(labels)) % _EVERY == 0
    return (images[~test], labels[~test]), (images[test], labels[test]), names


def read_clipart(
    folder: Path, names: Sequence[str] = CLIPART_SOURCE, cap: int = CLIPART_CAP
) -> Split:
    """Read folders of clip art, a class each; links to pictures of other folders are left out."""
    images, labels = [], []
    for label, name in enumerate(names):
        files = sorted(path for path in (folder / name).rglob("*.png") if not path.is_symlink())
        if not files:
            raise InputError(f"no pictures in {folder / name}: put the original folder there")
        chosen = [path for path in files[:: -(-len(files) // cap)] if _side(path) <= LARGEST]
        images.append(read_pictures(chosen))
        labels += [label] * len(chosen)
    return _every(np.concatenate(images), np.asarray(labels, np.int32), tuple(names))


def _side(path: Path) -> int:
    """The longer side in pixels, from the header of a PNG; 0 of another file."""
    with path.open("rb") as file:
        header = file.read(24)
    is_png = len(header) == 24 and header.startswith(b"\x89PNG")
    return max(struct.unpack(">II", header[16:24])) if is_png else 0


SOURCES: dict[str, Callable[[Path], Split]] = {
    "emoji_twitter": lambda folder: read_emoji(folder, "twitter"),
    "clipart": read_clipart,
}
