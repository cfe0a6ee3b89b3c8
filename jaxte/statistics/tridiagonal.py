"""Ridge regression without eigenvectors: a tridiagonal reduction and O(r) solves.

Along t the evidence needs ln |A + tI| and the quadratic forms of the targets and the mean in
(A + tI)^-1. Once A = Q T Q' is tridiagonal, one sweep of elimination down T + tI gives all of
them, for every target at once, and the reduction costs a third of an eigendecomposition. What
the sweep cannot tell is which tiny eigenvalues are rounding error; where an optimum reaches down
to them (fits that are all but exact) the eigenvectors must be asked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxte.statistics.linalg import gram, matmul, trace
from jaxte.statistics.measure import centred
from jaxte.statistics.normal import Normal
from jaxte.statistics.rows import Rows, centre
from jaxte.statistics.spectrum import BLUR, gram_terms, hides

__all__ = ["Tridiagonal", "padded", "reduce_normal", "reduce_rows", "sweep"]

_PADDED = 2048  # entries; what is read from them is compiled once for all narrower features
# A logarithm costs more than the rest of a row: of the product of so many, each below e^60.
_FACTORS = 8


class Tridiagonal(NamedTuple):
    """Targets and mean in coordinates in which A = Xc' Xc, or Xc Xc', is tridiagonal, tr G = 1."""

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


def reduce_normal(normal: Normal) -> Tridiagonal:
    """The d x d scatter of the features, for n >= d."""
    energy = trace(normal.scatter) + normal.n * (normal.mean @ normal.mean)
    scale = jnp.where(energy > 0, energy, 1)
    rhs = jnp.concatenate([normal.cross, normal.mean[:, None]], axis=1) / jnp.sqrt(scale)
    squares = jnp.diagonal(normal.scatter)
    diagonal, below, rhs = tridiagonal(normal.scatter / scale, rhs)
    terms = gram_terms(normal.samples, len(diagonal))
    clear = count_clear(diagonal, below, terms)
    return Tridiagonal(
        diagonal,
        below,
        rhs[:, :-1],
        rhs[:, -1],
        normal.square,
        normal.y_mean,
        normal.n,
        None,
        hides(clear, normal.samples, squares),
        len(diagonal),
    )


def reduce_rows(row: Rows, targets: Array) -> Tridiagonal:
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
    return Tridiagonal(diagonal, below, y, along, square, y_mean, row.total, length, blurred, size)


def padded(p: Tridiagonal) -> Tridiagonal:
    """The same with more entries, which are 0."""
    size = max(_PADDED, 1 << (len(p.diagonal) - 1).bit_length())

    def long(part: Array) -> Array:
        return jnp.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))

    parts = {name: long(getattr(p, name)) for name in ("diagonal", "below", "targets", "mean")}
    return p._replace(size=jnp.asarray(p.size), **parts)


def sweep(p: Tridiagonal, t: Array) -> tuple[Array, Array, Array, Array]:
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


def tridiagonal(a: Array, rhs: Array, block: int = 64) -> tuple[Array, Array, Array]:
    """Reduce symmetric A = Q T Q': the diagonal of T [d], the one below it [d-1] and Q' rhs.

    Costs about a third of an eigendecomposition. Q is never formed: its reflectors are applied
    in blocks, I - V S V' with S triangular.
    """
    d = a.shape[0]
    if d == 1:
        return a[0], jnp.zeros(0, a.dtype), rhs
    packed, diagonal, below, scales = lax.linalg.tridiagonal(a)
    block = min(block, d)
    count = -(-(d - 1) // block)
    packed = jnp.pad(packed, ((0, 0), (0, max(0, count * block - d))))
    scales = jnp.pad(scales, (0, count * block - (d - 1)))
    height = jnp.arange(d)[:, None]

    def apply(index: Array, z: Array) -> Array:
        start = index * block
        column = start + jnp.arange(block)[None]
        v = lax.dynamic_slice(packed, (0, start), (d, block))
        v = jnp.where(height == column + 1, 1, jnp.where(height > column + 1, v, 0))
        tau = lax.dynamic_slice(scales, (start,), (block,))
        mixed = jnp.tril(matmul(v.T, v), -1) * tau[None]
        mixed += jnp.eye(block, dtype=a.dtype)
        along = solve_triangular(mixed, matmul(v.T, z), lower=True, unit_diagonal=True)
        return z - matmul(v, tau[:, None] * along)

    return diagonal, below, lax.fori_loop(0, count, apply, rhs)


def count_clear(diagonal: Array, below: Array, size: ArrayLike) -> Array:
    """As many as stand clear of the rounding error in a tridiagonal matrix: signs of pivots."""
    beside = jnp.concatenate([jnp.zeros(1, below.dtype), jnp.abs(below), jnp.zeros(1, below.dtype)])
    largest = (jnp.abs(diagonal) + beside[1:] + beside[:-1]).max()  # Gershgorin
    level = BLUR * size * jnp.finfo(diagonal.dtype).eps * largest
    smallest = jnp.finfo(diagonal.dtype).eps * level

    def eliminate(row: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        pivot, clear = carry
        pivot = diagonal[row] - level - beside[row] ** 2 / pivot
        pivot = jnp.where(jnp.abs(pivot) > smallest, pivot, -smallest)
        return jnp.where(pivot == 0, -1, pivot), clear + (pivot > 0)

    start = jnp.ones((), diagonal.dtype), jnp.zeros((), int)
    return lax.fori_loop(0, len(diagonal), eliminate, start)[1]
