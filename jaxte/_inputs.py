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

from jaxte.errors import InputError
from jaxte.intake import Labels, as_features, as_labels

HIGHEST = jax.lax.Precision.HIGHEST  # a float32 product on a GPU is TF32 unless asked otherwise


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


class Arguments(NamedTuple):
    """The arguments that all kernels share, clean."""

    features: Any  # [n, d]
    targets: Any  # class numbers [n], or floats [n] or [n, k]
    weights: Any
    num_features: Any
    num_classes: int | None  # None for regression


def check_arguments(
    features: ArrayLike,
    targets: ArrayLike,
    num_classes: int | None,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    *,
    regression: bool = False,
    renumber: bool = True,
) -> Arguments:
    """Clean the arguments that all kernels share; raise `InputError` for what will not do.

    ``regression``: whether float targets will do. ``renumber``: whether only those classes are to
    count which occur.
    """
    features, weights = check_features(features, weights, num_features)
    n = np.shape(features)[0]
    if is_traced(targets):
        classes = _check_traced(targets, n, num_classes, regression)
        return Arguments(features, targets, weights, num_features, classes)
    known = None if weights is None or is_traced(weights) else np.asarray(weights)
    labels = as_labels(
        targets, num_classes=check_num_classes(num_classes), weights=known, keep=not renumber
    )
    check_labels(labels, n, known)
    if labels.classes is None:
        if not regression:
            raise InputError(needs_classes(labels, "this function"))
        return Arguments(features, labels.values, weights, num_features, None)
    return Arguments(features, labels.values, weights, num_features, len(labels.classes))


def check_features(features: Any, weights: Any, num_features: Any = None) -> tuple[Any, Any]:
    """Features [n, d] and weights [n], clean and fitting together; arrays of JAX stay in place."""
    if not is_traced(features):
        features = as_features(features)
    shape = np.shape(features)
    if len(shape) != 2:
        raise InputError(
            f"features must be a matrix [n, d], got shape {shape}: flatten or pool each sample "
            "to one vector, and use jax.vmap for a batch of models"
        )
    n, d = shape
    if n == 0 or d == 0:
        raise InputError(f"features are empty (shape {shape}): at least one row and column needed")
    counted = np.ones(n, bool)
    if weights is not None and not is_traced(weights):
        weights = check_weights(weights, n, "features have")
        counted = np.asarray(weights) > 0
    elif weights is not None and np.shape(weights) != (n,):
        raise InputError(f"weights have shape {np.shape(weights)}, but features have {n} rows")
    concrete = not (is_traced(features) or is_traced(weights))
    if concrete:
        bad = ~_finite_rows(features) & counted
        if bad.any():
            raise InputError(
                f"features contain NaN or infinity in {bad.sum()} of {n} rows, first in row "
                f"{int(np.flatnonzero(bad)[0])}: fix the model's output or give those rows weight 0"
            )
    if num_features is not None and not is_traced(num_features):
        if not float(number(num_features)).is_integer():
            raise InputError(f"num_features is {short(num_features)}: give a whole number, 1..{d}")
        width = int(num_features)
        if not 1 <= width <= d:
            raise InputError(f"num_features is {width}, outside 1..{d} (the columns)")
        if concrete and bool((abs(features[:, width:]).max(axis=1, initial=0) > 0)[counted].any()):
            raise InputError(
                f"columns from {width} on are not zero: num_features says they are padding; cut "
                "them off or correct num_features"
            )
    return features, weights


def check_weights(weights: Any, rows: int | None, whose: str = "there are") -> Any:
    """Weights [n], finite, >= 0, and not all 0."""
    weights = as_features(weights, "weights")
    if weights.ndim != 1 or (rows is not None and len(weights) != rows):
        raise InputError(f"weights have shape {weights.shape}, but {whose} {rows} rows")
    host = np.asarray(weights)
    wrong = ~((host >= 0) & np.isfinite(host))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"weights[{row}] is {host[row]}: weights must be finite and >= 0")
    if not host.any():
        raise InputError("all weights are 0: no sample is left to score")
    return weights


def check_num_classes(num_classes: Any) -> int | None:
    """C as a Python integer, or None."""
    if num_classes is None:
        return None
    if is_traced(num_classes):
        raise InputError("num_classes must be a positive Python integer (static under jit)")
    check_whole("num_classes", num_classes)
    return int(num_classes)


def check_labels(
    labels: Labels, rows: int, weights: np.ndarray | None, *, whole: bool = True
) -> None:
    """Raise `InputError` unless there is a label for each row, and something to be learnt.

    ``whole``: whether these are all rows; a batch may hold one class only, or only zeros.
    """
    values = labels.values
    if len(values) != rows:
        what = "labels" if labels.classes is not None else "targets"
        raise InputError(
            f"{what} have shape {values.shape}, but features have {rows} rows: one label each"
        )
    if not whole:
        return
    counted = values if weights is None else values[weights > 0]
    if labels.classes is None:
        if not counted.any():
            raise InputError("targets are all zero: there is nothing to predict")
    elif not len(counted) or counted.min() == counted.max():
        only = labels.classes[int(counted[0])] if len(counted) else "missing"
        raise InputError(f"all labels are {only}: a score needs at least two classes")


def needs_classes(labels: Labels, who: str) -> str:
    """What to do where targets have no classes."""
    if labels.multilabel:
        return (
            f"labels are rows of 0 and 1, several labels at once, but {who} needs one class for "
            "each row: choose logme, or give labels.argmax(axis=1) if each row has a single 1"
        )
    return (
        f"labels have dtype {labels.values.dtype}, which means regression, but {who} needs "
        "classes: give integers (labels.astype(int)) or texts, or choose logme"
    )


def _check_traced(targets: Any, n: int, num_classes: int | None, regression: bool) -> int | None:
    """C for classes, None for regression, of targets that can only be seen from outside."""
    shape, dtype = jnp.shape(targets), jnp.result_type(targets)
    if regression and jnp.issubdtype(dtype, jnp.floating):
        if len(shape) not in (1, 2) or shape[0] != n or 0 in shape:
            raise InputError(f"targets have shape {shape}, not [n] or [n, k] with n = {n} rows")
        return None
    if shape != (n,):
        raise InputError(f"labels have shape {shape}, but features have {n} rows: one label each")
    if not (jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_):
        raise InputError(f"labels have dtype {dtype}: classes must be integers 0..C-1 under jit")
    if num_classes is None:
        raise InputError("num_classes is required under jit, vmap over labels, and grad")
    return check_num_classes(num_classes)


def _finite_rows(features: Any) -> np.ndarray:
    """Which rows are finite throughout, looked at where the array lies."""
    if isinstance(features, Array):
        return np.asarray(jnp.isfinite(features).all(axis=1))
    return np.asarray(np.isfinite(features).all(axis=1))


def is_classification(targets: Any) -> bool:
    """Whether clean targets are class numbers rather than floats for regression."""
    return bool(jnp.issubdtype(jnp.result_type(targets), jnp.integer))


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
        raise InputError(f"{name} is {short(value)}: it must be a positive whole number below 2^31")


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
