"""Image files to arrays, by Pillow."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import numpy as np

from jaxte._inputs import InputError
from jaxte._optional import require

__all__ = ["SUFFIXES", "decode", "decode_map"]

_ENDINGS = ("bmp", "gif", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "ppm", "tif", "tiff", "webp")
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(given: str | os.PathLike[str] | bytes, where: str, channels: int = 3) -> np.ndarray:
    """An image as uint8 [h, w, channels], upright as its EXIF data say.

    What is transparent becomes white, unless four channels are asked for; 16 bits become 8.

    Args:
        given: a file, or its content.
        where: names it in messages.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        InputError: if it cannot be read as an image.
    """

    def take(image: Any, pillow: Any) -> np.ndarray:
        image = pillow.ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            image = pillow.Image.fromarray(_to_eight_bits(np.asarray(image)))
        if channels != 4 and image.has_transparency_data:
            image = image.convert("RGBA")
            white = pillow.Image.new("RGBA", image.size, "white")
            image = pillow.Image.alpha_composite(white, image)
        pixels = np.asarray(image.convert(_MODES[channels]))
        return pixels[..., None] if pixels.ndim == 2 else pixels

    return _opened(given, where, take)


def decode_map(given: str | os.PathLike[str] | bytes, where: str) -> np.ndarray:
    """A label map as integers [h, w]: grey values, or places in the palette of a paletted image.

    Raises:
        InputError: if it cannot be read, or has more than one channel.
    """

    def take(image: Any, pillow: Any) -> np.ndarray:
        pixels = np.asarray(image)
        if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
            raise InputError(
                f"{where} has mode {image.mode}: a label map needs one channel of integers (modes "
                "L, P, I;16 or I)"
            )
        return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels

    return _opened(given, where, take)


def _opened(given: str | os.PathLike[str] | bytes, where: str, take: Any) -> np.ndarray:
    pillow = require("PIL", "reading images", "data")
    require("PIL.Image", "reading images", "data")
    require("PIL.ImageOps", "reading images", "data")
    try:
        with warnings.catch_warnings():  # of damaged EXIF data and the like
            warnings.simplefilter("ignore")
            with pillow.Image.open(
                io.BytesIO(given) if isinstance(given, bytes) else given
            ) as image:
                pixels: np.ndarray = take(image, pillow)
                return pixels
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where} does not exist") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        pillow.Image.DecompressionBombError,
    ) as error:
        raise InputError(
            f"{where} cannot be read as an image ({error}): remove or replace it"
        ) from error


def _to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits, or of other types by their own range, to 0 .. 255."""
    values = pixels.astype(np.float64)
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 65535:
        return np.asarray(values / 257 + 0.5).astype(np.uint8)
    raise ValueError(f"values from {values.min()} to {values.max()} are no grey values")
