"""Scores of targets that are dealt anew to rows that go by, many at a time in each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxte.metrics import Metric
from jaxte.metrics.options import jitted
from jaxte.ranking.blocks import Blocks
from jaxte.ranking.passes import Ask, AskEach, Permuted, Report, Sums, pass_over
from jaxte.ranking.permutations import permuted_targets
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.repeats import Repeats
from jaxte.runtime.programs import FAST_COMPILE, Program
from jaxte.statistics import SHARED, Statistics
from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments, TargetMoments, divisors
from jaxte.statistics.principal import Principal, RelabelledMoments, principal_of_moments

__all__ = ["null_outputs"]


def null_outputs(
    blocks: Blocks,
    state: Moments,
    plan: ScoringPlan,
    metrics: Sequence[Metric],
    permutations: int,
    seed: int,
    *,
    memory_limit: int,
    report: Report,
    name: str,
) -> dict[str, Repeats]:
    """As `permutations.null_outputs`, of rows that can be had again in order, and their moments.

    One pass makes the moments of many permutations, from the total scatter, which they share.
    Metrics that ask for more share each further pass with all of them.

    Raises:
        OrderError: where the rows come in another order each time.
    """
    metrics = [metric for metric in metrics if not metric.label_free]
    if not metrics:
        return {}
    targets, weights = _targets_of(blocks)
    keys = jax.random.split(jax.random.key(seed), permutations)
    options = {m.name: m.all_options(plan.options.get(m.name, {})) for m in metrics}
    of_moments = [m for m in metrics if _needs_moments(m, plan, options[m.name])]
    others = [m for m in metrics if m not in of_moments]
    axes = _axes(state, jnp.asarray(blocks.width, state.means.dtype), blocks.unit)
    size = _bytes_each(state, len(targets), passes=bool(others))
    many = max(1, min(permutations, memory_limit // size))
    parts: dict[str, list[Mapping[str, np.ndarray]]] = {metric.name: [] for metric in metrics}
    for start in range(0, permutations, many):
        drawn = np.stack([permuted_targets(targets, weights, key) for key in keys[start:][:many]])
        label = f"{name}: permutations {start + 1} to {start + len(drawn)}"
        permuted = Permuted(targets, drawn)
        passing = partial(pass_over, blocks, report=report, name=label, permuted=permuted)
        states = _moments_of(state, passing, drawn, weights)
        for metric in of_moments:
            static, dynamic = plan.options_of(metric)
            made = _program(metric, static)(*axes, states, dynamic)
            parts[metric.name].append({key: np.asarray(own) for key, own in made.items()})
        each = _each(state, states, blocks) if others else []
        for metric in others:
            parts[metric.name].append(_by_passes(metric, options[metric.name], each, passing))
    return {
        metric: {key: np.concatenate([one[key] for one in own]) for key in own[0]}
        for metric, own in parts.items()
    }


def _needs_moments(metric: Metric, plan: ScoringPlan, options: Mapping[str, Any]) -> bool:
    """Whether it can be had in principal axes, from what is made of moments."""
    known = metric.needed(plan.options.get(metric.name, {})) <= set(SHARED)
    return metric.in_any_axes and known and not metric.asked(options)


def _targets_of(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Targets and weights of all rows, in one more reading of them."""
    pieces = [(one.targets[: one.rows], one.weights[: one.rows]) for one in blocks]
    targets, weights = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return targets, weights


def _bytes_each(state: Moments, rows: int, *, passes: bool) -> int:
    """What a permutation takes: its targets, sums, and for further passes matrices."""
    classes, d = state.means.shape
    numbers = 6 * classes * d + rows * (1 if state.targets is None else state.targets.mean.size)
    return int(state.means.dtype.itemsize) * (numbers + 3 * d * d * passes)


# --- moments of each permutation --------------------------------------------------------------


def _moments_of(
    state: Moments, passing: Callable[..., list[Any]], drawn: np.ndarray, weights: np.ndarray
) -> Moments:
    """Moments of rows about the mean of all, stacked; without the scatter, which `_each` makes."""
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


def _each(state: Moments, states: Moments, blocks: Blocks) -> list[Statistics]:
    """Statistics of each permutation, with the scatter within its classes."""
    total = state.total_scatter
    wholes = [
        _whole(jax.tree.map(lambda part, i=i: part[i], states), total)
        for i in range(len(states.counts))
    ]
    return [Statistics.of_moments(one, blocks.width, blocks.unit, route="full") for one in wholes]


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
    metric: Metric,
    options: Mapping[str, Any],
    each: Sequence[Statistics],
    passing: Callable[..., list[Any]],
) -> Mapping[str, np.ndarray]:
    """A metric step by step, each pass for all permutations, which ask for the same ones."""
    steps = [metric.steps(statistics, options, jitted) for statistics in each]
    results: Sequence[Any] = [None] * len(steps)
    while True:
        outputs, asks = [], []
        for step, result in zip(steps, results, strict=True):
            try:
                asks.append(Ask(step.send(result), options))
            except StopIteration as stop:
                outputs.append(stop.value)
        if not asks:
            return {
                key: np.array([float(one[key]) for one in outputs])
                for key in ("score", *metric.terms)
            }
        (made,) = passing(lambda asks=asks: [AskEach(asks)], number=2)
        if isinstance(made, Exception):
            raise made
        results = [jax.tree.map(lambda part, i=i: part[i], made) for i in range(len(steps))]
        if asks[0].request.chain[-1][0].transform:
            results = [
                Statistics.of_moments(own, one.width, one.unit, route="full")
                for own, one in zip(results, each, strict=True)
            ]
