"""Real data sets of tensorflow-datasets, prepared here and now, without network and TensorFlow."""

import io
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The scanned digits of scikit-learn: uint8 [1797, 8, 8], and their classes."""
    result = load_digits()
    return (result.images * 15.9).astype(np.uint8), result.target


def png(pixels: np.ndarray) -> bytes:
    """An image, or a label map, as the content of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def prepare(
    data_dir: Path,
    name: str,
    features: Any,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    supervised: tuple[str, str] | None = None,
    shuffle: bool = False,
    num_shards: int = 1,
) -> None:
    """Let tensorflow-datasets write a data set of its own, as array_record.

    Without ``shuffle`` the examples are in the order given.
    """
    import tensorflow_datasets as tfds

    def _info(self: Any) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=features,
            supervised_keys=supervised,
            disable_shuffling=not shuffle,
        )

    def _split_generators(self: Any, manager: Any) -> Any:
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self: Any, split: Any) -> Any:
        yield from enumerate(splits[split])

    body = {
        "name": name,
        "VERSION": tfds.core.Version("1.2.3"),
        "_info": _info,
        "_split_generators": _split_generators,
        "_generate_examples": _generate_examples,
    }
    # Registered nowhere, so that what reads the data has nothing but the files.
    bases, options = (tfds.core.GeneratorBasedBuilder,), {"skip_registration": True}
    builder = types.new_class("Builder", bases, options, lambda space: space.update(body))
    tfds.disable_progress_bar()
    shards = tfds.download.DownloadConfig(num_shards=num_shards)
    prepared = builder(data_dir=data_dir, file_format="array_record")
    prepared.download_and_prepare(download_config=shards)


def prepare_digits(data_dir: Path, **options: Any) -> None:
    """The digits as `tfds:scanned_digits/train` (1000) and `/test` (797)."""
    import tensorflow_datasets as tfds

    images, classes = digits()
    examples = [
        {"image": io.BytesIO(png(image)), "label": int(label)}
        for image, label in zip(images, classes, strict=True)
    ]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(names=list(DIGITS)),
        }
    )
    splits = {"train": examples[:1000], "test": examples[1000:]}
    prepare(data_dir, "scanned_digits", features, splits, supervised=("image", "label"), **options)
