"""Tiny copies of the original files, drawn from a seed, in every layout that can be read."""

import gzip
import json
from pathlib import Path

import numpy as np


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as idx, gzipped if the name ends in .gz."""
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    body = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)


def write_idx_set(folder: Path, *, train: int, test: int, suffix: str = "") -> None:
    """Write the four files of MNIST or Fashion-MNIST, every class equally often."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(folder.name))
    for prefix, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        # a class is a brightness, which shifts and flips leave alone, so that it can be learned
        images = rng.integers(0, 20, (count, 28, 28)) + 22 * labels[:, None, None]
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)


def cifar_images(batches: int, per_batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images [batches, per_batch, 32, 32, 3] and labels."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (batches, per_batch, 32, 32, 3)).astype(np.uint8)
    return images, rng.integers(0, 10, (batches, per_batch)).astype(np.uint8)


CIFAR_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def write_cifar_bin(folder: Path, per_batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the six binary batches: a label byte, then the three planes of an image."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = cifar_images(6, per_batch)
    for name, batch, numbers in zip(CIFAR_FILES, images, labels, strict=True):
        planes = batch.transpose(0, 3, 1, 2).reshape(per_batch, 3072)
        np.concatenate([numbers[:, None], planes], 1).tofile(folder / f"{name}.bin")
    return images, labels


def write_cifar_png(folder: Path, per_batch: int, spelling: str) -> tuple[np.ndarray, np.ndarray]:
    """Write the six sheets, an image a row of 1024 pixels, and two label files."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    images, labels = cifar_images(6, per_batch)
    for name, batch in zip(CIFAR_FILES, images, strict=True):
        Image.fromarray(batch.reshape(per_batch, 1024, 3)).save(folder / f"{name}.png")
    (folder / f"train_{spelling}.json").write_text(json.dumps(labels[:5].ravel().tolist()))
    (folder / f"test_{spelling}.json").write_text(json.dumps(labels[5].tolist()))
    return images, labels


def drawings(name: str, count: int) -> np.ndarray:
    """Random bitmaps [count, 784] of a class."""
    rng = np.random.default_rng(sum(map(ord, name)))
    return rng.integers(0, 256, (count, 784)).astype(np.uint8)


def write_drawings(folder: Path, names: tuple[str, ...], count: int, *, kind: str = "npy") -> None:
    """Write one file per class, as official bitmaps or as lines of 784 floats."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows = drawings(name, count)
        if kind == "npy":
            np.save(folder / f"{name}.npy", rows)
        else:
            lines = [json.dumps([round(v / 255, 3) for v in row.tolist()]) for row in rows]
            (folder / f"{name}.ndjson.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
