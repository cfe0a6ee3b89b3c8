"""Two scores of pairs of samples: how far classes lie apart, and how mixed neighbourhoods are."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.linalg import matmul, safe_root
from jaxte.statistics.measure import divisors
from jaxte.statistics.pairs import Block, Pairs

__all__ = ["concept_variance", "int_score"]

_LEAST = 1e-9  # of sqrt(d) - distance


def int_score(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""INT: mean Euclidean distance between samples of two classes, over all pairs of classes.

    .. math:: \mathrm{INT} = \frac{2}{C(C-1)} \sum_{a<b} \frac{1}{n_a n_b} \sum_{y_i=a, y_j=b}
        \lVert x_i - x_j \rVert

    It grows with the scale of the features: bring models to one scale before comparing them.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0, within classes only: each pair of classes counts the same.
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar >= 0, in feature units. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Singh et al., arXiv 2502.06925 (no released code; the formula is that of the
    meta-feature of this name).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.int_score(better, y) > jaxte.metrics.int_score(x, y))
        True
    """
    return INT.outputs(features, labels, num_classes, weights, num_features)["score"]


def concept_variance(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the share of other classes in each sample's neighbourhood: a soft neighbour error.

    .. math:: -\frac1n \sum_i \frac{\sum_{j \ne i} w_{ij} [y_i \ne y_j]}{\sum_{j \ne i} w_{ij}},
        \qquad w_{ij} = 2^{-2 d_{ij} / (\sqrt d - d_{ij})}

    with Euclidean distances of features that are scaled to [0, 1], so that one far sample rules a
    column. In many dimensions all distances are alike, and the score nears the chance of two
    samples to differ in class.

    Args:
        features: [n, d]; neither shifts nor the scale of a column matter.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar in [-1, 0]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Vilalta and Drissi, Artificial Intelligence Review 2002; as a score of models
    Singh et al., arXiv 2502.06925 (no released code).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.concept_variance
        >>> bool(score(better, y) > score(x, y))
        True
    """
    return CONCEPT_VARIANCE.outputs(features, labels, num_classes, weights, num_features)["score"]


def _between_classes(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    rows, y, counts = statistics.rows, statistics.labels, statistics.counts
    pairs = Pairs.of(statistics.centred, rows.weights)
    labels = pairs.filled(y)
    member = jax.nn.one_hot(labels, len(counts), dtype=counts.dtype)
    shares = pairs.weights[:, None] * member / divisors(counts)[None]

    def of_block(block: Block) -> Array:
        to_classes = matmul(safe_root(block.squares), shares)
        return jnp.sum(shares[block.rows].sum(axis=1) @ (to_classes * (1 - member[block.rows])))

    number = (counts > 0).sum()
    score = pairs.sum(of_block) / (number * (number - 1)) * statistics.unit
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


def _mixed_neighbourhoods(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    rows, x, width = statistics.rows, statistics.centred, statistics.width
    counted = (rows.weights > 0)[:, None]
    highest = jnp.where(counted, x, -jnp.inf).max(axis=0)
    extent = highest - jnp.where(counted, x, jnp.inf).min(axis=0)
    varies = matmul(rows.weights, x**2) > statistics.measured.moments.rounding
    x = jnp.where(varies[None], x / jnp.where(varies, extent, 1)[None], 0)
    pairs = Pairs.of(x, rows.weights)
    labels = pairs.filled(statistics.labels)

    def of_block(block: Block) -> Array:
        distance = safe_root(block.squares)
        left = jnp.maximum(jnp.sqrt(width) - distance, _LEAST)
        power = -2 * math.log(2) * distance / left
        counted = block.others > 0
        largest = jnp.where(counted, lax.stop_gradient(power), -jnp.inf).max(axis=1)[:, None]
        closeness = block.others * jnp.exp(jnp.where(counted, power - largest, 0))
        total = closeness.sum(axis=1)
        other = labels[block.rows][:, None] != labels[None]
        mixed = jnp.where(other, closeness, 0).sum(axis=1) / divisors(total)
        return block.weights @ mixed

    score = -pairs.sum(of_block) / rows.total
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


INT = register(
    Metric(
        name="int_score",
        function=int_score,
        score=_between_classes,
        paper="Singh et al., arXiv 2502.06925",
        confirmed="own replica",
        range=(0.0, float("inf")),
        cost="2 n^2 d",
        needs=frozenset({"all_rows", "measured"}),
        invariances=frozenset({"rotation", "shift"}),
    )
)

CONCEPT_VARIANCE = register(
    Metric(
        name="concept_variance",
        function=concept_variance,
        score=_mixed_neighbourhoods,
        paper="Singh et al., arXiv 2502.06925",
        confirmed="own replica",
        range=(-1.0, 0.0),
        cost="2 n^2 d",
        needs=frozenset({"all_rows", "measured"}),
        invariances=frozenset({"shift", "scale"}),
    )
)
