"""Outputs of a model's own head on the target data: logits, or probabilities as they are stored."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxte.errors import InputError
from jaxte.intake import as_features
from jaxte.intake.checks import is_traced

__all__ = ["SourceOutputs", "check_outputs", "outputs_of", "sound_rows"]

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


def sound_rows(kind: str, values: Any) -> Any:
    """Which rows [n] are finite logits, or probabilities that sum to 1."""
    numpy: Any = np if isinstance(values, np.ndarray) else jnp
    if kind == "logits":
        return numpy.isfinite(values).all(axis=1)
    wide = np.float64 if numpy is np else jnp.promote_types(values.dtype, jnp.float32)
    # the sum is NaN if any entry is; what the least of them is then differs between platforms
    return (values.min(axis=1) >= 0) & (abs(values.sum(axis=1, dtype=wide) - 1) <= SUM_TOLERANCE)


_sound_on_device = partial(jax.jit, static_argnums=0)(sound_rows)


def _check_rows(source: SourceOutputs, counted: np.ndarray, start: int, advice: str) -> None:
    kind, values = source.kind, source.values
    sound = (_sound_on_device if isinstance(values, Array) else sound_rows)(kind, values)
    wrong = ~np.asarray(sound) & counted
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    own, place = np.asarray(values[row], np.float64), f"row {start + row}"
    if not np.isfinite(own).all():
        raise InputError(
            f"{kind} contain NaN or infinity, first in {place}: fix the model's output or give "
            "those rows weight 0"
        )
    if own.min() < 0:
        raise InputError(
            f"probabilities contain {own.min():g} in {place}: they must lie in [0, 1] and each row "
            f"sum to 1{advice}"
        )
    raise InputError(
        f"probabilities of {place} sum to {own.sum():.4g}, not to 1"
        f"{advice or ': give logits where they are not normalised'}"
    )
