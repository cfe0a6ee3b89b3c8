"""Outputs of a model's own head on the target data: logits, or probabilities as they are stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxte.errors import InputError
from jaxte.intake import as_features
from jaxte.intake.checks import is_traced

__all__ = ["SUM_TOLERANCE", "SourceOutputs", "check_outputs", "outputs_of"]

SUM_TOLERANCE = 2e-3  # how far from 1 rows may sum: what float16 and bfloat16 round off
_AT_ONCE = 1 << 24  # entries that are looked at together, so that files need not fit in memory


class SourceOutputs(NamedTuple):
    """Outputs of a model's own head: one of the two.

    Attributes:
        logits: [n, z].
        probabilities: [n, z], never normalised anew.
        width: the true z where trailing columns are padding, or None.
    """

    logits: Any = None
    probabilities: Any = None
    width: Any = None

    @property
    def kind(self) -> str:
        """Which of the two it is."""
        return "logits" if self.probabilities is None else "probabilities"

    @property
    def values(self) -> Any:
        """The array."""
        return self.logits if self.probabilities is None else self.probabilities

    def without_features(self, features: Any) -> Any:
        """What stands for the features [n, 1], which decide nothing beside outputs."""
        shape = np.shape(self.values)
        if features is not None and np.shape(features)[:1] != shape[:1]:
            raise InputError(
                f"{self.kind} have shape {shape}, but features have shape {np.shape(features)}"
            )
        return np.zeros((*shape[:1], 1), getattr(self.values, "dtype", float))

    def part(self, start: int, stop: int) -> SourceOutputs:
        """Some of the rows."""
        return self._replace(**{self.kind: self.values[start:stop]})


def outputs_of(logits: Any, probabilities: Any) -> SourceOutputs | None:
    """What was given of the two; None for neither.

    Raises:
        InputError: for both.
    """
    if logits is not None and probabilities is not None:
        raise InputError("give logits or probabilities, not both")
    if logits is None and probabilities is None:
        return None
    return SourceOutputs(logits, probabilities)


def check_outputs(
    source: SourceOutputs, rows: int, weights: Any = None, *, advice: str = ""
) -> SourceOutputs:
    """Clean outputs [rows, z]; arrays of JAX stay in place, files are read piece by piece.

    Raises:
        InputError: for logits that are not finite, or rows of probabilities that do not sum to 1.
            Rows of weight 0 may hold anything. ``advice`` is what to do instead.
    """
    kind, values = source.kind, source.values
    if not is_traced(values):
        values = as_features(values, kind, lazy=True)
    shape = np.shape(values)
    if len(shape) != 2 or shape[0] != rows or not shape[1]:
        raise InputError(f"{kind} have shape {shape}, but features have {rows} rows")
    source = source._replace(**{kind: values})
    if is_traced(values) or is_traced(weights):
        return source
    counted = np.ones(rows, bool) if weights is None else np.asarray(weights) > 0
    step = max(1, _AT_ONCE // shape[1])
    for start in range(0, rows, step):
        own = counted[start : start + step]
        _check_rows(source.part(start, start + step), own, start, advice)
    return source


def _check_rows(source: SourceOutputs, counted: np.ndarray, start: int, advice: str) -> None:
    values = source.values
    numpy: Any = jnp if isinstance(values, Array) else np
    if source.kind == "logits":
        bad = ~np.asarray(numpy.isfinite(values).all(axis=1)) & counted
        if bad.any():
            raise InputError(
                f"logits contain NaN or infinity, first in row {start + int(np.argmax(bad))}: fix "
                "the model's output or give those rows weight 0"
            )
        return
    # one number for all of them is quicker, and most often enough
    outside = np.zeros(1, bool)
    if not values.min() >= 0:
        outside = ~np.asarray((values >= 0).all(axis=1)) & counted
    if outside.any():
        row = int(np.argmax(outside))
        least = float(np.asarray(values[row]).min())
        raise InputError(
            f"probabilities contain {least:g} in row {start + row}: they must lie in [0, 1] and "
            f"each row sum to 1{advice}"
        )
    wide = np.float64 if numpy is np else jnp.promote_types(values.dtype, jnp.float32)
    sums = np.asarray(values.sum(axis=1, dtype=wide))
    off = ~(abs(sums - 1) <= SUM_TOLERANCE) & counted
    if off.any():
        row = int(np.argmax(off))
        raise InputError(
            f"probabilities of row {start + row} sum to {sums[row]:.4g}, not to 1"
            f"{advice or ': give logits where they are not normalised'}"
        )
