"""LEAD: cross entropy after a closed form of fine-tuning has moved the logits to the labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Pass
from jaxte.metrics.passes import deviations, mean_of_last
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.linalg import matmul, ridge_solve, ridge_solve_scatter, safe_root
from jaxte.statistics.measure import divisors

__all__ = ["lead"]

_SAMPLES = 8  # of a class in its tangent kernel
_RIDGE = 1e-3


def lead(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    time: ArrayLike = 10.0,
) -> Array:
    r"""Minus the cross entropy of logits that relax from a ridge fit towards the labels.

    .. math:: L_i = (1 - e^{-\lambda_c t})\, e_{y_i} + e^{-\lambda_c t}\, W^\top z_i, \qquad
        \lambda_c = 1 / \min(n_c, 8)

    z are centred features of mean length 1 and W their ridge regression of one-hot labels, of
    penalty 1e-3. **What it is not**: the paper has rates from a neural tangent kernel, and no
    released code. In the only open reading, that of the TE-Bench benchmark, the mean eigenvalue of
    a kernel of 8 samples is divided by its trace, which leaves 1/8 whatever the kernel: all
    classes of 8 rows or more relax alike, and the score orders models as their ridge fit does.

    Args:
        features: [n, d], any scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        time: t > 0.

    Returns:
        Scalar <= 0, in nats. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Hu et al., CVPR 2024, arXiv 2507.14559, as far as it can be known.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.lead(better, y) > jaxte.metrics.lead(x, y))
        True
    """
    return LEAD.outputs(features, labels, num_classes, weights, num_features, time=time)["score"]


def _check(*, time: Any) -> None:
    checks.check_positive("time", time)


def _lengths(means: Array, batch: Batch, **_: Any) -> Array:
    """Sum of the lengths of the rows from the mean of all."""
    centred = batch.centred(means)
    return batch.weights @ safe_root(jnp.sum(centred**2, axis=1))


def _fit(
    statistics: Statistics, completed: tuple[Completed, ...], *, time: Any
) -> tuple[Array, Array, Array, Array]:
    """Class means, ridge weights [d, C], decay of each class and which occur."""
    state, counts = statistics.measured.moments, statistics.counts
    length = completed[0].result / state.total
    ridge = _RIDGE * length**2
    ridge = jnp.where(length > 0, ridge, 1)
    rhs, one = (counts[:, None] * state.deviations).T, jnp.ones((), ridge.dtype)
    if statistics.in_memory:
        rows, weights = statistics.centred, statistics.rows.weights
        scatter = statistics.moments.total_scatter if statistics.by_columns else None
        solved = ridge_solve(rows, weights, one, ridge, rhs, scatter)
    else:
        solved = ridge_solve_scatter(statistics.moments.total_scatter, one, ridge, rhs)
    time = jnp.asarray(time).astype(ridge.dtype)
    decay = jnp.exp(-time / jnp.minimum(divisors(counts), _SAMPLES))
    return state.deviations, solved, decay, counts > 0


def _cross_entropy(constants: tuple[Array, Array, Array, Array], batch: Batch, **_: Any) -> Array:
    means, solved, decay, present = constants
    centred = batch.centred(means)
    own = jnp.take(decay, batch.labels, mode="clip")[:, None]
    target = jax.nn.one_hot(batch.labels, len(decay), dtype=own.dtype)
    logits = (1 - own) * target + own * matmul(centred, solved)
    log_p = jax.nn.log_softmax(jnp.where(present[None], logits, -jnp.inf), axis=1)
    chosen = jnp.take_along_axis(log_p, batch.labels[:, None], axis=1, mode="clip")[:, 0]
    return jnp.sum(jnp.where(batch.weights > 0, batch.weights * chosen, 0))


LEAD = register(
    Metric(
        name="lead",
        function=lead,
        score=mean_of_last,
        paper="Hu et al., CVPR 2024 (as TE-Bench reads it: a ridge fit)",
        confirmed="own replica",
        range=(float("-inf"), 0.0),
        cost="2 n d k + O(k^3)",
        needs=frozenset({"measured", "scatter"}),
        passes=(Pass(deviations, _lengths), Pass(_fit, _cross_entropy)),
        check=_check,
        invariances=frozenset({"rotation", "shift", "scale"}),
    )
)
