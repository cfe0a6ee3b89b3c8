"""Rows of one model: all of them, as a pass sees them, and as they were measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxte.statistics.measure import Moments

__all__ = ["Batch", "Measured", "Sample"]


class Sample(NamedTuple):
    """Rows of one model.

    Attributes:
        features: [n, d].
        targets: class numbers [n], or floats [n] or [n, k].
        weights: [n], or None.
        num_features: the true width where trailing columns are padding, or None.
        source: `SourceOutputs` of the model's own head, or None.
    """

    features: Any
    targets: Any
    weights: Any = None
    num_features: Any = None
    source: Any = None


class Batch(NamedTuple):
    """Rows as a pass over them sees them: all at once in memory, or as many as go by.

    Attributes:
        residuals: [b, d] features minus the mean of their class.
        labels: [b] class numbers, or [b, k] the targets of a regression.
        weights: [b], NaN for a row of a head's outputs that cannot be.
        probabilities: [b, z] by the model's own head, as they came; None if it has none.
        logits: [b, z] of the head, or None where only probabilities are known.
        features: [b, d] as they came, but for rows of weight 0.
    """

    residuals: Array
    labels: Array
    weights: Array
    probabilities: Array | None = None
    logits: Array | None = None
    features: Array | None = None

    def centred(self, deviations: Array) -> Array:
        """Features minus the mean of all, from the deviations of the class means [C, d]."""
        if self.labels.ndim == 2:
            return self.residuals
        return self.residuals + jnp.take(deviations, self.labels, axis=0, mode="clip")


class Measured(NamedTuple):
    """Moments without scatter and squares, and what they were made from.

    Attributes:
        moments: in units of ``unit``.
        residuals: [n, d] rows minus the mean of their class; None where the rows have gone by.
        unit: power of two that the features were divided by.
        width: true number of features.
    """

    moments: Moments
    residuals: Array | None
    unit: Array
    width: Array
