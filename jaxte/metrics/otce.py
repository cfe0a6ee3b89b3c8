"""OTCE: what an optimal coupling with the source task's samples says about the target labels."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.intake import as_labels, checks
from jaxte.statistics.rows import promote

__all__ = ["otce"]

_ITERATIONS = 10_000


def otce(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    source_features: ArrayLike,
    source_labels: ArrayLike,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    epsilon: float = 0.05,
) -> Array:
    r"""Minus the entropy of the target labels given the source labels that they are coupled with.

    .. math::
        P = \arg\min_P \sum_{ij} P_{ij} \bigl(\lVert x^s_i - x_j \rVert^2
        + \epsilon' \ln P_{ij}\bigr), \quad \sum_{c,s} P(s, c) \ln \frac{P(s, c)}{P(s)}

    This is F-OTCE, which has no fitted coefficients. The entropy's weight :math:`\epsilon'` is
    ``epsilon`` times the mean cost. It reads two data sets through one model, so that it is no
    metric that `jaxte.rank` can call: call it once a model.

    Args:
        features: [n, d] of the target data.
        labels: [n] classes, known outside of jit.
        source_features: [m, d] of the source data by the same model.
        source_labels: [m] classes.
        num_classes: C, if not all classes occur.
        weights: [n] sample weights >= 0 of the target data.
        num_features: not needed: columns of zeros change no distance.
        epsilon: regularisation; the smaller, the nearer to optimal transport, and the slower.

    Returns:
        Scalar in [-ln C, 0], in nats. NaN where the iteration does not converge.

    Raises:
        InputError: for input that cannot be scored.
        ImportError: without ott-jax, ``pip install "jaxte[ot]"``.

    References: Tan et al., TNNLS 2024, arXiv 2207.05510; Tan et al., CVPR 2021, arXiv 2103.13843.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> source = {"source_features": x, "source_labels": y}
        >>> bool(jaxte.metrics.otce(x, y, **source) > -0.1)  # doctest: +SKIP
        True
    """
    checks.check_positive("epsilon", epsilon)
    x, y, w, _, classes = checks.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    source, _ = checks.check_features(source_features, None)
    own = as_labels(source_labels, "source_labels")
    if own.classes is None:
        raise InputError("source_labels are floats: give classes")
    checks.check_labels(own, np.shape(source)[0], None, whole=False)
    if np.shape(source)[1] != np.shape(x)[1]:
        raise InputError(
            f"source_features have {np.shape(source)[1]} columns, features {np.shape(x)[1]}: give "
            "those of the same model"
        )
    x, source = promote(x), promote(source)
    one_hot = jax.nn.one_hot(y, classes or 0).T
    (epsilon,) = checks.as_numbers(epsilon=epsilon)
    coupled = _coupled(x, source.astype(x.dtype), w, epsilon, one_hot)
    return _negative_entropy(coupled, jnp.asarray(own.values), len(own.classes))


def _coupled(x: Array, source: Array, weights: Any, epsilon: float, one_hot: Array) -> Array:
    """Mass of each target class that each source sample is coupled with [C, m]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what ott itself imports
        pointcloud = require("ott.geometry.pointcloud", "otce", "ot")
        linear = require("ott.solvers.linear", "otce", "ot")
    if weights is None:
        share = jnp.full(len(x), 1 / len(x), x.dtype)
    else:
        share = jnp.asarray(weights, x.dtype) / jnp.asarray(weights, x.dtype).sum()
    with jax.numpy_rank_promotion("allow"):
        geometry = pointcloud.PointCloud(source, x, epsilon=epsilon, scale_cost="mean")
        plan = linear.solve(geometry, b=share, threshold=1e-4, max_iterations=_ITERATIONS)
        mass: Array = plan.apply(one_hot.astype(x.dtype), axis=1)
        return jnp.where(plan.converged, mass, jnp.nan)


def _negative_entropy(coupled: Array, source_labels: Array, count: int) -> Array:
    joint = jax.ops.segment_sum(coupled.T, source_labels, count)
    mass = jnp.broadcast_to(joint.sum(axis=1, keepdims=True), joint.shape)
    some = joint != 0
    return jnp.sum(joint * jnp.log(jnp.where(some, joint, 1) / jnp.where(some, mass, 1)))
