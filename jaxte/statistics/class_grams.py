"""Products of the rows of each class, without a matrix of all rows for each."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import matmul

__all__ = ["class_grams"]

_TILE = 64  # rows


def class_grams(rows: Array, weights: Array, labels: Array, num_classes: int) -> Array:
    """X_c' diag(w) X_c of the rows of each class [C, q, q]; other labels are left out.

    Rows are sorted by class and taken in tiles of one class each: n q^2 multiplications.
    """
    n, q = rows.shape
    order = jnp.argsort(labels, stable=True)
    classes = jnp.arange(num_classes, dtype=labels.dtype)
    starts = jnp.searchsorted(labels[order], classes)
    stops = jnp.searchsorted(labels[order], classes, side="right")
    tiles = -(-(stops - starts) // _TILE)
    last = jnp.cumsum(tiles)

    def add(grams: Array, tile: Array) -> tuple[Array, None]:
        own = jnp.minimum(jnp.searchsorted(last, tile, side="right"), num_classes - 1)
        first = starts[own] + (tile - last[own] + tiles[own]) * _TILE
        places = first + jnp.arange(_TILE)
        index = order[jnp.clip(places, 0, n - 1)]
        inside = (places < stops[own]) & (tile < last[-1])
        x = rows[index]
        own_weights = jnp.where(inside, weights[index], 0)
        return grams.at[own].add(matmul(x.T, own_weights[:, None] * x)), None

    number = n // _TILE + num_classes
    start = jnp.zeros((num_classes, q, q), rows.dtype)
    return lax.scan(add, start, jnp.arange(number))[0]
