"""A batch on its way into a store: checked, and brought to the types of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.intake import as_features, clean_labels
from jaxte.store._columns import LABEL_TYPES, in_memory
from jaxte.store._manifest import Manifest

__all__ = ["prepared", "schema"]


def schema(
    manifest: Manifest, features: Mapping[str, Any], labels: Any, logits: Any
) -> tuple[dict[str, int], tuple[str, int | None], int | None]:
    """What the first batch says of all: widths, type and width of labels, width of the logits.

    Raises:
        InputError: for what cannot be stored.
    """
    widths = {name: _matrix(features[name], name, 0).shape[1] for name in manifest.layers}
    labels = _labels(labels, 0)
    width = None if labels.ndim == 1 else labels.shape[1]
    number = None if logits is None else _matrix(logits, "logits", 0).shape[1]
    for what, found in (*widths.items(), ("labels", width), ("logits", number)):
        if found == 0:
            raise InputError(f"batch 0: {what} have no columns")
    return widths, (labels.dtype.name, width), number


def prepared(
    manifest: Manifest, features: Mapping[str, Any], labels: Any, logits: Any, index: int
) -> dict[str, np.ndarray]:
    """The arrays of a batch by their folder, contiguous and of the types of the store.

    Raises:
        InputError: where the batch does not fit the ones before, or its numbers not the type.
    """
    if set(features) != set(manifest.layers):
        raise InputError(
            f"batch {index} has layers {', '.join(features) or 'none'}, the store has "
            f"{', '.join(manifest.layers)}"
        )
    assert manifest.labels is not None
    if (logits is None) != (manifest.logits is None):
        given, other = ("no ", "") if logits is None else ("", "no ")
        raise InputError(f"batch {index} has {given}logits, but those before have {other}logits")
    own = _labels(labels, index)
    rows = len(own)
    found = {}
    for name, column in manifest.layers.items():
        array = _matrix(features[name], name, index)
        _check_shape(array, (rows, column.width), f"features of {name}", index)
        found[column.folder] = _cast(array, column.dtype, f"features of {name}", index)
    column = manifest.labels
    _check_shape(own, column.shape(rows), "labels", index)
    if np.issubdtype(column.dtype, np.integer) != (own.dtype.kind == "i"):
        raise InputError(f"batch {index} has labels of type {own.dtype}, before {column.dtype}")
    found[column.folder] = _cast(own, column.dtype, "labels", index)
    if manifest.logits is not None:
        column = manifest.logits
        array = _matrix(logits, "logits", index)
        _check_shape(array, (rows, column.width), "logits", index)
        found[column.folder] = _cast(array, column.dtype, "logits", index)
    return found


def _matrix(given: Any, what: str, index: int) -> np.ndarray:
    array = np.asarray(as_features(given, f"{what} of batch {index}"))
    if array.ndim != 2:
        raise InputError(
            f"batch {index}: {what} has shape {list(array.shape)}, not [r, d]: pool or flatten "
            "to one vector for each row"
        )
    return array


def _labels(given: Any, index: int) -> np.ndarray:
    """Integers as int32 or int64, floats as float32 or float64."""
    array = clean_labels(given, f"labels of batch {index}")
    kind, name = array.dtype.kind, array.dtype.name
    if array.ndim == 2 and array.shape[1] == 1 and kind in "biu":
        array = array[:, 0]
    if name not in LABEL_TYPES:
        if kind in "biu" and (name != "uint64" or array.max(initial=0) < 1 << 63):
            array = array.astype(np.int64)
        elif kind == "f" or array.dtype == in_memory("bfloat16"):
            array = array.astype(np.float32)
        else:
            raise InputError(
                f"batch {index} has labels of type {array.dtype}: give integers (classes) or "
                "floats (regression, several labels at once)"
            )
    if array.ndim != 1 and not (array.ndim == 2 and array.dtype.kind == "f"):
        raise InputError(
            f"batch {index} has labels {array.dtype} of shape {list(array.shape)}: give classes "
            "as integers [r], several labels or targets as floats [r, k]"
        )
    return array


def _check_shape(array: np.ndarray, wanted: tuple[Any, ...], what: str, index: int) -> None:
    if array.shape != wanted:
        raise InputError(
            f"batch {index}: {what} have shape {list(array.shape)}, expected {list(wanted)} "
            "(as many rows as labels, as many columns as before)"
        )


def _cast(array: np.ndarray, dtype: str, what: str, index: int) -> np.ndarray:
    """The array in the type of the store, if no number is too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array, in_memory(dtype))
    if array.dtype == cast.dtype:
        return cast
    if cast.dtype.kind == "i":
        lost = cast != array
    else:
        lost = ~np.isfinite(cast)
        if lost.any():
            lost &= np.isfinite(array)
    if lost.any():
        row = int(np.argwhere(lost)[0][0])
        raise InputError(
            f"batch {index}: {what} have {array[lost][0]} in row {row}, which {dtype} cannot "
            f"hold: store {what.split()[0]} of a wider type"
        )
    return cast
