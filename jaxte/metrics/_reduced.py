"""The maximum evidence without eigenvectors: a tridiagonal reduction and O(r) solves.

Along t the evidence needs ln |A + tI| and the quadratic forms of the targets and the mean in
(A + tI)^-1. Once A = Q T Q' is tridiagonal, one sweep of elimination down T + tI gives all of
them, for every target at once, and the reduction costs a third of an eigendecomposition. What
the sweep cannot tell is which tiny eigenvalues are rounding error; where the optimum reaches down
to them (fits that are all but exact), ``sure`` is False and the eigenvectors must be asked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxte.metrics._ascent import bracket
from jaxte.metrics._evidence import LOWEST, NEAR_EXACT, Normal
from jaxte.statistics.linalg import gram, matmul, trace, tridiagonal
from jaxte.statistics.measure import centred
from jaxte.statistics.rows import Rows, centre
from jaxte.statistics.spectrum import count_clear, gram_terms, hides

_LOWEST, _HIGHEST, _GRID = -27.0, 20.0, 192  # of ln t; the first relative to the scatter's trace
# Each round tries this many points on either side and divides their distance by as many; from the
# grid's 0.25 four rounds, each centred on the vertex of a parabola, leave an error of 1e-7 in ln t,
# and of its square in the evidence.
_BESIDE, _ROUNDS = 8, 4
# A logarithm costs more than the rest of a row: of the product of so many, each below e^60.
_FACTORS = 8


class Reduced(NamedTuple):
    """Targets and mean in coordinates in which the scatter is tridiagonal, tr G = 1."""

    diagonal: Array  # [r]
    below: Array  # [r - 1]
    targets: Array  # [r, k]
    mean: Array  # [r]
    square: Array  # [k] squared length of the centred targets
    y_mean: Array  # [k]
    n: Array
    length: Array | None  # squared length of the mean, for rows; None for normal equations
    blurred: Array  # 1 where the rows might tell more than their products do
    size: int | Array  # r; entries beyond, which are 0, may follow


class Optimum(NamedTuple):
    """The best evidence per sample of each column [k], and whether to believe it."""

    evidence: Array
    converged: Array
    bounded: Array
    sure: Array


def reduce_normal(given: Normal) -> Reduced:
    """The d x d scatter of the features, for n >= d."""
    energy = trace(given.scatter) + given.n * (given.mean @ given.mean)
    scale = jnp.where(energy > 0, energy, 1)
    rhs = jnp.concatenate([given.cross, given.mean[:, None]], axis=1) / jnp.sqrt(scale)
    squares = jnp.diagonal(given.scatter)
    diagonal, below, rhs = tridiagonal(given.scatter / scale, rhs)
    terms = gram_terms(given.samples, len(diagonal))
    clear = count_clear(diagonal, below, terms)
    return Reduced(
        diagonal,
        below,
        rhs[:, :-1],
        rhs[:, -1],
        given.square,
        given.y_mean,
        given.n,
        None,
        hides(clear, given.samples, squares),
        len(diagonal),
    )


def reduce_rows(row: Rows, targets: Array) -> Reduced:
    """The n x n products of the rows with each other, for n < d."""
    x, mean = centred(row)
    y, y_mean = centre(targets, row)
    root = jnp.sqrt(row.weights)[:, None]
    x, y = x * root, y * root
    squares = jnp.sum(x**2, axis=0)
    energy = squares.sum() + row.total * (mean @ mean)
    x, mean = (part / jnp.sqrt(jnp.where(energy > 0, energy, 1)) for part in (x, mean))
    rhs = jnp.concatenate([y, matmul(x, mean)[:, None]], axis=1)
    diagonal, below, rhs = tridiagonal(gram(x.T), rhs)
    square = jnp.sum(y**2, axis=0)
    y, along, length = rhs[:, :-1], rhs[:, -1], mean @ mean
    size = len(diagonal)
    clear = count_clear(diagonal, below, x.shape[1])
    blurred = hides(clear, (row.weights > 0).sum(), squares)
    return Reduced(diagonal, below, y, along, square, y_mean, row.total, length, blurred, size)


def search(problem: Reduced) -> Optimum:
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


def _profile(p: Reduced, u: Array) -> tuple[Array, Array]:
    """-n ln Q - ln |I + G/t| at ln t = u and Q = y' (I + XX'/t)^-1 y; u [j, 1] or [k]."""
    t = jnp.exp(u)
    logdet, own, across, mean = _sweep(p, t)
    square, y_mean = (part[None] if t.ndim == 2 else part for part in (p.square, p.y_mean))
    if p.length is None:
        centred, gap, leverage = square - own, y_mean - across, mean
    else:
        centred, gap, leverage = t * own, y_mean - across, (p.length - mean) / t
    share = 1 / (1 + p.n * leverage)
    quadratic = centred + p.n * gap**2 * share
    quadratic = jnp.maximum(quadratic, jnp.finfo(u.dtype).tiny)
    return -p.n * jnp.log(quadratic) - logdet + jnp.log(share), quadratic


def _sweep(p: Reduced, t: Array) -> tuple[Array, Array, Array, Array]:
    """Log determinant of I + T/t and y'(T+t)^-1 y, m'(T+t)^-1 y, m'(T+t)^-1 m."""
    below = jnp.concatenate([jnp.zeros(1, t.dtype), p.below])
    shape = jnp.broadcast_shapes(t.shape, p.square.shape)
    alone, each = jnp.zeros(t.shape, t.dtype), jnp.zeros(shape, t.dtype)

    def eliminate(row: Array, carry: Any) -> Any:
        inverse, y, m, product, own, across, mean = carry  # one division: they cost most of it
        diagonal, beside, y_next, m_next = (part[row] for part in entries)
        ratio = beside * inverse
        pivot = jnp.maximum(diagonal - ratio * beside, 0) + t
        y, m = y_next - ratio * y, m_next - ratio * m
        inverse = 1 / pivot
        scaled = y * inverse
        return (
            inverse,
            y,
            m,
            product * (pivot * share),
            own + y * scaled,
            across + m * scaled,
            mean + m * (m * inverse),
        )

    def several(index: Array, carry: Any) -> Any:
        logdet, *rest = carry
        rows = index * _FACTORS, jnp.minimum(index * _FACTORS + _FACTORS, p.size)
        inverse, y, m, product, *sums = lax.fori_loop(*rows, eliminate, (*rest[:3], one, *rest[3:]))
        return logdet + jnp.log(product), inverse, y, m, *sums

    one, share = jnp.ones_like(alone), 1 / t
    start = (alone, one, each, alone, each, each, alone)
    targets = p.targets[:, None] if t.ndim == 2 else p.targets  # rows must meet [j, k]
    entries = (p.diagonal, below, targets, p.mean)
    carry = lax.fori_loop(0, -(-p.size // _FACTORS), several, start)
    return carry[0], carry[4], carry[5], carry[6]
