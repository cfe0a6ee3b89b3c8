"""Many models at once: bucket by width, pad, and run each bucket through one compiled function."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.metrics import Metric
from jaxte.perturb.transform import moved_features
from jaxte.ranking.blocks import width_of
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.memory import COPIES
from jaxte.ranking.plan import Form, ScoringPlan, Values
from jaxte.ranking.stacking import (
    assembly_of,
    on_device,
    sent,
    stacked,
    transferred,
    values_of,
    values_on_mesh,
)
from jaxte.runtime.devices import is_placed, platform_of
from jaxte.runtime.programs import in_context
from jaxte.runtime.threads import Threads, cores, one_blas_thread
from jaxte.statistics import Sample

__all__ = [
    "Bucket",
    "Candidate",
    "Form",
    "ScoringPlan",
    "buckets",
    "call_own",
    "operations",
    "score",
]

# About the arithmetic that could be done while one more shape is compiled for the metrics.
_COMPILATION = 1e11
# What the passes over an entry of the features cost, in multiplications of a matrix product.
_PASSES = 1e4
# How many buckets are compiled ahead of the one that runs, and how many of them at once: more
# than there are cores would only keep the first call waiting.
_AHEAD = 16
_COMPILING = 4


@dataclass(frozen=True)
class Bucket:
    """Candidates of one padded shape and kind of ``outputs`` of their heads: one compilation."""

    rows: int
    width: int
    members: tuple[Candidate, ...]
    outputs: tuple[str, int] = ("", 0)


def buckets(
    candidates: Sequence[Candidate],
    rows: Mapping[str, int] | None = None,
    *,
    exact: bool = False,
) -> list[Bucket]:
    """Group candidates by number of rows (theirs, or ``rows`` by name) and padded width.

    A bucket joins the next wider one where the arithmetic on the extra padding costs less than
    the compilation that it saves; ``exact``: nothing is padded.
    """
    groups: dict[tuple[int, tuple[str, int], int], list[Candidate]] = {}
    for candidate in candidates:
        n, d = np.shape(candidate.features)
        n = n if rows is None else rows[candidate.name]
        head = candidate.source
        outputs = ("", 0) if head is None else (head.kind, np.shape(head.values)[1])
        groups.setdefault((n, outputs, d if exact else width_of(d)), []).append(candidate)
    made: list[Bucket] = []
    for (n, outputs, width), members in sorted(groups.items()):
        if made and not exact and (made[-1].rows, made[-1].outputs) == (n, outputs):
            narrow = made[-1]
            extra = len(narrow.members) * (_operations(n, width) - _operations(n, narrow.width))
            if extra < _COMPILATION:
                members = [*narrow.members, *members]
                made.pop()
        made.append(Bucket(n, width, tuple(members), outputs))
    return made


def _operations(n: int, width: int) -> float:
    """About what the metrics cost on one model: Gram matrices, an eigenproblem, passes."""
    return 6.0 * n * width**2 + 10.0 * min(n, width) ** 3 + _PASSES * n * width


def operations(candidate: Candidate) -> float:
    """About what scoring it takes."""
    return _operations(*np.shape(candidate.features))


Outputs = dict[str, Any]  # metric -> named numbers, or the `Exception` that it raised


def score(
    plan: ScoringPlan,
    candidates: Sequence[Candidate],
    rows: Mapping[str, int] | None = None,
    *,
    memory_limit: int,
) -> Generator[tuple[Bucket, str, Outputs | Exception], None, None]:
    """Score all candidates, yielding bucket, name and outputs of each as they are ready.

    What one of them raises comes in place of its outputs, and the others go on. The programs of
    the next buckets are compiled side by side while the first ones run already.
    """
    todo = buckets(candidates, rows, exact=not all(m.pads for m in plan.metrics))
    if not todo:
        return
    placed = [one.features for one in candidates if is_placed(one.features)]
    mesh = None if plan.layout is None else plan.layout.mesh
    platform = platform_of(*placed, mesh=mesh)
    if plan.layout is None and platform == "cpu":
        yield from _score_side_by_side(plan, todo, memory_limit)
        return
    with Threads(min(2 * _COMPILING, cores())) as threads:  # a GPU's take longer
        yield from _score_stacked(plan, todo, memory_limit, platform, threads)


def _score_side_by_side(
    plan: ScoringPlan, todo: Sequence[Bucket], memory_limit: int
) -> Iterator[tuple[Bucket, str, Outputs | Exception]]:
    """On a CPU: as many models at once as there are cores and ``memory_limit`` has room for."""

    def alone(bucket: Bucket, member: Candidate) -> Outputs:
        return _run(plan, [member], bucket, "cpu")[0]

    work = in_context(alone)
    jobs = deque((index, member) for index, one in enumerate(todo) for member in one.members)
    workers = min(cores(), len(jobs))
    under_way: dict[int, int] = {}  # jobs left when it was begun -> bytes
    started = 0
    alone_there = len(jobs) == 1  # all cores are its own
    with (
        nullcontext() if alone_there else one_blas_thread(),
        Threads(min(_COMPILING, cores())) as compiling,
        Threads(workers) as working,
    ):
        while jobs or under_way:
            # one more than there are threads, which is not to wait for this one
            while jobs and len(under_way) <= workers:
                index, member = jobs[0]
                size = _bytes(todo[index])
                if under_way and sum(under_way.values()) + size > memory_limit:
                    break
                for later in todo[started : index + _AHEAD]:
                    _start(compiling, plan, later, 1, "cpu")
                started = max(started, index + _AHEAD)
                under_way[len(jobs)] = size
                key = len(jobs), todo[index], member.name
                working.submit(key, partial(work, todo[index], member))
                jobs.popleft()
            (number, bucket, name), outputs = working.result()
            del under_way[number]
            yield bucket, name, outputs


def _score_stacked(
    plan: ScoringPlan,
    todo: Sequence[Bucket],
    memory_limit: int,
    platform: str,
    threads: Threads,
) -> Iterator[tuple[Bucket, str, Outputs | Exception]]:
    """Members of each bucket in slices of equal size, of which the last is filled up with copies.

    An accelerator is given the next slices, as many as ``memory_limit`` has room for, before the
    first is waited for. The devices of a CPU would wait for each other's threads.
    """
    under_way: deque[_Slice] = deque()
    started = 0
    for index, bucket in enumerate(todo):
        if plan.layout is None:
            for later in todo[started : index + _AHEAD]:
                _start(threads, plan, later, _at_once(plan, later, memory_limit), platform)
            started = index + _AHEAD
        size = _at_once(plan, bucket, memory_limit)
        needed = size * _bytes(bucket)
        for start in range(0, len(bucket.members), size):
            free = 0 if platform == "cpu" else memory_limit - needed
            while under_way and sum(one.bytes for one in under_way) > free:
                yield from _finished(plan, under_way.popleft(), platform)
            members = bucket.members[start : start + size]
            filled = [*members, *[members[-1]] * (size - len(members))]
            begun: _Begun | None = None
            try:
                begun = _begin(plan, filled, bucket, platform, plan.metrics)
            except Exception:
                if jax.process_count() > 1:
                    raise  # the others take the same steps, and would wait for this one
            under_way.append(_Slice(bucket, members, filled, needed, begun))
    while under_way:
        yield from _finished(plan, under_way.popleft(), platform)


class _Slice(NamedTuple):
    """Members of a bucket that are scored in one call."""

    bucket: Bucket
    members: Sequence[Candidate]
    filled: Sequence[Candidate]  # the members and copies
    bytes: int
    begun: _Begun | None  # None where one of them is to blame, or memory is short


def _finished(
    plan: ScoringPlan, one: _Slice, platform: str
) -> Iterator[tuple[Bucket, str, Outputs | Exception]]:
    """Outputs of the members, of each alone where those of the slice leave something open."""
    bucket, results = one.bucket, None
    try:
        results = None if one.begun is None else _finish(plan, one.filled, one.begun, plan.metrics)
    except Exception:
        if jax.process_count() > 1:
            raise
    copies = 1 if plan.layout is None else plan.layout.models
    for index, member in enumerate(one.members):
        outputs = {} if results is None else results[index]
        unable = plan.reasons(bool(bucket.outputs[1]))
        again = [m for m in plan.metrics if m.name not in unable and _is_open(outputs.get(m.name))]
        if again:
            try:
                alone = _run(plan, [member] * copies, bucket, platform, again)[0]
                outputs = outputs | alone
            except Exception as error:
                if jax.process_count() > 1:
                    raise
                yield bucket, member.name, error
                continue
        yield bucket, member.name, outputs


def _is_open(outputs: Any) -> bool:
    """Whether a metric has no answer yet, or one that it is unsure of."""
    return outputs is None or isinstance(outputs, Exception) or _is_unsure(outputs)


def _bytes(bucket: Bucket) -> int:
    """About what the metrics hold of one model."""
    columns = bucket.width + bucket.outputs[1]
    return COPIES * bucket.rows * columns * jnp.zeros(()).dtype.itemsize


def _at_once(plan: ScoringPlan, bucket: Bucket, memory_limit: int) -> int:
    """How many models are stacked for one call: two calls have room, if not all in one."""
    count, most = len(bucket.members), memory_limit // _bytes(bucket)
    most = most if most >= count else most // 2
    size = math.ceil(count / math.ceil(count / max(1, most)))
    if plan.layout is not None:
        size = math.ceil(size / plan.layout.models) * plan.layout.models
    return size


def _start(threads: Threads, plan: ScoringPlan, bucket: Bucket, size: int, platform: str) -> None:
    """Begin to compile what so many members of a bucket need for their first run."""

    def make() -> None:
        members = bucket.members[:size]
        if any(is_placed(m.features) for m in members):
            return
        features: Any
        if platform == "cpu":
            features = jax.ShapeDtypeStruct((bucket.rows, bucket.width), transferred(bucket))
        else:
            assembly, like = assembly_of(members, bucket)
            features = assembly.shapes(like)
            assembly.compiled(like)
        values, form = values_of(bucket, members, features, platform)
        plan.compile_ahead(values, form, lambda job: threads.submit(None, in_context(job)))

    threads.submit(None, in_context(make))  # what it raises, the run will


class _Begun(NamedTuple):
    """Programs that have been started: what they read, how, and what they will have made."""

    values: Values
    form: Form
    outputs: dict[str, Any]


def _run(
    plan: ScoringPlan,
    members: Sequence[Candidate],
    bucket: Bucket,
    platform: str,
    metrics: Sequence[Metric] | None = None,
) -> list[Outputs]:
    """Outputs of members of one shape; of one alone none is unsure."""
    metrics = metrics or plan.metrics
    return _finish(plan, members, _begin(plan, members, bucket, platform, metrics), metrics)


def _begin(
    plan: ScoringPlan,
    members: Sequence[Candidate],
    bucket: Bucket,
    platform: str,
    metrics: Sequence[Metric],
) -> _Begun:
    """Start the programs of members of one shape; on accelerators without waiting for any."""
    if plan.layout is not None:
        values, form = values_on_mesh(plan.layout, members, bucket, platform)
    elif platform == "cpu" and not any(is_placed(m.features) for m in members):
        features = stacked(members, bucket)
        features = features[0] if len(members) == 1 else features
        values, form = values_of(bucket, members, features, platform)
    else:
        values, form = values_of(bucket, members, on_device(members, bucket), platform)
        values["sample"] = values["sample"]._replace(source=sent(values["sample"].source))
    return _Begun(values, form, plan.run(values, form, plan.route(platform), metrics))


def _finish(
    plan: ScoringPlan, members: Sequence[Candidate], begun: _Begun, metrics: Sequence[Metric]
) -> list[Outputs]:
    """What they made, of each member."""
    values, form, made = begun
    outputs = _split(made, form, len(members))
    calls = [m for m in metrics if m.call is not None]
    called: dict[int, Outputs] = {}  # the last members may be copies
    for member, own in zip(members, outputs, strict=True):
        if id(member) not in called:
            unable = plan.reasons(member.source is not None)
            able = [m for m in calls if m.name not in unable]
            called[id(member)] = {m.name: call_own(plan, m, member) for m in able}
        own |= called[id(member)]
    unsure = [m for m in plan.metrics if _is_unsure(outputs[0].get(m.name, {}))]
    if unsure and len(set(map(id, members))) == 1:
        values.pop("ridge", None)
        sure = _split(plan.run(values, form, "full", unsure), form, len(members))
        outputs = [one | two for one, two in zip(outputs, sure, strict=True)]
    return outputs


def call_own(plan: ScoringPlan, metric: Metric, member: Candidate) -> Any:
    """The output of a metric that is a user's own function, or what it raised."""
    assert metric.call is not None
    dtype = jnp.zeros(()).dtype
    try:
        features, weights = member.features.astype(dtype), member.weights
        if weights is not None:  # what rows of weight 0 hold may not be finite
            features = jnp.where((np.asarray(weights) > 0)[:, None], features, 0)
        if plan.perturb is not None:
            features, width = moved_features(
                plan.perturb,
                features,
                member.targets,
                num_classes=plan.num_classes,
                weights=weights,
                num_features=None,
            )
            features = features if width is None else features[:, : int(np.asarray(width))]
        source = jax.tree.map(lambda outputs: outputs.astype(dtype), member.source)
        sample = Sample(features, member.targets, weights, None, source)
        score = metric.call(sample, plan.num_classes, plan.options.get(metric.name, {}))
    except Exception as error:
        return error
    return {"score": score}


def _is_unsure(outputs: Any) -> bool:
    return not isinstance(outputs, Exception) and bool(outputs.get("unsure"))


def _split(outputs: Mapping[str, Any], form: Form, count: int) -> list[Outputs]:
    """Arrays for all models into numbers for each."""
    own: list[Outputs] = [{} for _ in range(count)]
    for name, values in outputs.items():
        try:
            if isinstance(values, Exception):
                raise values
            arrays = {key: np.asarray(value) for key, value in values.items()}
            numbers: list[Any] = [
                {k: float(v[index] if form.stacked else v) for k, v in arrays.items()}
                for index in range(count)
            ]
        except Exception as error:
            numbers = [error] * count
        for one, values_of_one in zip(own, numbers, strict=True):
            one[name] = values_of_one
    return own
