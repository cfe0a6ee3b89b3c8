"""Images of any size to the arrays that a model wants, on the host, as its card says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxte._optional import is_a, require
from jaxte.data import images
from jaxte.errors import InputError
from jaxte.intake.checks import choose

__all__ = ["FILTERS", "IMAGENET", "Images", "Processed", "channels_first", "zoo_images"]

FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's, in its order
IMAGENET: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


@dataclass(frozen=True)
class Images:
    """Images resized, cropped in the middle and normalised: (x * scale - mean) / std.

    A grey image becomes three equal channels, a transparent one lies on white.

    Attributes:
        size: height and width that the model takes; one number for a square.
        resize: the shorter side before the crop, or height and width; by default ``size``.
        interpolation: one of `FILTERS`.
        mean: of each channel, after scaling; one number stands for a grey image, and for a model
            of one channel. Without it nothing is subtracted or divided.
        std: likewise.
        scale: what pixels from 0 to 255 are multiplied by.
        channels_first: [b, c, h, w], not [b, h, w, c].
        flip: channels as blue, green, red.

    Raises:
        InputError: for fields that do not fit.

    Example:
        >>> import numpy as np
        >>> prepare = Images(size=224, resize=256, **IMAGENET)
        >>> prepare([np.zeros((480, 640, 3), np.uint8), np.zeros((300, 200), np.uint8)]).shape
        (2, 224, 224, 3)
    """

    size: int | tuple[int, int]
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bicubic"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float = 1 / 255
    channels_first: bool = False
    flip: bool = False

    def __post_init__(self) -> None:
        choose("interpolation", self.interpolation, FILTERS)
        height, width = self._size
        least = self.resize if self.resize is not None else self._size
        low = (least, least) if isinstance(least, int) else least
        if min(height, width) < 1 or low[0] < height or low[1] < width:
            raise InputError(
                f"images resized to {least} cannot be cropped to {height} x {width} pixels"
            )
        if (self.mean is None) != (self.std is None):
            raise InputError("mean and std of images belong together: give both or neither")
        channels = {len(one) for one in (self.mean, self.std) if one is not None}
        if not channels <= {1, 3} or len(channels) > 1 or 0.0 in (self.std or ()):
            raise InputError(
                f"mean {self.mean} and std {self.std} need one or three numbers each, no std of 0"
            )

    @staticmethod
    def of(settings: Mapping[str, Any]) -> Images:
        """From a dict of the fields, as a configuration file has it.

        Raises:
            InputError: for a field that there is not, or one that does not fit.
        """
        names = [field.name for field in fields(Images)]
        for name in settings:
            if name not in names:
                raise InputError(f"images have no {name!r}: there are {', '.join(names)}")
        if "size" not in settings:
            raise InputError("images need a size: the pixels of a side, or height and width")
        listed: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()
        }
        return Images(**listed)

    @property
    def card(self) -> dict[str, Any]:
        """The fields, for cards."""
        return asdict(self)

    def first(self) -> Images:
        """The same with the channels first, as torch models take them."""
        return replace(self, channels_first=True)

    @property
    def _size(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __call__(self, examples: Sequence[Any]) -> np.ndarray:
        """float32 [b, h, w, c], or [b, c, h, w].

        Args:
            examples: uint8 images [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], or of Pillow; or
                dicts with one as "image".

        Raises:
            InputError: names the first that is none.
        """
        channels = 3 if self.mean is None else len(self.mean)
        pixels = np.stack(
            [self._fitted(eight_bits(one, row, channels)) for row, one in enumerate(examples)]
        )
        if self.flip:
            pixels = pixels[..., ::-1]
        if self.channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        if self.mean is None:
            return np.multiply(pixels, self.scale, dtype=np.float32)
        shape = (-1, 1, 1) if self.channels_first else (-1,)
        mean, std = (np.asarray(one, np.float64).reshape(shape) for one in (self.mean, self.std))
        scaled = np.multiply(pixels, (self.scale / std).astype(np.float32), dtype=np.float32)
        scaled -= (mean / std).astype(np.float32)
        return scaled

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [h, w, c] of the size that is wanted."""
        height, width = pixels.shape[:2]
        if isinstance(self.resize, int):
            short = min(height, width)
            target = (height * self.resize // short, width * self.resize // short)
        else:
            target = self.resize or self._size
        if (height, width) != target:
            pixels = self._resized(pixels, target)
        # an odd rest goes where torchvision puts it
        top, left = (round((a - b) / 2) for a, b in zip(target, self._size, strict=True))
        return pixels[top : top + self._size[0], left : left + self._size[1]]

    def _resized(self, pixels: np.ndarray, target: tuple[int, int]) -> np.ndarray:
        pillow = require("PIL.Image", "resizing images", "data")
        grey = pixels.shape[-1] == 1
        image = pillow.fromarray(pixels[..., 0] if grey else pixels)
        resized = np.asarray(image.resize(target[::-1], FILTERS.index(self.interpolation)))
        return resized[..., None] if grey else resized


class Processed:
    """An image processor of transformers at work; see `Images` for what it takes and gives.

    Args:
        processor: stays as it is.
        first: whether channels come before rows and columns.
    """

    def __init__(self, processor: Any, first: bool = False) -> None:
        self._processor, self._first = processor, first
        settings = json.loads(processor.to_json_string())
        dropped = ("_file", "_path", "_version", "processor_class", "backend")
        self.card = {k: v for k, v in settings.items() if v is not None and not k.endswith(dropped)}

    def first(self) -> Processed:
        """The same with the channels first."""
        return Processed(self._processor, True)

    def __call__(self, examples: Sequence[Any]) -> np.ndarray:
        """float32 [b, h, w, c], or [b, c, h, w]."""
        images = [np.ascontiguousarray(eight_bits(one, i, 3)) for i, one in enumerate(examples)]
        processed = self._processor(images, input_data_format="channels_last", return_tensors="np")
        pixels = np.asarray(processed["pixel_values"], np.float32)
        return pixels if self._first else pixels.transpose(0, 2, 3, 1)


def is_processor(value: Any) -> bool:
    """Whether it is an image processor of transformers."""
    return is_a(value, "transformers.image_processing_utils", "BaseImageProcessor")


def channels_first(prepare: Any) -> Any:
    """The same preprocessing as torch models take it; a function of one's own is left alone."""
    return prepare.first() if isinstance(prepare, Images | Processed) else prepare


def eight_bits(example: Any, row: int, channels: int) -> np.ndarray:
    """An example as uint8 [h, w, channels].

    Raises:
        InputError: if it is no image.
    """
    if isinstance(example, Mapping) and "bytes" not in example:
        if "image" not in example:
            raise InputError(
                f"example {row} has {', '.join(map(str, example)) or 'nothing'}, but no 'image'"
            )
        example = example["image"]
    where = f"example {row}"
    if isinstance(example, Mapping) and "bytes" in example:  # as Hugging Face stores a file
        example = example["bytes"] if example["bytes"] is not None else Path(example["path"])
    if isinstance(example, bytes | Path):
        return images.decode(example, where, channels)
    if images.is_pillow(example):
        return images.of_pillow(example, where, channels)
    return images.of_array(np.asarray(example), where, channels)


def zoo_images(examples: Sequence[Any]) -> np.ndarray:
    """uint8 [b, 32, 32, 3] for the models of the zoo, which normalise by themselves.

    Example:
        >>> import numpy as np
        >>> zoo_images([np.zeros((28, 28), np.uint8), np.zeros((64, 48, 3), np.uint8)]).shape
        (2, 32, 32, 3)
    """
    from jaxte.zoo.images import prepare

    images = [np.ascontiguousarray(eight_bits(one, row, 3)) for row, one in enumerate(examples)]
    if len({image.shape for image in images}) == 1:
        return prepare(np.stack(images))
    return np.concatenate([prepare(image[None]) for image in images])
