"""In which precision scores are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax

from jaxte.intake.checks import choose
from jaxte.runtime.devices import device_of, has_fast_float64

__all__ = ["precision_context"]


def precision_context(precision: str, device: Any = None) -> AbstractContextManager[Any]:
    """A context in which JAX computes in the asked precision, whatever the user's global flag.

    "auto" is float64 where the device, by default the default one, is fast at it, else float32.
    """
    choose("precision", precision, ("auto", "float32", "float64"))
    if precision == "auto":
        fast = has_fast_float64(device_of() if device is None else device)
        precision = "float64" if fast else "float32"
    return jax.enable_x64(precision == "float64")
