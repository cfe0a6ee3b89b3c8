"""One-pass, mergeable class moments: what every metric that needs no second look is made from.

A state is brought up to date batch by batch, and states of different batches, devices or machines
merge into the state of the whole. Everything is kept relative to an origin inside the data and
merged by the pairwise update of Chan et al., so a common offset of the features costs no digits.
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

from jaxte import _inputs
from jaxte._inputs import Rows
from jaxte.errors import InputError
from jaxte.intake import as_labels
from jaxte.linalg import gram, matmul

__all__ = ["Balance", "Moments", "TargetMoments", "init", "merge", "update"]


class TargetMoments(NamedTuple):
    """What regression adds: k target columns, their scatter and their scatter with the features.

    Attributes:
        origin: [k] what ``mean`` is measured from.
        mean: [k] weighted mean of the targets minus ``origin``.
        square: [k] weighted sum of squared deviations from the mean.
        cross: [d, k] weighted sum of (x - mean of x) (y - mean of y).
    """

    origin: Array
    mean: Array
    square: Array
    cross: Array


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
        if _inputs.is_traced(self.means):
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
        return jnp.where((self.counts > 0)[:, None], self.means - self.relative_mean[None], 0)

    @property
    def total_scatter(self) -> Array:
        """Scatter about the mean of all samples [d, d]: within plus between classes."""
        return self.scatter + gram(self.deviations, self.counts)


def init(
    num_features: int,
    *,
    num_classes: int | None = None,
    num_targets: int | None = None,
    class_counts: ArrayLike | None = None,
    dtype: jax.typing.DTypeLike | None = None,
) -> Moments:
    r"""The moments of no samples at all, for classification or for regression.

    .. math:: n_c = 0, \quad m_c = 0, \quad S_W = 0

    Args:
        num_features: d.
        num_classes: C, for integer labels.
        num_targets: k, for float targets [n, k]; give this or ``num_classes``.
        class_counts: [C] weight that each class will have in the end, known from the labels
            alone; it adds the class-balanced scatter, for `face` in one pass.
        dtype: float64 under ``jax.enable_x64``, else float32, unless given.

    Returns:
        `Moments`, to be handed to `update` and `merge`.

    Raises:
        InputError: unless exactly one of ``num_classes`` and ``num_targets`` is given.

    Source: Chan, Golub, LeVeque, The American Statistician 37(3), 1983.

    Example:
        >>> import jaxte
        >>> jaxte.moments.init(8, num_classes=3).means.shape
        (3, 8)
    """
    if (num_classes is None) == (num_targets is None):
        raise InputError(
            "give num_classes, for integer labels, or num_targets, for float targets [n, k]"
        )
    sizes = {"num_features": num_features, "num_classes": num_classes, "num_targets": num_targets}
    for name, value in sizes.items():
        if value is not None and int(value) < 1:
            raise InputError(f"{name} is {value}: it must be a positive integer")
    dtype = jnp.zeros((), dtype).dtype
    d, c = int(num_features), int(num_classes or 1)
    zero, square = jnp.zeros((), dtype), jnp.zeros((d, d), dtype)
    wide, narrow = jnp.zeros((c, d), dtype), jnp.zeros(num_targets or 0, dtype)
    balance = None
    if class_counts is not None:
        if num_classes is None or np.shape(class_counts) != (c,):
            raise InputError(f"class_counts need one number for each of the {c} classes")
        balance = Balance(jnp.asarray(class_counts, dtype), square)
    targets = None
    if num_targets is not None:
        targets = TargetMoments(narrow, narrow, narrow, jnp.zeros((d, num_targets), dtype))
    origin, counts, valid = jnp.zeros(d, dtype), jnp.zeros(c, dtype), jnp.ones((), bool)
    return Moments(origin, zero, counts, wide, wide, square, valid, targets, balance)


def update(
    state: Moments, features: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Moments:
    r"""The moments after one more batch of samples.

    .. math:: S \leftarrow S + \sum_i w_i (x_i - \bar x)(x_i - \bar x)^\top
        + \tfrac{n\,n'}{n + n'} (m - \bar x)(m - \bar x)^\top

    per class, with :math:`\bar x` the mean of the batch and :math:`n'` its weight.

    Args:
        state: from `init`, `update` or `merge`.
        features: [b, d].
        labels: [b] integer classes, or float targets [b] or [b, k], as the state was made for.
        weights: [b] sample weights >= 0; 0 = absent row, 2 = row written twice.

    Returns:
        `Moments`.

    Raises:
        InputError: outside jit, if the batch does not fit the state or is not finite.

    Source: as `init`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.init(8, num_classes=3)
        >>> for batch in range(3):
        ...     rows = slice(30 * batch, 30 * batch + 30)
        ...     state = jaxte.moments.update(state, x[rows], y[rows])
        >>> state.counts.tolist()
        [30.0, 30.0, 30.0]
    """
    features, weights = _inputs.check_features(features, weights)
    n, d, c = np.shape(features)[0], state.means.shape[1], state.counts.shape[0]
    if jnp.shape(features)[1] != d:
        raise InputError(f"features have {jnp.shape(features)[1]} columns, but the state has {d}")
    if not _inputs.is_traced(labels):
        labels = _numbered(labels, c if state.targets is None else None, weights)
    if _inputs.is_classification(labels) != (state.targets is None):
        wanted = "integer labels" if state.targets is None else "float targets"
        raise InputError(f"the state was made for {wanted}: give those, or make another state")
    wanted_shape = (n,) if state.targets is None else (n, state.targets.mean.shape[0])
    if jnp.size(labels) != np.prod(wanted_shape) or jnp.shape(labels)[0] != n:
        raise InputError(
            f"labels have shape {jnp.shape(labels)}, but for {n} rows the state has {wanted_shape}"
        )
    return _update(state, features, labels, weights)


def _numbered(labels: Any, num_classes: int | None, weights: Any) -> np.ndarray:
    """Labels of a batch, whose classes are numbers already: another batch may hold others."""
    known = None if weights is None or _inputs.is_traced(weights) else np.asarray(weights)
    clean = as_labels(labels, num_classes=num_classes, weights=known, keep=True, whole=False)
    if num_classes is not None and clean.names is not None:
        raise InputError(
            "labels are no numbers, and moments know classes by number only: number those of all "
            "batches alike, as np.unique(labels, return_inverse=True) does"
        )
    return clean.values


@jax.jit
def _update(
    state: Moments, features: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> Moments:
    dtype = state.means.dtype
    row = _inputs.rows(jnp.asarray(features).astype(dtype), weights, None)
    return add(state, row, labels)


def add(state: Moments, row: Rows, labels: ArrayLike) -> Moments:
    """As `update`, for rows that have been promoted and masked, inside jit."""
    classes = None if state.targets is not None else state.counts.shape[0]
    batch, x = measure(row, labels, classes, scattered=False)
    joined, gap, share = _join(state, batch)
    # the class means moved: as many rows more in the same product
    scale = jnp.ones(len(x), x.dtype) if row.uniform else row.weights
    rows, scale = jnp.concatenate([x, gap]), jnp.concatenate([scale, share])
    joined = joined._replace(scatter=state.scatter + gram(rows, scale))
    if state.balance is None:
        return joined
    y = jnp.asarray(labels).astype(jnp.int32)
    owner = jnp.concatenate([y, jnp.arange(len(gap), dtype=y.dtype)])
    known, scatter = state.balance
    second = gram(rows, scale / jnp.take(_divisors(known), owner, mode="clip"))
    return joined._replace(balance=Balance(known, scatter + second))


@jax.jit
def merge(a: Moments, b: Moments) -> Moments:
    r"""The moments of the samples behind ``a`` and those behind ``b``, in any order and split.

    .. math:: S = S_a + S_b + \tfrac{n_a n_b}{n_a + n_b} (m_a - m_b)(m_a - m_b)^\top

    Args:
        a: `Moments`.
        b: `Moments` of other samples, of the same d and C.

    Returns:
        `Moments`.

    Raises:
        InputError: if the two do not belong together.

    Source: as `init`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> empty = jaxte.moments.init(8, num_classes=3)
        >>> parts = [jaxte.moments.update(empty, x[i::2], y[i::2]) for i in range(2)]
        >>> float(jaxte.moments.merge(*parts).total)
        90.0
    """
    shapes = [jax.tree.map(jnp.shape, state) for state in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"moments of {a.means.shape[1]} features in {a.counts.shape[0]} classes do not merge "
            f"with {b.means.shape[1]} in {b.counts.shape[0]}, nor classification with regression"
        )
    joined, gap, share = _join(a, b)
    joined = joined._replace(scatter=a.scatter + b.scatter + gram(gap, share))
    if a.balance is None or b.balance is None:
        return joined
    second = gram(gap, share / _divisors(a.balance.counts))
    second += a.balance.scatter + b.balance.scatter
    return joined._replace(balance=Balance(a.balance.counts, second))


def _join(a: Moments, b: Moments) -> tuple[Moments, Array, Array]:
    """All of the merged state but its d x d matrices; the gap between class means and its share."""
    some = a.total > 0
    origin = jnp.where(some, a.origin, b.origin)
    means_a, means_b = (s.means + (s.origin - origin)[None] for s in (a, b))
    counts = a.counts + b.counts
    share_b = b.counts / _divisors(counts)
    gap = jnp.where(((a.counts > 0) & (b.counts > 0))[:, None], means_b - means_a, 0)
    means = jnp.where((a.counts > 0)[:, None], means_a + share_b[:, None] * gap, means_b)
    share = a.counts * share_b
    targets = None
    if a.targets is not None and b.targets is not None:
        p, q, middle = a.targets, b.targets, jnp.where(some, a.targets.origin, b.targets.origin)
        mean_p, mean_q = (t.mean + (t.origin - middle) for t in (p, q))
        apart = jnp.where((a.counts > 0) & (b.counts > 0), mean_q - mean_p, 0)
        targets = TargetMoments(
            middle,
            jnp.where(a.counts > 0, mean_p + share_b * apart, mean_q),
            p.square + q.square + share * apart**2,
            p.cross + q.cross + matmul(gap.T, share[:, None] * apart[None]),
        )
    means = jnp.where((counts > 0)[:, None], means, 0)
    squares = a.squares + b.squares + share[:, None] * gap**2
    samples, valid = a.samples + b.samples, a.valid & b.valid
    joined = Moments(origin, samples, counts, means, squares, a.scatter, valid, targets, a.balance)
    return joined, gap, share


def even(counts: ArrayLike) -> bool:
    """Whether all classes that occur weigh the same, outside jit."""
    found = np.asarray(counts)
    return len(np.unique(found[found > 0])) == 1


def _divisors(counts: Array) -> Array:
    """Counts to divide by, 1 where there is nothing to divide."""
    return jnp.where(counts > 0, counts, 1)


def measure(
    row: Rows,
    labels: ArrayLike,
    num_classes: int | None,
    *,
    everywhere: Callable[[Array], Array] = lambda part: part,
    scattered: bool = True,
    centred: bool = False,
) -> tuple[Moments, Array]:
    """Moments of rows in memory, and the rows minus the mean of their class [n, d].

    ``everywhere`` adds up over the devices that share the rows; the moments are then those of all.
    Without ``scattered`` the d x d matrix is left out; with ``centred`` 0 lies inside the data.
    """
    w, n = row.weights, everywhere(row.total)
    origin, x = jnp.zeros(row.features.shape[1], w.dtype), row.features
    if not centred:
        total = _inputs.weighted_sum(x, None if row.uniform else w)
        origin = _origin(everywhere(total) / _divisors(n))
        x = x - origin[None]
    samples = everywhere((w > 0).sum().astype(w.dtype))
    finite = everywhere(jnp.asarray(row.finite, w.dtype)) == everywhere(jnp.ones((), w.dtype))
    targets = None
    if num_classes is None:
        counts = n[None]
        means = (everywhere(matmul(w, x)) / _divisors(n))[None]
        x = x - means
        squares, valid = everywhere(matmul(w, x**2))[None], finite
        targets = _measure_targets(row, x, labels, n, everywhere)
    else:
        y = jnp.asarray(labels).astype(jnp.int32)
        add_up = _summing(row, y, num_classes, everywhere)
        outside = jnp.sum((w > 0) & ((y < 0) | (y >= num_classes))).astype(w.dtype)
        valid = finite & (everywhere(outside) == 0)
        counts = add_up(jnp.ones((len(y), 1), w.dtype))[:, 0]
        means = add_up(x) / _divisors(counts)[:, None]
        x = x - jnp.take(means, y, axis=0, mode="clip")
        squares = add_up(x**2)
    weights = None if row.uniform else w
    scatter = everywhere(gram(x, weights)) if scattered else jnp.zeros((), w.dtype)
    return Moments(origin, samples, counts, means, squares, scatter, valid, targets), x


def _origin(near: Array) -> Array:
    """A point to measure from: the result does not depend on it, nor does its derivative.

    One bit is cut off so that all see the same number: fused into the subtraction, a quotient
    would be taken off before it is rounded, and far from 0 differ from the one that is kept.
    """
    info = jnp.finfo(near.dtype)
    return lax.reduce_precision(lax.stop_gradient(near), info.nexp, info.nmant - 1)


def _summing(
    row: Rows, y: Array, num_classes: int, everywhere: Callable[[Array], Array]
) -> Callable[[Array], Array]:
    def add_up(values: Array) -> Array:
        weighted = values if row.uniform else row.weights[:, None] * values
        return everywhere(_inputs.class_sums(weighted, y, num_classes))

    return add_up


def _measure_targets(
    row: Rows, x: Array, given: ArrayLike, n: Array, everywhere: Callable[[Array], Array]
) -> TargetMoments:
    """Moments of float targets beside features that are already centred."""
    y, w = _inputs.target_columns(given, row), row.weights
    origin = _origin(everywhere(matmul(w, y)) / _divisors(n))
    y = y - origin[None]
    mean = everywhere(matmul(w, y)) / _divisors(n)
    y = y - mean[None]
    cross = everywhere(matmul(x.T, w[:, None] * y))
    return TargetMoments(origin, mean, everywhere(matmul(w, y**2)), cross)
