"""TransRate: how many more bits all rows take to code than the rows of each class alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.linalg import gram, matmul
from jaxte.statistics.measure import divisors

__all__ = ["transrate"]

_EPSILON = 1e-4
_NORMALISATIONS = ("none", "trace")
_CLASS_WEIGHTS = ("uniform", "frequency")
_SMALLEST = 64  # rows of a class that are taken at once, or twice as many, ...


def transrate(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    normalisation: str = "none",
    class_weights: str = "uniform",
    epsilon: ArrayLike = _EPSILON,
) -> Array:
    r"""Coding rate of all features minus the mean coding rate of each class.

    .. math:: R(Z) - \sum_c q_c R(Z_c), \qquad
        R(Z) = \tfrac12 \ln \Bigl| I + \frac{Z^\top Z}{n \varepsilon} \Bigr|

    of n rows (or n_c) minus the mean of all, with q_c = 1 / C. It has no scale of its own: what is
    small beside epsilon does not count, and both terms grow with the width.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        normalisation: "trace" divides all rows by the root of their sum of squares first, so that
            the scale of the features does not matter.
        class_weights: "uniform", q_c = 1 / C, or "frequency", q_c = n_c / n.
        epsilon: distortion of the code, in squared feature units.

    Returns:
        Scalar, in nats. NaN when fewer than two classes occur, and for features that are constant
        with normalisation="trace".

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Huang et al., ICML 2022, arXiv 2106.09362.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, :3].add(3 * jax.nn.one_hot(y, 3))
        >>> bool(jaxte.metrics.transrate(better, y) > jaxte.metrics.transrate(x, y))
        True
    """
    return TRANSRATE.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        normalisation=normalisation,
        class_weights=class_weights,
        epsilon=epsilon,
    )["score"]


def _check(*, normalisation: str, class_weights: str, epsilon: Any) -> None:
    checks.choose("normalisation", normalisation, _NORMALISATIONS)
    checks.choose("class_weights", class_weights, _CLASS_WEIGHTS)
    checks.check_positive("epsilon", epsilon)


def _score(
    statistics: Statistics,
    _: tuple[Completed, ...],
    *,
    normalisation: str,
    class_weights: str,
    epsilon: Any,
) -> Outputs:
    z, weights, counts = statistics.centred, statistics.rows.weights, statistics.counts
    unit, present = statistics.unit, counts > 0
    epsilon = jnp.asarray(epsilon).astype(unit.dtype)
    precision = unit**2 / epsilon
    exists = statistics.valid
    if normalisation == "trace":
        square = weights @ jnp.sum(z**2, axis=1)
        exists &= square > 0
        precision = 1 / (jnp.where(square > 0, square, 1) * epsilon)
    whole = log_det(z, weights, precision / statistics.total)
    own = class_log_dets(z, weights, statistics.labels, precision / divisors(counts))
    shares = counts / statistics.total
    if class_weights == "uniform":
        shares = present / jnp.maximum(present.sum(), 1)
    score = 0.5 * (whole - jnp.sum(shares * jnp.where(present, own, 0)))
    return {"score": jnp.where(exists, score, jnp.nan)}


@jax.custom_jvp
def log_det(z: Array, weights: Array, scale: Array) -> Array:
    """Log determinant of I + scale Z' diag(w) Z for rows Z [s, d], from the smaller of both sides.

    Float32 never squares the condition number: QR of the rows on top of the identity.
    """
    rows = jnp.sqrt(scale * weights)[:, None] * z
    rows = rows if len(z) >= z.shape[1] else rows.T
    if z.dtype == jnp.float32:
        stacked = jnp.concatenate([rows, jnp.eye(rows.shape[1], dtype=rows.dtype)])
        diagonal = jnp.diagonal(jnp.linalg.qr(stacked, mode="r"))
        return 2 * jnp.log(jnp.abs(diagonal)).sum()
    return 2 * jnp.log(jnp.diagonal(_cholesky(gram(rows)))).sum()


def _cholesky(a: Array) -> Array:
    eye = jnp.eye(len(a), dtype=a.dtype)
    return jnp.linalg.cholesky(a + eye, symmetrize_input=False)


@log_det.defjvp
def _log_det_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """By (I + scale Z' W Z)^-1 Z' [d, s], so that a weight of 0 has a derivative."""
    (z, w, scale), (dz, dw, dscale) = primals, tangents
    solve = jax.scipy.linalg.cho_solve
    if len(z) >= z.shape[1]:
        solved = solve((_cholesky(scale * gram(z, w)), True), z.T)
    else:
        rows = jnp.sqrt(scale * w)[:, None] * z
        inner = solve((_cholesky(gram(rows.T)), True), matmul(rows, z.T))
        solved = z.T - matmul(rows.T, inner)
    by_row = jnp.sum(solved.T * z, axis=1)
    moved = 2 * scale * jnp.sum(w[:, None] * solved.T * dz)
    moved += scale * by_row @ dw + dscale * (by_row @ w)
    return log_det(*primals), moved


def class_log_dets(z: Array, weights: Array, labels: Array, scales: Array) -> Array:
    """`log_det` of the rows of each class [C], each with its own scale.

    Rows sorted by class are cut out in a power of two times 64, so that a small class costs little.
    """
    n, number = len(z), len(scales)
    labels = jnp.where((labels < 0) | (labels >= number), number, labels)
    order = jnp.argsort(labels)
    z, weights, labels = z[order], weights[order], labels[order]
    bounds = jnp.searchsorted(labels, jnp.arange(number + 1))
    sizes = [_SMALLEST << step for step in range(max(n // _SMALLEST, 1).bit_length())]
    sizes = [size for size in sizes if size < n] + [n]

    def cut(size: int, number: Array, start: Array, scale: Array) -> Array:
        start = jnp.minimum(start, n - size)
        rows, w, y = (lax.dynamic_slice_in_dim(part, start, size) for part in (z, weights, labels))
        return log_det(rows, jnp.where(y == number, w, 0), scale)

    branches: list[Callable[..., Array]] = [partial(cut, size) for size in sizes]

    def one(inputs: tuple[Array, Array, Array, Array]) -> Array:
        number, start, stop, scale = inputs
        branch = jnp.sum(stop - start > jnp.array(sizes))
        return lax.switch(branch, branches, number, start, scale)

    return lax.map(one, (jnp.arange(number), bounds[:-1], bounds[1:], scales))


TRANSRATE = register(
    Metric(
        name="transrate",
        function=transrate,
        score=_score,
        paper="Huang et al., ICML 2022",
        confirmed="released code",
        cost="n d k + sum of n_c d k_c, k_c = min(n_c, d)",
        needs=frozenset({"measured", "all_rows"}),
        check=_check,
        smooth=False,
        invariances=frozenset({"rotation", "shift"}),
    )
)
