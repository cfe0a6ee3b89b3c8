"""LiDAR: effective rank of the linear discriminants that tell images apart by their views."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.collapse import balanced_means
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.ranks import entropy
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import matmul
from jaxte.statistics.spectrum import eigenvalues_of_gram

__all__ = ["lidar", "lidar_from_moments"]

_DELTA = 1e-4


def lidar(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    delta: ArrayLike = _DELTA,
) -> Array:
    r"""Effective number of directions in which images differ more than their own views do.

    .. math:: \exp\Bigl(-\sum_k p_k \ln p_k\Bigr), \qquad p_k = \frac{\lambda_k}{\sum_j \lambda_j},
        \qquad \lambda_k = \lambda_k\bigl((\Sigma_W + \delta I)^{-1} \Sigma_B\bigr)

    with the covariance of the means of the views (divided by C - 1) and that of the views of each
    image (by n - C). It needs no class labels: a class is one image in several augmented views.
    Class labels in their place measure in how many directions the classes differ.

    Args:
        features: [n, d].
        labels: [n] which image each row is a view of, numbered as classes are.
        num_classes: number of images; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0, within images only: each mean counts the same.
        num_features: true width when trailing columns are padding.
        delta: added to the variances within images, in squared feature units.

    Returns:
        Scalar in [1, min(d, C - 1)]. NaN when fewer than two images occur, all have one view
        only, or no two means differ.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Thilak et al., ICLR 2024, arXiv 2312.04000.

    Example:
        >>> import jax, jaxte
        >>> image = jax.numpy.arange(90) // 3
        >>> seen = jax.random.normal(jax.random.key(0), (30, 8))[image]
        >>> views = seen + 0.1 * jax.random.normal(jax.random.key(1), seen.shape)
        >>> dull = views.at[:, 4:].mul(0.01)
        >>> bool(jaxte.metrics.lidar(views, image) > jaxte.metrics.lidar(dull, image))
        True
    """
    return LIDAR.outputs(features, labels, num_classes, weights, num_features, delta=delta)["score"]


def lidar_from_moments(state: Moments, *, delta: ArrayLike = _DELTA) -> Array:
    r"""LiDAR of samples that are known by their moments only.

    .. math:: \lambda_k = \lambda_k\bigl(M (\Sigma_W + \delta I)^{-1} M^\top\bigr) \,/\, (C - 1)

    Args:
        state: `jaxte.moments.Moments` of which the classes are images.
        delta: as in `lidar`.

    Returns:
        Scalar, the score that `lidar` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets.

    References: as `lidar`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) // 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=30), x, y)
        >>> gap = jaxte.metrics.lidar_from_moments(state) - jaxte.metrics.lidar(x, y)
        >>> bool(abs(gap) < 1e-2)
        True
    """
    return LIDAR.outputs_from_moments(state, delta=delta)["score"]


def _check(*, delta: Any) -> None:
    checks.check_positive("delta", delta)


def _score(statistics: Statistics, _: tuple[Completed, ...], *, delta: Any) -> Outputs:
    state, unit = statistics.measured.moments, statistics.unit
    number = (state.counts > 0).sum().astype(unit.dtype)
    views = state.total - number  # beyond the first of each image
    means = balanced_means(statistics)
    least = jnp.finfo(unit.dtype).tiny  # of huge features, or padding would be divided by 0
    # squared last: the square of a unit may be no number of float32
    ridge = jnp.maximum(jnp.square(jnp.sqrt(jnp.asarray(delta).astype(unit.dtype)) / unit), least)
    scale = state.total / jnp.where(views > 0, views, jnp.nan)
    # as many eigenvalues as images and not as features; their common factor does not matter
    size = jnp.maximum(ridge, 1)
    products = matmul(means, statistics.solve_within(scale / size, ridge / size, means.T))
    values = eigenvalues_of_gram((products + products.T) / 2, number)
    total = values.sum()
    exists = statistics.valid & (views > 0) & (total > 0)
    score = jnp.exp(entropy(values / jnp.where(total > 0, total, 1)))
    quick = statistics.may_be_unsure  # which leaves what is near singular to the full route
    return {
        "score": jnp.where(exists, score, jnp.nan),
        "unsure": quick & statistics.valid & (views > 0) & jnp.isnan(products).any(),
    }


LIDAR = register(
    Metric(
        name="lidar",
        function=lidar,
        score=_score,
        paper="Thilak et al., ICLR 2024",
        confirmed="own replica",
        range=(1.0, float("inf")),
        cost="2 n d^2 + d^3 / 3 + C d^2",
        needs=frozenset({"rows", "measured", "scatter"}),
        check=_check,
        smooth=False,
        invariances=frozenset({"rotation", "shift"}),
        from_moments=lidar_from_moments,
    )
)
