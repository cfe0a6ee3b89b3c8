"""H-score with a shrunk covariance, for features that are many beside the rows."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.passes import deviations
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.linalg import ledoit_wolf, matmul, trace
from jaxte.statistics.ridge import leverage_inflation
from jaxte.statistics.total import total_products

__all__ = ["hscore_shrinkage"]

_VARIANTS = ("released", "paper")
_LEAST, _LEAST_SINGLE = 1e-10, 1e-6  # shrinkage that leaves enough digits of a sum with 1


def hscore_shrinkage(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    variant: str = "released",
) -> Array:
    r"""H-score with the covariance of Ledoit and Wolf, which has an inverse for any n and d.

    .. math::
        H_a = (1-a)\, \mathrm{tr}\bigl(S_a^{-1}\, \mathrm{Cov}(\mathbb E[f \mid y])\bigr), \quad
        S_a = (1-a)\, S + a\, \tfrac{\mathrm{tr} S}{d} I

    with S the covariance of the features and the shrinkage a of Ledoit and Wolf. The released
    code divides the covariance of the class means by n - 1 and S by n; the paper has n twice.
    That factor is the same for all models of one data set.

    Args:
        features: [n, d]; neither a rotation nor one common scale changes the score.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        variant: "released" or "paper", which is n / (n - 1) times smaller.

    Returns:
        Scalar in [0, C - 1), times n / (n - 1) as released. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Ibrahim, Ponomareva, Mazumder, ECML PKDD 2022, arXiv 2110.06893; Ledoit, Wolf,
        Journal of Multivariate Analysis 88(2), 2004.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.hscore_shrinkage
        >>> bool(score(better, y) > score(x, y))
        True
    """
    return HSCORE_SHRINKAGE.outputs(
        features, labels, num_classes, weights, num_features, variant=variant
    )["score"]


def _check(*, variant: str) -> None:
    checks.choose("variant", variant, _VARIANTS)


def _fourth_powers(means: Array, batch: Batch, **_: Any) -> Array:
    """Sum of the fourth powers of the distances from the mean of all."""
    return batch.weights @ jnp.sum(batch.centred(means) ** 2, axis=1) ** 2


def _shrinkage(statistics: Statistics, fourth: Array) -> tuple[Array, Array, Array]:
    """a, a tr S / d, and whether the features vary, from the sum of fourth powers."""
    state, n, width = statistics.measured.moments, statistics.total, statistics.width
    total = total_products(statistics)
    size, square, fourth = trace(total) / n, jnp.sum(total**2) / n**2, fourth / n
    varies = size > state.rounding.sum() / n
    size = jnp.where(varies, size, 1)
    shrinkage = ledoit_wolf(size, square, fourth, width, n)
    # a is 0 of few rows that are equally far from their mean: too few for an inverse
    lowest = _LEAST if n.dtype == jnp.float64 else _LEAST_SINGLE
    return shrinkage, jnp.maximum(shrinkage, lowest) * size / width, varies


def _inflation(statistics: Statistics, **_: Any) -> Array:
    fourth = _fourth_powers(deviations(statistics), statistics.batch())
    shrinkage, ridge = _shrinkage(statistics, fourth)[:2]
    share = jnp.maximum(1 - shrinkage, jnp.finfo(ridge.dtype).eps)
    penalty = statistics.total * ridge / share
    return leverage_inflation(statistics.centred, statistics.rows.weights, penalty[None])


def _score(statistics: Statistics, completed: tuple[Completed, ...], *, variant: str) -> Outputs:
    state, n = statistics.measured.moments, statistics.total
    shrinkage, ridge, varies = _shrinkage(statistics, completed[0].result)
    solved = statistics.solve_within(1 - shrinkage, ridge, state.deviations.T)
    # the scatter between the classes comes back in closed form: tr((I + K)^-1 K), C x C
    between = matmul(state.deviations, solved) * ((1 - shrinkage) * state.counts / n)[:, None]
    eye = jnp.eye(len(between), dtype=between.dtype)
    score = trace(jnp.linalg.solve(eye + between, between))
    if variant == "released":
        score = score * jnp.where(n > 1, n / jnp.where(n > 1, n - 1, 1), 1)
    score = jnp.where(varies, score, 0)
    score = jnp.where(statistics.valid, score, jnp.nan)
    unsure = jnp.isnan(score) & statistics.valid & statistics.may_be_unsure
    return {"score": score, "shrinkage": shrinkage, "constant": ~varies, "unsure": unsure}


HSCORE_SHRINKAGE = register(
    Metric(
        name="hscore_shrinkage",
        function=hscore_shrinkage,
        score=_score,
        paper="Ibrahim et al., ECML PKDD 2022",
        confirmed="released code",
        range=(0.0, float("inf")),
        cost="2 n d k + k^3 / 3",
        needs=frozenset({"measured", "scatter"}),
        passes=(Pass(deviations, _fourth_powers),),
        check=_check,
        inflation=_inflation,
        invariances=frozenset({"rotation", "shift", "scale"}),
        variants=_VARIANTS,
    )
)
