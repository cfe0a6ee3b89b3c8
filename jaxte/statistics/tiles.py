"""Maps over many things, as many at a time as memory should hold, and over no more columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

_NUMBERS = 1 << 23  # that a tile holds
_NARROWEST = 64


def map_tiles(function: Callable[..., Any], xs: Any, size: int) -> Any:
    """As ``jax.lax.map``, of as many at a time as hold some ten million numbers.

    ``size``: how many numbers the work on one of them takes.
    """
    count = len(jax.tree.leaves(xs)[0])
    batch = max(1, min(count, _NUMBERS // max(size, 1)))
    if batch == count:
        return jax.vmap(function)(xs)
    return lax.map(function, xs, batch_size=None if batch == 1 else batch)


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
