"""A model at work on one batch, compiled as the loop does it."""

from typing import Any

import jax
import numpy as np

from jaxte.extraction import Model


def run(model: Model, inputs: Any) -> dict[str, Any]:
    """What a batch gives."""
    out = jax.jit(model.apply)(model.params, inputs)
    return {name: np.asarray(array) for name, array in out.items()}
