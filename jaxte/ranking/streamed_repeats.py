"""Scores of rows that go by with permuted targets, or without some rows, many in each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxte.metrics import Metric
from jaxte.metrics.options import jitted
from jaxte.ranking.blocks import Blocks
from jaxte.ranking.passes import Ask, AskEach, Collect, Report, Sums, Varied, pass_over
from jaxte.ranking.permutations import permuted_targets
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.repeats import Repeats, deviations_of_groups, without_groups
from jaxte.runtime.programs import FAST_COMPILE, Program
from jaxte.statistics import SHARED, Statistics
from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments, TargetMoments, divisors
from jaxte.statistics.principal import Principal, RelabelledMoments, principal_of_moments

__all__ = ["Again", "influences", "null_outputs"]


class Again(NamedTuple):
    """Rows that can be had again in order, and what the first pass made of them.

    Attributes:
        blocks: the rows.
        targets: of all of them.
        weights: likewise.
        state: their moments.
        plan: how they are scored.
        metrics: those that have scored them.
        memory_limit: bytes.
        report: told how far a pass is.
        name: of the model.
    """

    blocks: Blocks
    targets: np.ndarray
    weights: np.ndarray
    state: Moments
    plan: ScoringPlan
    metrics: Sequence[Metric]
    memory_limit: int
    report: Report
    name: str

    @classmethod
    def of(cls, blocks: Blocks, *rest: Any) -> Again:
        """Targets that go along with the rows are read once more for it."""
        return cls(blocks, *blocks.all_targets(), *rest)

    def options(self, metric: Metric) -> Mapping[str, Any]:
        """All of a metric."""
        return metric.all_options(self.plan.options.get(metric.name, {}))

    def passing(self, what: str, varied: Varied) -> Callable[..., list[Any]]:
        """Makes a pass with these targets or weights."""
        label = f"{self.name}: {what}"
        return partial(pass_over, self.blocks, report=self.report, name=label, varied=varied)

    def statistics(self, state: Moments) -> Statistics:
        """Of such moments."""
        return Statistics.of_moments(state, self.blocks.width, self.blocks.unit, route="full")

    def at_once(self, *, matrices: bool) -> int:
        """For how many targets or weights memory suffices in one pass."""
        classes, d = self.state.means.shape
        numbers = 6 * classes * d + (self.blocks.rows or 0) + 3 * d * d * matrices
        return max(1, self.memory_limit // (self.state.means.dtype.itemsize * numbers))


def null_outputs(again: Again, permutations: int, seed: int) -> dict[str, Repeats]:
    """As `permutations.null_outputs`.

    One pass makes the moments of many permutations, from the total scatter, which they share.
    Metrics that ask for more share each further pass with all of them.

    Raises:
        InputError: where the rows come in another order each time.
    """
    metrics = [metric for metric in again.metrics if not metric.label_free]
    if not metrics:
        return {}
    targets, weights = again.targets, again.weights
    keys = jax.random.split(jax.random.key(seed), permutations)
    of_moments = [m for m in metrics if _needs_moments(m, again)]
    others = [m for m in metrics if m not in of_moments]
    width = jnp.asarray(again.blocks.width, again.state.means.dtype)
    axes = _axes(again.state, width, again.blocks.unit)
    many = again.at_once(matrices=bool(others))
    parts: dict[str, list[Mapping[str, Any]]] = {metric.name: [] for metric in metrics}
    for start in range(0, permutations, many):
        drawn = np.stack([permuted_targets(targets, weights, key) for key in keys[start:][:many]])
        passing = again.passing("permutations", Varied(targets, targets=drawn))
        states = _moments_of(again.state, passing, drawn, weights)
        for metric in of_moments:
            static, dynamic = again.plan.options_of(metric)
            parts[metric.name].append(_program(metric, static)(*axes, states, dynamic))
        total = again.state.total_scatter
        each = [_whole(own, total) for own in _unstacked(states)] if others else []
        for metric in others:
            parts[metric.name].append(_by_passes(metric, again, each, passing))
    return {metric: _joined(own) for metric, own in parts.items()}


def influences(again: Again, metrics: Sequence[Metric], seed: int) -> dict[str, Repeats]:
    """As `influence.influences`, of groups of rows: as many scores, in the same passes.

    Raises:
        InputError: where the rows come in another order each time.
    """
    targets, weights = again.targets, again.weights
    kept = without_groups(targets, weights, seed) * weights[None]
    many = again.at_once(matrices=True)
    parts: dict[str, list[Mapping[str, Any]]] = {metric.name: [] for metric in metrics}
    nothing = jax.tree.map(np.zeros_like, again.state._replace(balance=None))
    nothing = nothing._replace(valid=np.ones((), bool))
    for start in range(0, len(kept), many):
        own = kept[start : start + many]
        passing = again.passing("intervals", Varied(targets, weights=own))
        (states,) = passing(lambda own=own: [AskEach([Collect(nothing)] * len(own))], number=1)
        if isinstance(states, Exception):
            raise states
        for metric in metrics:
            made = _by_passes(metric, again, _unstacked(states), passing)
            parts[metric.name].append(made)
    return {metric: deviations_of_groups(_joined(own)) for metric, own in parts.items()}


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}


def _unstacked(parts: Any) -> list[Any]:
    number = len(jax.tree.leaves(parts)[0])
    return [jax.tree.map(lambda part, i=i: part[i], parts) for i in range(number)]


def _needs_moments(metric: Metric, again: Again) -> bool:
    """Whether it can be had in principal axes, from what is made of moments."""
    known = metric.needed(again.plan.options.get(metric.name, {})) <= set(SHARED)
    return metric.in_any_axes and known and not metric.asked(again.options(metric))


# --- moments of each permutation --------------------------------------------------------------


def _moments_of(
    state: Moments, passing: Callable[..., list[Any]], drawn: np.ndarray, weights: np.ndarray
) -> Moments:
    """Moments of rows about the mean of all, stacked; without the scatter, which `_whole` makes."""
    number = None if state.targets is not None else len(state.counts)
    centre = state.origin + state.relative_mean
    (sums,) = passing(lambda: [Sums(centre, len(drawn), number)], number=1)
    if isinstance(sums, Exception):
        raise sums
    return _stacked_moments(state, sums, drawn.reshape(*drawn.shape[:2], -1), weights)


@jax.jit
def _stacked_moments(state: Moments, sums: Any, drawn: Array, weights: Array) -> Moments:
    centre, zero = state.origin + state.relative_mean, jnp.zeros((), state.means.dtype)

    def of_classes(one: tuple[Array, Array, Array]) -> Moments:
        total, squares, labels = one
        counts = jax.ops.segment_sum(weights, labels[:, 0], len(state.counts))
        means = total / divisors(counts)[:, None]
        squares = jnp.maximum(squares - counts[:, None] * means**2, 0)
        return Moments(centre, state.samples, counts, means, squares, zero, state.valid)

    def of_targets(one: tuple[Array, Array]) -> Moments:
        cross, y = one
        mean = matmul(weights, y) / weights.sum()
        y = y - mean[None]
        targets = TargetMoments(
            jnp.zeros_like(mean), mean, matmul(y.T, weights[:, None] * y), cross
        )
        means = jnp.zeros_like(state.means)
        return Moments(
            centre, state.samples, state.counts, means, state.squares, zero, state.valid, targets
        )

    if state.targets is None:
        return lax.map(of_classes, (*sums, drawn))
    return lax.map(of_targets, (sums, drawn.astype(sums.dtype)))


@jax.jit
def _whole(state: Moments, total: Array) -> Moments:
    """The total scatter less that between the classes."""
    between = jnp.sqrt(state.counts)[:, None] * state.deviations
    return state._replace(scatter=total - matmul(between.T, between))


# --- metrics that moments suffice for ---------------------------------------------------------

_axes = Program(principal_of_moments, FAST_COMPILE)


@lru_cache(maxsize=512)
def _program(metric: Metric, static: tuple[tuple[str, Any], ...]) -> Program:
    def null(
        principal: Principal, axes: Array, states: Moments, dynamic: Mapping[str, Any]
    ) -> dict[str, Array]:
        def one(state: Moments) -> dict[str, Array]:
            state = state._replace(
                origin=principal.mean, means=matmul(state.means, axes), samples=principal.samples
            )
            if state.targets is not None:
                cross = matmul(axes.T, state.targets.cross)
                state = state._replace(targets=state.targets._replace(cross=cross))
            outputs = metric.evaluate(
                RelabelledMoments(principal, state), {**dict(static), **dynamic}
            )
            return {name: outputs[name] for name in ("score", *metric.terms)}

        return lax.map(one, states)

    return Program(null, FAST_COMPILE)


# --- metrics that ask for more passes ---------------------------------------------------------


def _by_passes(
    metric: Metric, again: Again, states: Sequence[Moments], passing: Callable[..., list[Any]]
) -> Mapping[str, Any]:
    """A metric step by step, each pass for all of these moments that ask for it."""
    options = again.options(metric)
    steps = [metric.steps(again.statistics(state), options, jitted) for state in states]
    outputs: dict[int, Mapping[str, Any]] = {}
    asked: dict[int, Ask] = {}

    def go_on(index: int, result: Any) -> None:
        try:
            asked[index] = Ask(steps[index].send(result), options)
        except StopIteration as stop:
            outputs[index] = stop.value

    for index in range(len(steps)):
        go_on(index, None)
    number = 1
    while asked:
        number += 1
        first = next(iter(asked.values()))
        alike = [index for index, ask in asked.items() if ask.passes == first.passes]
        each = [asked[index] if index in alike else first for index in range(len(steps))]
        (made,) = passing(lambda each=each: [AskEach(each)], number=number)
        if isinstance(made, Exception):
            raise made
        results = _unstacked(made)
        if first.passes[-1].transform:
            results = [again.statistics(state) for state in results]
        for index in alike:
            del asked[index]
            go_on(index, results[index])
    return {
        key: [float(outputs[index][key]) for index in range(len(steps))]
        for key in ("score", *metric.terms)
    }
