"""Checks of what a user hands in, outside jit: bad input raises `InputError` before any work.

Inside jit nothing can raise, so the same faults poison the score with NaN instead.
"""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import Labels, as_features, as_labels


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


class Arguments(NamedTuple):
    """The arguments that all kernels share, clean."""

    features: Any  # [n, d]
    targets: Any  # class numbers [n], or floats [n] or [n, k]
    weights: Any
    num_features: Any
    num_classes: int | None  # None for regression


def check_arguments(
    features: Any,
    targets: ArrayLike,
    num_classes: int | None,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    *,
    regression: bool = False,
    renumber: bool = True,
    finite: bool = True,
) -> Arguments:
    """Clean the arguments that all kernels share; raise `InputError` for what will not do.

    ``regression``: whether float targets will do. ``renumber``: whether only those classes are to
    count which occur. ``finite``: whether to look for NaN and infinity.
    """
    features, weights = check_features(features, weights, num_features, finite=finite)
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


def check_features(
    features: Any,
    weights: Any,
    num_features: Any = None,
    *,
    finite: bool = True,
    some: bool = True,
) -> tuple[Any, Any]:
    """Features [n, d] and weights [n], clean and fitting together; arrays of JAX stay in place.

    ``some``: whether any row has to count.
    """
    if not is_traced(features):
        features = as_features(features)
    shape = np.shape(features)
    if len(shape) != 2:
        batch = ", and use jax.vmap for a batch of models" if len(shape) == 3 else ""
        raise InputError(
            f"features must be a matrix [n, d], got shape {shape}: flatten or pool each sample "
            f"to one vector{batch}"
        )
    n, d = shape
    if n == 0 or d == 0:
        raise InputError(f"features are empty (shape {shape}): at least one row and column needed")
    counted = np.ones(n, bool)
    if weights is not None and not is_traced(weights):
        weights = check_weights(weights, n, "features have", some=some)
        counted = np.asarray(weights) > 0
    elif weights is not None and np.shape(weights) != (n,):
        raise InputError(f"weights have shape {np.shape(weights)}, but features have {n} rows")
    concrete = not (is_traced(features) or is_traced(weights))
    if concrete and finite:
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


def check_weights(
    weights: Any, rows: int | None, whose: str = "there are", *, some: bool = True
) -> Any:
    """Weights [n], finite, >= 0, and ``some`` of them not 0."""
    weights = as_features(weights, "weights")
    if weights.ndim != 1 or (rows is not None and len(weights) != rows):
        raise InputError(f"weights have shape {weights.shape}, but {whose} {rows} rows")
    host = np.asarray(weights)
    wrong = ~((host >= 0) & np.isfinite(host))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"weights[{row}] is {host[row]}: weights must be finite and >= 0")
    if some and not host.any():
        raise InputError("all weights are 0: no sample is left to score")
    return weights


def check_num_classes(num_classes: Any) -> int | None:
    """C as a Python integer, or None."""
    if num_classes is None:
        return None
    if is_traced(num_classes):
        raise InputError("num_classes must be a positive Python integer (static under jit)")
    return check_whole("num_classes", num_classes)


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
    usual = np.issubdtype(features.dtype, np.floating)  # bfloat16 is none of NumPy's
    if usual and np.isfinite(np.einsum("ij->", features)):  # in half the time, and nearly always
        return np.ones(len(features), bool)
    return np.asarray(np.isfinite(features).all(axis=1))


def is_classification(targets: Any) -> bool:
    """Whether clean targets are class numbers rather than floats for regression."""
    return bool(jnp.issubdtype(jnp.result_type(targets), jnp.integer))


def as_numbers(**options: Any) -> tuple[Any, ...]:
    """Options that are finite numbers; whole ones as floats, as they may be of any size."""
    for name, value in options.items():
        if not is_traced(value) and not np.isfinite(number(value)):
            raise InputError(f"{name} is {short(value)}: it must be a finite number")
    return tuple(float(one) if isinstance(one, int) else one for one in options.values())


def check_positive(name: str, value: ArrayLike) -> None:
    """Raise `InputError` unless an option is a positive finite number."""
    if not is_traced(value) and not 0 < number(value) < np.inf:
        raise InputError(f"{name} is {short(value)}: it must be a positive number")


def check_share(name: str, value: ArrayLike) -> None:
    """Raise `InputError` unless an option lies in [0, 1]."""
    if not is_traced(value) and not 0 <= number(value) <= 1:
        raise InputError(f"{name} is {short(value)}, outside [0, 1]")


def check_whole(name: str, value: Any, *, least: int = 1) -> int:
    """An option as the whole number, from 1 or 0 on and of 31 bits, that it has to be."""
    known = number("" if is_traced(value) else value)
    if not (least <= known < 1 << 31 and known.is_integer()):
        must = "it must be a positive whole number" if least else "give a whole number from 0 on,"
        raise InputError(f"{name} is {short(value)}: {must} below 2^31")
    return int(known)


def check_flag(name: str, value: Any) -> None:
    """Raise `InputError` unless an option is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {short(value)}: it must be True or False")


def optional_array(name: str, value: Any) -> Any:
    """An option that is an array of finite numbers, or None."""
    if value is None or is_traced(value):
        return value
    array = as_features(value, name)
    if not np.isfinite(np.asarray(array)).all():
        raise InputError(f"{name} contains NaN or infinity: it must be finite throughout")
    return array


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
