"""Nearest class mean, each row judged by the means of the others."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.metrics.metric import Metric, Pass
from jaxte.metrics.passes import mean_of_last
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.linalg import matmul

__all__ = ["nearest_centroid_accuracy"]


def nearest_centroid_accuracy(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Share of rows that are nearest to the mean of their own class, of which they are left out.

    .. math::
        \frac1n \sum_i \Bigl[\, \frac{n_c}{n_c - 1} |x_i - m_c| <
        \min_{k \ne c} |x_i - m_k| \Bigr], \qquad c = y_i

    in closed form: without a row the mean of its class lies further away by that factor. A row
    that is as near to another class is wrong, and so is the only row of a class.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice (and of such
            twins one is left out at a time).
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar in [0, 1]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Tibshirani et al., PNAS 2002 (nearest centroids).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> score = jaxte.metrics.nearest_centroid_accuracy
        >>> bool(score(x.at[:, 0].add(3.0 * y), y) > score(x, y))
        True
    """
    return NEAREST_CENTROID_ACCURACY.outputs(features, labels, num_classes, weights, num_features)[
        "score"
    ]


def _means(statistics: Statistics, *_: Any, **__: Any) -> tuple[Array, Array]:
    return statistics.counts, statistics.measured.moments.deviations


def _right(constants: tuple[Array, Array], batch: Batch, **_: Any) -> Array:
    """Weight of the rows of a batch that are told right."""
    counts, means = constants
    own = jnp.take(means, batch.labels, axis=0, mode="clip")
    number = jnp.take(counts, batch.labels, mode="clip")
    left = number - jnp.minimum(batch.weights, 1)
    alone = left <= 0
    own_square = jnp.sum(batch.residuals**2, axis=1)
    # |r + m_c - m_k|^2 - |r|^2 for residuals r
    products = matmul(means, means.T)
    squares = jnp.diagonal(products)
    gaps = squares[:, None] - 2 * products + squares[None]
    toward = matmul(batch.residuals, means.T)
    further = jnp.take(gaps, batch.labels, axis=0, mode="clip") + 2 * (
        jnp.sum(batch.residuals * own, axis=1)[:, None] - toward
    )
    other = (jnp.arange(len(counts))[None] != batch.labels[:, None]) & (counts > 0)[None]
    nearest = jnp.min(jnp.where(other, further, jnp.inf), axis=1)
    factor = number / jnp.where(alone, 1, left)
    right = ~alone & (own_square * (factor**2 - 1) < nearest)
    return batch.weights @ right.astype(means.dtype)


NEAREST_CENTROID_ACCURACY = register(
    Metric(
        name="nearest_centroid_accuracy",
        function=nearest_centroid_accuracy,
        score=mean_of_last,
        paper="Tibshirani et al., PNAS 2002",
        confirmed="own replica",
        range=(0.0, 1.0),
        cost="2 n d C",
        passes=(Pass(_means, _right),),
        invariances=frozenset({"rotation", "shift", "scale"}),
    )
)
