"""Features that do not fit in memory: batches go by, and only moments and sums stay.

One pass makes the moments, and every metric that wants to look again shares each further pass
with the others. While the device works on one block of rows, the next is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxte.errors import InputError, said
from jaxte.intake import as_features, sources
from jaxte.intake.sources import Source
from jaxte.metrics import Metric
from jaxte.metrics._look import Pass
from jaxte.ranking import pool
from jaxte.ranking.blocks import Block, Blocks
from jaxte.runtime.devices import platform_of
from jaxte.statistics import moments
from jaxte.statistics.measure import Moments
from jaxte.statistics.rows import as_rows

__all__ = ["STREAMED", "Outcome", "Stream", "pays", "prepared", "score", "score_all"]

STREAMED = (Source, Moments)

# In float64 a CPU takes the normal equations of long arrays anyway; in slices they stay in the
# cache, and from about here on the passes that SFDA repeats cost less than that saves.
_MANY = 2**15

Report: TypeAlias = Callable[[int, int | None, str], None]


class Stream(NamedTuple):
    """One model whose samples go by.

    Attributes:
        name: of the model.
        source: where its batches come from; or its moments, made before.
        targets: [n] or [n, k], or None where they come with the batches.
        weights: [n] or None.
    """

    name: str
    source: Source | Moments
    targets: Any
    weights: np.ndarray | None


class Outcome(NamedTuple):
    """Of one model: named parts of each metric that has them, and why the others have none."""

    parts: dict[str, dict[str, float]]
    reasons: dict[str, str]
    classes: Sequence[Any] | None  # None for regression


class Outcomes(NamedTuple):
    """Of many: metric -> model -> parts, (model, metric) -> why not, model -> why none at all."""

    parts: dict[str, dict[str, dict[str, float]]]
    reasons: dict[tuple[str, str], str]
    problems: dict[str, str]
    classes: Sequence[Any] | None


def pays(rows: int, width: int, memory_limit: int) -> bool:
    """Whether an array of this size, in memory or in files, is better read in batches.

    Fewer rows than columns are smaller than the moments. Of the others those that would not fit,
    and on CPUs long ones, which are faster in slices.
    """
    dtype = jnp.zeros(()).dtype
    many = dtype == jnp.float64 and platform_of() == "cpu" and rows > _MANY
    return rows >= width and (many or rows * width * dtype.itemsize > memory_limit)


def prepared(given: Any, memory_limit: int, whole: str) -> tuple[Any, np.ndarray | None]:
    """A `Source`, `Moments` or an array to be scored in memory; and labels that came with it.

    ``whole`` names the option of `rank`, if any, that needs all samples in memory.

    Raises:
        InputError: for what cannot be opened, or cannot be in memory and has to.
    """
    found = given if isinstance(given, Moments) else sources.of(given)
    labels = None
    if isinstance(found, Source):
        labels = found.labels()
        if found.rows and found.width and not pays(found.rows, found.width, memory_limit):
            return found.load(), labels
    elif not isinstance(found, Moments):
        in_memory = not isinstance(found, np.memmap)
        if found.ndim != 2 or (whole and in_memory):
            return found, None
        rows, width = found.shape
        if not pays(rows, width, memory_limit):
            return as_features(found), None
        found = sources.Rows(found)
    if whole:
        raise InputError(
            f"{whole} needs all samples of a model in memory: give an array, as "
            "np.concatenate(batches) or np.load(path), if need be with a larger memory_limit"
        )
    return found, labels


def score_all(
    streams: Sequence[Stream],
    task: pool.Task,
    num_classes: int | None,
    memory_limit: int,
    report: Report,
    reading: Callable[[], AbstractContextManager[Any]],
) -> Outcomes:
    """Score models one after the other; ``reading`` is the context in which batches are made."""
    found = Outcomes({metric.name: {} for metric in task.metrics}, {}, {}, None)
    stopped: list[Exception] = []

    def told(done: int, total: int | None, label: str) -> None:
        try:
            report(done, total, label)
        except Exception as error:
            stopped.append(error)
            raise

    for stream in streams:
        try:
            one = score(
                stream,
                task,
                num_classes=num_classes,
                memory_limit=memory_limit,
                report=told,
                reading=reading,
            )
        except Exception as error:
            if error in stopped:  # no fault of the model
                raise
            found.problems[stream.name] = said(error)
            continue
        for metric, parts in one.parts.items():
            found.parts[metric][stream.name] = parts
        found.reasons.update({(stream.name, metric): why for metric, why in one.reasons.items()})
        found = found._replace(classes=max(found.classes or (), one.classes or (), key=len) or None)
    return found


def score(
    stream: Stream,
    task: pool.Task,
    *,
    num_classes: int | None,
    memory_limit: int,
    report: Report,
    reading: Callable[[], AbstractContextManager[Any]],
) -> Outcome:
    """Score one model.

    Raises:
        InputError: where no metric can be scored.
    """
    source, dtype = stream.source, jnp.zeros(()).dtype
    look = None
    if isinstance(source, Moments):
        width = source.means.shape[1]
        classes: Sequence[Any] = range(len(source.counts))
        state = jax.tree.map(lambda part: _in_precision(part, dtype), source)
        again = "its moments are all that is left of the samples: give the samples"
    else:
        blocks = Blocks(
            source,
            stream.targets,
            stream.weights,
            num_classes=num_classes,
            dtype=dtype,
            memory_limit=memory_limit,
            reading=reading,
        )
        again = (
            "these batches can be had only once: give a list of them, an object that can be "
            "iterated again, or a function that returns an iterator"
        )
        if not source.reiterable and not any(metric.moments for metric in task.metrics):
            raise InputError("; ".join(_in_vain(metric.name, again) for metric in task.metrics))
        blocks.survey(lambda rows: report(rows, None, f"{stream.name}: labels"))
        look = functools.partial(_look, blocks, report=report, name=stream.name)
        (state,) = look(lambda: [_first_pass(blocks, task)], number=1)
        width = blocks.width
        classes = blocks.numbers.classes or range(len(state.counts))
        look = look if source.reiterable else None
    if state.targets is None and int((state.counts > 0).sum()) < 2:
        raise InputError("fewer than two classes occur: a score needs at least two classes")
    kind = "classification" if state.targets is None else "regression"
    able = [metric for metric in task.metrics if kind in metric.tasks]
    found, reasons = _finish(able, task, state, width, look, again)
    for metric in task.metrics:
        if metric not in able:
            reasons[metric.name] = (
                f"targets are floats, which means regression, but {metric.name} needs classes"
            )
    return Outcome(found, reasons, None if state.targets is not None else classes)


def _finish(
    metrics: Sequence[Metric],
    task: pool.Task,
    state: Moments,
    width: int,
    look: Callable[..., list[Any]] | None,
    again: str,
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """All metrics side by side: each further pass serves all that ask for one."""
    found: dict[str, dict[str, float]] = {}
    reasons: dict[str, str] = {}
    asked: dict[str, tuple[Any, Pass]] = {}

    def go_on(name: str, passes: Any, answer: Any) -> None:
        try:
            asked[name] = (passes, passes.send(answer))
        except StopIteration as stop:
            found[name] = {part: float(np.asarray(value)) for part, value in stop.value.items()}
        except InputError as error:
            reasons[name] = str(error)

    for metric in metrics:
        options = task.options.get(metric.name, {})
        go_on(metric.name, metric.passes(state, width, **options), None)
    number = 2
    while asked:
        if look is None:
            reasons |= {name: _in_vain(name, again) for name in asked}
            break
        now, asked = asked, {}
        requests = [request for _, request in now.values()]
        results = look(lambda requests=requests: requests, number=number)
        for (name, (passes, _)), result in zip(now.items(), results, strict=True):
            go_on(name, passes, result)
        number += 1
    return found, reasons


def _in_vain(name: str, again: str) -> str:
    return f"{name} looks at the samples more than once, and {again}"


def _in_precision(part: Array, dtype: Any) -> Array:
    host = np.asarray(part)
    return jnp.asarray(host, host.dtype if host.dtype == np.bool_ else dtype)


# --- passes ---------------------------------------------------------------------------------------


def _first_pass(blocks: Blocks, task: pool.Task) -> Pass:
    """Moments; with the class-balanced scatter where that saves a second pass."""
    known = blocks.labels
    assert known is not None
    wanted = any(metric.balanced for metric in task.metrics)
    wanted &= known.counts is None or not moments.even(known.counts)
    enough = all(metric.moments for metric in task.metrics)
    state = moments.init(
        blocks.padded,
        num_classes=known.num_classes,
        num_targets=known.num_targets,
        class_counts=known.counts if wanted and enough else None,
    )
    return Pass(_collect, state, None)


def _collect(state: Moments, _: None, features: Array, targets: Array, weights: Array) -> Moments:
    return moments.add(state, as_rows(features, weights, None), targets)


def _look(
    blocks: Blocks,
    start: Callable[[], Sequence[Pass]],
    *,
    report: Report,
    name: str,
    number: int,
) -> list[Any]:
    """One pass that feeds every step that ``start`` lists once the first block is there."""
    carries: tuple[Any, ...] = ()
    held: tuple[Any, ...] = ()
    steps: tuple[_Step, ...] = ()
    before: tuple[Array, Block] | None = None
    for block in blocks:
        if not steps:
            passes = start()
            steps = tuple(_as_step(one.step) for one in passes)
            held = tuple(one.held for one in passes)
            # copied, because the steps write over them
            carries = tuple(jax.tree.map(jnp.array, one.start) for one in passes)
        carries, bad = _advance(carries, held, *block[:3], steps=steps, width=blocks.padded)
        # of the block before, so that this one is under way while the next is read
        _check_finite(before)
        before = (bad, block)
        report(block.start + block.rows, blocks.rows, f"{name}: pass {number}")
    _check_finite(before)
    return list(carries)


def _check_finite(done: tuple[Array, Block] | None) -> None:
    if done is not None and (row := int(done[0])) >= 0:
        raise InputError(
            f"features contain NaN or infinity, first in row {done[1].start + row}: fix the "
            "model's output or give those rows weight 0"
        )


class _Step(NamedTuple):
    """A step that equals another of the same settings, so that it is compiled once."""

    function: Callable[..., Any]
    keywords: tuple[tuple[str, Any], ...]


def _as_step(step: Callable[..., Any]) -> _Step:
    if isinstance(step, functools.partial) and not step.args:
        return _Step(step.func, tuple(sorted(step.keywords.items())))
    return _Step(step, ())


@functools.partial(jax.jit, static_argnames=("steps", "width"), donate_argnums=0)
def _advance(
    carries: tuple[Any, ...],
    held: tuple[Any, ...],
    features: Array,
    targets: Array,
    weights: Array,
    *,
    steps: tuple[_Step, ...],
    width: int,
) -> tuple[tuple[Any, ...], Array]:
    """What all steps make of a block, and its first row that is not finite, else -1."""
    x = jnp.pad(features.astype(weights.dtype), ((0, 0), (0, width - features.shape[1])))
    wrong = (weights > 0) & ~jnp.isfinite(x).all(axis=1)
    bad = jnp.where(wrong.any(), jnp.argmax(wrong), -1)
    moved = (
        step.function(carry, own, x, targets, weights, **dict(step.keywords))
        for step, carry, own in zip(steps, carries, held, strict=True)
    )
    return tuple(moved), bad
