"""Pairs of rows: distances of a block of rows to all rows at a time, so that no n x n matrix is.

Squared distances come from one product of centred rows, so that a common offset costs no digits.
They are known to the rounding error of the rows' own squared lengths; below that they are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import matmul, noise, safe_root
from jaxte.statistics.rows import Rows
from jaxte.statistics.tiles import sum_over

__all__ = ["Block", "Pairs", "nearest", "reach", "unit_rows"]

T = TypeVar("T")
_ELEMENTS = 3 << 18  # of a block: what a core's caches bear


class Block(NamedTuple):
    """Some rows against all rows.

    Attributes:
        rows: [b] their numbers; filled up with rows of weight 0.
        columns: [n] numbers of the rows that they are paired with.
        weights: [b] weights of these rows.
        others: [b, n] weights of those: of its own twins a row of weight w has w - 1.
        squares: [b, n] squared distances, exactly 0 where they are only rounding error.
        rounding: [b] what a distance from these rows is known to, for rows about as long.
    """

    rows: Array
    columns: Array
    weights: Array
    others: Array
    squares: Array
    rounding: Array


class Pairs(NamedTuple):
    """All pairs of rows, filled up to whole blocks.

    Attributes:
        features: [m, d] rows, about 0.
        weights: [m], 0 for the filler.
        samples: how many rows there are without it.
    """

    features: Array
    weights: Array
    samples: int

    @classmethod
    def of(cls, features: Array, weights: Array) -> Pairs:
        """Of rows [n, d] that are centred, or otherwise about 0, and their weights [n]."""
        n = len(features)
        pairs = cls(features, weights, n)
        filler = -(-n // pairs.blocks) * pairs.blocks - n
        return cls(jnp.pad(features, ((0, filler), (0, 0))), jnp.pad(weights, (0, filler)), n)

    def filled(self, values: Array) -> Array:
        """What there is for each row [n, ...], with zeros for the filler."""
        more = len(self.weights) - self.samples
        return jnp.pad(values, ((0, more), *((0, 0),) * (values.ndim - 1)))

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.samples * self.samples // _ELEMENTS)

    @property
    def size(self) -> int:
        """How many rows a block has."""
        return len(self.weights) // self.blocks

    def block(self, start: Array, *, once: bool = False) -> Block:
        """The block that begins with this row; ``once`` meets each pair once, and weighs it 2."""
        x, w, m = self.features, self.weights, len(self.weights)
        rows = start + jnp.arange(self.size)
        columns = jnp.arange(m)
        own = lax.dynamic_slice_in_dim(x, start, self.size)
        weights = lax.dynamic_slice_in_dim(w, start, self.size)
        if once:  # half the way around the circle of all rows
            steps = jnp.arange(m // 2 + self.size)[None] - jnp.arange(self.size)[:, None]
            columns = (start + jnp.arange(m // 2 + self.size)) % m
            x, w = x[columns], w[columns]
        both = jnp.sum(own**2, axis=1)[:, None] + jnp.sum(x**2, axis=1)[None]
        squares = both - 2 * matmul(own, x.T)
        itself = steps == 0 if once else rows[:, None] == columns[None]
        squares = jnp.where((squares > noise(both)) & ~itself, squares, 0)
        others = jnp.where(itself, jnp.maximum(w - 1, 0)[None], w[None])
        if once:  # the pair across is met from both ends
            times = jnp.where(itself | (2 * steps == m), 1, 2)
            others = jnp.where((steps >= 0) & (2 * steps <= m), times * others, 0)
        return Block(rows, columns, weights, others, squares, noise(2 * jnp.sum(own**2, axis=1)))

    def map(self, function: Callable[[Block], T]) -> T:
        """What the function makes of the rows of each block [b, ...], for all rows [n, ...]."""
        # derivatives make the block again: kept, the blocks would be the n x n matrix
        made = lax.map(jax.checkpoint(lambda start: function(self.block(start))), self._starts)

        def joined(part: Array) -> Array:
            return part.reshape(-1, *part.shape[2:])[: self.samples]

        return jax.tree.map(joined, made)

    def sum(self, function: Callable[[Block], T], *, once: bool = False) -> T:
        """What the function makes of each block, added up."""
        total: T = sum_over(lambda start: function(self.block(start, once=once)), self._starts)
        return total

    @property
    def _starts(self) -> Array:
        return jnp.arange(self.blocks) * self.size


def nearest(block: Block, number: Any) -> Array:
    """The share of each row [b, n] in the so many nearest neighbours of the rows of a block.

    Rows that are equally far share the places that are left among them, so that no order of rows
    decides. Weights count: a row of weight 2 takes two places. Where there are fewer others than
    places, all of them take part. Constant but for the weights.
    """

    def slack(radius: Array) -> Array:  # a row so far away may be longer than the own one
        return lax.stop_gradient(2 * block.rounding + noise(2 * radius))

    squares = lax.stop_gradient(block.squares)
    number = jnp.minimum(jnp.asarray(number, squares.dtype), block.others.sum(axis=1))
    radius = reach(squares, block.others, number, slack)
    closer = squares < (radius - slack(radius))[:, None]
    tied = ~closer & (squares <= (radius + slack(radius))[:, None])
    certain = jnp.where(closer, block.others, 0)
    rest = jnp.where(tied, block.others, 0)
    places, total = number - certain.sum(axis=1), rest.sum(axis=1)
    return certain + rest * (places / jnp.where(total > 0, total, 1))[:, None]


def reach(
    distances: Array, others: Array, number: Any, slack: Callable[[Array], Array] = jnp.zeros_like
) -> Array:
    """How far [b] one has to go for others [b, n] of so much weight; for all, if they have less.

    ``slack``: what a distance is known to. Infinite where there are no others; a constant.
    """
    distances, others, number = lax.stop_gradient((distances, others, number))
    candidates = jnp.where(others > 0, distances, jnp.inf)

    def further(state: tuple[Array, Array]) -> tuple[Array, Array]:
        radius, _ = state
        beyond = candidates > (radius + slack(radius))[:, None]
        reached = jnp.where(beyond, 0, others).sum(axis=1) >= number
        following = jnp.where(beyond, candidates, jnp.inf).min(axis=1)
        following = jnp.where(reached | jnp.isinf(following), radius, following)
        return following, (following > radius).any()

    radius, _ = lax.while_loop(
        lambda state: state[1], further, (candidates.min(axis=1), jnp.ones((), bool))
    )
    return radius


def unit_rows(row: Rows, *, about_mean: bool, width: Array) -> Array:
    """Rows [n, d + 1] of length 1, about 0, whose squared distances are 2 (1 - cosine).

    ``about_mean``: after the mean of its own ``width`` entries is taken off each row, so that the
    cosine is the correlation. A row without a direction has cosine 0 with all others.
    """
    x, column = row.features, jnp.arange(row.features.shape[1])
    size = safe_root(jnp.sum(x**2, axis=1))
    if about_mean:
        for _ in range(2):  # a mean far from 0 is itself rounded
            x = jnp.where((column < width)[None], x - (x.sum(axis=1) / width)[:, None], 0)
    length = safe_root(jnp.sum(x**2, axis=1))
    directed = length > lax.stop_gradient(noise(size) if about_mean else 0 * size)
    units = jnp.where(directed[:, None], x / jnp.where(directed, length, 1)[:, None], 0)
    units = jnp.concatenate([units, (~directed).astype(x.dtype)[:, None]], axis=1)
    return units - (matmul(row.weights, units) / row.total)[None]
