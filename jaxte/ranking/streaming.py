"""Features that do not fit in memory: batches go by, and only moments and sums stay.

One pass makes the moments, and every metric that asks for more shares each further pass
with the others. While the device works on one block of rows, the next is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxte.errors import InputError, said
from jaxte.metrics import Metric
from jaxte.metrics.options import jitted
from jaxte.metrics.passes import PassRequest
from jaxte.ranking.blocks import Blocks
from jaxte.ranking.inputs import Stream
from jaxte.ranking.options import RankOptions
from jaxte.ranking.outcomes import Outcomes
from jaxte.ranking.passes import Ask, Report, first_pass, pass_over
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.streamed_repeats import Again, influences, null_outputs
from jaxte.runtime.devices import platform_of
from jaxte.runtime.programs import all_digits
from jaxte.statistics import FACTORISED, OF_REDUCED, SHARED, Statistics
from jaxte.statistics.measure import Moments

__all__ = ["Outcome", "score", "score_all"]


class Outcome(NamedTuple):
    """Of one model: outputs of each metric that has them, and why the others have none."""

    outputs: dict[str, dict[str, float]]
    reasons: dict[str, str]
    classes: Sequence[Any] | None  # None for regression
    size: tuple[int, int]  # rows that count, and width
    again: Callable[[], Again] | str  # all that other targets or weights need, or why there is none


def score_all(
    streams: Sequence[Stream],
    plan: ScoringPlan,
    num_classes: int | None,
    memory_limit: int,
    report: Report,
    reading: Callable[[], AbstractContextManager[Any]],
    outcomes: Outcomes,
    repeated: RankOptions,
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
        outcomes.sizes[stream.name] = one.size
        outcomes.reasons |= {(stream.name, metric): why for metric, why in one.reasons.items()}
        outcomes.classes = max(outcomes.classes or (), one.classes or (), key=len) or None
        if not (repeated.permutations or repeated.intervals):
            continue
        try:
            if isinstance(one.again, str):
                raise InputError(one.again)
            _score_again(one.again(), repeated, outcomes)
        except Exception as error:  # the scores themselves are known
            if error in stopped:
                raise
            outcomes.unrepeated[stream.name] = said(error)


def _score_again(again: Again, repeated: RankOptions, outcomes: Outcomes) -> None:
    """With permuted targets, and without a group of rows each, as far as that is asked for."""
    if repeated.permutations:
        nulls = null_outputs(again, repeated.permutations, repeated.seed)
        outcomes.add_repeated(outcomes.nulls, again.name, nulls)
    if judged := [metric for metric in again.metrics if metric in repeated.intervals]:
        rows = influences(again, judged, repeated.seed)
        outcomes.add_repeated(outcomes.influences, again.name, rows)


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
    blocks = None
    if isinstance(stream.source, Moments):
        samples = _of_moments(stream.source)
    else:
        blocks = Blocks(
            stream.source,
            stream.targets,
            stream.weights,
            stream.outputs,
            num_classes=num_classes,
            dtype=jnp.zeros(()).dtype,
            memory_limit=memory_limit,
            reading=reading,
        )
        samples = _of_blocks(blocks, plan, stream, report)
    state, classes = samples.moments, samples.classes
    if not np.isfinite(state.squares).all():
        raise InputError(
            f"squares of these features leave the range of {state.squares.dtype}: divide them by "
            "their size, or give precision='float64'"
        )
    if state.targets is None and int((state.counts > 0).sum()) < 2:
        raise InputError("fewer than two classes occur: a score needs at least two classes")
    able, reasons = _able(plan, stream, regression=state.targets is not None)
    outputs, unable = _finish(able, plan, samples)
    again: Callable[[], Again] | str = samples.only_once
    if blocks is not None and samples.again is not None:
        scored = [metric for metric in able if metric.name in outputs]
        again = partial(Again.of, blocks, state, plan, scored, memory_limit, report, stream.name)
    size = int(state.samples), samples.width
    named = None if state.targets is not None else classes
    return Outcome(outputs, reasons | unable, named, size, again)


class _Samples(NamedTuple):
    """What is known of the samples after one pass.

    Attributes:
        moments: of all of them.
        width: of the features.
        unit: that the features were divided by.
        classes: as they are named; in regression of no meaning.
        again: makes another pass over them, or None.
        only_once: why there is none.
    """

    moments: Moments
    width: int
    unit: Any
    classes: Sequence[Any]
    again: Callable[..., list[Any]] | None
    only_once: str

    def statistics(self, state: Moments, route: str, **shared: Any) -> Statistics:
        """Of these moments, or of those that a pass has made of the same samples."""
        return Statistics.of_moments(state, self.width, self.unit, route=route, **shared)


def _of_moments(state: Moments) -> _Samples:
    """Moments made before, in the precision of this call."""
    dtype = jnp.zeros(()).dtype
    return _Samples(
        jax.tree.map(lambda part: _in_precision(part, dtype), state),
        state.means.shape[1],
        1,
        range(len(state.counts)),
        None,
        "its moments are all that is left of the samples: give the samples",
    )


def _of_blocks(blocks: Blocks, plan: ScoringPlan, stream: Stream, report: Report) -> _Samples:
    """The first pass over samples."""
    only_once = (
        "these batches can be had only once: give a list of them, an object that can be "
        "iterated again, or a function that returns an iterator"
    )
    reiterable = blocks.source.reiterable
    if not reiterable and not any(metric.moments for metric in plan.metrics):
        raise InputError("; ".join(_in_vain(metric.name, only_once) for metric in plan.metrics))
    blocks.survey(lambda rows: report(rows, None, f"{stream.name}: labels"))
    passing = partial(pass_over, blocks, report=report, name=stream.name)
    (state,) = passing(lambda: [first_pass(blocks, plan)], number=1)
    if isinstance(state, Exception):
        raise state
    classes = blocks.numbers.classes or range(len(state.counts))
    return _Samples(
        state, blocks.width, blocks.unit, classes, passing if reiterable else None, only_once
    )


def _able(
    plan: ScoringPlan, stream: Stream, *, regression: bool
) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that can score such samples, and why the others cannot."""
    able = []
    reasons = plan.reasons(stream.outputs is not None, stream.problem)
    for metric in plan.metrics:
        if metric.name in reasons:
            continue
        if ("regression" if regression else "classification") not in metric.tasks:
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
    return able, reasons


def _finish(
    metrics: Sequence[Metric], plan: ScoringPlan, samples: _Samples
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """All metrics side by side: each further pass serves all that ask for one."""
    state, again, only_once = samples.moments, samples.again, samples.only_once
    outputs: dict[str, dict[str, float]] = {}
    reasons: dict[str, str] = {}
    asked: dict[str, tuple[Any, PassRequest]] = {}
    made: dict[tuple[str, str], Any] = {}
    options_of = {m.name: m.all_options(plan.options.get(m.name, {})) for m in metrics}
    routes = dict.fromkeys((plan.route(platform_of()), "full"))

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
        for route in ("full",) if passes else routes:
            statistics = samples.statistics(state, route)
            if needs <= set(SHARED) and not passes:  # read from what others read too
                first = "reduced", route
                if route == "quick" and needs & {*OF_REDUCED}:
                    known = made[first] = made.get(first) or _made(statistics, "reduced")
                    statistics = samples.statistics(state, route, reduced=known)
                for shared in needs - {name for name, kind in made if kind == route}:
                    of_moments = _made if shared in FACTORISED else getattr
                    made[shared, route] = of_moments(statistics, shared)
                statistics = statistics.only(**{name: made[name, route] for name in needs})
            go_on(metric.name, metric.steps(statistics, options, jitted), None)
            if not outputs.get(metric.name, {}).get("unsure"):
                break
    number = 2
    while asked:
        if again is None:
            reasons |= {name: _in_vain(name, only_once) for name in asked}
            break
        now, asked = asked, {}
        asks = [Ask(request, options_of[name]) for name, (_, request) in now.items()]
        results = again(lambda asks=asks: asks, number=number)
        for (name, (steps, request)), result in zip(now.items(), results, strict=True):
            if isinstance(result, Exception):
                reasons[name] = said(result)
                continue
            if request.chain[-1][0].transform:
                result = samples.statistics(result, "full")
            go_on(name, steps, result)
        number += 1
    return outputs, reasons


def _in_vain(name: str, only_once: str) -> str:
    return f"{name} looks at the samples more than once, and {only_once}"


def _in_precision(part: Array, dtype: Any) -> Array:
    host = np.asarray(part)
    return jnp.asarray(host, host.dtype if host.dtype == np.bool_ else dtype)


@partial(jax.jit, static_argnums=1)
@all_digits
def _made(statistics: Statistics, name: str) -> Any:
    return getattr(statistics, name)
