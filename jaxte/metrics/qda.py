"""Quadratic discriminant analysis with shrunken covariances, scored on rows it has not seen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.folds import check_folds, check_key, cross_fit
from jaxte.statistics.linalg import gram, matmul
from jaxte.statistics.measure import divisors
from jaxte.statistics.mixture import log_normal
from jaxte.statistics.spectrum import spectrum
from jaxte.statistics.tiles import map_tiles

__all__ = ["qda"]

_POOLED, _ROUND, _FLOOR = 0.5, 0.2, 1e-6  # shares of S_W and of the mean variance; what is added


def qda(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    num_components: int | None = 64,
    folds: int | ArrayLike = 5,
    key: int | Array | None = None,
) -> Array:
    r"""Mean probability of a row's class by quadratic discriminant analysis of the other folds.

    .. math::
        \Sigma_c = 0.8\, S_c + 0.2\, \tfrac{\mathrm{tr} S_c}{d} I + 10^{-6} I, \qquad
        S_c = \tfrac12 \mathrm{Cov}_c + \tfrac12 S_W

    of the leading principal components. Classes of one row are left out, unless fewer than two
    would be left.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row; 2 = a row written twice, both in one
            fold.
        num_features: true width when trailing columns are padding.
        num_components: principal components that are kept; None for all.
        folds: how many, stratified by class, or the fold number 0..9 of each row [n].
        key: of ``jax.random``, or a seed, for random folds; without one the rows are dealt to the
            folds in their order.

    Returns:
        Scalar in [0, 1]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Friedman, JASA 1989 (regularised discriminant analysis); the constants are those
        of the TE-Bench guide.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.qda(better, y) > jaxte.metrics.qda(x, y))
        True
    """
    return QDA.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        num_components=num_components,
        folds=folds,
        key=key,
    )["score"]


def _check(*, num_components: Any, folds: Any, key: Any) -> None:
    check_folds(folds)
    check_key(key)
    if num_components is not None:
        checks.check_whole("num_components", num_components)


def _score(
    statistics: Statistics,
    completed: tuple[Completed, ...],
    *,
    num_components: int | None,
    folds: int | Array,
    key: int | Array | None,
) -> Outputs:
    labels, counts = statistics.labels, statistics.counts
    several = counts > 1
    several = jnp.where(several.sum() >= 2, several, counts > 0)
    w = jnp.where(jnp.take(several, labels, mode="clip"), statistics.rows.weights, 0)
    x = statistics.centred
    x = x - (matmul(w, x) / divisors(w.sum()))[None]
    values, axes, *_ = spectrum(x, w)
    z = matmul(x, axes[:, :num_components])
    width = jnp.sum(values[:num_components] > 0).astype(z.dtype)
    z = jnp.where((jnp.arange(z.shape[1]) < width)[None], z, 0)
    floor = _FLOOR / statistics.unit / statistics.unit
    y = jax.nn.one_hot(labels, len(counts), dtype=z.dtype)

    def held_out(fitted: Array) -> Array:
        logits = _logits(z, fitted[:, None] * y, width, floor)
        return jnp.sum(y * jax.nn.softmax(logits, axis=1), axis=1)

    size = 4 * z.shape[1] * (len(z) + z.shape[1]) * len(counts)
    own, _ = cross_fit(held_out, folds, labels, w, size=size, key=key)
    score = jnp.where(w > 0, own, 0) @ w / divisors(w.sum())
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


def _logits(z: Array, shares: Array, width: Array, floor: Array) -> Array:
    """Log of prior times density [n, C], -inf for classes without rows in shares [n, C]."""
    counts = shares.sum(axis=0)
    means = matmul(shares.T, z) / divisors(counts)[:, None]
    inside = jnp.arange(z.shape[1]) < width
    number = jnp.maximum(width, 1)
    total = counts.sum()
    own = z - matmul((shares > 0).astype(z.dtype), means)
    pooled = gram(own, shares.sum(axis=1)) / total

    def one(share: Array, mean: Array, count: Array) -> Array:
        gap = z - mean[None]
        mixed = _POOLED * pooled + (1 - _POOLED) * gram(gap, share) / divisors(count)
        ridge = _ROUND * jnp.trace(mixed) / number + floor
        covariance = (1 - _ROUND) * mixed + jnp.diag(jnp.where(inside, ridge, 1))
        prior = jnp.where(count > 0, jnp.log(divisors(count) / total), -jnp.inf)
        return prior + log_normal(gap, covariance, width)

    size = 4 * z.shape[1] * (len(z) + z.shape[1])
    logits: Array = map_tiles(lambda parts: one(*parts), (shares.T, means, counts), size)
    return logits.T


QDA = register(
    Metric(
        name="qda",
        function=qda,
        score=_score,
        paper="Friedman, JASA 1989 (constants of TE-Bench)",
        confirmed="own replica",
        range=(0.0, 1.0),
        cost="2 n d k + O(k^3) + folds * (4 n C q^2 + C q^3) for q principal components",
        needs=frozenset({"measured", "all_rows"}),
        check=_check,
        invariances=frozenset({"rotation", "shift"}),
    )
)
