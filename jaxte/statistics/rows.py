"""Rows as metrics see them inside jit: promoted, masked, and sorted by class."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

HIGHEST = jax.lax.Precision.HIGHEST  # a float32 product on a GPU is TF32 unless asked otherwise

_RUN = 16  # columns


class Rows(NamedTuple):
    """Promoted features [n, d], weights [n], their sum and the true width, all of one dtype.

    ``finite``: whether every row that counts is finite, without which there is no score.
    ``unweighted``: static: no weights were given, all are 1.
    """

    features: Array
    weights: Array
    total: Array
    width: Array
    finite: Array | bool = True
    unweighted: bool = False


class Classes(NamedTuple):
    """Labels [n], also one-hot [n, C], weighted counts [C], which occur [C] and how many do.

    ``valid`` is False where a label lies outside 0..C-1, fewer than two classes occur, or a
    feature is not finite.
    """

    labels: Array
    one_hot: Array
    counts: Array
    present: Array
    number: Array
    valid: Array


def promote(features: ArrayLike) -> Array:
    """Features as a floating array; half precisions and integers become the default float."""
    array = jnp.asarray(features)
    if array.dtype in (jnp.float32, jnp.float64):
        return array
    return array.astype(jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else float)


def as_rows(features: ArrayLike, weights: ArrayLike | None, num_features: ArrayLike | None) -> Rows:
    """Promote features and weights, and blank what padding rows may hold.

    Rows of weight 0 keep sane values, because the derivative with respect to their weight needs
    them; entries that could overflow later (or are not finite) count as 0.
    """
    x = promote(features)
    n, d = x.shape
    width = jnp.asarray(d if num_features is None else num_features).astype(x.dtype)
    if weights is None:
        w = jnp.ones(n, x.dtype)
    else:
        w = jnp.asarray(weights).astype(x.dtype)
        counted = (w > 0)[:, None]
        highest = 1e3 * jnp.abs(jnp.where(counted, x, 0)).max()
        x = jnp.where(counted | (jnp.abs(x) <= highest), x, 0)
    unweighted = weights is None
    # a sum is finite where all that it adds up is, and whoever wants the mean makes it anyway
    finite = jnp.isfinite(weighted_sum(x, None if unweighted else w)).all()
    return Rows(x, w, w.sum(), width, finite, unweighted)


def weighted_sum(x: Array, weights: Array | None) -> Array:
    """Sum of rows [d]: on a CPU a pass over them, where a product would first be given a copy."""
    return (x if weights is None else weights[:, None] * x).sum(axis=0)


def centre(features: Array, row: Rows) -> tuple[Array, Array]:
    """Features minus their weighted mean, and that mean.

    Twice, because a mean far from the origin is itself rounded: the second pass takes back what
    the first left over.
    """
    mean = jnp.matmul(row.weights, features, precision=HIGHEST) / row.total
    shifted = features - mean[None]
    rest = jnp.matmul(row.weights, shifted, precision=HIGHEST) / row.total
    return shifted - rest[None], mean + rest


def as_classes(labels: ArrayLike, num_classes: int, row: Rows) -> Classes:
    """Labels and one-hot labels, and what is known of each class."""
    y = jnp.asarray(labels).astype(jnp.int32)
    one_hot = jax.nn.one_hot(y, num_classes, dtype=row.features.dtype)
    counts = jnp.matmul(row.weights, one_hot, precision=HIGHEST)
    present = counts > 0
    number = present.sum().astype(one_hot.dtype)
    valid = jnp.all((row.weights == 0) | ((y >= 0) & (y < num_classes)))
    return Classes(y, one_hot, counts, present, number, valid & (number >= 2) & row.finite)


def class_sums(values: Array, labels: Array, num_classes: int) -> Array:
    """Sum of the rows of each class, [n, ...] -> [C, ...]; rows of other labels are left out.

    A CPU adds row to row as fast as it reads them; elsewhere a product is faster, and always
    adds in the same order.
    """

    def as_product(values: Array, labels: Array) -> Array:
        one_hot = jax.nn.one_hot(labels, num_classes, dtype=values.dtype)
        return jnp.matmul(one_hot.T, values, precision=HIGHEST)

    def one_by_one(values: Array, labels: Array) -> Array:
        return jax.ops.segment_sum(values, labels, num_classes)

    return jax.lax.platform_dependent(values, labels, cpu=one_by_one, default=as_product)


def of_row(per_class: Array, group: Classes) -> Array:
    """Spread a per-class array [C, ...] to the rows [n, ...] by label."""
    return jnp.take(per_class, group.labels, axis=0, mode="clip")


def target_columns(targets: ArrayLike, row: Rows) -> Array:
    """Regression targets as columns [n, k]; what rows of weight 0 hold may not be finite."""
    y = jnp.asarray(targets).astype(row.features.dtype)
    y = y[:, None] if y.ndim == 1 else y
    return jnp.where((row.weights == 0)[:, None] & ~jnp.isfinite(y), 0, y)


def first_largest(values: Array) -> Array:
    """Column of the largest entry of each row [n, z], the first of equals; any if some are NaN.

    XLA compares one by one on a CPU: it is given the largest of every few columns.
    """
    n, z = values.shape
    if z <= 2 * _RUN:
        return jnp.argmax(values, axis=1)
    whole = z // _RUN * _RUN
    largest = values[:, :whole].reshape(n, -1, _RUN).max(axis=2)
    if whole < z:
        largest = jnp.concatenate([largest, values[:, whole:].max(axis=1, keepdims=True)], axis=1)
    start = jnp.minimum(first_largest(largest) * _RUN, z - _RUN)
    run = jnp.take_along_axis(values, start[:, None] + jnp.arange(_RUN)[None], axis=1)
    return start + jnp.argmax(run, axis=1)
