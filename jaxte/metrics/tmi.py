"""TMI: how much the samples of a class still differ, as the entropy of their features."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import digamma
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.measure import divisors
from jaxte.statistics.pairs import reach
from jaxte.statistics.rows import class_sums

__all__ = ["tmi"]

_VARIANTS = ("paper", "released")
_TILE = 32  # rows and columns of distances at once


def tmi(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    variant: str = "paper",
    k: int = 3,
    least_distance: ArrayLike = 1.0,
) -> Array:
    r"""Entropy of the features given the class, by Kozachenko and Leonenko's estimate.

    .. math::
        H(X \mid Y) = \sum_c \frac{n_c}{n} H_c, \qquad
        H_c = \psi(n_c) - \psi(k) + \frac{d}{n_c} \sum_{y_i = c} \ln 2 r_i

    with :math:`r_i` the distance to the k-th neighbour within the class, as the largest difference
    of any coordinate. Classes of k or fewer samples have no estimate and are left out.
    ``variant="released"`` divides by the number of the other classes, and counts those of a single
    sample among them. The least distance is absolute: features whose neighbours are closer than
    that throughout all score the same.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width d when trailing columns are padding.
        variant: "paper" or "released".
        k: which neighbour.
        least_distance: what no distance falls below, in feature units, > 0.

    Returns:
        Scalar in (-inf, inf), nats. NaN when fewer than two classes occur or none has an estimate.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Xu and Kang, ICCV 2023, arXiv 2308.05986, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = 5 * jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> bool(jaxte.metrics.tmi(2 * x, y) > jaxte.metrics.tmi(x, y))
        True
    """
    return TMI.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        variant=variant,
        k=k,
        least_distance=least_distance,
    )["score"]


def _check(*, variant: str, k: int, least_distance: Any) -> None:
    checks.choose("variant", variant, _VARIANTS)
    checks.check_whole("k", k)
    checks.check_positive("least_distance", least_distance)


def _score(
    statistics: Statistics,
    _: tuple[Completed, ...],
    *,
    variant: str,
    k: Any,
    least_distance: Any,
) -> Outputs:
    x, w, y, counts = (
        statistics.residuals,
        statistics.rows.weights,
        statistics.labels,
        statistics.counts,
    )
    neighbour = _neighbours(lax.stop_gradient(x), y, w, len(counts), k)
    distance = jnp.abs(x - x[neighbour]).max(axis=1)
    apart = distance > 0
    log = jnp.log(jnp.where(apart, distance, 1)) + jnp.log(statistics.unit)
    least = jnp.log(jnp.asarray(least_distance, x.dtype))
    log = jnp.log(2.0) + jnp.maximum(jnp.where(apart, log, -jnp.inf), least)
    mean = class_sums(w * log, y, len(counts)) / divisors(counts)
    known = counts > k
    entropy = digamma(jnp.where(known, counts, 1)) - digamma(jnp.asarray(k, x.dtype))
    entropy = jnp.where(known, entropy + statistics.width * mean, 0)
    score = (counts / statistics.total) @ entropy
    if variant == "released":
        score /= jnp.sum(known | ((counts > 0) & (counts <= 1)))
    return {"score": jnp.where(statistics.valid & known.any(), score, jnp.nan)}


def _neighbours(x: Array, labels: Array, weights: Array, num_classes: int, k: Any) -> Array:
    """The k-th nearest row of the same class [n]; anything where there is none.

    Rows are sorted by class, so that only the tiles on the diagonal hold pairs of one class.
    """
    n = len(x)
    tiles = -(-n // _TILE)
    size = -(-n // tiles)
    absent = (weights <= 0) | (labels < 0) | (labels >= num_classes)
    y = jnp.where(absent, num_classes, labels)
    order = jnp.pad(jnp.argsort(y), (0, tiles * size - n))
    filler = jnp.arange(tiles * size) >= n
    y = jnp.where(filler, num_classes, y[order])
    x, w = x[order], jnp.where(filler, 0, weights[order])
    first = jnp.searchsorted(y, jnp.arange(num_classes + 1))

    def of_tile(start: Array) -> Array:
        own, mine = (lax.dynamic_slice_in_dim(part, start, size) for part in (x, y))

        def fill(column: Array, distances: Array) -> Array:
            there = lax.dynamic_slice_in_dim(x, column * size, size)
            tile = _largest_differences(own, there)
            return lax.dynamic_update_slice_in_dim(distances, tile, column * size, axis=1)

        begin = first[mine[0]] // size
        end = -(-first[jnp.minimum(mine[-1] + 1, num_classes)] // size)
        distances = jnp.full((size, len(x)), jnp.inf, x.dtype)
        distances = lax.fori_loop(begin, end, fill, distances)
        itself = (start + jnp.arange(size))[:, None] == jnp.arange(len(x))[None]
        others = jnp.where(itself, jnp.maximum(w - 1, 0)[None], w[None])
        others = jnp.where(mine[:, None] == y[None], others, 0)
        radius = reach(distances, others, k)
        at_radius = (others > 0) & (distances == radius[:, None])
        return order[jnp.argmax(at_radius, axis=1)]

    neighbours = lax.map(of_tile, jnp.arange(tiles) * size).ravel()
    return jnp.zeros(n, int).at[jnp.where(filler, n, order)].set(neighbours, mode="drop")


def _largest_differences(a: Array, b: Array) -> Array:
    """Largest difference in any coordinate [s, t], coordinate by coordinate."""

    def larger(most: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        return jnp.maximum(most, jnp.abs(pair[0][:, None] - pair[1][None])), None

    return lax.scan(larger, jnp.zeros((len(a), len(b)), a.dtype), (a.T, b.T))[0]


TMI = register(
    Metric(
        name="tmi",
        function=tmi,
        score=_score,
        paper="Xu and Kang, ICCV 2023",
        confirmed="own replica",
        cost="3 d sum of n_c^2",
        needs=frozenset({"all_rows", "measured"}),
        check=_check,
        smooth=False,
        invariances=frozenset({"shift"}),
        variants=_VARIANTS,
    )
)
