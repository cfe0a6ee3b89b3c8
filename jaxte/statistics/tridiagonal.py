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
from jax.typing import ArrayLike

from jaxte.statistics.linalg import gram, matmul, trace
from jaxte.statistics.measure import centred
from jaxte.statistics.normal import Normal
from jaxte.statistics.profile import Forms
from jaxte.statistics.reduction import Reduction, reduce, tridiagonal_values
from jaxte.statistics.rows import Rows, centre
from jaxte.statistics.spectrum import BLUR, cut, gram_terms, hides

__all__ = [
    "Reduced",
    "Tridiagonal",
    "padded",
    "reduce_normal",
    "reduce_rows",
    "reduced_products",
    "reduced_scatter",
    "scaled_rows",
    "sweep",
    "weighted_targets",
]

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


class Reduced(NamedTuple):
    """Tridiagonal form of the total scatter A, or of the products of the centred rows, over tr G.

    Attributes:
        form: the reduction, of which the first axis is the direction of the mean m; of products of
            the rows that of Xc m.
        energy: tr G.
        length: squared length of the mean over tr G, for rows; None for a scatter.
        terms: how many roundings of its largest eigenvalue A is off by.
        blurred: 1 where the rows might tell more than their products do.
    """

    form: Reduction
    energy: Array
    length: Array | None
    terms: Array
    blurred: Array

    def eigenvalues(self, n: Array, *, centred: bool) -> Array:
        """Of A, or not ``centred`` of A + n m m' [r], largest first; 0 where rounding error."""
        form = self.form
        diagonal, below = form.diagonal, form.below
        if not centred and self.length is None:
            diagonal = diagonal.at[0].add(n * form.along**2)
        elif self.length is not None and not centred:
            # as of one more row, sqrt(n) m
            diagonal = jnp.append((n * self.length)[None], diagonal)
            below = jnp.append((jnp.sqrt(n) * form.along)[None], below)
        values = tridiagonal_values(diagonal, below)[: len(form.diagonal)]
        return cut(values, self.terms) * self.energy


def reduced_scatter(normal: Normal) -> Reduced:
    """Of the d x d scatter of the features, for n >= d."""
    energy = trace(normal.scatter) + normal.n * (normal.mean @ normal.mean)
    scale = jnp.where(energy > 0, energy, 1)
    form = reduce(normal.scatter / scale, normal.mean / jnp.sqrt(scale))
    terms = gram_terms(normal.samples, len(normal.mean))
    clear = count_clear(form.diagonal, form.below, terms)
    blurred = hides(clear, normal.samples, jnp.diagonal(normal.scatter))
    return Reduced(form, scale, None, terms, blurred)


def reduced_products(row: Rows) -> Reduced:
    """Of the n x n products of the rows with each other, for n < d."""
    x, mean, scale, squares = scaled_rows(row)
    form = reduce(gram(x.T), matmul(x, mean))
    terms = jnp.asarray(x.shape[1], x.dtype)
    clear = count_clear(form.diagonal, form.below, terms)
    blurred = hides(clear, (row.weights > 0).sum(), squares)
    return Reduced(form, scale, mean @ mean, terms, blurred)


def scaled_rows(row: Rows) -> tuple[Array, Array, Array, Array]:
    """Centred and weighted rows, and their mean, over the root of tr G; tr G; squares of columns.

    The squares are those of the rows as they were.
    """
    x, mean = centred(row)
    x = x * jnp.sqrt(row.weights)[:, None]
    squares = jnp.sum(x**2, axis=0)
    energy = squares.sum() + row.total * (mean @ mean)
    scale = jnp.where(energy > 0, energy, 1)
    return x / jnp.sqrt(scale), mean / jnp.sqrt(scale), scale, squares


def weighted_targets(row: Rows, targets: Array) -> tuple[Array, Array, Array]:
    """Centred targets times the root of the weights, their squared lengths, and their mean."""
    y, y_mean = centre(targets, row)
    y = y * jnp.sqrt(row.weights)[:, None]
    return y, jnp.sum(y**2, axis=0), y_mean


def reduce_normal(normal: Normal, reduced: Reduced | None = None) -> Tridiagonal:
    """The normal equations in these coordinates."""
    own = reduced_scatter(normal) if reduced is None else reduced
    targets = own.form.turned(normal.cross / jnp.sqrt(own.energy))
    return _assembled(own, targets, normal.square, normal.y_mean, normal.n)


def reduce_rows(row: Rows, targets: Array, reduced: Reduced | None = None) -> Tridiagonal:
    """The rows in these coordinates."""
    own = reduced_products(row) if reduced is None else reduced
    y, square, y_mean = weighted_targets(row, targets)
    return _assembled(own, own.form.turned(y), square, y_mean, row.total)


def _assembled(own: Reduced, targets: Array, square: Array, y_mean: Array, n: Array) -> Tridiagonal:
    form = own.form
    mean = jnp.zeros_like(form.diagonal).at[0].set(form.along)
    return Tridiagonal(
        form.diagonal,
        form.below,
        targets,
        mean,
        square,
        y_mean,
        n,
        own.length,
        own.blurred,
        len(form.diagonal),
    )


def padded(p: Tridiagonal) -> Tridiagonal:
    """The same with more entries, which are 0."""
    size = max(_PADDED, 1 << (len(p.diagonal) - 1).bit_length())

    def long(part: Array) -> Array:
        return jnp.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))

    parts = {name: long(getattr(p, name)) for name in ("diagonal", "below", "targets", "mean")}
    return p._replace(size=jnp.asarray(p.size), **parts)


def sweep(p: Tridiagonal, t: Array) -> Forms:
    """The forms of the evidence at t, [k] or [j, 1]."""
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
    return Forms(carry[0], carry[4], carry[5], carry[6])


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
