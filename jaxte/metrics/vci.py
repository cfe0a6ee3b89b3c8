"""VCI: how much of the variance along the class means lies within the classes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import noise, trace

__all__ = ["vci", "vci_from_moments"]

_NO_CORRELATION = 1e-10  # of a squared correlation


def vci(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the variability collapse index, 0 for classes that have collapsed.

    .. math:: \mathrm{tr}(\Sigma_T^{+} \Sigma_B) \,/\, \mathrm{rank}(\Sigma_B) - 1

    It is `hscore` divided by its largest value: C - 1 unless class means depend on each other, so
    that the two order models alike. Any labels score 0 once d >= n - 1.

    Args:
        features: [n, d], any scale; no invertible linear map of them changes the score.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar in [-1, 0]. NaN when fewer than two classes occur or no two class means differ.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Xu, Liu, ICML 2023, arXiv 2306.03440.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> ratio = (1 + jaxte.metrics.vci(x, y)) / jaxte.metrics.hscore(x, y)
        >>> round(float(ratio), 4)
        0.5
    """
    return VCI.outputs(features, labels, num_classes, weights, num_features)["score"]


def vci_from_moments(state: Moments) -> Array:
    r"""VCI of samples that are known by their moments only.

    .. math:: \mathrm{tr}(S_T^{+} S_B) \,/\, \mathrm{rank}\, S_B - 1

    Args:
        state: `jaxte.moments.Moments` of labels.

    Returns:
        Scalar, the score that `vci` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets.

    References: as `vci`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.vci_from_moments(state) - jaxte.metrics.vci(x, y)
        >>> bool(abs(gap) < 1e-4)
        True
    """
    return VCI.outputs_from_moments(state)["score"]


def _score(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    products = statistics.target_products
    squares = jnp.linalg.eigvalsh(lax.stop_gradient(products))
    rank = jnp.sum(squares > jnp.maximum(_NO_CORRELATION, noise(jnp.ones((), squares.dtype))))
    exists = statistics.valid & (rank > 0)
    score = jnp.minimum(trace(products) / jnp.maximum(rank, 1), 1) - 1
    return {"score": jnp.where(exists, score, jnp.nan)}


VCI = register(
    Metric(
        name="vci",
        function=vci,
        score=_score,
        paper="Xu, Liu, ICML 2023",
        confirmed="own replica",
        range=(-1.0, 0.0),
        cost="2 n d k + O(k^3)",
        needs=frozenset({"measured", "target_products"}),
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=vci_from_moments,
    )
)
