"""Features that do not fit in memory: batches go by, and only moments and sums stay.

One pass makes the moments, and every metric that asks for more shares each further pass
with the others. While the device works on one block of rows, the next is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxte.errors import InputError, said
from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import Metric
from jaxte.metrics.options import jitted, split_options
from jaxte.metrics.passes import Pass, PassRequest
from jaxte.ranking.blocks import Block, Blocks
from jaxte.ranking.inputs import Stream
from jaxte.ranking.outcomes import Outcomes
from jaxte.ranking.plan import ScoringPlan
from jaxte.statistics import FACTORISED, SHARED, Batch, Statistics, moments
from jaxte.statistics.measure import Moments, even
from jaxte.statistics.outputs import rows_of_outputs
from jaxte.statistics.rows import as_rows

__all__ = ["Outcome", "score", "score_all"]

Report: TypeAlias = Callable[[int, int | None, str], None]


class Outcome(NamedTuple):
    """Of one model: outputs of each metric that has them, and why the others have none."""

    outputs: dict[str, dict[str, float]]
    reasons: dict[str, str]
    classes: Sequence[Any] | None  # None for regression


def score_all(
    streams: Sequence[Stream],
    plan: ScoringPlan,
    num_classes: int | None,
    memory_limit: int,
    report: Report,
    reading: Callable[[], AbstractContextManager[Any]],
    outcomes: Outcomes,
) -> None:
    """Score models one after the other; ``reading`` is the context in which batches are made."""
    stopped: list[Exception] = []

    def reported(done: int, total: int | None, label: str) -> None:
        try:
            report(done, total, label)
        except Exception as error:
            stopped.append(error)
            raise

    for stream in streams:
        try:
            one = score(
                stream,
                plan,
                num_classes=num_classes,
                memory_limit=memory_limit,
                report=reported,
                reading=reading,
            )
        except Exception as error:
            if error in stopped:  # no fault of the model
                raise
            outcomes.add(stream.name, error)
            continue
        outcomes.add(stream.name, one.outputs)
        outcomes.reasons |= {(stream.name, metric): why for metric, why in one.reasons.items()}
        outcomes.classes = max(outcomes.classes or (), one.classes or (), key=len) or None


def score(
    stream: Stream,
    plan: ScoringPlan,
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
    pass_over = None
    if isinstance(source, Moments):
        width = source.means.shape[1]
        classes: Sequence[Any] = range(len(source.counts))
        state = jax.tree.map(lambda part: _in_precision(part, dtype), source)
        only_once = "its moments are all that is left of the samples: give the samples"
    else:
        blocks = Blocks(
            source,
            stream.targets,
            stream.weights,
            stream.outputs,
            num_classes=num_classes,
            dtype=dtype,
            memory_limit=memory_limit,
            reading=reading,
        )
        only_once = (
            "these batches can be had only once: give a list of them, an object that can be "
            "iterated again, or a function that returns an iterator"
        )
        if not source.reiterable and not any(metric.moments for metric in plan.metrics):
            raise InputError("; ".join(_in_vain(metric.name, only_once) for metric in plan.metrics))
        blocks.survey(lambda rows: report(rows, None, f"{stream.name}: labels"))
        passing = partial(_pass_over, blocks, report=report, name=stream.name)
        (state,) = passing(lambda: [_first_pass(blocks, plan)], number=1)
        if isinstance(state, Exception):
            raise state
        width = blocks.width
        classes = blocks.numbers.classes or range(len(state.counts))
        pass_over = passing if source.reiterable else None
    if state.targets is None and int((state.counts > 0).sum()) < 2:
        raise InputError("fewer than two classes occur: a score needs at least two classes")
    kind = "classification" if state.targets is None else "regression"
    able = []
    reasons = plan.reasons(stream.outputs is not None, stream.problem)
    for metric in plan.metrics:
        if metric.name in reasons:
            continue
        if kind not in metric.tasks:
            reasons[metric.name] = (
                f"targets are floats, which means regression, but {metric.name} needs classes"
            )
        elif "all_rows" in plan.needed(metric):
            reasons[metric.name] = (
                f"{metric.name} needs all samples at once, and these are streamed: give an array, "
                "if need be with a larger memory_limit"
            )
        else:
            able.append(metric)
    outputs, unable = _finish(able, plan, state, width, pass_over, only_once)
    return Outcome(outputs, reasons | unable, None if state.targets is not None else classes)


def _finish(
    metrics: Sequence[Metric],
    plan: ScoringPlan,
    state: Moments,
    width: int,
    pass_over: Callable[..., list[Any]] | None,
    only_once: str,
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """All metrics side by side: each further pass serves all that ask for one."""
    outputs: dict[str, dict[str, float]] = {}
    reasons: dict[str, str] = {}
    asked: dict[str, tuple[Any, PassRequest]] = {}
    made: dict[tuple[str, str], Any] = {}
    options_of = {m.name: m.all_options(plan.options.get(m.name, {})) for m in metrics}

    def go_on(name: str, steps: Any, result: Any) -> None:
        try:
            try:
                asked[name] = (steps, steps.send(result))
            except StopIteration as stop:
                values = {key: np.asarray(value) for key, value in stop.value.items()}
                outputs[name] = {key: float(value) for key, value in values.items()}
        except Exception as error:  # of one metric
            reasons[name] = said(error)

    for metric in metrics:
        options = options_of[metric.name]
        needs = plan.needed(metric)
        passes = metric.asked(options)
        for route in ("full",) if passes else ("quick", "full"):
            statistics = Statistics.of_moments(state, width, route=route)
            if needs <= set(SHARED) and not passes:  # read from what others read too
                for shared in needs - {name for name, kind in made if kind == route}:
                    of_moments = _made if shared in FACTORISED else getattr
                    made[shared, route] = of_moments(statistics, shared)
                statistics = statistics.only(**{name: made[name, route] for name in needs})
            go_on(metric.name, metric.steps(statistics, options, jitted), None)
            if not outputs.get(metric.name, {}).get("unsure"):
                break
    number = 2
    while asked:
        if pass_over is None:
            reasons |= {name: _in_vain(name, only_once) for name in asked}
            break
        now, asked = asked, {}
        asks = [_Ask(request, options_of[name]) for name, (_, request) in now.items()]
        results = pass_over(lambda asks=asks: asks, number=number)
        for (name, (steps, request)), result in zip(now.items(), results, strict=True):
            if isinstance(result, Exception):
                reasons[name] = said(result)
                continue
            if request.chain[-1][0].transform:
                result = Statistics.of_moments(result, width, route="full")
            go_on(name, steps, result)
        number += 1
    return outputs, reasons


def _in_vain(name: str, only_once: str) -> str:
    return f"{name} looks at the samples more than once, and {only_once}"


def _in_precision(part: Array, dtype: Any) -> Array:
    host = np.asarray(part)
    return jnp.asarray(host, host.dtype if host.dtype == np.bool_ else dtype)


# --- passes ---------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """What a pass does with a block: that of a chain of passes, or () to collect moments."""

    passes: tuple[Pass, ...]
    options: tuple[tuple[str, Any], ...]


class _Ask(NamedTuple):
    """A pass over all blocks that a metric asks for."""

    request: PassRequest
    options: Mapping[str, Any]

    def begin(self, block: Block, padded: int) -> tuple[_Step, Any, Any]:
        """The step, its constants, and what it begins with."""
        chain = self.request.chain
        static, dynamic = split_options(self.options)
        step = _Step(tuple(one for one, _, _ in chain), static)
        states = [statistics.measured.moments for *_, statistics in chain]
        centres = tuple((state.origin, state.means) for state in states)
        constants = (centres, tuple(part for _, part, _ in chain), dynamic)
        rows = _rows_of(block, padded)
        like = jax.eval_shape(partial(_apply, step), constants, *rows)
        if not chain[-1][0].transform:
            # of NumPy, which compiles nothing
            start: Any = jax.tree.map(lambda one: np.zeros(one.shape, one.dtype), like)
        elif like.shape != rows[0].shape:
            raise InputError(
                "a pass that makes other features has to keep their number where samples are "
                "streamed: give an array"
            )
        else:
            count, dtype = len(states[-1].counts), states[-1].means.dtype
            start = moments.init(padded, num_classes=count, dtype=dtype)
        return step, constants, start


class _Collect(NamedTuple):
    """The first pass, which makes the moments that it ``starts`` from."""

    start: Moments

    def begin(self, block: Block, padded: int) -> tuple[_Step, Any, Any]:
        """As of `_Ask`."""
        return _Step((), ()), (), self.start


def _first_pass(blocks: Blocks, plan: ScoringPlan) -> _Collect:
    """Moments; with the class-balanced scatter where that saves a second pass."""
    labels = blocks.labels
    assert labels is not None
    wanted = any(metric.class_balanced for metric in plan.metrics)
    wanted &= labels.counts is None or not even(labels.counts)
    enough = all(metric.moments for metric in plan.metrics)
    state = moments.init(
        blocks.padded,
        num_classes=labels.num_classes,
        num_targets=labels.num_targets,
        class_counts=labels.counts if wanted and enough else None,
    )
    return _Collect(state)


def _pass_over(
    blocks: Blocks,
    start: Callable[[], Sequence[_Ask | _Collect]],
    *,
    report: Report,
    name: str,
    number: int,
) -> list[Any]:
    """One pass that feeds every step that ``start`` lists once the first block is there.

    Returns:
        What each comes to, or the `Exception` that it raised.
    """
    carries: tuple[Any, ...] | None = None
    constants: tuple[Any, ...] = ()
    steps: tuple[_Step, ...] = ()
    failed: dict[int, Exception] = {}
    before: tuple[Array, Block] | None = None
    for block in blocks:
        if carries is None:
            begun = []
            for index, one in enumerate(start()):
                try:
                    begun.append(one.begin(block, blocks.padded))
                except Exception as error:  # of one metric
                    failed[index] = error
            steps = tuple(step for step, _, _ in begun)
            constants = tuple(part for _, part, _ in begun)
            carries = tuple(_copied(carry) for *_, carry in begun)
        carries, bad = _advance(carries, constants, *block[:4], steps=steps, width=blocks.padded)
        # of the block before, so that this one is under way while the next is read
        _check_finite(before)
        before = (bad, block)
        report(block.start + block.rows, blocks.rows, f"{name}: pass {number}")
    _check_finite(before)
    rest = iter(carries or ())
    count = len(carries or ()) + len(failed)
    return [failed[index] if index in failed else next(rest) for index in range(count)]


def _check_finite(done: tuple[Array, Block] | None) -> None:
    if done is not None and (row := int(done[0])) >= 0:
        raise InputError(
            f"features contain NaN or infinity, first in row {done[1].start + row}: fix the "
            "model's output or give those rows weight 0"
        )


def _rows_of(block: Block, padded: int) -> tuple[Any, Any, Any, Any]:
    """The shapes of a block inside a step."""
    dtype = block.weights.dtype
    features = jax.ShapeDtypeStruct((len(block.weights), padded), dtype)
    return features, block.targets, block.weights, block.outputs


def _apply(
    step: _Step,
    constants: Any,
    features: Array,
    labels: Array,
    weights: Array,
    outputs: SourceOutputs | None,
) -> Any:
    """What the last pass of a chain makes of rows, which those before it transform."""
    centres, prepared, dynamic = constants
    options = {**dict(step.options), **dynamic}
    own_class = labels
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        own_class, labels = jnp.zeros(len(labels), jnp.int32), labels.reshape(len(labels), -1)
    logits, probabilities = rows_of_outputs(outputs, weights)
    for one, (origin, means), own in zip(step.passes, centres, prepared, strict=True):
        # one after the other: far from 0 their sum would be rounded
        residuals = features - origin[None] - jnp.take(means, own_class, axis=0, mode="clip")
        batch = Batch(residuals, labels, weights, probabilities, logits, features)
        features = one.apply(own, batch, **options)
    return features


@jax.jit
def _copied(carry: Any) -> Any:
    """Of its own, because the steps write over it; one program, not one for each array."""
    return jax.tree.map(jnp.array, carry)


@partial(jax.jit, static_argnames=("steps", "width"), donate_argnums=0)
def _advance(
    carries: tuple[Any, ...],
    constants: tuple[Any, ...],
    features: Array,
    targets: Array,
    weights: Array,
    outputs: SourceOutputs | None,
    *,
    steps: tuple[_Step, ...],
    width: int,
) -> tuple[tuple[Any, ...], Array]:
    """What all steps make of a block, and its first row that is not finite, else -1."""
    x = jnp.pad(features.astype(weights.dtype), ((0, 0), (0, width - features.shape[1])))
    wrong = (weights > 0) & ~jnp.isfinite(x).all(axis=1)
    bad = jnp.where(wrong.any(), jnp.argmax(wrong), -1)
    rows = as_rows(x, weights, None)
    moved = []
    for step, carry, own in zip(steps, carries, constants, strict=True):
        if not step.passes:
            moved.append(moments.add(carry, rows, targets))
            continue
        made = _apply(step, own, rows.features, targets, rows.weights, outputs)
        if step.passes[-1].transform:
            moved.append(moments.add(carry, rows._replace(features=made), targets))
        else:
            moved.append(jax.tree.map(jnp.add, carry, made))
    return tuple(moved), bad


@partial(jax.jit, static_argnums=1)
def _made(statistics: Statistics, name: str) -> Any:
    return getattr(statistics, name)
