"""Class moments of rows at hand: means, scatter and what rounding alone may have left in them.

Rows are measured from a row of their own class. Rows that are alike are then exactly alike, and
no sum over many of them leaves a difference that is none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.statistics.linalg import gram, matmul, noise, rounding_square
from jaxte.statistics.rows import Rows, centre, class_sums, target_columns, weighted_sum


class TargetMoments(NamedTuple):
    """What regression adds: k target columns, their scatter and their scatter with the features.

    Attributes:
        origin: [k] what ``mean`` is measured from.
        mean: [k] weighted mean of the targets minus ``origin``.
        scatter: [k, k] weighted sum of (y - mean of y) (y - mean of y)'.
        cross: [d, k] weighted sum of (x - mean of x) (y - mean of y).
    """

    origin: Array
    mean: Array
    scatter: Array
    cross: Array

    @property
    def square(self) -> Array:
        """Weighted sum of squared deviations from the mean [k]."""
        return jnp.diagonal(self.scatter)


class Balance(NamedTuple):
    """A second scatter in which every class weighs the same; it needs the counts beforehand.

    Attributes:
        counts: [C] the weight that each class will have in the end.
        scatter: [d, d] within-class scatter, each class divided by its count.
    """

    counts: Array
    scatter: Array


class Moments(NamedTuple):
    """Moments of n samples of d features in C classes; C = 1, all samples, for regression.

    Attributes:
        origin: [d] what ``means`` are measured from, a point inside the data.
        samples: how many samples have a positive weight.
        counts: [C] sum of the weights of each class.
        means: [C, d] weighted mean of each class minus ``origin``; 0 where a class has no sample.
        squares: [C, d] weighted sum of squared deviations from the class mean, by coordinate.
        scatter: [d, d] the same as a matrix, summed over classes: the within-class scatter.
        valid: False once a label outside 0..C-1 or a feature that is not finite has counted.
        targets: `TargetMoments` for regression, else None.
        balance: `Balance` if it was asked for, else None.
    """

    origin: Array
    samples: Array
    counts: Array
    means: Array
    squares: Array
    scatter: Array
    valid: Array
    targets: TargetMoments | None = None
    balance: Balance | None = None

    @property
    def precision(self) -> AbstractContextManager[Any]:
        """A context in which JAX computes in the precision of the state itself."""
        if checks.is_traced(self.means):
            return nullcontext()
        return jax.enable_x64(self.means.dtype == jnp.float64)

    @property
    def total(self) -> Array:
        """Sum of all weights."""
        return self.counts.sum()

    @property
    def relative_mean(self) -> Array:
        """Mean of all samples minus ``origin`` [d]."""
        return matmul(self.counts, self.means) / jnp.where(self.total > 0, self.total, 1)

    @property
    def deviations(self) -> Array:
        """Class means minus the mean of all samples [C, d]; 0 where a class has no sample."""
        present = (self.counts > 0)[:, None]
        # from one of the means, so that means which are alike deviate by exactly 0
        gaps = self.means - self.means[jnp.argmax(self.counts)][None]
        total = jnp.where(self.total > 0, self.total, 1)
        return jnp.where(present, gaps - (matmul(self.counts, gaps) / total)[None], 0)

    @property
    def total_scatter(self) -> Array:
        """Scatter about the mean of all samples [d, d]: within plus between classes."""
        return self.scatter + gram(self.deviations, self.counts)

    @property
    def class_balanced_scatter(self) -> Array | None:
        """Within-class scatter [d, d] in which every class weighs the same, if it is known."""
        traced = checks.is_traced(self.counts)
        if self.balance is not None and (traced or self._are_counts(self.balance.counts)):
            return self.balance.scatter
        if traced or not even(self.counts):
            return None
        return self.scatter / self.counts.max()

    def _are_counts(self, known: Array) -> bool:
        """Whether the classes came to weigh what was said beforehand."""
        return bool(np.allclose(np.asarray(known), np.asarray(self.counts), rtol=1e-4, atol=0))

    @property
    def rounding(self) -> Array:
        """Sum of squared deviations [d] that rounding leaves of features that do not vary."""
        return noise(jnp.sqrt(matmul(self.counts, (self.means + self.origin[None]) ** 2))) ** 2

    def between(self, within: Array) -> Array:
        """Sum of squared deviations of the class means, 0 where it is but rounding error.

        ``within``: that of the rows from their class means, by coordinate [d] or in all; a mean of
        n rows is known to sqrt(n) roundings.
        """
        square = matmul(self.counts, self.deviations**2)
        rounding = self.rounding
        if within.ndim == 0:
            square, rounding = square.sum(), rounding.sum()
        return jnp.where(square > rounding + noise(jnp.sqrt(within), self.total) ** 2, square, 0)


def even(counts: ArrayLike) -> bool:
    """Whether all classes that occur weigh the same, outside jit."""
    counts = np.asarray(counts)
    return len(np.unique(counts[counts > 0])) == 1


def divisors(counts: Array) -> Array:
    """Counts to divide by, 1 where there is nothing to divide."""
    return jnp.where(counts > 0, counts, 1)


def measure(
    row: Rows,
    labels: ArrayLike,
    num_classes: int | None,
    *,
    all_reduce: Callable[[Array], Array] = lambda part: part,
    centred: bool = False,
) -> tuple[Moments, Array]:
    """Moments of rows in memory, without a scatter, and rows minus the mean of their class [n, d].

    ``all_reduce`` adds up over the devices that share the rows; the moments are then those of all.
    """
    batch = deviate(row, labels, num_classes, all_reduce=all_reduce, centred=centred)
    means = jnp.where((batch.counts > 0)[:, None], batch.references + batch.gap, 0)
    state = Moments(
        batch.origin,
        batch.samples,
        batch.counts,
        means,
        batch.squares,
        jnp.zeros((), row.weights.dtype),
        batch.valid,
        batch.targets,
    )
    return state, batch.rows


class Deviations(NamedTuple):
    """Rows minus the mean of their class [n, d], and what that mean is.

    ``origin`` + ``references`` + ``gap`` is the mean of each class; the other fields are those
    of `Moments`.
    """

    rows: Array
    origin: Array
    references: Array
    gap: Array
    samples: Array
    counts: Array
    squares: Array
    valid: Array
    targets: TargetMoments | None


def deviate(
    row: Rows,
    labels: ArrayLike,
    num_classes: int | None,
    *,
    all_reduce: Callable[[Array], Array] = lambda part: part,
    near: Moments | None = None,
    centred: bool = False,
) -> Deviations:
    """Measure rows, where known from the class means ``near`` them."""
    w, n = row.weights, all_reduce(row.total)
    x = row.features
    origin = jnp.zeros(x.shape[1], w.dtype)
    if not centred:
        total = weighted_sum(x, None if row.unweighted else w)
        origin = _origin(all_reduce(total) / divisors(n))
        if near is not None:
            origin = jnp.where(near.total > 0, near.origin, origin)
    samples = all_reduce((w > 0).sum().astype(w.dtype))
    valid = all_reduce(jnp.asarray(row.finite, w.dtype)) == all_reduce(jnp.ones((), w.dtype))

    def add_up(values: Array) -> Array:
        weighted = values if row.unweighted else w[:, None] * values
        if num_classes is None:
            return all_reduce(weighted_sum(weighted, None))[None]
        return all_reduce(class_sums(weighted, y, num_classes))

    if num_classes is None:
        y, counts = jnp.zeros(len(w), jnp.int32), n[None]
    else:
        y = jnp.asarray(labels).astype(jnp.int32)
        outside = jnp.sum((w > 0) & ((y < 0) | (y >= num_classes))).astype(w.dtype)
        valid &= all_reduce(outside) == 0
        counts = add_up(jnp.ones((len(y), 1), w.dtype))[:, 0]
    rows = class_references(x, y, w, num_classes or 1, all_reduce)
    if near is not None:
        rows = jnp.where((near.counts > 0)[:, None], near.means + origin[None], rows)
    x = x - jnp.take(rows, y, axis=0, mode="clip")
    gap = add_up(x) / divisors(counts)[:, None]
    x = x - jnp.take(gap, y, axis=0, mode="clip")
    references = rows - origin[None]
    if near is not None:  # far from 0 the sum of mean and origin was rounded
        known = ((near.counts > 0) & (counts > 0))[:, None]
        gap = jnp.where(known, gap + (references - near.means), gap)
        references = jnp.where((near.counts > 0)[:, None], near.means, references)
    targets = None
    if num_classes is None:
        targets = _measure_targets(row, x, labels, n, all_reduce)
    return Deviations(x, origin, references, gap, samples, counts, add_up(x**2), valid, targets)


def class_references(
    x: Array,
    labels: Array,
    weights: Array,
    num_classes: int,
    all_reduce: Callable[[Array], Array] = lambda part: part,
) -> Array:
    """A row of each class [C, d], to measure the others from; on many devices near such a row."""
    count = len(labels)
    order = jnp.where(weights > 0, jnp.arange(count), count)
    first = jax.ops.segment_min(order, labels, num_classes)
    here = first < count
    chosen = jnp.where(here[:, None], jnp.take(x, first, axis=0, mode="clip"), 0)
    number = all_reduce(here.astype(x.dtype))
    return lax.stop_gradient(all_reduce(chosen) / divisors(number)[:, None])


def centred(row: Rows) -> tuple[Array, Array]:
    """Rows minus their mean, and that mean; columns that vary only by rounding become 0."""
    x, mean = centre(row.features, row)
    square = weighted_sum(x**2, row.weights)
    constant = square <= rounding_square(mean, row.total)
    return x - lax.stop_gradient(jnp.where(constant[None], x, 0)), mean


def _origin(near: Array) -> Array:
    """A point to measure from: the result does not depend on it, nor does its derivative.

    One bit is cut off so that all see the same number: fused into the subtraction, a quotient
    would be taken off before it is rounded, and far from 0 differ from the one that is kept.
    TPUs do not know the operation in float64, nor do they fuse it.
    """
    info = jnp.finfo(near.dtype)

    def cut(near: Array) -> Array:
        return lax.reduce_precision(near, info.nexp, info.nmant - 1)

    return lax.platform_dependent(
        lax.stop_gradient(near), tpu=lax.optimization_barrier, default=cut
    )


def _measure_targets(
    row: Rows, x: Array, targets: ArrayLike, n: Array, all_reduce: Callable[[Array], Array]
) -> TargetMoments:
    """Moments of float targets beside features that are already centred."""
    y, w = target_columns(targets, row), row.weights
    origin = _origin(all_reduce(matmul(w, y)) / divisors(n))
    y = y - origin[None]
    mean = all_reduce(matmul(w, y)) / divisors(n)
    y = y - mean[None]
    cross = all_reduce(matmul(x.T, w[:, None] * y))
    return TargetMoments(origin, mean, all_reduce(gram(y, w)), cross)
