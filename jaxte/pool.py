"""Many models at once: bucket by width, pad, and run each bucket through one compiled function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxte._mesh import MODELS, SAMPLES, Layout
from jaxte.metrics import Metric
from jaxte.metrics._look import Look
from jaxte.perturb.transform import moved_features

__all__ = [
    "Bucket",
    "Candidate",
    "Task",
    "buckets",
    "score_bucket",
    "width_of",
]

# Metrics hold about this many arrays of the size of its features at once.
_COPIES = 6
# About the arithmetic that could be done while one more shape is compiled for the metrics.
_COMPILATION = 1e11
# The arithmetic from which one model is enough for all cores.
_BUSY = 1e9


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


def buckets(candidates: Sequence[Candidate], rows: Mapping[str, int] | None = None) -> list[Bucket]:
    """Group candidates by number of rows (theirs, or ``rows`` by name) and padded width.

    A bucket joins the next wider one where the arithmetic on the extra padding costs less than
    the compilation that it saves.
    """
    groups: dict[tuple[int, int], list[Candidate]] = {}
    for candidate in candidates:
        n, d = np.shape(candidate.features)
        n = n if rows is None else rows[candidate.name]
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


class Task(NamedTuple):
    """What is computed of every model of a pool.

    Attributes:
        metrics: all are made from one look at the features.
        options: metric name -> its own options.
        num_classes: C; None for regression.
        perturb: perturbs the features first, or None.
        layout: the mesh that shares the work, or None.
    """

    metrics: tuple[Metric, ...]
    options: Mapping[str, Mapping[str, Any]]
    num_classes: int | None
    perturb: Callable[..., Any] | None
    layout: Layout | None = None


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
    if task.layout is not None:
        size = math.ceil(size / task.layout.models) * task.layout.models
    unsure: list[Candidate] = []
    for start in range(0, len(members), size):
        chosen = members[start : start + size]
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        results = _run(task, filled, bucket, quick=True)
        for member, found in zip(chosen, results, strict=False):
            if any(parts.get("unsure") for parts in found.values()):
                unsure.append(member)
            else:
                yield member.name, found
    copies = 1 if task.layout is None else task.layout.models
    for member in unsure:
        yield member.name, _run(task, [member] * copies, bucket, quick=False)[0]


def _run(task: Task, members: Sequence[Candidate], bucket: Bucket, *, quick: bool) -> list[Found]:
    """One compiled call for members of one shape."""
    first, dtype = members[0], jnp.zeros(()).dtype
    # what is one object in one process may be several in another, and all must compile alike
    alone = task.layout is None or jax.process_count() == 1
    one_target = alone and all(m.targets is first.targets for m in members)
    one_weight = all(m.weights is first.weights for m in members)
    if task.layout is not None:
        found = _run_on_mesh(task, members, bucket, quick, one_target)
    else:
        run = _compiled_for(task, quick, len(members) > 1, one_target, one_weight)
        features = _stacked([m.features for m in members], bucket.width, dtype)
        widths = _widths(members)
        if len(members) == 1:
            found = run(features[0], jnp.asarray(first.targets), first.weights, widths[0])
            found = jax.tree.map(lambda part: np.asarray(part)[None], found)
        else:
            targets = first.targets if one_target else np.stack([m.targets for m in members])
            weights = (
                first.weights if one_weight else np.stack([np.asarray(m.weights) for m in members])
            )
            found = run(features, jnp.asarray(targets), weights, widths)
    found = jax.tree.map(np.asarray, found)
    return [
        jax.tree.map(lambda part, index=index: float(part[index]), found)
        for index in range(len(members))
    ]


def _widths(members: Sequence[Candidate]) -> np.ndarray:
    return np.array([np.shape(m.features)[1] for m in members])


def _run_on_mesh(
    task: Task, members: Sequence[Candidate], bucket: Bucket, quick: bool, one_target: bool
) -> Any:
    """As `_run`: samples and models spread over the devices, missing rows of weight 0."""
    layout = task.layout
    assert layout is not None

    def long(array: Any, dtype: Any = None) -> np.ndarray:
        array = np.asarray(array, dtype)
        return np.pad(array, [(0, bucket.rows - len(array))] + [(0, 0)] * (array.ndim - 1))

    dtype = jnp.zeros(()).dtype
    features = np.zeros((len(members), bucket.rows, bucket.width), dtype)
    weights = []
    for row, member in zip(features, members, strict=True):
        n, d = np.shape(member.features)
        row[:n, :d] = np.asarray(member.features)
        weights.append(long(np.ones(n) if member.weights is None else member.weights, dtype))
    first = long(members[0].targets)
    targets = first if one_target else np.stack([long(m.targets) for m in members])
    run = _compiled_for(task, quick, True, one_target, False)
    return run(
        layout.place(features, MODELS, SAMPLES),
        layout.place(targets, *(() if one_target else (MODELS,)), SAMPLES),
        layout.place(np.stack(weights), MODELS, SAMPLES),
        layout.place(_widths(members), MODELS),
    )


def _compiled_for(task: Task, *shape: bool) -> Callable[..., Any]:
    """The compiled function, kept, so that a second pool of the same shapes is warm."""
    options = tuple(
        (name, tuple(sorted(given.items()))) for name, given in sorted(task.options.items())
    )
    setup = (task.metrics, options, task.num_classes, task.perturb, task.layout, *shape)
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
    layout: Layout | None,
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
            features,
            targets,
            num_classes=num_classes,
            weights=weights,
            num_features=num_features,
            axis=None if layout is None else layout.axis,
        )
        return {
            m.name: ((m.quick if quick else None) or m.parts)(look, **own.get(m.name, {}))
            for m in metrics
        }

    if not several:
        return jax.jit(one)
    stacked = jax.vmap(one, in_axes=(0, None if one_target else 0, None if one_weight else 0, 0))
    if layout is None:
        return jax.jit(stacked)

    def in_turn(features: Any, targets: Any, weights: Any, widths: Any) -> Any:
        if one_target:
            return jax.lax.map(
                lambda m: one(m[0], targets, m[1], m[2]), (features, weights, widths)
            )
        return jax.lax.map(lambda m: one(*m), (features, targets, weights, widths))

    # batched LAPACK calls and sums over devices wait for the same few threads of a CPU
    several_at_once = in_turn if jax.default_backend() == "cpu" else stacked

    def on_each(*inputs: Any) -> Any:
        found = several_at_once(*inputs)
        if layout.models == 1:
            return found
        return jax.tree.map(lambda part: jax.lax.all_gather(part, MODELS, tiled=True), found)

    samples = layout.spec(SAMPLES) if one_target else layout.spec(MODELS, SAMPLES)
    both, models = layout.spec(MODELS, SAMPLES), layout.spec(MODELS)
    return jax.jit(
        jax.shard_map(
            on_each,
            mesh=layout.mesh,
            in_specs=(both, samples, both, models),
            out_specs=layout.spec(),
            check_vma=False,
        ),
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
