"""The maximum of the evidence on a form without eigenvectors, from values alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxte.metrics.logme.ascent import bracket
from jaxte.metrics.logme.evidence import LOWEST
from jaxte.statistics.profile import NEAR_EXACT, profile
from jaxte.statistics.shifted import Shifted
from jaxte.statistics.tridiagonal import Tridiagonal, sweep

_LOWEST, _HIGHEST, _GRID = -27.0, 20.0, 192  # of ln t; the first relative to the scatter's trace
# Each round tries this many points on either side and divides their distance by as many; from the
# grid's 0.25 four rounds, each centred on the vertex of a parabola, leave an error of 1e-7 in ln t,
# and of its square in the evidence.
_BESIDE, _ROUNDS = 8, 4


class Optimum(NamedTuple):
    """The best evidence per sample of each column [k], and whether to believe it."""

    evidence: Array
    converged: Array
    bounded: Array
    sure: Array


def search(form: Tridiagonal | Shifted) -> Optimum:
    """The maximum over both precisions: the best point of a grid, then of ever finer ones.

    Only values are compared. That costs as much as Newton steps, whose second derivatives take
    most of the time that this takes to compile.
    """
    return _in_window(form) if isinstance(form, Shifted) else _in_range(form)


def _in_range(p: Tridiagonal) -> Optimum:
    """Over the whole range of ln t."""

    def values_at(u: Array) -> tuple[Array, Array]:
        return profile(p, u, sweep(p, jnp.exp(u)))

    # the digits of T go by its own size, which an offset of the features leaves far below tr G
    size = jnp.maximum(jnp.sum(p.diagonal), jnp.finfo(p.square.dtype).tiny)
    lowest = jnp.clip(_LOWEST + jnp.log(size), LOWEST, _LOWEST)
    points: Array = jnp.linspace(lowest, _HIGHEST, _GRID, dtype=p.square.dtype)
    values, unexplained = values_at(points[:, None])
    u, _, _, bounded, start = bracket(points, values, p.n)
    best, rest, inside = _climbed(values_at, u, points[1] - points[0], bounded)
    lengths = p.square + p.n * p.y_mean**2
    sure = (start > 2) & (p.blurred == 0) & (rest > NEAR_EXACT * lengths)
    sure &= (unexplained[0] > NEAR_EXACT * lengths) & jnp.isfinite(best)
    sure &= values[0] < values[1]  # else it may rise further below, as where rows weigh more
    return Optimum(_evidence(best, p.n), inside | bounded, bounded, sure)


def _in_window(p: Shifted) -> Optimum:
    """In the window, or where nothing is explained."""

    def values_at(u: Array) -> tuple[Array, Array]:
        return profile(p, u, p.at(u))

    points: Array = jnp.linspace(p.low, p.high, _GRID, dtype=p.square.dtype)
    start = jnp.argmax(values_at(points[:, None])[0], axis=0)
    best, rest, inside = _climbed(values_at, points[start], points[1] - points[0], p.endless)
    sure = (start > 2) & (start < _GRID - 3) & jnp.isfinite(best)
    sure &= rest > NEAR_EXACT * (p.square + p.n * p.y_mean**2)
    best = jnp.where(p.endless, p.far, best)
    return Optimum(_evidence(best, p.n), inside | p.endless, p.endless, p.sure & (sure | p.endless))


def _climbed(
    values_at: Callable[[Array], tuple[Array, Array]], u: Array, step: Array, bounded: Array
) -> tuple[Array, Array, Array]:
    """The best value near u [k], Q there, and whether it lay between the points about u."""
    around = jnp.arange(-_BESIDE, _BESIDE + 1)[:, None].astype(u.dtype) / _BESIDE

    def closer(_: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        centre, reach = state[:2]
        values, rest = values_at(centre[None] + reach[None] * around)
        best = jnp.argmax(values, axis=0)[None]
        inner = jnp.clip(best, 1, 2 * _BESIDE - 1)
        low, mid, high = (
            jnp.take_along_axis(values, inner + shift, axis=0)[0] for shift in (-1, 0, 1)
        )
        bend = 2 * mid - low - high
        vertex = jnp.where(bend > 0, 0.5 * (high - low) / jnp.where(bend > 0, bend, 1), 0)
        step = reach / _BESIDE
        moved = centre + step * (inner[0] - _BESIDE + jnp.clip(vertex, -1, 1))
        kept = (jnp.take_along_axis(part, best, axis=0)[0] for part in (values, rest))
        return jnp.where(bounded, centre, moved), step, *kept, jnp.abs(moved - centre) <= reach

    reach = jnp.where(bounded, 0, step)
    zero = jnp.zeros_like(u)
    _, _, best, rest, inside = lax.fori_loop(
        0, _ROUNDS, closer, (u, reach, zero, zero, jnp.ones_like(bounded))
    )
    return best, rest, inside


def _evidence(best: Array, n: Array) -> Array:
    """Per sample."""
    return 0.5 * (best / n + jnp.log(n) - 1 - jnp.log(2 * jnp.pi))
