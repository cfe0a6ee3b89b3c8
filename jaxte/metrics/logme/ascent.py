"""The maximum of many functions of one variable at once: tried on a grid, then climbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_MAX_STEPS = 60


def ascend(
    points: Array, profile: Array, slope: Callable[[Array], Array], scale: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Where each column is largest: (u, steps, converged, bounded, start) [k].

    The functions can have several local maxima, so the whole range is tried first: ``profile``
    [j, k] at ascending ``points`` [j]. The best point's neighbours then bracket a maximum, and
    Newton steps on ``slope``, replaced by bisection whenever they leave the bracket, find it.
    ``bounded`` and ``start`` are those of `bracket`.
    """
    u, lower, upper, bounded, start = bracket(points, profile, scale)
    # in float32 rounding moves a maximum by the root of eps, and its value by eps
    tolerance = 1e-10 if u.dtype == jnp.float64 else 1e-3

    def unfinished(state: Any) -> Array:
        *_, moving, step = state
        return jnp.any(moving) & (step < _MAX_STEPS)

    def advance(state: Any) -> Any:
        u, lower, upper, steps, moving, step = state
        value, curvature = jax.jvp(slope, (u,), (jnp.ones_like(u),))
        lower, upper = jnp.where(value > 0, u, lower), jnp.where(value > 0, upper, u)
        newton = u - value / jnp.where(curvature < 0, curvature, -1)
        inside = (curvature < 0) & (newton >= lower) & (newton <= upper)
        target = jnp.where(inside, newton, 0.5 * (lower + upper))
        target = jnp.where(moving, target, u)
        still = moving & ~(jnp.abs(target - u) <= tolerance)
        return target, lower, upper, steps + moving.astype(steps.dtype), still, step + 1

    first = (u, lower, upper, jnp.zeros(u.shape, jnp.int32), ~bounded, 0)
    u, _, _, steps, moving, _ = lax.while_loop(unfinished, advance, first)
    return u, steps, ~moving, bounded, start


def bracket(
    points: Array, profile: Array, scale: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """The best of ascending ``points`` [j] for each column: (u, lower, upper, bounded, start) [k].

    ``lower`` and ``upper`` are its neighbours. ``bounded``: flat up to an end of the range, to the
    rounding of numbers of size ``scale``; ``u`` is that end then. ``start``: index of the best.
    """
    last = len(points) - 1
    best = jnp.argmax(profile, axis=0)
    u, lower, upper = (points[jnp.clip(best + shift, 0, last)] for shift in (0, -1, 1))
    # flat up to an end of the range: that end is the optimum, as nearly as can be told
    flat = 4 * jnp.finfo(points.dtype).eps * (jnp.abs(profile).max(axis=0) + scale)
    at_low, at_high = (profile[end] >= profile.max(axis=0) - flat for end in (0, -1))
    u = jnp.where(at_low, points[0], jnp.where(at_high, points[-1], u))
    return u, lower, upper, at_low | at_high, jnp.where(at_low, 0, best)
