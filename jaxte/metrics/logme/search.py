"""The maximum of the evidence on a tridiagonal form, from values alone."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxte.metrics.logme.ascent import bracket
from jaxte.metrics.logme.evidence import LOWEST
from jaxte.statistics.ridge import NEAR_EXACT
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


def search(problem: Tridiagonal) -> Optimum:
    """The maximum over both precisions: the best point of a grid, then of ever finer ones.

    Only values are compared. That costs as much as Newton steps, whose second derivatives take
    most of the time that this takes to compile.
    """
    p = problem
    # the digits of T go by its own size, which an offset of the features leaves far below tr G
    size = jnp.maximum(jnp.sum(p.diagonal), jnp.finfo(p.square.dtype).tiny)
    lowest = jnp.clip(_LOWEST + jnp.log(size), LOWEST, _LOWEST)
    points: Array = jnp.linspace(lowest, _HIGHEST, _GRID, dtype=p.square.dtype)
    profile, unexplained = _profile(p, points[:, None])
    u, _, _, bounded, start = bracket(points, profile, p.n)
    around = jnp.arange(-_BESIDE, _BESIDE + 1)[:, None].astype(u.dtype) / _BESIDE

    def closer(_: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        centre, reach = state[:2]
        values, rest = _profile(p, centre[None] + reach[None] * around)
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

    reach = jnp.where(bounded, 0, points[1] - points[0])
    zero = jnp.zeros_like(u)
    _, _, best, rest, inside = lax.fori_loop(
        0, _ROUNDS, closer, (u, reach, zero, zero, jnp.ones_like(bounded))
    )
    evidence = 0.5 * (best / p.n + jnp.log(p.n) - 1 - jnp.log(2 * jnp.pi))
    lengths = p.square + p.n * p.y_mean**2
    sure = (start > 2) & (p.blurred == 0) & (rest > NEAR_EXACT * lengths)
    sure &= (unexplained[0] > NEAR_EXACT * lengths) & jnp.isfinite(evidence)
    sure &= profile[0] < profile[1]  # else it may rise further below, as where rows weigh more
    return Optimum(evidence, inside | bounded, bounded, sure)


def _profile(p: Tridiagonal, u: Array) -> tuple[Array, Array]:
    """-n ln Q - ln |I + G/t| at ln t = u and Q = y' (I + XX'/t)^-1 y; u [j, 1] or [k]."""
    t = jnp.exp(u)
    logdet, own, across, mean = sweep(p, t)
    square, y_mean = (part[None] if t.ndim == 2 else part for part in (p.square, p.y_mean))
    if p.length is None:
        centred, gap, leverage = square - own, y_mean - across, mean
    else:
        centred, gap, leverage = t * own, y_mean - across, (p.length - mean) / t
    share = 1 / (1 + p.n * leverage)
    quadratic = centred + p.n * gap**2 * share
    quadratic = jnp.maximum(quadratic, jnp.finfo(u.dtype).tiny)
    return -p.n * jnp.log(quadratic) - logdet + jnp.log(share), quadratic
