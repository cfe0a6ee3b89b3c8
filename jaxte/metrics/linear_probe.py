"""A linear probe: cross-validated logistic regression, what re-training a head would reach."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics, softmax
from jaxte.statistics.folds import check_folds, check_key, cross_fit
from jaxte.statistics.linalg import matmul, standardised

__all__ = ["linear_probe"]

_MEASURES = ("log_likelihood", "accuracy")


def linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    folds: int | ArrayLike = 5,
    lam: ArrayLike = 1.0,
    measure: str = "log_likelihood",
    key: int | Array | None = None,
) -> Array:
    r"""How well logistic regression, fitted to the other folds, predicts the rows of each fold.

    .. math::
        \min_{W, b} \sum_i \ell_i + \frac{|W|^2}{2 \lambda}

    with cross entropies :math:`\ell_i` of features that are standardised by mean and deviation of
    the rows fitted to. The score is the mean over folds. It is the honest reference for scores
    that are fitted to the rows they are measured on; `ridge_probe` is its cheap relative.

    Args:
        features: [n, d]; shifts and scales of the columns do not matter.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row; 2 = a row written twice, both in one
            fold.
        num_features: true width when trailing columns are padding.
        folds: how many, stratified by class, or the fold number 0..9 of each row [n].
        lam: variance of the prior of W: scikit-learn's C, or of two classes half of it.
        measure: "log_likelihood" or "accuracy".
        key: of ``jax.random``, or a seed, for random folds; without one the rows are dealt to the
            folds in their order.

    Returns:
        Scalar: nats per sample in (-inf, 0], or accuracy in [0, 1]. A row whose class does not
        occur in the other folds counts as wrong, with the probability 1 / (n + 1) for n rows
        fitted to. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Alain and Bengio, ICLR workshop 2017, arXiv 1610.01644 (linear probes).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.linear_probe(better, y) > jaxte.metrics.linear_probe(x, y))
        True
    """
    return LINEAR_PROBE.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        folds=folds,
        lam=lam,
        measure=measure,
        key=key,
    )["score"]


def _check(*, folds: Any, lam: Any, measure: str, key: Any) -> None:
    check_folds(folds)
    check_key(key)
    checks.check_positive("lam", lam)
    checks.choose("measure", measure, _MEASURES)


def _score(
    statistics: Statistics,
    completed: tuple[Completed, ...],
    *,
    folds: int | Array,
    lam: ArrayLike,
    measure: str,
    key: int | Array | None,
) -> Outputs:
    x, w, labels = statistics.centred, statistics.rows.weights, statistics.labels
    y = jax.nn.one_hot(labels, len(statistics.counts), dtype=x.dtype, axis=0)

    def probe(fitted: Array) -> tuple[Array, Array]:
        """Log probability of each row's class, and whether it is the most probable [n]."""
        total = fitted.sum()
        scaled = standardised(x, fitted, (matmul(fitted, x) / total)[None], total)
        z = softmax.along_axes(scaled, fitted)
        problem = softmax.Regression(z, y, fitted, jnp.asarray(lam).astype(x.dtype))
        log_p = problem.log_probabilities(softmax.fit(z, y, fitted, lam))
        known = matmul(problem.occurs.astype(x.dtype), y) > 0
        own = jnp.sum(jnp.where((y > 0) & known[None], log_p, 0), axis=0)
        right = jnp.argmax(log_p, axis=0) == labels
        return jnp.where(known, own, -jnp.log(fitted.sum() + 1)), right.astype(x.dtype)

    size = 4 * (x.size + y.size)
    (own, right), shares = cross_fit(probe, folds, labels, w, size=size, key=key)
    outputs = {
        "log_likelihood": shares @ own,
        "accuracy": jnp.minimum(shares @ right, 1),  # but for rounding
    }
    return {"score": jnp.where(statistics.valid, outputs[measure], jnp.nan), **outputs}


LINEAR_PROBE = register(
    Metric(
        name="linear_probe",
        function=linear_probe,
        score=_score,
        paper="ours: cross-validated logistic regression",
        confirmed="own replica",
        range=(float("-inf"), 0.0),
        cost="folds * (2 n d k + O(k^3) + steps * 4 n k C)",
        needs=frozenset({"measured", "all_rows"}),
        check=_check,
        invariances=frozenset({"shift", "scale"}),
    )
)
