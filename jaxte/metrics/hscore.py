"""H-score: how much of the variance that features have lies between the classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.metrics.held_out import check_number, held_out, with_rows
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Moments, Statistics
from jaxte.statistics.linalg import matmul, noise, trace
from jaxte.statistics.total import explained, inverse_or_0, whitened_targets

__all__ = ["hscore", "hscore_from_moments"]


def hscore(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    folds: int | None = None,
) -> Array:
    r"""Sum of squared canonical correlations between the features and the targets.

    .. math:: H = \mathrm{tr}\bigl(\mathrm{Cov}(f)^{+}\, \mathrm{Cov}(\mathbb E[f \mid y])\bigr)

    or for regression :math:`\mathrm{tr}(S_{XX}^{+} S_{XY} S_{YY}^{+} S_{YX})`, of one target R2.
    Directions in which the features vary only by rounding are left out. Any labels score C - 1
    once d >= n - 1, and labels without any signal (C - 1) d / (n - 1): compare models of one width,
    or measure on rows that are left out:

    .. math:: H_k = \sum_j r_j \lvert r_j \rvert, \qquad r_j = \mathrm{corr}(u_j, v_j)

    with the canonical variates u, v of k - 1 folds, which are applied to the rows of the one left
    out; the correlations, about the means of the training rows, are taken over all folds together.
    They may be negative, and without signal their sum is 0 in expectation.

    Args:
        features: [n, d], any scale; no invertible linear map of them changes the score.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts; or floats [n] or [n, k]
            for regression.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        folds: None, or k >= 2: measured on left-out folds of the rows (stratified, dealt in their
            order). A row of weight 2 is left out as one; classes of one row are not measured.

    Returns:
        Scalar in [0, C - 1], or [0, k] for k targets; with ``folds`` from minus that on. NaN when
        fewer than two classes occur.

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
    return HSCORE.outputs(features, labels, num_classes, weights, num_features, folds=folds)[
        "score"
    ]


def hscore_from_moments(state: Moments) -> Array:
    r"""H-score of samples that are known by their moments only.

    .. math:: H = \mathrm{tr}\bigl(S_T^{+} S_B\bigr)

    Args:
        state: `jaxte.moments.Moments`.

    Returns:
        Scalar, the score that `hscore` gives to the samples themselves.

    Raises:
        InputError: where these moments do not suffice.

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


def _check(*, folds: Any) -> None:
    check_number(folds)


def _needs(*, folds: int | None) -> frozenset[str]:
    return with_rows(frozenset({"scatter" if folds else "target_products", "measured"}), folds)


# --- measured on rows that are left out -----------------------------------------------------------


def _correlations(training: Statistics, left_out: Batch) -> tuple[Array, Array, Array]:
    """Products and squares of the canonical variates of the training rows, on those left out."""
    state, (solved, products) = training.measured.moments, explained(training)
    means, counts = state.deviations, state.counts
    if state.targets is None:
        root = jnp.diag(jnp.sqrt(inverse_or_0(counts)))
        toward = jnp.take(means, left_out.labels, axis=0, mode="clip")
        centre = counts / state.total
        targets = jax.nn.one_hot(left_out.labels, len(counts), dtype=centre.dtype) - centre[None]
    else:
        root, toward = whitened_targets(state)[1], jnp.zeros((), counts.dtype)
        targets = left_out.labels - (state.targets.origin + state.targets.mean)[None]
    strength, turn = jnp.linalg.eigh(products)
    turn = jnp.where(strength[None] > noise(jnp.ones_like(strength), len(solved))[None], turn, 0)
    turn = turn[:, ::-1]  # the strongest first
    strength = jnp.where(strength > 0, strength, 1)[::-1]
    features = matmul(left_out.residuals + toward, matmul(solved, turn))
    features = features / jnp.sqrt(strength / state.total)[None]
    targets = matmul(targets, matmul(root, turn)) * jnp.sqrt(state.total)
    weights = left_out.weights
    return weights @ (features * targets), weights @ features**2, weights @ targets**2


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, folds: int | None = None
) -> Outputs:
    if folds is not None:
        (both, one, other), _judged = held_out(statistics, folds, _correlations)
        size = one * other
        varies = size > 0
        correlation = jnp.where(varies, both / jnp.sqrt(jnp.where(varies, size, 1)), 0)
        score = jnp.sum(correlation * jnp.abs(correlation))
    else:
        most = statistics.present.sum() - (statistics.measured.moments.targets is None)
        score = jnp.minimum(trace(statistics.target_products), most)  # but for rounding no larger
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


HSCORE = register(
    Metric(
        name="hscore",
        function=hscore,
        score=_score,
        paper="Bao et al., ICIP 2019",
        confirmed="released code",
        tasks=("classification", "regression"),
        range=(0.0, float("inf")),
        cost="2 n d k + O(k^3)",
        needs=_needs,
        check=_check,
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=hscore_from_moments,
    )
)
