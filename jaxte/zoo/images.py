"""Images of any size and channel count to the one input of the zoo: uint8 [n, 32, 32, 3]."""

from __future__ import annotations

import numpy as np

from jaxte.errors import InputError

SIZE = 32
_PAD_FROM = 24  # from here up to SIZE an image is padded with black, so that it stays sharp


def _resize_matrix(source: int) -> np.ndarray:
    """Weights [SIZE, source] of a triangle filter, widened by the factor when shrinking."""
    factor = source / SIZE
    centres = (np.arange(SIZE) + 0.5) * factor - 0.5
    distance = np.abs(centres[:, None] - np.arange(source)[None, :]) / max(factor, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    matrix: np.ndarray = weights / weights.sum(1, keepdims=True)
    return matrix


def _fit_axis(images: np.ndarray, axis: int) -> np.ndarray:
    size = images.shape[axis]
    if size == SIZE:
        return images
    if _PAD_FROM <= size < SIZE:
        before = (SIZE - size) // 2
        pads = [(0, 0)] * images.ndim
        pads[axis] = (before, SIZE - size - before)
        return np.pad(images, pads)
    matrix = _resize_matrix(size).astype(np.float32)
    moved = np.moveaxis(images.astype(np.float32), axis, -1) @ matrix.T
    return np.moveaxis(moved, -1, axis)


def prepare(images: np.ndarray) -> np.ndarray:
    """Bring images to uint8 [n, 32, 32, 3].

    Sides of 24 to 31 pixels are padded with black on both ends, other sides are resized with a
    triangle filter; one grey channel is repeated three times.

    Args:
        images: uint8 [n, h, w], [n, h, w, 1] or [n, h, w, 3], values 0 to 255.

    Raises:
        InputError: if the dtype or the shape is another, or there is no image.

    Examples:
        >>> import numpy as np
        >>> prepare(np.zeros((2, 28, 28), np.uint8)).shape
        (2, 32, 32, 3)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise InputError(
            f"images have dtype {images.dtype}: give uint8 values from 0 to 255 "
            "(the models normalise by themselves)"
        )
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"images have shape {shape}: give [n, height, width] or [n, height, width, channels] "
            "with 1 or 3 channels and at least one image"
        )
    fitted = _fit_axis(_fit_axis(images, 1), 2)
    if fitted.dtype != np.uint8:
        fitted = np.clip(np.rint(fitted), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(fitted, (*fitted.shape[:3], 3)))
