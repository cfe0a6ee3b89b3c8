"""Labels of any kind as class numbers, or as targets of regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.errors import InputError
from jaxte.intake.arrays import as_array, narrowed
from jaxte.intake.classes import check_classes, class_names, number_classes

__all__ = ["Labels", "as_labels", "clean_labels"]

# Texts that NumPy and pandas write for a missing value.
_MISSING_TEXTS = ("nan", "NaN", "NaT", "<NA>")


class Labels(NamedTuple):
    """Labels of n rows.

    Attributes:
        values: class numbers [n], integers from 0 up; or targets, floats [n] or [n, k].
        classes: what the labels were, by class number; None for targets.
        multilabel: whether the targets are columns of 0 and 1, several labels at once.
    """

    values: np.ndarray
    classes: Sequence[Any] | None = None
    multilabel: bool = False

    @property
    def names(self) -> tuple[str, ...] | None:
        """The classes as texts; None where they are just 0, 1, ..., C-1."""
        return None if self.classes is None else class_names(self.classes)


def as_labels(
    value: Any,
    what: str = "labels",
    *,
    num_classes: int | None = None,
    weights: np.ndarray | None = None,
    keep: bool = False,
    whole: bool = True,
) -> Labels:
    """Labels of any kind as class numbers, or as targets where they are floats.

    Integers, booleans, texts and categories are classes, numbered in sorted order, so that the
    cost goes with the classes that occur and not with the largest number. A column [n, 1] is the
    same as [n]. A matrix of integers 0 and 1, or of booleans, says several labels at once. Floats
    are regression.

    Args:
        value: [n], [n, 1] or [n, k].
        what: names the labels in messages.
        num_classes: C; then integers must be numbers 0..C-1.
        weights: [n]; rows of weight 0 may hold anything.
        keep: leave integers below ``num_classes`` as they are, whether or not all occur.
        whole: whether these are all labels; of a batch it cannot be said whether its classes are
            too many, or stand for no label.
    """
    counted = None if weights is None else np.asarray(weights) > 0
    array = clean_labels(value, what, counted=counted)
    if array.ndim == 2 and array.shape[1] == 1 and not _is_floating(array):
        array = array[:, 0]
    if _is_floating(array):
        return _targets(array, "targets" if what == "labels" else what, counted)
    if array.ndim == 2 and array.dtype.kind in "biu":
        if array.size == 0 or not np.isin(array, (0, 1)).all():
            raise InputError(
                f"{what} are integers of shape {list(array.shape)}: give one class for each row, "
                "rows of 0 and 1 for several labels at once, or floats for regression"
            )
        return Labels(array.astype(np.float32), multilabel=True)
    if array.ndim != 1:
        raise InputError(f"{what} have shape {array.shape}: give one label for each row")
    counted = None if counted is None or len(counted) != len(array) else counted
    present = array if counted is None else array[counted]
    if len(present) == 0:
        return Labels(np.zeros(len(array), np.int32), ())
    if num_classes is not None and array.dtype.kind in "biuO":
        _check_range(present, what, counted, num_classes)
        if keep:
            values = array if counted is None else np.where(counted, array, 0)
            return Labels(values.astype(np.int32), range(num_classes))
    numbers, classes = number_classes(present)
    if counted is not None:
        ids, numbers = numbers, np.full(len(array), -1, np.int32)
        numbers[counted] = ids
    if whole:
        check_classes(
            classes, len(present), what, num_classes, lambda one: int(np.argmax(numbers == one))
        )
    return Labels(numbers if counted is None else np.maximum(numbers, 0), classes)


def clean_labels(
    value: Any,
    what: str = "labels",
    *,
    counted: np.ndarray | None = None,
    row: Callable[[int], str] | None = None,
) -> np.ndarray:
    """Labels as an array of integers, booleans, texts or floats, none of them missing.

    Integers wider than any of NumPy stay objects, and categories become texts.

    Args:
        value: labels of any library and shape.
        what: names the labels in messages.
        counted: [n] which rows count.
        row: names a row in messages.
    """

    def missing(place: int, shown: Any) -> InputError:
        where = f"{what}: row {place}" if row is None else row(place)
        return InputError(
            f"{where} has no label ({shown}): leave that row out, or give it weight 0"
        )

    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        mask = mask if counted is None or mask.shape != counted.shape else mask & counted
        if mask.any():
            raise missing(int(np.argwhere(mask)[0][0]), "masked")
        value = value.data
    array = _on_host(value, what)
    if array.ndim == 0:
        raise InputError(f"{what} are a single {type(value).__name__}: give one for each row")
    if counted is not None and (len(counted) != len(array) or array.ndim != 1):
        counted = None
    if array.dtype == np.object_:
        for place, one in enumerate(array if array.ndim == 1 else map(list, array)):
            if counted is not None and not counted[place]:
                continue
            if any(map(_is_gap, one)) if array.ndim == 2 else _is_gap(one):
                raise missing(place, one)
        array = _of_objects(array, what, hasattr(getattr(value, "dtype", None), "categories"))
    if array.dtype.kind in "UST":
        array, blank = _texts(array, what)
        if counted is not None:
            blank &= counted
        if blank.any():
            first = tuple(np.argwhere(blank)[0])
            raise missing(int(first[0]), repr(str(array[first])))
    if array.dtype.kind not in "biufUO" and not _is_floating(array):
        raise InputError(
            f"{what} have dtype {array.dtype}: give integers or texts (classes), or floats "
            "(regression)"
        )
    return array


def _on_host(value: Any, what: str) -> np.ndarray:
    """Labels as an array of NumPy; as one of objects where another would turn them into others."""
    dtype = getattr(value, "dtype", None)
    # of pandas' integers with a gap NumPy would make floats
    nullable = hasattr(value, "isna") and getattr(dtype, "kind", "O") in "iub"
    if hasattr(dtype, "categories") or nullable:
        return np.asarray(value, object)
    if isinstance(value, list | tuple):
        texts = sum(isinstance(one, str | bytes) for one in value)
        # gaps, or texts and numbers, all of which NumPy would write as texts
        if 0 < texts < len(value) or any(map(_is_gap, value)):
            return np.asarray(value, object)
    array = as_array(value, what)
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        raise InputError(f"{what} lie on other processes: give each process its own rows")
    return np.asarray(array)


def _is_floating(array: np.ndarray) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def _is_gap(one: Any) -> bool:
    """Whether a label is None, NaN, NA or NaT."""
    if one is None:
        return True
    try:
        return bool(one != one)
    except (TypeError, ValueError):  # pandas' NA is neither; an array has no truth
        return np.ndim(one) == 0


def _of_objects(array: np.ndarray, what: str, categorical: bool) -> np.ndarray:
    """Objects as texts, integers or floats; what is missing here does not count."""
    if array.ndim > 1 or any(isinstance(one, list | tuple | np.ndarray) for one in array):
        try:
            return clean_labels(np.asarray([np.asarray(one).tolist() for one in array]), what)
        except ValueError as error:  # rows of different lengths
            raise InputError(f"{what}: the rows have different numbers of labels") from error
    fill = next((one for one in array if not _is_gap(one)), 0)
    rows = [fill if _is_gap(one) else one for one in array]
    if categorical:
        return np.asarray([str(one) for one in rows])
    if all(isinstance(one, str) for one in rows):
        return np.asarray(rows, np.str_)
    if all(isinstance(one, bytes) for one in rows):
        return np.asarray(rows, np.bytes_)
    if all(isinstance(one, Integral | np.bool_) for one in rows):
        numbers = np.empty(len(rows), object)
        numbers[:] = [int(one) for one in rows]
        fits = max(map(abs, numbers)) < 2**63
        return numbers.astype(np.int64) if fits else numbers
    if all(isinstance(one, Real) or hasattr(one, "__float__") for one in rows):
        return np.asarray([float(one) for one in rows])
    kinds = sorted({type(one).__name__ for one in rows})
    if len(kinds) == 1:
        raise InputError(f"{what} are objects of type {kinds[0]}: give integers, texts or floats")
    row = next(row for row, one in enumerate(rows) if type(one) is not type(rows[0]))
    raise InputError(
        f"{what} mix {', '.join(kinds)}, first in row {row} ({rows[row]!r:.50}): give texts alone, "
        "or numbers alone"
    )


def _texts(array: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Texts of one type, and which are blank."""
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{what} are bytes that are no UTF-8: give texts") from error
    array = array.astype(np.str_)
    return array, (np.char.strip(array) == "") | np.isin(array, _MISSING_TEXTS)


def _targets(array: np.ndarray, what: str, counted: np.ndarray | None) -> Labels:
    """Regression: floats [n] or [n, k], all finite."""
    if array.dtype.itemsize > 8:
        array = narrowed(array, what)
    elif array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise InputError(f"{what} have shape {array.shape}: give floats [n] or [n, k]")
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if counted is not None:
        bad &= counted
    if bad.any():
        raise InputError(
            f"{what} contain NaN or infinity, first in row {int(np.argmax(bad))}: remove those "
            "rows or give them weight 0"
        )
    return Labels(array)


def _check_range(
    present: np.ndarray, what: str, counted: np.ndarray | None, num_classes: int
) -> None:
    """Raise `InputError` for integers outside 0..C-1."""
    for worst in (int(present.min()), int(present.max())):
        if not 0 <= worst < num_classes:
            first = int(np.argmax(present == worst))
            row = first if counted is None else int(np.flatnonzero(counted)[first])
            raise InputError(
                f"{what} contain {worst}, but num_classes is {num_classes} "
                f"(0..{num_classes - 1}), first in row {row}: leave num_classes out, and classes "
                "are numbered as they occur; rows without a label get weight 0"
            )
