"""Many models at once: bucket by width, pad, and run each bucket through one compiled function."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.errors import said
from jaxte.metrics import Metric
from jaxte.perturb.transform import moved_features
from jaxte.ranking.buckets import Bucket, at_once, buckets, bytes_of, operations
from jaxte.ranking.inputs import Candidate
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

# How many buckets are compiled ahead of the one that runs, and how many of them at once: more
# than there are cores would only keep the first call waiting.
_AHEAD = 16
_COMPILING = 4


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
                size = bytes_of(todo[index])
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
                size = at_once(plan, later, memory_limit, platform)
                _start(threads, plan, later, size, platform)
            started = index + _AHEAD
        size = at_once(plan, bucket, memory_limit, platform)
        needed = size * bytes_of(bucket, platform)
        for start in range(0, len(bucket.members), size):
            free = 0 if platform == "cpu" else memory_limit - needed
            while under_way and sum(one.bytes for one in under_way) > free:
                yield from _finished(plan, under_way.popleft(), platform)
            members = bucket.members[start : start + size]
            under_way.append(_slice(plan, bucket, members, size, platform, plan.metrics))
    while under_way:
        yield from _finished(plan, under_way.popleft(), platform)


class _Slice(NamedTuple):
    """Members of a bucket that are scored in one call."""

    bucket: Bucket
    members: Sequence[Candidate]
    filled: Sequence[Candidate]  # the members and copies
    metrics: Sequence[Metric]
    bytes: int
    begun: _Begun | Exception


def _slice(
    plan: ScoringPlan,
    bucket: Bucket,
    members: Sequence[Candidate],
    size: int,
    platform: str,
    metrics: Sequence[Metric],
) -> _Slice:
    """Start the programs of members, filled up to a size."""
    filled = [*members, *[members[-1]] * (size - len(members))]
    begun: _Begun | Exception
    try:
        begun = _begin(plan, filled, bucket, platform, metrics)
    except Exception as error:  # one of them is to blame, or memory is short
        if jax.process_count() > 1:
            raise  # the others take the same steps, and would wait for this one
        begun = error.with_traceback(None)  # whose frames would keep the arrays
    return _Slice(bucket, members, filled, metrics, size * bytes_of(bucket, platform), begun)


def _finished(
    plan: ScoringPlan, one: _Slice, platform: str
) -> Iterator[tuple[Bucket, str, Outputs | Exception]]:
    """Outputs of the members: in halves where a slice fails, of each alone where one is unsure."""
    bucket, results = one.bucket, None
    reason = one.begun if isinstance(one.begun, Exception) else None
    try:
        if not isinstance(one.begun, Exception):
            results = _finish(plan, one.filled, one.begun, one.metrics)
    except Exception as error:
        if jax.process_count() > 1:
            raise
        reason = error.with_traceback(None)
    unable = plan.reasons(bool(bucket.outputs[1]))
    able = [m for m in one.metrics if m.name not in unable]
    failed = able
    if results is not None:
        errors = {m: results[0].get(m.name) for m in able if m.call is None}
        failed = [m for m, error in errors.items() if isinstance(error, Exception)]
        reason = next((e for e in errors.values() if isinstance(e, Exception)), None)
    halves: dict[str, Outputs | Exception] = {}
    if failed and len(one.members) > 1:
        assert reason is not None
        one = one._replace(begun=reason)  # memory may be short: let go of its arrays
        halves = _in_halves(plan, one, failed, platform, reason)
    copies = 1 if plan.layout is None else plan.layout.models
    for index, member in enumerate(one.members):
        outputs = {} if results is None else results[index]
        mended = halves.get(member.name, {})
        if isinstance(mended, Exception):
            yield bucket, member.name, mended
            continue
        outputs = outputs | mended
        alone = len(one.members) == 1
        again = [m for m in able if (_is_open if alone else _is_unsure)(outputs.get(m.name, {}))]
        if again:
            try:
                outputs |= _run(plan, [member] * copies, bucket, platform, again)[0]
            except Exception as error:
                if jax.process_count() > 1:
                    raise
                yield bucket, member.name, error
                continue
        yield bucket, member.name, outputs


def _in_halves(
    plan: ScoringPlan,
    one: _Slice,
    metrics: Sequence[Metric],
    platform: str,
    reason: Exception,
) -> dict[str, Outputs | Exception]:
    """Outputs of these metrics by name of the model, of one half of a slice after the other."""
    copies = 1 if plan.layout is None else plan.layout.models
    middle = -(-len(one.members) // 2)
    outputs: dict[str, Outputs | Exception] = {}
    for members in (one.members[:middle], one.members[middle:]):
        size = -(-len(members) // copies) * copies
        half = _slice(plan, one.bucket, members, size, platform, metrics)
        outputs |= {name: own for _, name, own in _finished(plan, half, platform)}
    values = [own if isinstance(own, Exception) else own.get(m.name) for own in outputs.values()
              for m in metrics]  # fmt: skip
    if not any(isinstance(value, Exception) for value in values):  # none of them is to blame
        warnings.warn(
            f"{len(one.members)} models of {one.bucket.rows} rows and {one.bucket.width} columns "
            f"had to be scored in halves, which takes longer: {said(reason)}",
            RuntimeWarning,
            stacklevel=2,
        )
    return outputs


def _is_open(outputs: Any) -> bool:
    """Whether a metric has no answer yet, or one that it is unsure of."""
    return not outputs or isinstance(outputs, Exception) or _is_unsure(outputs)


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
