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
from jaxte.statistics.linalg import matmul, noise, rounding_square
from jaxte.statistics.pairs import Block, Pairs, nearest, unit_rows
from jaxte.statistics.rows import centre

__all__ = ["knn"]

_DISTANCES = ("euclidean", "cosine", "correlation")
_MEASURES = ("r2", "pearson")
_FOLDS, _SPLITS = 5, 20  # of nested cross-validation
_CANDIDATES = 64  # of which k <= 40 are left, as good as surely, without one fold


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


def _pairs(statistics: Statistics, distance: str) -> Pairs:
    rows = statistics.rows
    if distance == "euclidean":
        x = statistics.centred
    else:
        scaled = rows._replace(features=rows.features / statistics.unit)
        x = unit_rows(scaled, about_mean=distance == "correlation", width=rows.width)
    return Pairs.of(lax.stop_gradient(x), rows.weights)


def _targets(statistics: Statistics) -> tuple[Array, Array]:
    """What is voted for [n, k], of a regression about the mean, which is the other."""
    rows, classes = statistics.rows, statistics.num_classes
    if classes is not None:
        y = jax.nn.one_hot(statistics.labels, classes, dtype=rows.weights.dtype)
        return y, jnp.zeros(classes, y.dtype)
    y, mean = centre(statistics.columns, rows)
    return jnp.where((rows.weights > 0)[:, None], y, 0), mean


def _right(statistics: Statistics, counted: Array, k: Any) -> Array:
    """1 for rows of which the right class has the most votes, the first of those that have."""
    most = counted.max(axis=1)
    predicted = jnp.argmax(counted >= (most - noise(most, k))[:, None], axis=1)
    return (predicted == statistics.labels).astype(counted.dtype)


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, k: Any, distance: str, measure: str
) -> Outputs:
    rows, pairs = statistics.rows, _pairs(statistics, distance)
    columns, mean_target = _targets(statistics)
    y = pairs.filled(columns)

    def votes(block: Block) -> Array:
        return matmul(nearest(block, k), y)

    def mean(block: Block) -> Array:
        taken = nearest(block, k)
        return matmul(taken, y) / taken.sum(axis=1)[:, None]

    if statistics.num_classes is None:
        rounding = rounding_square(mean_target, rows.total)
        outputs = _of_regression(pairs.map(mean), columns, rows.weights, rounding)
        return {"score": jnp.where(statistics.valid, outputs[measure], jnp.nan), **outputs}
    right = _right(statistics, pairs.map(votes), k)
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


def _inflation(statistics: Statistics, *, k: Any, distance: str, **_: Any) -> Array:
    """Root of how much larger the error is than that of a mean of so many losses.

    By nested cross-validation: rows share neighbours, so that their losses go together. What rows
    that are left out lose is compared with what the others lose among themselves.

    References: Bates, Hastie, Tibshirani, JASA 119(546), 2024, arXiv 2104.00673, Algorithm 1.
    """
    pairs, y = _pairs(statistics, distance), _targets(statistics)[0]
    n, weights = len(y), (statistics.rows.weights > 0).astype(y.dtype)

    def closest(block: Block) -> tuple[Array, Array]:
        near = jnp.where(block.others > 0, -block.squares, -jnp.inf)
        near, numbers = lax.top_k(near, min(_CANDIDATES, n))
        return jnp.isfinite(near), numbers

    others, numbers = pairs.map(closest)
    targets = jnp.take(pairs.filled(y), numbers, axis=0)

    def losses(kept: Array) -> Array:
        there = others * jnp.take(pairs.filled(kept), numbers)
        taken = there * (jnp.cumsum(there, axis=1) <= k)
        votes = jnp.sum(taken[:, :, None] * targets, axis=1)
        if statistics.num_classes is not None:
            return 1 - _right(statistics, votes, k)
        predicted = votes / jnp.maximum(taken.sum(axis=1), 1)[:, None]
        return jnp.sum((y - predicted) ** 2, axis=1)

    def mean_and_error(loss: Array, of: Array) -> tuple[Array, Array]:
        number = jnp.maximum(of.sum(), 2)
        mean = of @ loss / number
        return mean, of @ (loss - mean) ** 2 / (number * (number - 1))

    def excess(key: Array) -> Array:
        fold = jnp.argsort(jax.random.uniform(key, (n,), jnp.float32)) % _FOLDS

        def of_fold(number: Array) -> Array:
            kept = weights * (fold != number)
            loss = losses(kept)
            left_out, error = mean_and_error(loss, weights - kept)
            return (mean_and_error(loss, kept)[0] - left_out) ** 2 - error

        return lax.map(of_fold, jnp.arange(_FOLDS)).mean()

    keys = jax.random.split(jax.random.key(0), _SPLITS)
    error = lax.map(excess, keys).mean() * (_FOLDS - 1) / _FOLDS
    plain = mean_and_error(losses(weights), weights)[1]
    return jnp.sqrt(jnp.clip(error / jnp.where(plain > 0, plain, jnp.inf), 1, _FOLDS))


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
        inflation=_inflation,
        invariances=frozenset({"rotation", "shift", "scale"}),
    )
)
