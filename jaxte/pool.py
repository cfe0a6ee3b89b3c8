"""Many models at once: bucket by width, pad, and run each bucket as one compiled vmapped call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxte._inputs import choose
from jaxte.metrics import Metric
from jaxte.metrics._look import Look
from jaxte.perturb.transform import moved_features

__all__ = [
    "Bucket",
    "Candidate",
    "Task",
    "buckets",
    "precision_context",
    "score_bucket",
    "width_of",
]

# Metrics hold about this many arrays of the size of its features at once.
_COPIES = 6
# About the arithmetic that could be done while one more shape is compiled for the metrics.
_COMPILATION = 2e10
# The arithmetic from which one model is enough for all cores.
_BUSY = 1e9
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


class Task(NamedTuple):
    """What is computed of every model of a pool.

    Attributes:
        metrics: all are made from one look at the features.
        options: metric name -> its own options.
        num_classes: C; None for regression.
        perturb: perturbs the features first, or None.
    """

    metrics: tuple[Metric, ...]
    options: Mapping[str, Mapping[str, Any]]
    num_classes: int | None
    perturb: Callable[..., Any] | None


Found = dict[str, dict[str, float]]  # metric -> named parts


def score_bucket(task: Task, bucket: Bucket, *, memory_limit: int) -> Iterator[tuple[str, Found]]:
    """Score every member of a bucket, yielding its name and parts as they are ready.

    Small models are stacked, in slices of equal size that fit ``memory_limit`` bytes (the last
    filled up with copies), so that one compilation serves all. Models that keep a CPU busy by
    themselves go one by one: stacking them would only take memory.
    """
    members = bucket.members
    dtype = jnp.zeros(()).dtype  # as the precision context says
    per_model = _COPIES * bucket.rows * bucket.width * dtype.itemsize
    largest = max(1, memory_limit // per_model)
    heavy = _operations(bucket.rows, bucket.width) > _BUSY
    if heavy and jax.default_backend() == "cpu":
        largest = 1
    size = math.ceil(len(members) / math.ceil(len(members) / largest))
    unsure: list[Candidate] = []
    for start in range(0, len(members), size):
        chosen = members[start : start + size]
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        for member, found in zip(
            chosen, _run(task, filled, bucket.width, quick=True), strict=False
        ):
            if any(parts.get("unsure") for parts in found.values()):
                unsure.append(member)
            else:
                yield member.name, found
    for member in unsure:
        yield member.name, _run(task, [member], bucket.width, quick=False)[0]


def _run(task: Task, members: Sequence[Candidate], width: int, *, quick: bool) -> list[Found]:
    """One compiled call for members of one shape."""
    first, dtype = members[0], jnp.zeros(()).dtype
    one_target = all(m.targets is first.targets for m in members)
    one_weight = all(m.weights is first.weights for m in members)
    run = _compiled_for(task, quick, len(members) > 1, one_target, one_weight)
    features = _stacked([m.features for m in members], width, dtype)
    widths = np.array([np.shape(m.features)[1] for m in members])
    if len(members) == 1:
        found = run(features[0], jnp.asarray(first.targets), first.weights, widths[0])
        found = jax.tree.map(lambda part: np.asarray(part)[None], found)
    else:
        found = run(
            features,
            jnp.asarray(first.targets if one_target else np.stack([m.targets for m in members])),
            first.weights if one_weight else np.stack([np.asarray(m.weights) for m in members]),
            widths,
        )
        found = jax.tree.map(np.asarray, found)
    return [
        jax.tree.map(lambda part, index=index: float(part[index]), found)
        for index in range(len(members))
    ]


def _compiled_for(task: Task, *shape: bool) -> Callable[..., Any]:
    """The compiled function, kept, so that a second pool of the same shapes is warm."""
    options = tuple(
        (name, tuple(sorted(given.items()))) for name, given in sorted(task.options.items())
    )
    setup = (task.metrics, options, task.num_classes, task.perturb, *shape)
    try:
        return _compiled(*setup)
    except TypeError:  # an option that cannot be hashed, such as an array
        return _compiled.__wrapped__(*setup)


@lru_cache(maxsize=256)
def _compiled(
    metrics: tuple[Metric, ...],
    options: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...],
    num_classes: int | None,
    perturb: Callable[..., Any] | None,
    quick: bool,
    several: bool,
    one_target: bool,
    one_weight: bool,
) -> Callable[..., Any]:
    own = {name: dict(given) for name, given in options}

    def one(features: Any, targets: Any, weights: Any, num_features: Any) -> dict[str, Any]:
        if perturb is not None:
            features, num_features = moved_features(
                perturb,
                features,
                targets,
                num_classes=num_classes,
                weights=weights,
                num_features=num_features,
            )
        look = Look(
            features, targets, num_classes=num_classes, weights=weights, num_features=num_features
        )
        return {
            m.name: ((m.quick if quick else None) or m.parts)(look, **own.get(m.name, {}))
            for m in metrics
        }

    if not several:
        return jax.jit(one)
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
