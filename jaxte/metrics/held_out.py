"""Scores measured on other rows than they were fitted to: k folds, each left out once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.intake import checks
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.folds import check_folds, fold_numbers
from jaxte.statistics.linalg import gram
from jaxte.statistics.measure import divisors
from jaxte.statistics.rows import class_sums

__all__ = ["check_number", "held_out", "with_rows"]


def check_number(folds: Any) -> None:
    """Raise `InputError` unless folds are None, or a whole number from 2 on."""
    if folds is not None:
        checks.check_whole("folds", folds)
        check_folds(folds)


def with_rows(needs: frozenset[str], folds: int | None) -> frozenset[str]:
    """What a metric reads: in folds all rows, at once."""
    return needs if folds is None else needs | {"measured", "all_rows"}


def held_out(
    statistics: Statistics, folds: int, judge: Callable[[Statistics, Batch], Any]
) -> tuple[Any, Array]:
    """Sums of ``judge(training, left_out)`` over the folds, and the weight of the rows judged.

    ``training`` are the statistics of the other folds; ``left_out`` are all rows, from the class
    means of those, with weight 0 where they are not to be judged: rows of the other folds, and
    those of a class that no other fold has.
    """
    rows, classes = statistics.rows, statistics.num_classes is not None
    labels = statistics.labels if classes else jnp.zeros(len(rows.weights), jnp.int32)
    numbers = lax.stop_gradient(fold_numbers(labels, rows.weights, folds))
    # in float32 a row far from all others would leave no digits of the difference
    subtract = statistics.by_columns and rows.weights.dtype == jnp.float64
    if subtract:  # what all folds share is made before the loop over them
        _ = statistics.measured, statistics.scatter

    def one(fold: Array) -> tuple[Any, Array]:
        weights = jnp.where(numbers == fold, 0, rows.weights)
        trained = rows._replace(weights=weights, total=weights.sum(), unweighted=False)
        shared: dict[str, Any] = {"rows": trained}
        if subtract:
            shared["scatter"] = _scatter_without(statistics, numbers, fold, labels, folds)
        training = Statistics(
            statistics.sample,
            num_classes=statistics.num_classes,
            route=statistics.route,
            **shared,
        )
        known = jnp.take(training.counts, labels, mode="clip") > 0
        left = jnp.where((numbers == fold) & known, rows.weights, 0)
        return judge(training, training.batch()._replace(weights=left)), left.sum()

    sums, weight = lax.map(one, jnp.arange(folds, dtype=numbers.dtype))
    return jax.tree.map(lambda part: part.sum(axis=0), sums), weight.sum()


def _scatter_without(
    statistics: Statistics, numbers: Array, fold: Array, labels: Array, folds: int
) -> Array:
    """Within-class scatter of the other folds: that of all minus that of the fold."""
    count = len(numbers)
    size = -(-count // folds)  # folds differ by one row at most
    start = jnp.sum(numbers < fold)
    order = jnp.argsort(numbers, stable=True)
    index = lax.dynamic_slice(order, (jnp.minimum(start, count - size),), (size,))
    own = jnp.where(numbers[index] == fold, statistics.rows.weights[index], 0)
    residuals, labels = statistics.residuals[index], labels[index]
    number = len(statistics.counts)
    left = statistics.counts - class_sums(own, labels, number)
    moved = class_sums(own[:, None] * residuals, labels, number) / divisors(left)[:, None]
    return statistics.scatter - gram(residuals, own) - gram(moved, jnp.maximum(left, 0))
