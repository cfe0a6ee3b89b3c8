"""k nearest neighbours, leaving each row out: the plainest probe of how features lie."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.linalg import matmul, noise
from jaxte.statistics.pairs import Block, Pairs, nearest, unit_rows
from jaxte.statistics.rows import centre

__all__ = ["knn"]

_DISTANCES = ("euclidean", "cosine", "correlation")
_MEASURES = ("r2", "pearson")


def knn(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    k: int = 5,
    distance: str = "euclidean",
    measure: str = "r2",
) -> Array:
    r"""How well the k nearest other rows predict each row: accuracy, or R2 of a regression.

    .. math::
        \hat y_i = \arg\max_c \sum_{j \in N_k(i)} [y_j = c], \qquad
        \hat y_i = \tfrac1k \sum_{j \in N_k(i)} y_j

    where :math:`N_k(i)` never holds row i itself. Of classes with as many votes the one of the
    smallest number is predicted. Rows that are equally far share the places that are left. With k
    or fewer other rows all of them vote.

    Args:
        features: [n, d].
        targets: [n] classes, or floats [n] or [n, k] for regression.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice (each of such
            twins is the other's nearest neighbour).
        num_features: true width when trailing columns are padding.
        k: how many neighbours vote. Above the size of the smallest class it is outvoted.
        distance: "euclidean", "cosine" (of features as they are), or "correlation" (after each
            row's own mean is taken off). Rows without a direction are at cosine 0 to all others.
        measure: of a regression, "r2" or "pearson" (correlation of predictions and targets), the
            mean over target columns that vary.

    Returns:
        Scalar: accuracy in [0, 1], R2 in (-inf, 1] or correlation in [-1, 1]. NaN when fewer than
        two classes occur, or no target varies.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Cover and Hart, IEEE Trans. Inf. Theory 1967; Sorkhei et al., arXiv 2503.18528.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.knn(better, y, k=3) > jaxte.metrics.knn(x, y, k=3))
        True
    """
    return KNN.outputs(
        features,
        targets,
        num_classes,
        weights,
        num_features,
        k=k,
        distance=distance,
        measure=measure,
    )["score"]


def _check(*, k: int, distance: str, measure: str) -> None:
    checks.check_whole("k", k)
    checks.choose("distance", distance, _DISTANCES)
    checks.choose("measure", measure, _MEASURES)


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, k: Any, distance: str, measure: str
) -> Outputs:
    rows, classes = statistics.rows, statistics.num_classes
    if distance == "euclidean":
        x = statistics.centred
    else:
        scaled = rows._replace(features=rows.features / statistics.unit)
        x = unit_rows(scaled, about_mean=distance == "correlation", width=rows.width)
    pairs = Pairs.of(lax.stop_gradient(x), rows.weights)
    if classes is not None:
        columns = jax.nn.one_hot(statistics.labels, classes, dtype=x.dtype)
    else:
        columns, mean_target = centre(statistics.columns, rows)
        columns = jnp.where((rows.weights > 0)[:, None], columns, 0)
    y = pairs.filled(columns)

    def votes(block: Block) -> Array:
        return matmul(nearest(block, k), y)

    def mean(block: Block) -> Array:
        taken = nearest(block, k)
        return matmul(taken, y) / taken.sum(axis=1)[:, None]

    if classes is None:
        rounding = noise(jnp.abs(mean_target) * jnp.sqrt(rows.total)) ** 2
        outputs = _of_regression(pairs.map(mean), columns, rows.weights, rounding)
        return {"score": jnp.where(statistics.valid, outputs[measure], jnp.nan), **outputs}
    counted = pairs.map(votes)
    most = counted.max(axis=1)
    predicted = jnp.argmax(counted >= (most - noise(most, k))[:, None], axis=1)  # the first of them
    right = (predicted == statistics.labels).astype(x.dtype)
    accuracy = matmul(rows.weights, right) / rows.total
    return {"score": jnp.where(statistics.valid, accuracy, jnp.nan)}


def _of_regression(predicted: Array, y: Array, weights: Array, rounding: Array) -> Outputs:
    """R2 and correlation, means over the columns that vary."""
    total = weights.sum()
    y_mean, mean = matmul(weights, y) / total, matmul(weights, predicted) / total
    square = matmul(weights, (y - y_mean[None]) ** 2)
    varies = square > rounding
    number = varies.sum()
    spread = matmul(weights, (predicted - mean[None]) ** 2)
    both = matmul(weights, (predicted - mean[None]) * (y - y_mean[None]))
    safe, product = jnp.where(varies, square, 1), spread * square
    error = matmul(weights, (y - predicted) ** 2)
    moves = varies & (product > 0)
    correlation = jnp.where(moves, both / jnp.sqrt(jnp.where(moves, product, 1)), 0)
    return {
        "r2": jnp.where(varies, 1 - error / safe, 0).sum() / number,
        "pearson": correlation.sum() / number,
    }


KNN = register(
    Metric(
        name="knn",
        function=knn,
        score=_score,
        paper="Cover and Hart, IEEE Trans. Inf. Theory 1967",
        confirmed="own replica",
        tasks=("classification", "regression"),
        range=(float("-inf"), 1.0),
        cost="2 n^2 d",
        needs=frozenset({"all_rows", "measured"}),
        check=_check,
        invariances=frozenset({"rotation", "shift", "scale"}),
    )
)
