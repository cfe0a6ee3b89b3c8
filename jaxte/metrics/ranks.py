"""Soft ranks of the features, which read no labels: RankMe, effective rank, stable rank."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import safe_root

__all__ = [
    "effective_rank",
    "effective_rank_from_moments",
    "rankme",
    "rankme_from_moments",
    "stable_rank",
    "stable_rank_from_moments",
]

_EPSILON = 1e-7  # of RankMe: added to the share of every singular value
_MEASURES = ("entropy", "participation_ratio")


def rankme(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    centred: bool = False,
) -> Array:
    r"""Effective number of singular values of the features; reads no labels.

    .. math:: \exp\Bigl(-\sum_k p_k \ln p_k\Bigr), \qquad
        p_k = \frac{\sigma_k}{\sum_j \sigma_j} + 10^{-7}

    It grows with the number of samples as long as these are few: compare models on the same ones.

    Args:
        features: [n, d], any scale.
        labels: of no effect.
        num_classes: of no effect.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        centred: whether the mean is taken off first; as published it stays, and a common offset of
            the features then is one large singular value.

    Returns:
        Scalar in [1, min(n, d)]. NaN for features that are all zero (``centred``: constant).

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Garrido et al., ICML 2023, arXiv 2210.02885.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> bool(jaxte.metrics.rankme(x) > jaxte.metrics.rankme(x.at[:, 4:].set(0)))
        True
    """
    return RANKME.outputs(features, labels, num_classes, weights, num_features, centred=centred)[
        "score"
    ]


def rankme_from_moments(state: Moments, *, centred: bool = False) -> Array:
    r"""RankMe of samples that are known by their moments only.

    .. math:: \sigma_k^2 = \lambda_k\bigl(S_T + n\, m m^\top\bigr)

    Args:
        state: `jaxte.moments.Moments`, of labels or of float targets.
        centred: as in `rankme`.

    Returns:
        Scalar, the score that `rankme` gives to the samples themselves.

    References: as `rankme`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> state = jaxte.moments.init(8, num_targets=1)
        >>> state = jaxte.moments.update(state, x, x[:, 0])
        >>> gap = jaxte.metrics.rankme_from_moments(state) - jaxte.metrics.rankme(x)
        >>> bool(abs(gap) < 1e-3)
        True
    """
    return RANKME.outputs_from_moments(state, centred=centred)["score"]


def effective_rank(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    centred: bool = True,
    measure: str = "entropy",
) -> Array:
    r"""Effective number of principal components; reads no labels.

    .. math:: \exp\Bigl(-\sum_k p_k \ln p_k\Bigr) \quad\text{or}\quad
        \frac{1}{\sum_k p_k^2}, \qquad p_k = \frac{\lambda_k}{\sum_j \lambda_j}

    with the eigenvalues of the covariance; `rankme` takes their roots.

    Args:
        features: [n, d], any scale.
        labels: of no effect.
        num_classes: of no effect.
        weights: [n] sample weights >= 0.
        num_features: true width when trailing columns are padding.
        centred: whether the mean is taken off first.
        measure: "entropy", or "participation_ratio", which counts small components less.

    Returns:
        Scalar in [1, min(n - 1, d)]. NaN for constant features.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Roy, Vetterli, EUSIPCO 2007.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> x = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(float(jaxte.metrics.effective_rank(x)), 4)
        2.0
    """
    return EFFECTIVE_RANK.outputs(
        features, labels, num_classes, weights, num_features, centred=centred, measure=measure
    )["score"]


def effective_rank_from_moments(
    state: Moments, *, centred: bool = True, measure: str = "entropy"
) -> Array:
    r"""Effective rank of samples that are known by their moments only.

    .. math:: \lambda_k = \lambda_k(S_T)

    Args:
        state: `jaxte.moments.Moments`, of labels or of float targets.
        centred: as in `effective_rank`.
        measure: as in `effective_rank`.

    Returns:
        Scalar, the score that `effective_rank` gives to the samples themselves.

    References: as `effective_rank`.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> x = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> state = jaxte.moments.update(jaxte.moments.init(2, num_targets=1), x, x[:, 0])
        >>> round(float(jaxte.metrics.effective_rank_from_moments(state)), 4)
        2.0
    """
    return EFFECTIVE_RANK.outputs_from_moments(state, centred=centred, measure=measure)["score"]


def stable_rank(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    centred: bool = True,
) -> Array:
    r"""Total variance in units of the largest principal component's; reads no labels.

    .. math:: \frac{\sum_k \lambda_k}{\lambda_1} = \frac{\|X\|_F^2}{\|X\|_2^2}

    Args:
        features: [n, d], any scale.
        labels: of no effect.
        num_classes: of no effect.
        weights: [n] sample weights >= 0.
        num_features: true width when trailing columns are padding.
        centred: whether the mean is taken off first.

    Returns:
        Scalar in [1, min(n - 1, d)]. NaN for constant features.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Rudelson, Vershynin, Journal of the ACM 54(4), 2007.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> x = jnp.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
        >>> round(float(jaxte.metrics.stable_rank(x)), 4)
        1.25
    """
    return STABLE_RANK.outputs(
        features, labels, num_classes, weights, num_features, centred=centred
    )["score"]


def stable_rank_from_moments(state: Moments, *, centred: bool = True) -> Array:
    r"""Stable rank of samples that are known by their moments only.

    .. math:: \mathrm{tr}\, S_T \,/\, \lambda_1(S_T)

    Args:
        state: `jaxte.moments.Moments`, of labels or of float targets.
        centred: as in `stable_rank`.

    Returns:
        Scalar, the score that `stable_rank` gives to the samples themselves.

    References: as `stable_rank`.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> x = jnp.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
        >>> state = jaxte.moments.update(jaxte.moments.init(2, num_targets=1), x, x[:, 0])
        >>> round(float(jaxte.metrics.stable_rank_from_moments(state)), 4)
        1.25
    """
    return STABLE_RANK.outputs_from_moments(state, centred=centred)["score"]


def _needs(*, centred: bool, **_: Any) -> frozenset[str]:
    return frozenset({"measured", "eigenvalues" if centred else "gram_eigenvalues"})


def _shares(statistics: Statistics, *, centred: bool, roots: bool = False) -> tuple[Array, Array]:
    """Share of each eigenvalue, or of its root, and whether there is a score."""
    values = statistics.eigenvalues if centred else statistics.gram_eigenvalues
    values = safe_root(values) if roots else values
    total = values.sum()
    exists = statistics.measured.moments.valid & (total > 0)
    return values / jnp.where(total > 0, total, 1), exists


def entropy(shares: Array) -> Array:
    """Entropy in nats; a share of 0 adds nothing."""
    return -jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1)))


def _rankme(statistics: Statistics, _: tuple[Completed, ...], *, centred: bool) -> Outputs:
    shares, exists = _shares(statistics, centred=centred, roots=True)
    kept = shares > 0
    nats = entropy(jnp.where(kept, shares + _EPSILON, 0))
    # singular values that are 0 have a share too, but not those of padding
    possible = jnp.minimum(statistics.measured.moments.total, statistics.width)
    nats += jnp.maximum(possible - kept.sum(), 0) * entropy(jnp.full(1, _EPSILON, shares.dtype))
    return {"score": jnp.where(exists, jnp.exp(nats), jnp.nan)}


def _effective_rank(
    statistics: Statistics, _: tuple[Completed, ...], *, centred: bool, measure: str
) -> Outputs:
    shares, exists = _shares(statistics, centred=centred)
    score = 1 / jnp.sum(jnp.where(exists, shares, 1) ** 2)
    if measure == "entropy":
        score = jnp.exp(entropy(shares))
    return {"score": jnp.where(exists, score, jnp.nan)}


def _stable_rank(statistics: Statistics, _: tuple[Completed, ...], *, centred: bool) -> Outputs:
    shares, exists = _shares(statistics, centred=centred)
    return {"score": jnp.where(exists, 1 / jnp.where(exists, shares[0], 1), jnp.nan)}


def _check_measure(*, measure: str, **_: Any) -> None:
    checks.choose("measure", measure, _MEASURES)


_COMMON: dict[str, Any] = {
    "label_free": True,
    "confirmed": "own replica",
    "tasks": ("classification", "regression"),
    "range": (1.0, float("inf")),
    "cost": "n d k + O(k^3)",
    "needs": _needs,
}
RANKME = register(
    Metric(
        name="rankme",
        function=rankme,
        score=_rankme,
        paper="Garrido et al., ICML 2023",
        invariances=frozenset({"rotation", "scale"}),
        from_moments=rankme_from_moments,
        **_COMMON,
    )
)
EFFECTIVE_RANK = register(
    Metric(
        name="effective_rank",
        function=effective_rank,
        score=_effective_rank,
        paper="Roy, Vetterli, EUSIPCO 2007",
        check=_check_measure,
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=effective_rank_from_moments,
        **_COMMON,
    )
)
STABLE_RANK = register(
    Metric(
        name="stable_rank",
        function=stable_rank,
        score=_stable_rank,
        paper="Rudelson, Vershynin, JACM 2007",
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=stable_rank_from_moments,
        **_COMMON,
    )
)
