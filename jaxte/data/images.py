"""Images of any kind to uint8 pixels, the same by every way in; files are read by Pillow.

What cannot be read, or has no plain range of values, is an `InputError`.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError

__all__ = ["SUFFIXES", "decode", "decode_map", "is_pillow", "of_array", "of_pillow"]

_ENDINGS = ("bmp", "gif", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "ppm", "tif", "tiff", "webp")
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS)


def decode(source: str | os.PathLike[str] | bytes, where: str, channels: int = 3) -> np.ndarray:
    """An image file, or its content, as uint8 [h, w, channels]: 1 grey, 3 RGB, or 4 RGBA."""
    with _opened(source, where) as image:
        return of_pillow(image, where, channels)


def decode_map(source: str | os.PathLike[str] | bytes, where: str) -> np.ndarray:
    """A label map as integers [h, w]: grey values, or places in the palette of a paletted image."""
    with _opened(source, where) as image:
        pixels = np.asarray(image)
        if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
            raise InputError(
                f"{where} has mode {image.mode}: a label map needs one channel of integers (modes "
                "L, P, I;16 or I)"
            )
        return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels


def is_pillow(value: Any) -> bool:
    """Whether it is an image of Pillow."""
    return hasattr(value, "getbands") and hasattr(value, "convert")


def of_pillow(image: Any, where: str, channels: int = 3) -> np.ndarray:
    """An image of Pillow as uint8 [h, w, channels], upright as its EXIF data say.

    What is transparent becomes white, unless four channels are asked for; 16 bits become 8.
    """
    with _readable(where):
        image = _pillow("ImageOps").exif_transpose(image)
        if image.mode == "I":  # 32 bits, in which many files keep 16
            pixels = np.asarray(image)
            low, high = int(pixels.min()), int(pixels.max())
            if low < 0 or high > 65535:
                raise InputError(
                    f"{where} has values from {low} to {high}: no grey values of 16 bits"
                )
            pixels = pixels.astype(np.uint16)
        elif image.mode in ("1", "L", "F") or image.mode.startswith("I;"):
            pixels = np.asarray(image)
        else:
            pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
        if image.mode in ("1", "L") and image.has_transparency_data:
            pixels = np.asarray(image.convert("RGBA"))
    return of_array(pixels, where, channels)


def of_array(pixels: np.ndarray, where: str, channels: int = 3) -> np.ndarray:
    """An image [h, w] or [h, w, c] as uint8 [h, w, channels]; of two or four the last is alpha."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4) or 0 in pixels.shape:
        raise InputError(
            f"{where} has shape {pixels.shape}: an image is [h, w] or [h, w, c] with 1, 3 or 4 "
            "channels, channels last"
        )
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:  # of any byte order
        pixels = (pixels / 257 + 0.5).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise InputError(
            f"{where} has dtype {pixels.dtype}: give images as uint8 from 0 to 255; arrays that "
            "are ready for the model go in by name, as {'pixel_values': array}"
        )
    if pixels.shape[-1] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if pixels.shape[-1] == 4 and channels != 4:
        alpha = pixels[..., 3:].astype(np.uint32)  # on white
        pixels = ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 1:
        luma = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)  # ITU-R 601-2
        return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
    colour = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if channels == 3:
        return colour
    return np.concatenate([colour, np.full_like(colour[..., :1], 255)], axis=2)


def _pillow(module: str) -> Any:
    require("PIL", "reading images", "data")
    return require(f"PIL.{module}", "reading images", "data")


@contextmanager
def _opened(content: str | os.PathLike[str] | bytes, where: str) -> Iterator[Any]:
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    with _readable(where), _pillow("Image").open(file) as image:
        yield image


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """What Pillow says of a damaged file is an `InputError` that names it."""
    pillow = _pillow("Image")
    try:
        with warnings.catch_warnings():  # of damaged EXIF data and the like
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where} does not exist") from error
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        raise InputError(
            f"{where} cannot be read as an image ({error}): remove or replace it"
        ) from error
