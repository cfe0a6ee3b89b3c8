"""Maps and sums over many things, as many at a time as memory should hold, or over few columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

_NUMBERS, LARGE_TILE = 1 << 23, 1 << 28  # that a tile holds, and one of factors on an accelerator
_NARROWEST = 64
_BLOCK = 1 << 18  # numbers of a block of rows, which stays in a core's caches


def map_tiles(function: Callable[..., Any], xs: Any, size: int, *, in_turn: bool = True) -> Any:
    """As ``jax.lax.map``, of as many at a time as hold some ten million numbers, or one by one.

    An accelerator takes as many at once as hold 270 million: ten take as long as one.

    Args:
        function: of one of them.
        xs: arrays, of which the first axis counts them.
        size: how many numbers the work on one of them takes.
        in_turn: whether CPUs take one by one, as two batches of LAPACK's calls at the same time can
            wait for each other's threads for ever, and what fits a core's caches gains nothing.
    """
    if not in_turn:
        return _tiles(function, size, _NUMBERS, xs)
    tiles = partial(_tiles, function, size, LARGE_TILE)
    return lax.platform_dependent(xs, cpu=partial(lax.map, function), default=tiles)


def _tiles(function: Callable[..., Any], size: int, most: int, xs: Any) -> Any:
    count = len(jax.tree.leaves(xs)[0])
    rounds = -(-count // max(1, min(count, most // max(size, 1))))
    if rounds == 1:
        return jax.vmap(function)(xs)
    batch = -(-count // rounds)
    # some are done twice, or what is left in the end would be a program of its own
    around = jnp.arange(rounds * batch) % count
    made = lax.map(
        function,
        jax.tree.map(lambda part: part[around], xs),
        batch_size=None if batch == 1 else batch,
    )
    return jax.tree.map(lambda part: part[:count], made)


def sum_over(function: Callable[[Any], Any], xs: Any) -> Any:
    """What the function makes of each of the arrays' entries, added up one by one.

    Derivatives make it again: kept, the parts would take the memory of all at once.
    """
    part = jax.checkpoint(function)
    like = jax.eval_shape(part, jax.tree.map(lambda x: x[0], xs))
    zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), like)
    return lax.scan(lambda total, x: (jax.tree.map(jnp.add, total, part(x)), None), zeros, xs)[0]


def sum_over_rows(function: Callable[..., Any], rows: Any, size: int) -> Any:
    """What a function makes of some rows, added up over blocks of them.

    Args:
        function: (rows, which of them count [b]) -> sums. The last block begins with rows of the
            block before, which do not count again.
        rows: arrays [n, ...].
        size: how many numbers the work on one row takes.
    """
    n = len(jax.tree.leaves(rows)[0])
    length = -(-n // -(-n * size // _BLOCK))
    if length == n:
        return function(rows, jnp.ones(n, bool))

    def of_block(begin: Array) -> Any:
        start = jnp.minimum(begin, n - length)
        own = jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part, start, length), rows)
        return function(own, start + jnp.arange(length) >= begin)

    return sum_over(of_block, jnp.arange(0, n, length))


def at_width(function: Callable[..., Any], width: Array, x: Array, *rest: Any) -> Any:
    """``function(x, *rest)`` for rows x [n, d] whose columns from ``width`` on are zero.

    It is given only the first 64, 128, 256, ... columns, as many as are not zero; what it returns
    has one shape whatever they are. Without a derivative, unless d is at most 64.
    """
    widths = [_NARROWEST]
    while widths[-1] < x.shape[1]:
        widths.append(2 * widths[-1])
    widths[-1] = x.shape[1]
    if len(widths) == 1:
        return function(x, *rest)

    @sequential_vmap  # or all widths would be computed
    def chosen(index: Array, x: Array, rest: Any) -> Any:
        def of(columns: int) -> Callable[[], Any]:
            return lambda: function(x[:, :columns], *rest)

        return lax.switch(index, [of(columns) for columns in widths])

    return chosen(jnp.searchsorted(jnp.asarray(widths, width.dtype), width), x, rest)
