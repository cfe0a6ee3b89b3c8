"""Folds of cross-validation, stratified by class, as numbers of rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def fold_numbers(
    labels: ArrayLike, weights: ArrayLike | None, k: int, key: Array | None = None
) -> Array:
    """Fold 0..k-1 of each row [n], -1 for rows of weight 0.

    The rows of each class are dealt to the folds in turn, in their order or, with a ``key``, in a
    random one; each class goes on where the last one stopped, in the order in which they first
    occur, so that folds differ by one row at most. Rows of weight 0 and the numbers of the
    classes decide nothing.
    """
    labels = jnp.asarray(labels)
    n = len(labels)
    counted = jnp.ones(n, bool) if weights is None else jnp.asarray(weights) > 0
    place = jnp.cumsum(counted) - 1
    order = place
    if key is not None:
        order = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i)))(place)
    # a class is known by its first row; argsort is stable, so one key after the other sorts by both
    by_label = jnp.lexsort((place, labels, ~counted))
    starts = jnp.diff(labels[by_label], prepend=labels[by_label[:1]] - 1) != 0
    leader = by_label[jax.lax.cummax(jnp.where(starts, jnp.arange(n), 0))]
    first = jnp.zeros(n, place.dtype).at[by_label].set(place[leader])
    dealt = jnp.lexsort((order, first, ~counted))
    turn = jnp.zeros(n, place.dtype).at[dealt].set(jnp.arange(n, dtype=place.dtype))
    return jnp.where(counted, turn % k, -1)
