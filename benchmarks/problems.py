"""Inputs: features with class structure, seeded, and the widths of a realistic pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KINDS = ("structured", "random")
SOURCE = ("leep", "nce", "pactran_dirichlet", "pactran_gamma")  # read outputs of a source head
# widths of the penultimate layers of common vision and text models
WIDTHS = (192, 256, 320, 384, 512, 576, 640, 768, 960, 1024, 1280, 1536, 1792, 2048)
_LATENT = 64
_NOISE = 0.05


class Problem(NamedTuple):
    """Features [n, d] and labels [n]."""

    features: NDArray[Any]
    labels: NDArray[np.int32]


def labels(n: int, classes: int, seed: int) -> NDArray[np.int32]:
    """Labels in random order; every class occurs, as nearly equally often as n allows."""
    if n < 2 * classes:
        raise ValueError(f"{n} samples are too few for {classes} classes: two of each needed")
    y = np.arange(n) % classes
    return np.random.default_rng([seed, n, classes]).permutation(y).astype(np.int32)


def features(
    y: NDArray[np.int32],
    d: int,
    classes: int,
    *,
    seed: int,
    dtype: str = "float32",
    kind: str = "structured",
) -> NDArray[Any]:
    """Features [n, d] of float32 digits, as networks give them.

    "structured": a latent space of decaying spectrum holds classes that overlap, is rotated into
    d columns, and noise and a mean are added. Its largest within-class eigenvalue is about 1,
    where SFDA's shrinkage is neither at its floor nor all there is. "random": plain noise.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of input {kind!r}: choose one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, len(y), d, classes])
    x = rng.standard_normal((len(y), d), dtype=np.float32)
    if kind == "structured":
        rank = min(d, _LATENT)
        scale = (1 / np.sqrt(1 + np.arange(rank))).astype(np.float32)
        means = 0.6 * rng.standard_normal((classes, rank), dtype=np.float32)
        latent = (means[y] + rng.standard_normal((len(y), rank), dtype=np.float32)) * scale
        mixing = rng.standard_normal((rank, d), dtype=np.float32) / np.float32(np.sqrt(d))
        x *= np.float32(_NOISE)
        x += latent @ mixing + np.float32(0.1)
    return x.astype(dtype, copy=False)


def problem(
    n: int, d: int, classes: int, *, seed: int, dtype: str = "float32", kind: str = "structured"
) -> Problem:
    """Features and labels of one model."""
    y = labels(n, classes, seed)
    return Problem(features(y, d, classes, seed=seed, dtype=dtype, kind=kind), y)


def of_metric(spec: Mapping[str, Any]) -> Problem:
    """What a metric is measured on: features, or the probabilities of d source classes."""
    names = ("n", "d", "classes")
    made = problem(*(spec[name] for name in names), seed=spec["seed"], kind=spec["kind"])
    x = made.features.astype(np.float64)
    if spec["metric"] in SOURCE:
        x = np.exp(3 * x - (3 * x).max(axis=1, keepdims=True))
        x /= x.sum(axis=1, keepdims=True)
    return Problem(x.astype(spec["dtype"], copy=False), made.labels)


def pool_widths(count: int, widths: Sequence[int] = WIDTHS) -> list[int]:
    """The widths of a ragged pool of so many models, each in turn."""
    return list(islice(cycle(widths), count))
