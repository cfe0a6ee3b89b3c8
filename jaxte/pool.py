"""Many models at once: bucket by width, pad, and run each bucket through one compiled function."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte._blocks import width_of
from jaxte._cores import WORKERS, Budget, one_blas_thread
from jaxte._looking import Form, Task
from jaxte._mesh import MODELS, SAMPLES
from jaxte._programs import Program, in_context, side_by_side

__all__ = [
    "Bucket",
    "Candidate",
    "Form",
    "Task",
    "buckets",
    "score",
]

# Metrics hold about this many arrays of the size of its features at once.
_COPIES = 6
# About the arithmetic that could be done while one more shape is compiled for the metrics.
_COMPILATION = 1e11
# What the passes over an entry of the features cost, in multiplications of a matrix product.
_PASSES = 1e4
# Entries of features in a bucket up to which a CPU gains more by compiling in haste than it loses.
_LITTLE = 1e8
# How many buckets are compiled ahead of the one that runs.
_AHEAD = 16


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
    """About what the metrics cost on one model: Gram matrices, an eigenproblem, passes."""
    return 6.0 * n * width**2 + 10.0 * min(n, width) ** 3 + _PASSES * n * width


Found = dict[str, dict[str, float]]  # metric -> named parts


def score(
    task: Task,
    candidates: Sequence[Candidate],
    rows: Mapping[str, int] | None = None,
    *,
    memory_limit: int,
) -> Iterator[tuple[Bucket, str, Found]]:
    """Score all candidates, yielding bucket, name and parts of each as they are ready.

    The programs of the next buckets are compiled side by side while the first ones run already.
    """
    found = buckets(candidates, rows)
    if not found:
        return
    if task.layout is not None:
        for bucket in found:
            for name, parts in _score_stacked(task, bucket, memory_limit):
                yield bucket, name, parts
    elif jax.default_backend() == "cpu":
        yield from _score_side_by_side(task, found, memory_limit)
    else:
        with side_by_side() as executor:
            for index, bucket in enumerate(found):
                for later in found[index : index + _AHEAD] if len(found) > 1 else ():
                    _start(executor, task, later, _at_once(task, later, memory_limit))
                for name, parts in _score_stacked(task, bucket, memory_limit):
                    yield bucket, name, parts


def _score_side_by_side(
    task: Task, found: Sequence[Bucket], memory_limit: int
) -> Iterator[tuple[Bucket, str, Found]]:
    """On a CPU: as many models at once as there are cores and ``memory_limit`` has room for."""
    budget = Budget(memory_limit)

    def alone(bucket: Bucket, member: Candidate) -> Found:
        with budget.holding(_bytes(bucket)):
            (parts,) = _run(task, [member], bucket, quick=True)
            if _unsure(parts):
                (parts,) = _run(task, [member], bucket, quick=False)
        return parts

    work = in_context(alone)
    jobs = [(index, member) for index, bucket in enumerate(found) for member in bucket.members]
    executor = ThreadPoolExecutor(min(WORKERS, len(jobs)), thread_name_prefix="jaxte-model")
    alone_there = len(jobs) == 1  # all cores are its own, and nothing is to be made ahead
    with side_by_side() as compiling, nullcontext() if alone_there else one_blas_thread():
        for bucket in () if alone_there else found[:_AHEAD]:
            _start(compiling, task, bucket, 1)
        try:
            begun = {executor.submit(work, found[index], one): (index, one) for index, one in jobs}
            for future in as_completed(begun):
                index, member = begun[future]
                for later in found[index + 1 : index + _AHEAD]:
                    _start(compiling, task, later, 1)
                yield found[index], member.name, future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _unsure(found: Found) -> bool:
    return any(parts.get("unsure") for parts in found.values())


def _score_stacked(task: Task, bucket: Bucket, memory_limit: int) -> Iterator[tuple[str, Found]]:
    """Members of a bucket in slices of equal size that fit ``memory_limit`` bytes.

    The last is filled up with copies, so that one compilation serves all.
    """
    members = bucket.members
    size = _at_once(task, bucket, memory_limit)
    unsure: list[Candidate] = []
    for start in range(0, len(members), size):
        chosen = members[start : start + size]
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        results = _run(task, filled, bucket, quick=True)
        for member, found in zip(chosen, results, strict=False):
            if _unsure(found):
                unsure.append(member)
            else:
                yield member.name, found
    copies = 1 if task.layout is None else task.layout.models
    for member in unsure:
        yield member.name, _run(task, [member] * copies, bucket, quick=False)[0]


def _bytes(bucket: Bucket) -> int:
    """About what the metrics hold of one model."""
    return _COPIES * bucket.rows * bucket.width * jnp.zeros(()).dtype.itemsize


def _at_once(task: Task, bucket: Bucket, memory_limit: int) -> int:
    """How many models are stacked for one call."""
    count = len(bucket.members)
    size = math.ceil(count / math.ceil(count / max(1, memory_limit // _bytes(bucket))))
    if task.layout is not None:
        size = math.ceil(size / task.layout.models) * task.layout.models
    return size


def _start(executor: Executor, task: Task, bucket: Bucket, size: int) -> None:
    """Begin to compile what so many members of a bucket need for their first run."""
    members = bucket.members[:size]
    if any(_placed(m.features) for m in members):
        return
    dtype = _transferred(bucket)
    shape = (bucket.rows, bucket.width)
    features = jax.ShapeDtypeStruct(shape if size == 1 else (size, *shape), dtype)
    program, arguments = _prepared(task, bucket, members, features, quick=True)

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
        features = features[0] if len(members) == 1 else features
        program, arguments = _prepared(task, bucket, members, features, quick=quick)
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
    task: Task, bucket: Bucket, members: Sequence[Candidate], features: Any, *, quick: bool
) -> tuple[Program, tuple[Any, ...]]:
    """The program for members of one shape and its arguments."""
    first = members[0]
    one_target = all(m.targets is first.targets for m in members)
    one_weight = all(m.weights is first.weights for m in members)
    targets = first.targets if one_target else np.stack([m.targets for m in members])
    weights = first.weights if one_weight else np.stack([np.asarray(m.weights) for m in members])
    widths = _widths(members)
    volume = bucket.rows * bucket.width * len(bucket.members)
    form = Form(quick, len(members) > 1, one_target, one_weight, hasty=volume < _LITTLE)
    program = task.program(form)
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
    run = task.program(Form(quick, several=True, one_target=one_target, one_weight=False))
    return run(
        layout.place(features, MODELS, SAMPLES),
        layout.place(targets, *(() if one_target else (MODELS,)), SAMPLES),
        layout.place(np.stack(weights), MODELS, SAMPLES),
        layout.place(_widths(members), MODELS),
    )


def _stacked(members: Sequence[Candidate], bucket: Bucket) -> Any:
    """Features of different widths as one array [m, n, width], zeros to the right.

    Arrays that already lie on an accelerator are put together there.
    """
    dtype, width = _transferred(bucket), bucket.width
    if any(_placed(m.features) for m in members):
        arrays = [jnp.asarray(m.features).astype(dtype) for m in members]
        return jnp.stack([jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in arrays])
    if len(members) == 1 and members[0].features.shape[1] == width:
        return np.asarray(members[0].features, dtype)[None]
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
