"""Variance collapse tr(S_W S_B^+) / C, which FaCe and neural collapse share.

By a pass over the rows: projecting them on C directions is cheaper than a scatter matrix.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxte.metrics.metric import Pass
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import divisors
from jaxte.statistics.pseudo import pseudo_inverse

BALANCED = "class_balanced"
WEIGHTINGS = (BALANCED, "sample_weighted")
_RANK_CUT = 1e-5  # of the singular values of the class means: 1e-10 of the eigenvalues of S_B


def balanced_means(statistics: Statistics) -> Array:
    """Class means minus the mean of class means [C, d]; 0 where a class has no sample."""
    counts, means = statistics.counts, statistics.measured.moments.deviations
    number = jnp.maximum((counts > 0).sum(), 1).astype(means.dtype)
    centre = means.sum(axis=0) / number
    return jnp.where((counts > 0)[:, None], means - centre[None], 0)


def _inverse_means(
    statistics: Statistics, *_: Any, weighting: str = BALANCED, **__: Any
) -> tuple[Array, Array]:
    """P [d, C] with P P' the inverse of the between-class scatter, and a row's share by class."""
    counts = statistics.counts
    if weighting == BALANCED:
        means, shares = balanced_means(statistics), 1 / divisors(counts)
    else:
        means = jnp.sqrt(divisors(counts))[:, None] * statistics.measured.moments.deviations
        shares = jnp.ones_like(counts)
    return pseudo_inverse(means, _RANK_CUT), shares


def _projected(constants: tuple[Array, Array], batch: Batch, **_: Any) -> Array:
    """What the rows of a batch add to the trace."""
    inverse, shares = constants
    share = batch.weights * jnp.take(shares, batch.labels, mode="clip")
    return share @ jnp.sum(matmul(batch.residuals, inverse) ** 2, axis=1)


def known_trace(statistics: Statistics, *, weighting: str = BALANCED, **_: Any) -> Array | None:
    """The trace from moments, if their classes weigh what they should."""
    state = statistics.measured.moments
    scatter = state.class_balanced_scatter if weighting == BALANCED else state.scatter
    if scatter is None:
        return None
    inverse, _shares = _inverse_means(statistics, weighting=weighting)
    return jnp.sum(inverse * matmul(scatter, inverse))


def variance_collapse(statistics: Statistics, trace: Array) -> Array:
    """Minus the trace per class; NaN where no two class means differ.

    The 1 / C or 1 / n of both scatters cancel.
    """
    state = statistics.measured.moments
    number = (state.counts > 0).sum().astype(trace.dtype)
    apart = state.between(statistics.within_class_ss.sum()) > 0
    return jnp.where(apart & statistics.valid, -trace / number, jnp.nan)


COLLAPSE = Pass(
    _inverse_means,
    _projected,
    instead=known_trace,
    lacking="all classes weigh the same in it, and in these moments they do not: make them with "
    "moments.init(..., class_counts=[...]), the weight of each class in the samples they are of",
)
