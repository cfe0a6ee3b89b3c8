"""Many models at once: bucket by width, pad, and run each bucket through one compiled function."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.ranking.blocks import width_of
from jaxte.ranking.plan import Form, Task
from jaxte.runtime.devices import is_placed, platform_of
from jaxte.runtime.mesh import MODELS, SAMPLES, Layout
from jaxte.runtime.programs import Program, in_context
from jaxte.runtime.threads import Threads, cores, one_blas_thread

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
# How many buckets are compiled ahead of the one that runs, and how many of them at once: more
# than there are cores would only keep the first call waiting.
_AHEAD = 16
_COMPILING = 4


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


Parts = dict[str, dict[str, float]]  # metric -> named parts


def score(
    task: Task,
    candidates: Sequence[Candidate],
    rows: Mapping[str, int] | None = None,
    *,
    memory_limit: int,
) -> Generator[tuple[Bucket, str, Parts | Exception], None, None]:
    """Score all candidates, yielding bucket, name and parts of each as they are ready.

    What one of them raises comes in place of its parts, and the others go on. The programs of
    the next buckets are compiled side by side while the first ones run already.
    """
    found = buckets(candidates, rows)
    if not found:
        return
    placed = [one.features for one in candidates if is_placed(one.features)]
    mesh = None if task.layout is None else task.layout.mesh
    platform = platform_of(*placed, mesh=mesh)
    if task.layout is None and platform == "cpu":
        yield from _score_side_by_side(task, found, memory_limit)
        return
    with Threads(min(_COMPILING, cores())) as threads:
        started = 0
        for index, bucket in enumerate(found):
            if task.layout is None:
                for later in found[started : index + _AHEAD]:
                    _start(threads, task, later, _at_once(task, later, memory_limit), platform)
                started = index + _AHEAD
            for name, parts in _score_stacked(task, bucket, memory_limit, platform):
                yield bucket, name, parts


def _score_side_by_side(
    task: Task, found: Sequence[Bucket], memory_limit: int
) -> Iterator[tuple[Bucket, str, Parts | Exception]]:
    """On a CPU: as many models at once as there are cores and ``memory_limit`` has room for."""

    def alone(bucket: Bucket, member: Candidate) -> Parts:
        (parts,) = _run(task, [member], bucket, "cpu", quick=True)
        if _unsure(parts):
            (parts,) = _run(task, [member], bucket, "cpu", quick=False)
        return parts

    work = in_context(alone)
    jobs = deque((index, member) for index, one in enumerate(found) for member in one.members)
    workers = min(cores(), len(jobs))
    under_way: dict[int, int] = {}  # jobs left when it was begun -> bytes
    started = 0
    alone_there = len(jobs) == 1  # all cores are its own, and nothing is to be made ahead
    with (
        nullcontext() if alone_there else one_blas_thread(),
        Threads(min(_COMPILING, cores())) as compiling,
        Threads(workers) as working,
    ):
        while jobs or under_way:
            # one more than there are threads, which is not to wait for this one
            while jobs and len(under_way) <= workers:
                index, member = jobs[0]
                size = _bytes(found[index])
                if under_way and sum(under_way.values()) + size > memory_limit:
                    break
                for later in () if alone_there else found[started : index + _AHEAD]:
                    _start(compiling, task, later, 1, "cpu")
                started = max(started, index + _AHEAD)
                under_way[len(jobs)] = size
                key = len(jobs), found[index], member.name
                working.submit(key, partial(work, found[index], member))
                jobs.popleft()
            (number, bucket, name), parts = working.result()
            del under_way[number]
            yield bucket, name, parts


def _unsure(found: Parts) -> bool:
    return any(parts.get("unsure") for parts in found.values())


def _score_stacked(
    task: Task, bucket: Bucket, memory_limit: int, platform: str
) -> Iterator[tuple[str, Parts | Exception]]:
    """Members of a bucket in slices of equal size that fit ``memory_limit`` bytes.

    The last is filled up with copies, so that one compilation serves all.
    """
    size = _at_once(task, bucket, memory_limit)
    apart: list[tuple[Candidate, bool]] = []
    for start in range(0, len(bucket.members), size):
        chosen = bucket.members[start : start + size]
        filled = [*chosen, *[chosen[-1]] * (size - len(chosen))]
        try:
            results = _run(task, filled, bucket, platform, quick=True)
        except Exception as error:
            if jax.process_count() > 1:
                raise  # the others take the same steps, and would wait for this one
            if len(chosen) == 1:
                yield chosen[0].name, error
            else:
                apart += [(member, True) for member in chosen]
            continue
        for member, found in zip(chosen, results, strict=False):
            if _unsure(found):
                apart.append((member, False))
            else:
                yield member.name, found
    copies = 1 if task.layout is None else task.layout.models
    for member, quick in apart:
        try:
            result: Parts | Exception
            result = _run(task, [member] * copies, bucket, platform, quick=quick)[0]
            if _unsure(result):
                result = _run(task, [member] * copies, bucket, platform, quick=False)[0]
        except Exception as error:
            if jax.process_count() > 1:
                raise
            result = error
        yield member.name, result


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


def _start(threads: Threads, task: Task, bucket: Bucket, size: int, platform: str) -> None:
    """Begin to compile what so many members of a bucket need for their first run."""

    def make() -> None:
        members = bucket.members[:size]
        if any(is_placed(m.features) for m in members):
            return
        shape = (bucket.rows, bucket.width)
        dtype = _transferred(bucket)
        features = jax.ShapeDtypeStruct(shape if size == 1 else (size, *shape), dtype)
        program, arguments = _prepared(task, bucket, members, features, platform, quick=True)
        program.compiled(*arguments, then=then)

    def then(result: Any) -> None:
        for metric in task.metrics:
            if metric.finish is not None and not isinstance(result[metric.name], dict):
                left = result[metric.name]
                if size > 1:
                    left = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), left)
                metric.finish.start(threads, left)

    threads.submit(None, in_context(make))  # what it raises, the run will


def _run(
    task: Task, members: Sequence[Candidate], bucket: Bucket, platform: str, *, quick: bool
) -> list[Parts]:
    """One compiled call for members of one shape, and what a metric has to finish afterwards."""
    if task.layout is not None:
        found = _run_on_mesh(task, members, bucket, platform, quick)
    else:
        features = _stacked(members, bucket)
        features = features[0] if len(members) == 1 else features
        program, arguments = _prepared(task, bucket, members, features, platform, quick=quick)
        found = program(*arguments)
        if len(members) == 1:
            found = jax.tree.map(lambda part: np.asarray(part)[None], found)
    found = jax.tree.map(np.asarray, found)
    return [
        _finished(task, jax.tree.map(lambda part, index=index: part[index], found))
        for index in range(len(members))
    ]


def _finished(task: Task, found: Mapping[str, Any]) -> Parts:
    """Named numbers of one model."""
    parts = {
        metric.name: found[metric.name]
        if metric.finish is None or isinstance(found[metric.name], dict)
        else metric.finish(found[metric.name])
        for metric in task.metrics
    }
    return jax.tree.map(float, parts)


def _prepared(
    task: Task,
    bucket: Bucket,
    members: Sequence[Candidate],
    features: Any,
    platform: str,
    *,
    quick: bool,
) -> tuple[Program, tuple[Any, ...]]:
    """The program for members of one shape and its arguments."""
    first = members[0]
    one_target = all(m.targets is first.targets for m in members)
    one_weight = all(m.weights is first.weights for m in members)
    targets = first.targets if one_target else np.stack([m.targets for m in members])
    weights = first.weights if one_weight else np.stack([np.asarray(m.weights) for m in members])
    widths = _widths(members)
    volume = bucket.rows * bucket.width * len(bucket.members)
    form = Form(quick, len(members) > 1, one_target, one_weight, volume < _LITTLE, platform)
    program = task.program(form)
    if len(members) == 1:
        widths = widths[0]
    return program, (features, np.asarray(targets), weights, widths)


def _widths(members: Sequence[Candidate]) -> np.ndarray:
    return np.array([np.shape(m.features)[1] for m in members])


def _run_on_mesh(
    task: Task, members: Sequence[Candidate], bucket: Bucket, platform: str, quick: bool
) -> Any:
    """As `_run`: samples and models spread over the devices, missing rows of weight 0."""
    layout = task.layout
    assert layout is not None

    def long(array: Any, dtype: Any = None) -> np.ndarray:
        array = np.asarray(array, dtype)
        return np.pad(array, [(0, bucket.rows - len(array))] + [(0, 0)] * (array.ndim - 1))

    dtype = jnp.zeros(()).dtype
    weights = [
        long(np.ones(len(m.features)) if m.weights is None else m.weights, dtype) for m in members
    ]
    first = long(members[0].targets)
    # what is one object in one process may be several in another, and all must compile alike
    alone = jax.process_count() == 1
    one_target = alone and all(m.targets is members[0].targets for m in members)
    targets = first if one_target else np.stack([long(m.targets) for m in members])
    form = Form(quick, several=True, one_target=one_target, one_weight=False, platform=platform)
    return task.program(form)(
        _on_mesh(layout, members, bucket, dtype),
        layout.place(targets, *(() if one_target else (MODELS,)), SAMPLES),
        layout.place(np.stack(weights), MODELS, SAMPLES),
        layout.place(_widths(members), MODELS),
    )


def _on_mesh(
    layout: Layout, members: Sequence[Candidate], bucket: Bucket, dtype: np.dtype[Any]
) -> jax.Array:
    """Features as `_stacked`, spread over the mesh; what lies on devices goes from one to another.

    Of several processes each gives its own rows.
    """
    if jax.process_count() > 1 or not any(is_placed(m.features) for m in members):
        features = np.zeros((len(members), bucket.rows, bucket.width), dtype)
        for row, member in zip(features, members, strict=True):
            n, d = np.shape(member.features)
            row[:n, :d] = np.asarray(member.features)
        return layout.place(features, MODELS, SAMPLES)
    spread = []
    for member in members:
        n, d = np.shape(member.features)
        x = jnp.asarray(member.features).astype(dtype)
        x = jnp.pad(x, ((0, bucket.rows - n), (0, bucket.width - d)))
        spread.append(jax.device_put(x, layout.sharding(SAMPLES)))
    return jax.device_put(jnp.stack(spread), layout.sharding(MODELS, SAMPLES))


def _stacked(members: Sequence[Candidate], bucket: Bucket) -> Any:
    """Features of different widths as one array [m, n, width], zeros to the right.

    Arrays that already lie on an accelerator are put together there.
    """
    dtype, width = _transferred(bucket), bucket.width
    if any(is_placed(m.features) for m in members):
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
