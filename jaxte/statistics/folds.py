"""Folds of cross-validation, stratified by class, as numbers of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.statistics.measure import divisors
from jaxte.statistics.tiles import map_tiles

_MOST = 10  # folds, where each row's is given: under jit their number cannot be read from them


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
    if k > n:
        raise InputError(f"folds is {k}, but there are {n} rows: choose fewer folds than rows")
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


def check_folds(folds: Any) -> None:
    """Raise `InputError` unless these are a number of folds, or the fold of each row."""
    listed = isinstance(folds, list | tuple)
    if not listed and np.ndim(folds) == 0:
        checks.check_whole("folds", folds)
        if int(folds) < 2:
            raise InputError("folds is 1: at least two are needed, to fit to one and score another")
        return
    wrong = InputError(
        f"folds must be a number from 2 on, or one fold number 0..{_MOST - 1} for each row, of at "
        f"least two folds: got {checks.short(folds)}"
    )
    if listed or jnp.ndim(folds) != 1 or not jnp.issubdtype(jnp.result_type(folds), jnp.integer):
        raise wrong
    if not checks.is_traced(folds):
        numbers = np.unique(np.asarray(folds))
        if len(numbers) < 2 or numbers[0] < 0 or numbers[-1] >= _MOST:
            raise wrong


def check_key(key: Any) -> None:
    """Raise `InputError` unless this is None, a seed or a key of ``jax.random``."""
    seed = isinstance(key, int | np.integer) and not isinstance(key, bool)
    is_key = isinstance(key, Array) and (
        (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0)
        or (key.dtype == jnp.uint32 and key.shape == (2,))
    )
    if not (key is None or is_key or (seed and -(1 << 31) <= key < 1 << 31)):
        raise InputError(
            f"key is {checks.short(key)}: give one key of jax.random, or a whole number below 2^31"
        )


def key_of(key: int | Array) -> Array:
    """A key of ``jax.random`` from what a user may give as one, the key itself or a seed."""
    return jax.random.key(key) if isinstance(key, int) else key


def cross_fit(
    function: Callable[[Array], Any],
    folds: int | ArrayLike,
    labels: Array,
    weights: Array,
    *,
    size: int,
    key: int | Array | None = None,
) -> tuple[Any, Array]:
    """What ``function(weights of the rows to fit to)`` says of the rows that it was not fitted to.

    Args:
        function: weights [n] -> [n, ...] of all rows, or a tuple of such.
        folds: how many, or the number of each row [n], 0..9.
        labels: [n], by which folds are stratified.
        weights: [n].
        size: how many numbers one call of the function takes; few are made at once if many.
        key: for random folds.

    Returns:
        The rows [n, ...], each from the call that left out its fold, and their shares [n] in a
        mean over folds of the means of their rows.
    """
    if isinstance(folds, int):
        drawn = None if key is None else key_of(key)
        numbers, k = fold_numbers(labels, weights, folds, drawn), folds
    else:
        numbers, k = jnp.asarray(folds, jnp.int32), _MOST
        if numbers.shape != labels.shape:
            raise InputError(
                f"folds have shape {numbers.shape}, but features have {len(labels)} rows"
            )
    parts = map_tiles(
        lambda fold: function(jnp.where(numbers == fold, 0, weights)), jnp.arange(k), size
    )
    rows = jnp.arange(len(numbers))
    sums = jax.ops.segment_sum(weights, numbers, k)
    shares = weights / (divisors(sums)[numbers] * jnp.maximum((sums > 0).sum(), 1))
    return jax.tree.map(lambda part: part[numbers, rows], parts), shares
