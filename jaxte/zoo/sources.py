"""Reading the original files of the source and target sets, or tensorflow-datasets.

Layout of the data directory, original file names inside each folder::

    mnist/          train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... (idx or idx.gz)
    fashion_mnist/  the same four names; the target reads only the two t10k-... files
    cifar10/        data_batch_1.bin .. data_batch_5.bin, test_batch.bin; or data_batch_1.png ..
                    test_batch.png (10000x1024 RGB) with train_labels.json and test_labels.json
    quickdraw/      <class>.npy (official bitmaps) or <class>.ndjson.gz (784 floats 0..1 a line)
    emoji_twitter/  emoji.json and img/twitter/64/*.png, of the npm package emoji-datasource-twitter
    clipart/        the folders of openclipart's png directory (Debian package openclipart-png)
    digits/         digits.csv.gz (64 pixels 0..16 and the label); scikit-learn's where absent
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxte.errors import InputError
from jaxte.zoo import pictures
from jaxte.zoo.specs import DRAWINGS_PER_CLASS, SOURCE_DRAWINGS, SOURCE_TEST_DRAWINGS

CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_CLASSES = tuple("0123456789")


class Part(NamedTuple):
    """uint8 images [n, h, w] or [n, h, w, 3] and their int labels [n]."""

    images: np.ndarray
    labels: np.ndarray


class Source(NamedTuple):
    """A labelled set as its makers split it."""

    train: Part
    test: Part
    class_names: tuple[str, ...]


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"no {' or '.join(names)} in {folder}: put the original file there")


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file of unsigned bytes, plain or gzipped.

    Raises:
        InputError: if it is not one, or is cut short.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise InputError(f"{path} cannot be unpacked ({error}): fetch it again") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise InputError(f"{path} is not an idx file of unsigned bytes: fetch the original again")
    rank = raw[3]
    if len(raw) < 4 + 4 * rank:
        raise InputError(f"{path} is cut short within its header: fetch it again")
    shape = tuple(int(s) for s in np.frombuffer(raw, ">u4", rank, 4))
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank)
    if body.size != np.prod(shape):
        raise InputError(
            f"{path} holds {body.size} values where its header says {shape}: cut short?"
        )
    return body.reshape(shape)


def _idx_part(folder: Path, prefix: str) -> Part:
    images, labels = (
        read_idx(_find(folder, f"{prefix}-{kind}", f"{prefix}-{kind}.gz"))
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    if len(images) != len(labels):
        raise InputError(f"{folder}: {len(images)} {prefix} images but {len(labels)} labels")
    return Part(images, labels.astype(np.int32))


def read_mnist(folder: Path) -> Source:
    """Read MNIST from its four idx files."""
    return Source(_idx_part(folder, "train"), _idx_part(folder, "t10k"), DIGIT_CLASSES)


def _cifar_bin(path: Path) -> Part:
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % 3073:
        raise InputError(f"{path}: {raw.size} bytes are no multiple of 3073: cut short?")
    rows = raw.reshape(-1, 3073)
    return Part(
        rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0].astype(np.int32)
    )


def _cifar_png(path: Path) -> np.ndarray:
    pixels = np.asarray(pictures.open_image(path, "RGB"))
    if pixels.shape[1] != 1024:
        raise InputError(
            f"{path} is {pixels.shape[1]} pixels wide, not 1024 (one 32x32 image a row)"
        )
    return pixels.reshape(-1, 32, 32, 3)


def concatenate(parts: Sequence[Part]) -> Part:
    """Put parts one after the other."""
    images, labels = zip(*parts, strict=True)
    return Part(np.concatenate(images), np.concatenate(labels))


def read_cifar10(folder: Path) -> Source:
    """Read CIFAR-10 from its binary batches, or from PNG sheets and JSON labels."""
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    if any((folder / f"{name}.bin").is_file() for name in batches):
        train = concatenate([_cifar_bin(_find(folder, f"{name}.bin")) for name in batches])
        return Source(train, _cifar_bin(_find(folder, "test_batch.bin")), CIFAR_CLASSES)

    def part(names: Sequence[str], labels: str) -> Part:
        # the published npm sheets spell their label files "lables"
        where = _find(folder, f"{labels}_labels.json", f"{labels}_lables.json")
        sheets = [_find(folder, f"{name}.png", f"{name}.bin") for name in names]
        images = np.concatenate([_cifar_png(sheet) for sheet in sheets])
        numbers = np.asarray(json.loads(where.read_text()), np.int32)
        if len(images) != len(numbers):
            raise InputError(f"{where} has {len(numbers)} labels for {len(images)} images")
        return Part(images, numbers)

    return Source(part(batches, "train"), part(["test_batch"], "test"), CIFAR_CLASSES)


def _drawings(folder: Path, name: str, count: int) -> np.ndarray:
    path = _find(folder, f"{name}.npy", f"{name}.ndjson.gz")
    try:
        if path.suffix == ".npy":
            rows = np.load(path, mmap_mode="r", allow_pickle=False)[:count]
            bytes_like = rows.dtype == np.uint8
        else:
            with gzip.open(path, "rt") as lines:
                floats = np.asarray([json.loads(line) for line in islice(lines, count)], float)
            bytes_like = bool(((floats >= 0) & (floats <= 1)).all())
            rows = np.rint(floats * 255)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): fetch the original again") from error
    if rows.ndim != 2 or rows.shape[1] != 784 or not bytes_like:
        raise InputError(
            f"{path} holds {rows.dtype} of shape {rows.shape}, not rows of 784 pixels "
            "(bytes in .npy, 0 to 1 in .ndjson.gz)"
        )
    if len(rows) < count:
        raise InputError(f"{path} has {len(rows)} drawings, {count} are needed")
    return np.asarray(rows, np.uint8).reshape(count, 28, 28)


def _split_drawings(drawings: np.ndarray, tests: int) -> tuple[Part, Part]:
    """Split [classes, count, 28, 28]: of each class the last `tests` are its test part."""
    classes, count = drawings.shape[:2]

    def part(block: np.ndarray) -> Part:
        return Part(block.reshape(-1, 28, 28), np.repeat(np.arange(classes), block.shape[1]))

    return part(drawings[:, : count - tests]), part(drawings[:, count - tests :])


def read_quickdraw(folder: Path, classes: Sequence[str], *, tests: int) -> Source:
    """Read the first 100 drawings of each class; the last `tests` of them are its test part."""
    drawings = np.stack([_drawings(folder, name, DRAWINGS_PER_CLASS) for name in classes])
    return Source(*_split_drawings(drawings, tests), tuple(classes))


def read_fashion(folder: Path, *, test_only: bool = False) -> Source:
    """Read Fashion-MNIST; a target is cut from the test split alone, models train on the other."""
    test = _idx_part(folder, "t10k")
    return Source(test if test_only else _idx_part(folder, "train"), test, FASHION_CLASSES)


def read_digits(folder: Path | None) -> Source:
    """Read the 8x8 digits from digits/digits.csv.gz, or else from scikit-learn."""
    path = None if folder is None else folder / "digits.csv.gz"
    if path is not None and path.is_file():
        table = np.loadtxt(path, delimiter=",")
    else:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError(
                f"the digits target needs {path or 'digits.csv.gz'} or: pip install scikit-learn"
            ) from error
        bunch: Any = load_digits()
        table = np.concatenate([bunch.data, bunch.target[:, None]], 1)
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    part = Part(images, table[:, 64].astype(np.int32))
    return Source(part, part, DIGIT_CLASSES)


# --- tensorflow-datasets -----------------------------------------------------------------------


def _tfds_examples(name: str, split: str, data_dir: Path | None) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"reading {name} needs tensorflow-datasets: pip install tensorflow-datasets tensorflow"
        ) from error
    where = None if data_dir is None else str(data_dir)
    dataset, info = tfds.load(
        name, split=split, data_dir=where, shuffle_files=False, with_info=True
    )
    return tfds.as_numpy(dataset), info


def _tfds_part(name: str, split: str, data_dir: Path | None) -> tuple[Part, tuple[str, ...]]:
    examples, info = _tfds_examples(name, split, data_dir)
    pairs = [(example["image"], int(example["label"])) for example in examples]
    if not pairs:
        raise InputError(f"tensorflow-datasets has no example in {name}, split {split}")
    images = np.stack([image for image, _ in pairs]).astype(np.uint8)
    labels = np.asarray([label for _, label in pairs], np.int32)
    return Part(images, labels), tuple(info.features["label"].names)


def _tfds_source(name: str, data_dir: Path | None) -> Source:
    train, names = _tfds_part(name, "train", data_dir)
    return Source(train, _tfds_part(name, "test", data_dir)[0], names)


def _tfds_quickdraw(data_dir: Path | None, classes: Sequence[str], *, tests: int) -> Source:
    """Take the first 100 drawings of each class as they come; stop when every class has them."""
    examples, info = _tfds_examples("quickdraw_bitmap", "train", data_dir)
    names = list(info.features["label"].names)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise InputError(f"quickdraw_bitmap has no class {unknown[0]!r}")
    buckets: dict[int, list[np.ndarray]] = {names.index(name): [] for name in classes}
    missing = len(buckets)
    for example in examples:
        bucket = buckets.get(int(example["label"]))
        if bucket is None or len(bucket) == DRAWINGS_PER_CLASS:
            continue
        bucket.append(np.asarray(example["image"], np.uint8).reshape(28, 28))
        missing -= len(bucket) == DRAWINGS_PER_CLASS
        if not missing:
            break
    if missing:
        raise InputError(f"quickdraw_bitmap: {missing} classes have under {DRAWINGS_PER_CLASS}")
    drawings = np.stack([np.stack(images) for images in buckets.values()])
    return Source(*_split_drawings(drawings, tests), tuple(classes))


# --- one door for both ---------------------------------------------------------------------------


def load_source(
    name: str,
    data_dir: Path | None,
    *,
    tfds: bool = False,
    drawings: Sequence[str] = SOURCE_DRAWINGS,
    tests: int = SOURCE_TEST_DRAWINGS,
) -> Source:
    """Load "mnist", "cifar10", "quickdraw", "digits", "clipart" or one more of these.

    "fashion_mnist" is the official test split alone, "fashion_mnist_source" both splits,
    "emoji_twitter" emoji by subcategory.

    Args:
        name: which set.
        data_dir: the directory laid out as above; under `tfds`, the one of tensorflow-datasets.
        tfds: read by tensorflow-datasets (digits come from scikit-learn in any case).
        drawings: the classes of "quickdraw".
        tests: how many drawings of each class are its test part.

    Raises:
        InputError: if a file is missing or damaged; the message names it.
        ImportError: if a package that the reading needs is missing.
    """
    if name == "digits":
        return read_digits(None if tfds or data_dir is None else data_dir / "digits")
    if tfds and name not in pictures.SOURCES:
        if name == "quickdraw":
            return _tfds_quickdraw(data_dir, drawings, tests=tests)
        return _tfds_source(name.removesuffix("_source"), data_dir)
    if data_dir is None:
        raise InputError(
            f"no directory given to read {name} from: give one with the original files, or use "
            "tensorflow-datasets"
        )
    if name == "quickdraw":
        return read_quickdraw(data_dir / "quickdraw", drawings, tests=tests)
    if name in pictures.SOURCES:
        train, test, class_names = pictures.SOURCES[name](data_dir / name)
        return Source(Part(*train), Part(*test), class_names)
    readers: dict[str, Callable[[Path], Source]] = {
        "mnist": read_mnist,
        "cifar10": read_cifar10,
        "fashion_mnist": partial(read_fashion, test_only=True),
        "fashion_mnist_source": read_fashion,
    }
    return readers[name](data_dir / name.removesuffix("_source"))
