"""LFC: correlation of the products of the features with whether labels agree."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import matmul, safe_root
from jaxte.statistics.total import total_products

__all__ = ["lfc", "lfc_from_moments"]


def lfc(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    centred: bool = False,
) -> Array:
    r"""Correlation, over pairs of samples, of x'x with 1 for equal labels and -1 for others.

    .. math:: \frac{\langle K - \bar K, T - \bar T \rangle}{\|K - \bar K\| \, \|T - \bar T\|},
        \qquad K = X X^\top, \quad T_{ij} = \pm 1

    with grand means and Frobenius norms, exactly, from the smaller of X'X and XX'. For float
    targets T is y y' of the centred target, and the score the mean over target columns that vary.

    Args:
        features: [n, d], any scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts; or floats [n] or
            [n, k].
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; a pair weighs their product.
        num_features: true width when trailing columns are padding.
        centred: whether the mean of the features is taken off first; as published it stays, and a
            large common offset hides what the features say.

    Returns:
        Scalar in [-1, 1]. NaN for features or targets that are constant.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Deshpande et al., arXiv 2102.00084.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.lfc(better, y) > jaxte.metrics.lfc(x, y))
        True
    """
    return LFC.outputs(features, labels, num_classes, weights, num_features, centred=centred)[
        "score"
    ]


def lfc_from_moments(state: Moments, *, centred: bool = False) -> Array:
    r"""LFC of samples that are known by their moments only.

    .. math:: \|K - \bar K\|^2 = \|S_T\|^2 + 2 n\, m^\top S_T m

    Args:
        state: `jaxte.moments.Moments`, of labels or of float targets.
        centred: as in `lfc`.

    Returns:
        Scalar, the score that `lfc` gives to the samples themselves.

    References: as `lfc`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.lfc_from_moments(state) - jaxte.metrics.lfc(x, y)
        >>> bool(abs(gap) < 1e-4)
        True
    """
    return LFC.outputs_from_moments(state, centred=centred)["score"]


def _score(statistics: Statistics, _: tuple[Completed, ...], *, centred: bool) -> Outputs:
    """By sums from which the grand means have been taken off, so that an offset costs no digits."""
    state = statistics.measured.moments
    n = state.total
    varies = statistics.within_diagonal + state.counts @ state.deviations**2 > state.rounding
    mean = jnp.where(varies & ~jnp.asarray(centred), state.origin + state.relative_mean, 0)
    total = total_products(statistics, varies)
    if statistics.by_columns:
        beside = mean @ matmul(total, mean)
    else:
        beside = statistics.rows.weights @ matmul(statistics.centred, mean) ** 2
    norm = safe_root(jnp.sum(total**2) + 2 * n * beside)
    if state.targets is None:
        gaps, counts = jnp.where(varies[None], state.deviations, 0), state.counts
        along = jnp.sum(counts**2 * jnp.sum(gaps * (2 * mean[None] + gaps), axis=1))
        alike = jnp.sum((counts / n) ** 2)  # share of the pairs
        norm *= n * jnp.sqrt(jnp.where(statistics.valid, alike * (1 - alike), 1))
        score = along / jnp.where(norm > 0, norm, jnp.nan)
    else:
        cross = jnp.sum(jnp.where(varies[:, None], state.targets.cross, 0) ** 2, axis=0)
        norms = norm * state.targets.square
        scores = cross / jnp.where(norms > 0, norms, 1)
        used = norms > 0
        score = jnp.where(used.any(), scores.sum() / jnp.maximum(used.sum(), 1), jnp.nan)
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


LFC = register(
    Metric(
        name="lfc",
        function=lfc,
        score=_score,
        paper="Deshpande et al., arXiv 2102.00084",
        confirmed="own replica",
        tasks=("classification", "regression"),
        range=(-1.0, 1.0),
        cost="2 n d k",
        needs=frozenset({"measured", "scatter", "rows"}),
        invariances=frozenset({"rotation", "scale"}),
        from_moments=lfc_from_moments,
    )
)
