"""A batch on its way into a store: checked, and brought to the types of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.intake import as_features, clean_labels
from jaxte.store.columns import LABEL_TYPES, Column, in_memory
from jaxte.store.manifest import Manifest


def settled(manifest: Manifest, features: Mapping[str, Any], labels: Any, logits: Any) -> Manifest:
    """The manifest with what the first batch says of all: widths, types, whether with logits."""
    widths = {name: _matrix(features[name], name, 0).shape[1] for name in manifest.layers}
    labels = _labels(labels, 0)
    width = None if labels.ndim == 1 else labels.shape[1]
    classes = None if logits is None else _matrix(logits, "logits", 0).shape[1]
    for what, columns in (*widths.items(), ("labels", width), ("logits", classes)):
        if columns == 0:
            raise InputError(f"batch 0: {what} have no columns")
    return replace(
        manifest,
        layers={n: c._replace(width=widths[n]) for n, c in manifest.layers.items()},
        labels=Column("labels", "labels", labels.dtype.name, width),
        logits=None if logits is None else Column("logits", "logits", manifest.dtype, classes),
    )


def prepared(
    manifest: Manifest, features: Mapping[str, Any], labels: Any, logits: Any, index: int
) -> dict[str, np.ndarray]:
    """The arrays of a batch by their folder, contiguous and of the types of the store."""
    if set(features) != set(manifest.layers):
        raise InputError(
            f"batch {index} has layers {', '.join(features) or 'none'}, the store has "
            f"{', '.join(manifest.layers)}"
        )
    if (logits is None) != (manifest.logits is None):
        this, others = ("no ", "") if logits is None else ("", "no ")
        raise InputError(f"batch {index} has {this}logits, but those before have {others}logits")
    assert manifest.labels is not None
    targets = _labels(labels, index)
    arrays = [
        (column, f"features of {name}", _matrix(features[name], name, index))
        for name, column in manifest.layers.items()
    ]
    arrays.append((manifest.labels, "labels", targets))
    if manifest.logits is not None:
        arrays.append((manifest.logits, "logits", _matrix(logits, "logits", index)))
    for column, what, array in arrays:
        expected = column.shape(len(targets))
        if array.shape != expected:
            raise InputError(
                f"batch {index}: {what} have shape {list(array.shape)}, expected {list(expected)} "
                "(as many rows as labels, as many columns as before)"
            )
    before = manifest.labels.dtype
    if np.issubdtype(before, np.integer) != (targets.dtype.kind == "i"):
        raise InputError(f"batch {index} has labels of type {targets.dtype}, before {before}")
    return {
        column.folder: _cast(array, column.dtype, what, index) for column, what, array in arrays
    }


def _matrix(values: Any, what: str, index: int) -> np.ndarray:
    array = np.asarray(as_features(values, f"{what} of batch {index}"))
    if array.ndim != 2:
        raise InputError(
            f"batch {index}: {what} has shape {list(array.shape)}, not [r, d]: pool or flatten "
            "to one vector for each row"
        )
    return array


def _labels(values: Any, index: int) -> np.ndarray:
    """Integers as int32 or int64, floats as float32 or float64."""
    array = clean_labels(values, f"labels of batch {index}")
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


def _cast(array: np.ndarray, dtype: str, what: str, index: int) -> np.ndarray:
    """The array in the type of the store, if no number is too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array, in_memory(dtype))
    if array.dtype == cast.dtype:
        return cast
    lost = cast != array if cast.dtype.kind == "i" else ~np.isfinite(cast)
    if cast.dtype.kind != "i" and lost.any():
        lost &= np.isfinite(array)
    if lost.any():
        row = int(np.argwhere(lost)[0][0])
        raise InputError(
            f"batch {index}: {what} have {array[lost][0]} in row {row}, which {dtype} cannot "
            f"hold: store {what.split()[0]} of a wider type"
        )
    return cast
