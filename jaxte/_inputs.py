"""What every kernel does to its arguments: check them outside jit, promote and mask them inside.

Outside jit (concrete arrays) bad input raises `InputError` before any work. Inside jit nothing
can raise, so the same faults poison the score with NaN instead.
"""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

HIGHEST = jax.lax.Precision.HIGHEST  # a float32 product on a GPU is TF32 unless asked otherwise


class InputError(ValueError):
    """Input that cannot be scored; the message names what is wrong and what to do."""


def is_traced(value: Any) -> bool:
    """Whether ``value`` is being traced by jit, vmap or grad, so that it cannot be looked at."""
    return isinstance(value, Tracer)


def choose(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``allowed``, else raise an `InputError` that lists them."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(
            f"unknown {name} {short(value)}: choose one of {', '.join(map(repr, allowed))}"
        )
    return value


# --- outside jit -------------------------------------------------------------------------------


def _finite_rows(features: ArrayLike) -> np.ndarray:
    """Which rows are finite throughout, looked at where the array lies."""
    if isinstance(features, Array):
        return np.asarray(jnp.isfinite(features).all(axis=1))
    return np.isfinite(np.asarray(features)).all(axis=1)


def check_features(features: ArrayLike, weights: ArrayLike | None, num_features: Any) -> int:
    """Raise `InputError` unless features, weights and num_features fit together; return n."""
    shape = np.shape(features)
    if not is_traced(features) and np.asarray(features).dtype == np.object_:
        raise InputError("features have dtype object: give one rectangular numeric array [n, d]")
    if len(shape) != 2:
        raise InputError(
            f"features must be a matrix [n, d], got shape {shape}: flatten or pool each sample "
            "to one vector, and use jax.vmap for a batch of models"
        )
    n, d = shape
    if n == 0 or d == 0:
        raise InputError(f"features are empty (shape {shape}): at least one row and column needed")
    if weights is not None and np.shape(weights) != (n,):
        raise InputError(f"weights have shape {np.shape(weights)}, but features have {n} rows")
    counted = np.ones(n, bool)
    if weights is not None and not is_traced(weights):
        concrete = np.asarray(weights, np.float64)
        if not np.isfinite(concrete).all() or (concrete < 0).any():
            row = int(np.flatnonzero(~(concrete >= 0) | np.isinf(concrete))[0])
            raise InputError(f"weights[{row}] is {concrete[row]}: weights must be finite and >= 0")
        counted = concrete > 0
        if not counted.any():
            raise InputError("all weights are 0: no sample is left to score")
    if not (is_traced(features) or is_traced(weights)):
        bad = ~_finite_rows(features) & counted
        if bad.any():
            raise InputError(
                f"features contain NaN or infinity in {bad.sum()} of {n} rows, first in row "
                f"{int(np.flatnonzero(bad)[0])}: fix the model's output or give those rows weight 0"
            )
    if num_features is not None and not is_traced(num_features):
        if not float(number(num_features)).is_integer():
            raise InputError(f"num_features is {short(num_features)}: give a whole number, 1..{d}")
        if not 1 <= int(num_features) <= d:
            raise InputError(f"num_features is {int(num_features)}, outside 1..{d} (the columns)")
        known = not (is_traced(features) or is_traced(weights))
        if known and np.any(np.asarray(features)[counted, int(num_features) :]):
            raise InputError(
                f"columns from {int(num_features)} on are not zero: num_features says they are "
                "padding; cut them off or correct num_features"
            )
    return n


def check_labels(
    labels: ArrayLike,
    n: int,
    num_classes: int | None,
    weights: ArrayLike | None,
    *,
    several: bool = True,
) -> int:
    """Raise `InputError` unless labels are classes 0..C-1 of n rows; return C.

    A batch of a larger whole may hold one class only, or none: then without ``several``.
    """
    shape = np.shape(labels)
    if shape != (n,):
        raise InputError(f"labels have shape {shape}, but features have {n} rows: one label each")
    dtype = jnp.result_type(labels) if is_traced(labels) else np.asarray(labels).dtype
    if not (np.issubdtype(dtype, np.integer) or dtype == np.bool_):
        raise InputError(
            f"labels have dtype {dtype}: classes must be integers 0..C-1 (labels.astype(int)); "
            "only logme takes float targets, for regression"
        )
    if num_classes is not None:
        if is_traced(num_classes):
            raise InputError("num_classes must be a positive Python integer (static under jit)")
        check_whole("num_classes", num_classes)
    if is_traced(labels):
        if num_classes is None:
            raise InputError("num_classes is required under jit, vmap over labels, and grad")
        return int(num_classes)
    concrete = np.asarray(labels)
    if weights is not None and not is_traced(weights):
        concrete = concrete[np.asarray(weights) > 0]
    low, high = int(concrete.min()), int(concrete.max())
    if low < 0:
        raise InputError(f"labels contain {low}: classes are 0..C-1 (give padding rows weight 0)")
    if num_classes is not None and high >= num_classes:
        raise InputError(f"labels contain {high}, but num_classes is {num_classes} (0..C-1)")
    if several and low == high:
        raise InputError(f"all labels are {low}: a score needs at least two classes")
    return high + 1 if num_classes is None else int(num_classes)


def check_targets(
    targets: ArrayLike,
    n: int,
    num_classes: int | None,
    weights: ArrayLike | None,
    *,
    several: bool = True,
) -> int | None:
    """Raise `InputError` unless targets fit n rows; return C for classes, None for regression."""
    if is_classification(targets):
        return check_labels(targets, n, num_classes, weights, several=several)
    check_regression(targets, n, weights, nonzero=several)
    return None


def check_regression(
    targets: ArrayLike, n: int, weights: ArrayLike | None, *, nonzero: bool = True
) -> None:
    """Raise `InputError` unless targets are finite floats [n] or [n, k] for regression."""
    shape = np.shape(targets)
    if len(shape) not in (1, 2) or shape[0] != n or 0 in shape:
        raise InputError(f"targets have shape {shape}, not [n] or [n, k] with n = {n} rows")
    if not is_traced(targets):
        concrete = np.asarray(targets, np.float64).reshape(n, -1)
        counted = np.ones(n, bool)
        if weights is not None and not is_traced(weights):
            counted = np.asarray(weights) > 0
        bad = ~np.isfinite(concrete).all(axis=1) & counted
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"targets contain NaN or infinity, first in row {row}: remove those rows or give "
                "them weight 0"
            )
        if nonzero and not concrete[counted].any():
            raise InputError("targets are all zero: there is nothing to predict")


def check_positive(name: str, value: ArrayLike) -> None:
    """Raise `InputError` unless an option is a positive finite number."""
    if not is_traced(value) and not 0 < number(value) < np.inf:
        raise InputError(f"{name} is {short(value)}: it must be a positive number")


def check_share(name: str, value: ArrayLike) -> None:
    """Raise `InputError` unless an option lies in [0, 1]."""
    if not is_traced(value) and not 0 <= number(value) <= 1:
        raise InputError(f"{name} is {short(value)}, outside [0, 1]")


def check_whole(name: str, value: Any) -> None:
    """Raise `InputError` unless an option is a whole number from 1 on, of 31 bits."""
    known = number("" if is_traced(value) else value)
    if not (1 <= known < 1 << 31 and known.is_integer()):
        raise InputError(f"{name} is {short(value)}: it must be a positive whole number")


def number(value: Any) -> float:
    """One real number as such; NaN for anything else, which no limit lets pass."""
    if isinstance(value, str | bytes | bool | np.bool_):
        return float("nan")
    try:
        return float(value) if np.ndim(value) == 0 else float("nan")
    except Exception:  # objects may refuse in any way
        return float("nan")


def short(value: Any) -> str:
    """A value as one line of an error, however long it is."""
    return " ".join(reprlib.repr(value).split())


def is_classification(targets: ArrayLike) -> bool:
    """Whether targets are class labels (integers or booleans) rather than regression targets."""
    dtype = jnp.result_type(targets) if is_traced(targets) else np.asarray(targets).dtype
    if dtype == np.object_:
        raise InputError("targets have dtype object: give integer classes or float targets")
    return bool(np.issubdtype(dtype, np.integer) or dtype == np.bool_)


# --- inside jit --------------------------------------------------------------------------------


class Rows(NamedTuple):
    """Promoted features [n, d], weights [n], their sum and the true width, all of one dtype.

    ``finite``: whether every row that counts is finite, without which there is no score.
    ``uniform``: known while tracing: no weights were given, all are 1.
    """

    features: Array
    weights: Array
    total: Array
    width: Array
    finite: Array | bool = True
    uniform: bool = False


class Classes(NamedTuple):
    """Labels [n], also one-hot [n, C], weighted counts [C], which occur [C] and how many do.

    ``scorable`` is False where a label lies outside 0..C-1, fewer than two classes occur, or a
    feature is not finite.
    """

    labels: Array
    one_hot: Array
    counts: Array
    present: Array
    number: Array
    scorable: Array


def promote(features: ArrayLike) -> Array:
    """Features as a floating array; half precisions and integers become the default float."""
    array = jnp.asarray(features)
    if array.dtype in (jnp.float32, jnp.float64):
        return array
    return array.astype(jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else float)


def rows(features: ArrayLike, weights: ArrayLike | None, num_features: ArrayLike | None) -> Rows:
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
    uniform = weights is None
    # a sum is finite where all that it adds up is, and whoever wants the mean makes it anyway
    finite = jnp.isfinite(weighted_sum(x, None if uniform else w)).all()
    return Rows(x, w, w.sum(), width, finite, uniform)


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


def classes(labels: ArrayLike, num_classes: int, row: Rows) -> Classes:
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


def class_means(features: Array, weights: Array, group: Classes) -> Array:
    """Weighted mean of each class [C, d]; 0 where a class does not occur."""
    sums = class_sums(weights[:, None] * features, group.labels, len(group.counts))
    return sums / jnp.where(group.present, group.counts, 1)[:, None]


def of_row(per_class: Array, group: Classes) -> Array:
    """Spread a per-class array [C, ...] to the rows [n, ...] by label."""
    return jnp.take(per_class, group.labels, axis=0, mode="clip")


def target_columns(targets: ArrayLike, row: Rows) -> Array:
    """Regression targets as columns [n, k]; what rows of weight 0 hold may not be finite."""
    y = jnp.asarray(targets).astype(row.features.dtype)
    y = y[:, None] if y.ndim == 1 else y
    return jnp.where((row.weights == 0)[:, None] & ~jnp.isfinite(y), 0, y)
