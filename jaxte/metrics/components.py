"""Principal components of the features of one model, as several scores reduce them first."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxte.statistics import Batch, Statistics
from jaxte.statistics.linalg import gram, matmul
from jaxte.statistics.spectrum import leading, leading_of, rank_of_scatter, spectrum

__all__ = ["Components", "leading_components", "principal_components"]


class Components(NamedTuple):
    """The k leading principal components of centred rows.

    Attributes:
        axes: [d, k].
        scatter: [k] of the rows along them, largest first; as the matrix that it is, with all of
            its derivative, `total`.
        counted: [k] which of them there are: min(k, d, n) or more if more vary.
        deviations: [C, k] class means from the mean of all.
    """

    axes: Array
    scatter: Array
    counted: Array
    deviations: Array

    def within(self, statistics: Statistics) -> Array:
        """Within-class scatter along the components [k, k]."""
        if statistics.by_columns:
            return matmul(self.axes.T, matmul(statistics.scatter, self.axes))
        return gram(matmul(statistics.residuals, self.axes), statistics.rows.weights)

    def total(self, statistics: Statistics) -> Array:
        """Scatter of all rows along the components [k, k]."""
        return self.within(statistics) + gram(self.deviations, statistics.counts)

    def rows(self, batch: Batch) -> Array:
        """Rows minus the mean of their class, along the components [b, k]."""
        return matmul(batch.residuals, self.axes)


def leading_components(statistics: Statistics, number: int) -> tuple[Array, Array]:
    """The largest eigenvalues of the total scatter [k], in order, and their axes [d, k]."""
    total = statistics.moments.total_scatter
    if statistics.reduced is None:
        return leading(total, number)
    return leading_of(statistics.reduced.form, total, number, statistics.reduced.energy)


def principal_components(statistics: Statistics, number: int) -> Components:
    """Exact components: from the total scatter, or of fewer rows than columns from the rows."""
    state = statistics.measured.moments
    means = state.deviations
    if statistics.by_columns:
        total = statistics.moments.total_scatter
        number = min(number, len(total))
        values, axes = leading_components(statistics, number)
        rank = rank_of_scatter(total, state.samples)
    else:
        spec = spectrum(statistics.centred, statistics.rows.weights)
        number = min(number, len(spec.values))
        values, axes = spec.values[:number], spec.axes[:, :number]
        rank = jnp.sum(spec.values > 0)
    values = jnp.maximum(values, 0)
    there = jnp.minimum(statistics.width, jnp.maximum(rank.astype(values.dtype), statistics.total))
    place = jnp.arange(number)
    counted = place < there
    # along others rows vary by rounding only, which is large beside itself
    axes = jnp.where((counted & (place < rank))[None], axes, 0)
    return Components(axes, jnp.where(counted, values, 0), counted, matmul(means, axes))
