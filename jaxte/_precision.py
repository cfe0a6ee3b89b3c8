"""In which precision scores are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax

from jaxte._inputs import choose

__all__ = ["precision_context"]

# GPUs whose float64 runs at half the speed of float32; others are 32 or 64 times slower.
_FAST_FLOAT64 = ("P100", "V100", "A30", "A100", "H100", "H200", "GH200", "B100", "B200", "GB200")


def precision_context(precision: str) -> AbstractContextManager[Any]:
    """A context in which JAX computes in the asked precision, whatever the user's global flag.

    "auto" is float64 on CPUs and on GPUs where it is fast, float32 elsewhere.
    """
    choose("precision", precision, ("auto", "float32", "float64"))
    if precision == "auto":
        device = jax.devices()[0]
        fast = device.platform == "cpu" or any(k in device.device_kind for k in _FAST_FLOAT64)
        precision = "float64" if fast else "float32"
    return jax.enable_x64(precision == "float64")
