"""Many models at once: bucket by width, pad, and run each bucket through one compiled function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxte._blocks import width_of
from jaxte._mesh import MODELS, SAMPLES, Layout
from jaxte._programs import Program, side_by_side
from jaxte.metrics import Metric
from jaxte.metrics._look import Look
from jaxte.perturb.transform import moved_features

__all__ = [
    "Bucket",
    "Candidate",
    "Task",
    "buckets",
    "score_bucket",
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


def score(
    task: Task,
    candidates: Sequence[Candidate],
    rows: Mapping[str, int] | None = None,
    *,
    memory_limit: int,
) -> Iterator[tuple[Bucket, str, Found]]:
    """Score all candidates, yielding bucket, name and parts of each as they are ready.

    The programs of all buckets are compiled side by side while the first ones run already.
    """
    found = buckets(candidates, rows)
    if len(found) == 1 or task.layout is not None:
        for bucket in found:
            for name, parts in score_bucket(task, bucket, memory_limit=memory_limit):
                yield bucket, name, parts
        return
    with side_by_side() as executor:
        for bucket in found:
            _start(executor, task, bucket, memory_limit)
        for bucket in found:
            for name, parts in score_bucket(task, bucket, memory_limit=memory_limit):
                yield bucket, name, parts


def score_bucket(task: Task, bucket: Bucket, *, memory_limit: int) -> Iterator[tuple[str, Found]]:
    """Score every member of a bucket, yielding its name and parts as they are ready.

    Small models are stacked, in slices of equal size that fit ``memory_limit`` bytes (the last
    filled up with copies), so that one compilation serves all. Models that keep a CPU busy by
    themselves go one by one: stacking them would only take memory.
    """
    members = bucket.members
    size = _at_once(task, bucket, memory_limit)
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


def _at_once(task: Task, bucket: Bucket, memory_limit: int) -> int:
    """How many models go into one call."""
    count = len(bucket.members)
    per_model = _COPIES * bucket.rows * bucket.width * jnp.zeros(()).dtype.itemsize
    largest = max(1, memory_limit // per_model)
    heavy = _operations(bucket.rows, bucket.width) > _BUSY
    if heavy and jax.default_backend() == "cpu":
        largest = 1
    size = math.ceil(count / math.ceil(count / largest))
    if task.layout is not None:
        size = math.ceil(size / task.layout.models) * task.layout.models
    return size


def _start(executor: Executor, task: Task, bucket: Bucket, memory_limit: int) -> None:
    """Begin to compile what `score_bucket` will run."""
    size = _at_once(task, bucket, memory_limit)
    members = [*bucket.members[:size]]
    if any(_placed(m.features) for m in members):
        return
    dtype = _transferred(bucket)
    shape = (bucket.rows, bucket.width)
    features = jax.ShapeDtypeStruct(shape if size == 1 else (size, *shape), dtype)
    program, arguments = _prepared(task, members, features, quick=True)

    def then(result: Any) -> None:
        for metric in task.metrics:
            if metric.finish is not None and not isinstance(result[metric.name], dict):
                left = result[metric.name]
                if size > 1:
                    left = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), left)
                metric.finish.start(executor, left)

    program.start(executor, *arguments, then=then)


def _run(task: Task, members: Sequence[Candidate], bucket: Bucket, *, quick: bool) -> list[Found]:
    """One compiled call for members of one shape, and what a metric has to finish afterwards."""
    if task.layout is not None:
        found = _run_on_mesh(task, members, bucket, quick)
    else:
        features = _stacked(members, bucket)
        program, arguments = _prepared(
            task, members, features[0] if len(members) == 1 else features, quick=quick
        )
        found = program(*arguments)
        if len(members) == 1:
            found = jax.tree.map(lambda part: np.asarray(part)[None], found)
    found = jax.tree.map(np.asarray, found)
    return [
        _finished(task, jax.tree.map(lambda part, index=index: part[index], found))
        for index in range(len(members))
    ]


def _finished(task: Task, found: Mapping[str, Any]) -> Found:
    """Named numbers of one model."""
    parts = {
        metric.name: found[metric.name]
        if metric.finish is None or isinstance(found[metric.name], dict)
        else metric.finish(found[metric.name])
        for metric in task.metrics
    }
    return jax.tree.map(float, parts)


def _prepared(
    task: Task, members: Sequence[Candidate], features: Any, *, quick: bool
) -> tuple[Program, tuple[Any, ...]]:
    """The program for members of one shape and its arguments."""
    first = members[0]
    one_target = all(m.targets is first.targets for m in members)
    one_weight = all(m.weights is first.weights for m in members)
    targets = first.targets if one_target else np.stack([m.targets for m in members])
    weights = first.weights if one_weight else np.stack([np.asarray(m.weights) for m in members])
    widths = _widths(members)
    program = _compiled_for(task, quick, len(members) > 1, one_target, one_weight)
    if len(members) == 1:
        widths = widths[0]
    return program, (features, np.asarray(targets), weights, widths)


def _widths(members: Sequence[Candidate]) -> np.ndarray:
    return np.array([np.shape(m.features)[1] for m in members])


def _run_on_mesh(task: Task, members: Sequence[Candidate], bucket: Bucket, quick: bool) -> Any:
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
    # what is one object in one process may be several in another, and all must compile alike
    alone = jax.process_count() == 1
    one_target = alone and all(m.targets is members[0].targets for m in members)
    targets = first if one_target else np.stack([long(m.targets) for m in members])
    run = _compiled_for(task, quick, True, one_target, False)
    return run(
        layout.place(features, MODELS, SAMPLES),
        layout.place(targets, *(() if one_target else (MODELS,)), SAMPLES),
        layout.place(np.stack(weights), MODELS, SAMPLES),
        layout.place(_widths(members), MODELS),
    )


def _compiled_for(task: Task, *shape: bool) -> Program:
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
) -> Program:
    own = {name: dict(given) for name, given in options}

    def one(features: Any, targets: Any, weights: Any, num_features: Any) -> dict[str, Any]:
        features = features.astype(jnp.zeros(()).dtype)  # as the precision context says
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
        found = {}
        for m in metrics:
            left = m.reduce(look, **own.get(m.name, {})) if quick and m.reduce else None
            found[m.name] = m.parts(look, **own.get(m.name, {})) if left is None else left
        return found

    if not several:
        return Program(one)
    stacked = jax.vmap(one, in_axes=(0, None if one_target else 0, None if one_weight else 0, 0))

    def in_turn(features: Any, targets: Any, weights: Any, widths: Any) -> Any:
        def each(own: Any) -> Any:
            x, y, w, d = own
            return one(x, targets if one_target else y, weights if one_weight else w, d)

        own = (features, () if one_target else targets, () if one_weight else weights, widths)
        return jax.lax.map(each, own)

    # On a CPU every batched LAPACK call keeps a thread of XLA's pool and waits in it for others:
    # as many at once as there are threads (LogME's and FaCe's on two cores) wait for ever, and
    # so do sums over devices beside one.
    several_at_once = in_turn if jax.default_backend() == "cpu" else stacked
    if layout is None:
        return Program(several_at_once)

    def on_each(*inputs: Any) -> Any:
        found = several_at_once(*inputs)
        if layout.models == 1:
            return found
        return jax.tree.map(lambda part: jax.lax.all_gather(part, MODELS, tiled=True), found)

    samples = layout.spec(SAMPLES) if one_target else layout.spec(MODELS, SAMPLES)
    both, models = layout.spec(MODELS, SAMPLES), layout.spec(MODELS)
    return Program(
        jax.shard_map(
            on_each,
            mesh=layout.mesh,
            in_specs=(both, samples, both, models),
            out_specs=layout.spec(),
            check_vma=False,
        ),
    )


def _stacked(members: Sequence[Candidate], bucket: Bucket) -> Any:
    """Features of different widths as one array [m, n, width], zeros to the right.

    Arrays that already lie on an accelerator are put together there.
    """
    dtype, width = _transferred(bucket), bucket.width
    if any(_placed(m.features) for m in members):
        arrays = [jnp.asarray(m.features).astype(dtype) for m in members]
        return jnp.stack([jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in arrays])
    out = np.empty((len(members), np.shape(members[0].features)[0], width), dtype)
    for row, member in zip(out, members, strict=True):
        d = np.shape(member.features)[1]
        row[:, :d] = np.asarray(member.features)
        row[:, d:] = 0
    return out


def _transferred(bucket: Bucket) -> np.dtype[Any]:
    """The type in which features travel: their own if they share a short one, else the working one.

    The device widens them, from half the bytes; all of a bucket travel alike, to compile once.
    """
    types = {np.dtype(m.features.dtype) for m in bucket.members}
    dtype = types.pop()
    short = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 4
    return dtype if short and not types else jnp.zeros(()).dtype


def _placed(features: Any) -> bool:
    """Whether an array lies on an accelerator, or on several devices."""
    if not isinstance(features, jax.Array):
        return False
    here = features.is_fully_addressable and len(features.devices()) == 1
    return not here or any(device.platform != "cpu" for device in features.devices())
