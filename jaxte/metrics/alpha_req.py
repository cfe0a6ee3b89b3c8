"""alpha-ReQ: how fast the eigenvalues of the covariance decay; reads no labels."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics

__all__ = ["alpha_req", "alpha_req_from_moments"]

_RANKS = (6, 100)  # those of the released code


def alpha_req(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    ranks: tuple[int, int] = _RANKS,
) -> Array:
    r"""Minus the distance from 1 of the exponent with which the eigenvalues decay.

    .. math:: -|\alpha - 1|, \qquad \ln \lambda_j \approx c - \alpha \ln j

    by least squares, each eigenvalue of the covariance weighing 1/j. Neither a flat spectrum nor a
    steep one is best, so the exponent itself is no score.

    Args:
        features: [n, d], any scale.
        labels: of no effect.
        num_classes: of no effect.
        weights: [n] sample weights >= 0.
        num_features: true width when trailing columns are padding.
        ranks: first and last j of the fit, counted from 1 and cut to the eigenvalues that are not
            0; all of them where fewer than twice the first are not 0.

    Returns:
        Scalar <= 0. NaN where fewer than two eigenvalues are not 0.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Agrawal et al., NeurIPS 2022, arXiv 2202.05808.

    Example:
        >>> import jax, jax.numpy as jnp, jaxte
        >>> x = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (90, 33)).at[:, 0].set(1))[0]
        >>> x = x[:, 1:] / jnp.sqrt(jnp.arange(1, 33))  # eigenvalues 1, 1/2, 1/3, ...
        >>> round(float(jaxte.metrics.alpha_req(x)), 4) + 0
        0.0
    """
    return ALPHA_REQ.outputs(features, labels, num_classes, weights, num_features, ranks=ranks)[
        "score"
    ]


def alpha_req_from_moments(state: Moments, *, ranks: tuple[int, int] = _RANKS) -> Array:
    r"""alpha-ReQ of samples that are known by their moments only.

    .. math:: \lambda_j = \lambda_j(S_T)

    Args:
        state: `jaxte.moments.Moments`, of labels or of float targets.
        ranks: as in `alpha_req`.

    Returns:
        Scalar, the score that `alpha_req` gives to the samples themselves.

    References: as `alpha_req`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_targets=1), x, x[:, 0])
        >>> gap = jaxte.metrics.alpha_req_from_moments(state) - jaxte.metrics.alpha_req(x)
        >>> bool(abs(gap) < 1e-3)
        True
    """
    return ALPHA_REQ.outputs_from_moments(state, ranks=ranks)["score"]


def _check(*, ranks: Any) -> None:
    whole = isinstance(ranks, tuple) and all(isinstance(rank, int) for rank in ranks)
    if not (whole and len(ranks) == 2 and 1 <= ranks[0] < ranks[1]):
        raise InputError(
            f"ranks is {checks.short(ranks)}: give the first and the last rank, as (6, 100)"
        )


def _score(statistics: Statistics, _: tuple[Completed, ...], *, ranks: tuple[int, int]) -> Outputs:
    values = statistics.eigenvalues
    rank = jnp.arange(1, len(values) + 1).astype(values.dtype)
    positive = values > 0
    first = jnp.where(positive.sum() < 2 * ranks[0], 1, ranks[0])
    used = positive & (rank >= first) & (rank <= ranks[1])
    weight = jnp.where(used, 1 / rank, 0)
    weight /= jnp.where(used.any(), weight.sum(), 1)
    x, y = jnp.log(rank), jnp.log(jnp.where(used, values, 1))
    x = x - jnp.sum(weight * x)
    spread = jnp.sum(weight * x**2)
    exists = statistics.measured.moments.valid & (used.sum() >= 2)
    alpha = -jnp.sum(weight * x * y) / jnp.where(exists, spread, 1)
    alpha = jnp.where(exists, alpha, jnp.nan)
    return {"score": -jnp.abs(alpha - 1), "alpha": alpha}


ALPHA_REQ = register(
    Metric(
        name="alpha_req",
        function=alpha_req,
        score=_score,
        paper="Agrawal et al., NeurIPS 2022",
        confirmed="own replica",
        label_free=True,
        tasks=("classification", "regression"),
        range=(float("-inf"), 0.0),
        cost="n d k + O(k^3)",
        needs=frozenset({"measured", "eigenvalues"}),
        check=_check,
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=alpha_req_from_moments,
    )
)
