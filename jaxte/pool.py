"""Many models at once: bucket by width, pad, and run each bucket as one compiled vmapped call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxte._inputs import choose

__all__ = ["Bucket", "Candidate", "buckets", "precision_context", "score_bucket", "width_of"]

# A metric holds about this many arrays of the size of its features at once.
_COPIES = 6
# About the arithmetic that could be done while one more shape is compiled for the metrics.
_COMPILATION = 2e10
# GPUs whose float64 runs at half the speed of float32; others are 32 or 64 times slower.
_FAST_FLOAT64 = ("P100", "V100", "A30", "A100", "H100", "H200", "GH200", "B100", "B200", "GB200")


@dataclass(frozen=True)
class Candidate:
    """One model's features [n, d], the targets and weights that go with them."""

    name: str
    features: Any
    targets: Any
    weights: Any | None


@dataclass(frozen=True)
class Bucket:
    """Candidates of one padded shape: they share a compilation."""

    rows: int
    width: int
    members: tuple[Candidate, ...]


def width_of(d: int) -> int:
    """The padded width of d columns: the next 2^i or 3 * 2^i, at least 16.

    Two sizes per octave keep the shapes few and the padding below a half.
    """
    octave = 2 ** max(4, math.ceil(math.log2(d)))
    return octave * 3 // 4 if d <= octave * 3 // 4 and octave > 16 else octave


def buckets(candidates: Sequence[Candidate]) -> list[Bucket]:
    """Group candidates by number of rows and padded width.

    A bucket joins the next wider one where the arithmetic on the extra padding costs less than
    the compilation that it saves.
    """
    groups: dict[tuple[int, int], list[Candidate]] = {}
    for candidate in candidates:
        n, d = np.shape(candidate.features)
        groups.setdefault((n, width_of(d)), []).append(candidate)
    found: list[Bucket] = []
    for (n, width), members in sorted(groups.items()):
        if found and found[-1].rows == n:
            narrow = found[-1]
            extra = len(narrow.members) * (_operations(n, width) - _operations(n, narrow.width))
            if extra < _COMPILATION:
                members = [*narrow.members, *members]
                found.pop()
        found.append(Bucket(n, width, tuple(members)))
    return found


def _operations(n: int, width: int) -> float:
    """About how much arithmetic the metrics do on one model: Gram matrices and an eigenproblem."""
    return 6.0 * n * width**2 + 10.0 * min(n, width) ** 3


def precision_context(precision: str) -> AbstractContextManager[Any]:
    """A context in which JAX computes in the asked precision, whatever the user's global flag.

    "auto" is float64 on CPUs and on GPUs where it is fast, float32 elsewhere.
    """
    choose("precision", precision, ("auto", "float32", "float64"))
    if precision == "auto":
        device = jax.devices()[0]
        fast = device.platform == "cpu" or any(k in device.device_kind for k in _FAST_FLOAT64)
        precision = "float64" if fast else "float32"
    return jax.enable_x64(precision == "float64")


def score_bucket(
    parts: Callable[..., Mapping[str, Any]],
    bucket: Bucket,
    *,
    num_classes: int | None,
    options: Mapping[str, Any],
    memory_limit: int,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Score every member of a bucket, yielding its name and named parts as they are ready.

    The bucket is cut into slices of equal size that fit ``memory_limit`` bytes; the last is
    filled up with copies, so that one compilation serves all.
    """
    members = bucket.members
    dtype = jnp.zeros(()).dtype  # as the precision context says
    per_model = _COPIES * bucket.rows * bucket.width * dtype.itemsize
    largest = max(1, memory_limit // per_model)
    size = math.ceil(len(members) / math.ceil(len(members) / largest))
    one_target = all(m.targets is members[0].targets for m in members)
    one_weight = all(m.weights is members[0].weights for m in members)
    setup = (parts, num_classes, one_target, one_weight, tuple(sorted(options.items())))
    try:
        run = _compiled(*setup)
    except TypeError:  # an option that cannot be hashed, such as an array
        run = _compiled.__wrapped__(*setup)
    for start in range(0, len(members), size):
        chosen = members[start : start + size]
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        first = filled[0]
        found = run(
            _stacked([m.features for m in filled], bucket.width, dtype),
            jnp.asarray(first.targets if one_target else np.stack([m.targets for m in filled])),
            first.weights if one_weight else np.stack([np.asarray(m.weights) for m in filled]),
            np.array([np.shape(m.features)[1] for m in filled]),
        )
        values = {name: np.asarray(value) for name, value in found.items()}
        for index, member in enumerate(chosen):
            yield member.name, {name: float(value[index]) for name, value in values.items()}


@lru_cache(maxsize=256)
def _compiled(
    parts: Callable[..., Mapping[str, Any]],
    num_classes: int | None,
    one_target: bool,
    one_weight: bool,
    options: tuple[tuple[str, Any], ...],
) -> Callable[..., Mapping[str, Any]]:
    """One jitted function per metric, kept, so that a second pool of the same shapes is warm."""

    def one(features: Any, targets: Any, weights: Any, num_features: Any) -> Mapping[str, Any]:
        return parts(
            features,
            targets,
            weights=weights,
            num_features=num_features,
            num_classes=num_classes,
            **dict(options),
        )

    return jax.jit(
        jax.vmap(one, in_axes=(0, None if one_target else 0, None if one_weight else 0, 0))
    )


def _stacked(features: Sequence[ArrayLike], width: int, dtype: Any) -> Any:
    """Features of different widths as one array [m, n, width], zeros to the right.

    Arrays that already lie on an accelerator are put together there.
    """
    if any(isinstance(f, jax.Array) for f in features):
        return jnp.stack(
            [
                jnp.pad(jnp.asarray(f).astype(dtype), ((0, 0), (0, width - np.shape(f)[1])))
                for f in features
            ]
        )
    out = np.zeros((len(features), np.shape(features[0])[0], width), dtype)
    for row, f in zip(out, features, strict=True):
        row[:, : np.shape(f)[1]] = np.asarray(f)
    return out
