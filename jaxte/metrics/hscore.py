"""H-score: how much of the variance that features have lies between the classes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import trace

__all__ = ["hscore", "hscore_from_moments"]


def hscore(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Sum of squared canonical correlations between the features and the classes.

    .. math:: H = \mathrm{tr}\bigl(\mathrm{Cov}(f)^{+}\, \mathrm{Cov}(\mathbb E[f \mid y])\bigr)

    Directions in which the features vary only by rounding are left out. Any labels score C - 1
    once d >= n - 1, and labels without any signal (C - 1) d / (n - 1): compare models of one width.

    Args:
        features: [n, d], any scale; no invertible linear map of them changes the score.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar in [0, C - 1]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Bao et al., ICIP 2019, arXiv 2212.10082.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.hscore(better, y) > jaxte.metrics.hscore(x, y))
        True
    """
    return HSCORE.outputs(features, labels, num_classes, weights, num_features)["score"]


def hscore_from_moments(state: Moments) -> Array:
    r"""H-score of samples that are known by their moments only.

    .. math:: H = \mathrm{tr}\bigl(S_T^{+} S_B\bigr)

    Args:
        state: `jaxte.moments.Moments` of labels.

    Returns:
        Scalar, the score that `hscore` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets.

    References: as `hscore`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.hscore_from_moments(state) - jaxte.metrics.hscore(x, y)
        >>> bool(abs(gap) < 1e-4)
        True
    """
    return HSCORE.outputs_from_moments(state)["score"]


def _score(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    score = trace(statistics.class_products)
    score = jnp.minimum(score, jnp.sum(statistics.counts > 0) - 1)  # but for rounding no larger
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


HSCORE = register(
    Metric(
        name="hscore",
        function=hscore,
        score=_score,
        paper="Bao et al., ICIP 2019",
        range=(0.0, float("inf")),
        cost="2 n d^2 + O(d^3)",
        needs=frozenset({"measured", "scatter", "class_products"}),
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=hscore_from_moments,
    )
)
