"""One-pass, mergeable class moments: enough for every metric that reads the samples once.

A state is brought up to date batch by batch, and states of different batches, devices or machines
merge into the state of the whole. Everything is kept relative to an origin inside the data and
merged by the pairwise update of Chan et al., so a common offset of the features costs no digits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import as_labels, checks
from jaxte.statistics.linalg import gram, matmul
from jaxte.statistics.measure import Balance, Deviations, Moments, TargetMoments, deviate, divisors
from jaxte.statistics.rows import Rows, as_rows

__all__ = ["Balance", "Moments", "TargetMoments", "init", "merge", "update"]


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

    References: Chan, Golub, LeVeque, The American Statistician 37(3), 1983.

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
    d, c, k = (
        None if value is None else checks.check_whole(name, value) for name, value in sizes.items()
    )
    assert d is not None
    c = 1 if c is None else c
    dtype = jnp.result_type(float if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"dtype is {dtype}: moments need a float type")
    if class_counts is not None:
        if num_classes is None or np.shape(class_counts) != (c,):
            raise InputError(f"class_counts need one number for each of the {c} classes")
        class_counts = jnp.asarray(class_counts, dtype)
        if not checks.is_traced(class_counts) and not (class_counts >= 0).all():
            raise InputError("class_counts are no numbers >= 0: give the weight of each class")
    return _empty(d, c, k, class_counts, dtype)


@partial(jax.jit, static_argnums=(0, 1, 2, 4))  # one program, not one for each array
def _empty(
    d: int, c: int, k: int | None, class_counts: Array | None, dtype: jax.typing.DTypeLike
) -> Moments:
    zero, square, wide = (jnp.zeros(shape, dtype) for shape in ((), (d, d), (c, d)))
    balance = None if class_counts is None else Balance(class_counts, square)
    targets = None
    if k is not None:
        shapes = (k,), (k,), (k, k), (d, k)
        targets = TargetMoments(*(jnp.zeros(shape, dtype) for shape in shapes))
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

    References: as `init`.

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
    features, weights = checks.check_features(features, weights, some=False)
    n, d, c = np.shape(features)[0], state.means.shape[1], state.counts.shape[0]
    if jnp.shape(features)[1] != d:
        raise InputError(f"features have {jnp.shape(features)[1]} columns, but the state has {d}")
    if not (weights is None or checks.is_traced(weights) or np.any(weights)):
        return state
    if not checks.is_traced(labels):
        labels = _numbered(labels, c if state.targets is None else None, weights)
    if checks.is_classification(labels) != (state.targets is None):
        wanted = "integer labels" if state.targets is None else "float targets"
        raise InputError(f"the state was made for {wanted}: give those, or make another state")
    wanted_shape = (n,) if state.targets is None else (n, state.targets.mean.shape[0])
    if jnp.size(labels) != np.prod(wanted_shape) or jnp.shape(labels)[0] != n:
        raise InputError(
            f"labels have shape {jnp.shape(labels)}, but for {n} rows the state has {wanted_shape}"
        )
    with _in_float64(state):
        return _update(state, features, labels, weights)


def _numbered(labels: Any, num_classes: int | None, weights: Any) -> np.ndarray:
    """Labels of a batch, whose classes are numbers already: another batch may hold others."""
    known = None if weights is None or checks.is_traced(weights) else np.asarray(weights)
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
    row = as_rows(jnp.asarray(features).astype(dtype), weights, None)
    return add(state, row, labels)


def add(state: Moments, row: Rows, labels: ArrayLike) -> Moments:
    """As `update`, for rows that have been promoted and masked, inside jit."""
    classes = None if state.targets is not None else state.counts.shape[0]
    batch = deviate(row, labels, classes, near=state)
    joined, gap, share = _join(state, batch)
    # the class means moved: as many rows more in the same product
    scale = jnp.ones(len(batch.rows), gap.dtype) if row.unweighted else row.weights
    rows, scale = jnp.concatenate([batch.rows, gap]), jnp.concatenate([scale, share])
    joined = joined._replace(scatter=state.scatter + gram(rows, scale))
    if state.balance is None:
        return joined
    y = jnp.asarray(labels).astype(jnp.int32)
    owner = jnp.concatenate([y, jnp.arange(len(gap), dtype=y.dtype)])
    known, scatter = state.balance
    second = gram(rows, scale / jnp.take(divisors(known), owner, mode="clip"))
    return joined._replace(balance=Balance(known, scatter + second))


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

    References: as `init`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> empty = jaxte.moments.init(8, num_classes=3)
        >>> parts = [jaxte.moments.update(empty, x[i::2], y[i::2]) for i in range(2)]
        >>> float(jaxte.moments.merge(*parts).total)
        90.0
    """
    kinds = [_kind(state) for state in (a, b)]
    if kinds[0] != kinds[1]:
        raise InputError(f"moments of {kinds[0]} do not merge with moments of {kinds[1]}")
    if a.balance is not None and b.balance is not None:
        counts = a.balance.counts, b.balance.counts
        if not any(map(checks.is_traced, counts)) and np.any(counts[0] != counts[1]):
            raise InputError("moments made for different class_counts do not merge")
    with _in_float64(a, b):
        return _merge(a, b)


def _in_float64(*states: Moments) -> AbstractContextManager[Any]:
    """A context that keeps float64 where a state has it, whatever JAX computes in outside."""
    double = any(s.means.dtype == jnp.float64 and not checks.is_traced(s.means) for s in states)
    return jax.enable_x64(True) if double else nullcontext()


def _kind(state: Moments) -> str:
    """What a state is of, as a user knows it."""
    count, width = state.means.shape
    if state.targets is not None:
        return f"{width} features and {state.targets.mean.shape[0]} float targets (regression)"
    return f"{width} features in {count} classes" + (", with class_counts" if state.balance else "")


@jax.jit
def _merge(a: Moments, b: Moments) -> Moments:
    origin = jnp.where(a.total > 0, a.origin, b.origin)
    means, others = (s.means + (s.origin - origin)[None] for s in (a, b))
    references = jnp.where((a.counts > 0)[:, None], means, others)
    gap = jnp.where((b.counts > 0)[:, None], others - references, 0)
    rows = jnp.zeros((0, means.shape[1]), means.dtype)
    batch = Deviations(
        rows, origin, references, gap, b.samples, b.counts, b.squares, b.valid,
        b.targets,
    )  # fmt: skip
    joined, gap, share = _join(a._replace(means=means, origin=origin), batch)
    joined = joined._replace(scatter=a.scatter + b.scatter + gram(gap, share))
    if a.balance is None or b.balance is None:
        return joined
    second = gram(gap, share / divisors(a.balance.counts))
    second += a.balance.scatter + b.balance.scatter
    return joined._replace(balance=Balance(a.balance.counts, second))


def _join(a: Moments, b: Deviations) -> tuple[Moments, Array, Array]:
    """All of the merged state but its d x d matrices; the gap between class means and its share.

    ``b`` is measured from the origin and the class means of ``a``, where that has them.
    """
    both = ((a.counts > 0) & (b.counts > 0))[:, None]
    counts = a.counts + b.counts
    share_b = b.counts / divisors(counts)
    gap = jnp.where(both, b.gap, 0)
    means = b.references + jnp.where(both, share_b[:, None] * gap, b.gap)
    share = a.counts * share_b
    targets = None
    if a.targets is not None and b.targets is not None:
        p, q = a.targets, b.targets
        middle = jnp.where(a.total > 0, p.origin, q.origin)
        mean_p, mean_q = (t.mean + (t.origin - middle) for t in (p, q))
        apart = jnp.where(both[:, 0], mean_q - mean_p, 0)
        targets = TargetMoments(
            middle,
            jnp.where(a.counts > 0, mean_p + share_b * apart, mean_q),
            p.scatter + q.scatter + gram(apart[None], share),
            p.cross + q.cross + matmul(gap.T, share[:, None] * apart[None]),
        )
    means = jnp.where((counts > 0)[:, None], means, 0)
    squares = a.squares + b.squares + share[:, None] * gap**2
    samples, valid = a.samples + b.samples, a.valid & b.valid
    joined = Moments(
        b.origin, samples, counts, means, squares, a.scatter, valid, targets, a.balance
    )
    return joined, gap, share
