"""Overlap of Gaussian classes: Bhattacharyya coefficients in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.statistics import Statistics
from jaxte.statistics.linalg import gram, matmul, noise
from jaxte.statistics.measure import divisors
from jaxte.statistics.tiles import map_tiles

COVARIANCES = ("spherical", "diagonal", "full")
FLOOR = 1e-4  # least variance, that of the released GBC


def check_options(*, covariance: str, variance_floor: Any) -> None:
    """Refuse a covariance that does not exist or a floor that is not positive."""
    checks.choose("covariance", covariance, COVARIANCES)
    checks.check_positive("variance_floor", variance_floor)


def check_covariance(statistics: Statistics, covariance: str) -> None:
    """Refuse full covariances where the rows are not at hand."""
    if covariance == "full" and statistics.sample is None:
        raise InputError(
            "covariance='full' needs all samples of a class at once: give arrays, or choose "
            "'spherical' or 'diagonal'"
        )


def floor_of(variance_floor: ArrayLike, statistics: Statistics) -> Array:
    """The least variance, in units of the statistics."""
    dtype, unit = statistics.unit.dtype, statistics.unit
    floor = jnp.asarray(variance_floor).astype(dtype) / unit / unit  # a variance
    return jnp.minimum(floor, jnp.finfo(dtype).max / 1e8)


def class_overlaps(statistics: Statistics, covariance: str, floor: Array) -> Array:
    """Coefficients [C, C] of classes with the covariances that they have."""
    if covariance == "full":
        return full_overlaps(statistics, floor)
    means = statistics.measured.moments.deviations
    return overlaps(means, *variances(statistics, covariance, floor))


def variances(statistics: Statistics, covariance: str, floor: Array) -> tuple[Array, Array]:
    """Biased variance of each class, [C, d], or [C, 1] if all coordinates share it, >= floor.

    Also how many coordinates each stands for.
    """
    counts, size = divisors(statistics.counts)[:, None], jnp.ones((), floor.dtype)
    if covariance == "diagonal":
        return jnp.maximum(statistics.squares / counts, floor), size
    size = statistics.width
    return jnp.maximum(statistics.within_class_ss[:, None] / counts / size, floor), size


def overlaps(means: Array, variance: Array, size: ArrayLike) -> Array:
    """Bhattacharyya coefficients between all pairs of Gaussian classes [C, C].

    ``variance``: [C, d], or [C, 1] for one that all coordinates share; ``size``: how many
    coordinates each entry stands for in the log determinants.
    """

    def against_all(one: tuple[Array, Array]) -> Any:
        mean, own = one
        pooled = 0.5 * (own[None] + variance)
        gap = jnp.sum((mean[None] - means) ** 2 / pooled, axis=1)
        # ln(pooled / sqrt(own variance)) from the relative gap, which does not cancel
        relative = (own[None] - variance) ** 2 / (4 * own[None] * variance)
        return jnp.exp(-0.125 * gap - 0.25 * size * jnp.log1p(relative).sum(axis=1))

    return map_tiles(against_all, (means, variance), means.size)


def full_overlaps(statistics: Statistics, floor: Array) -> Array:
    """As `overlaps`, with a full covariance per class, floor * I added to each."""
    check_covariance(statistics, "full")
    batch, counts = statistics.batch(), statistics.counts
    means, number = statistics.measured.moments.deviations, len(counts)
    share = batch.weights * jnp.take(1 / divisors(counts), batch.labels, mode="clip")
    i, j = jnp.triu_indices(number)
    members = jax.nn.one_hot(batch.labels, number, axis=0, dtype=share.dtype)
    scatters = lax.map(
        lambda one: statistics.all_reduce(gram(batch.residuals, one * share)), members
    )
    values, least = _by_cholesky(scatters, means, floor)
    constants = lax.stop_gradient((scatters, means, floor, values, least))
    values = jnp.where(jnp.isnan(values), 0, values)
    values += lax.stop_gradient(_mended(*constants) - values)
    return jnp.zeros((number, number), means.dtype).at[i, j].set(values).at[j, i].set(values)


def _by_cholesky(scatters: Array, means: Array, floor: Array) -> tuple[Array, Array]:
    own = scatters + floor * jnp.eye(means.shape[1], dtype=means.dtype)[None]
    half = map_tiles(
        lambda s: jnp.log(jnp.diagonal(jnp.linalg.cholesky(s))).sum(), own, means.shape[1] ** 2
    )
    return _of_pairs(own, half, means, lambda a, b: jnp.linalg.cholesky(0.5 * (a + b)))


def _of_pairs(
    own: Array, half_logdet: Array, means: Array, factor: Callable[[Array, Array], Array]
) -> tuple[Array, Array]:
    """Coefficients of all pairs, and the least that a factor keeps of its largest diagonal."""

    def pair(index: Array) -> tuple[Array, Array]:
        i, j = index
        lower = factor(own[i], own[j])
        gap = solve_triangular(lower, means[i] - means[j], lower=True)
        diagonal = jnp.abs(jnp.diagonal(lower))
        logs = jnp.log(diagonal).sum()
        value = jnp.exp(-0.125 * matmul(gap, gap) - logs + 0.5 * (half_logdet[i] + half_logdet[j]))
        return value, diagonal.min() / diagonal.max()

    pairs = jnp.stack(jnp.triu_indices(len(means)), axis=1)
    values, least = map_tiles(pair, pairs, 2 * means.shape[1] ** 2)
    return values, least.min()


@sequential_vmap  # or both sides of the condition would be computed
def _mended(scatters: Array, means: Array, floor: Array, values: Array, least: Array) -> Array:
    """Where the floor is lost beside the variances: rounding error in them counts as 0."""
    d = means.shape[1]

    def root(scatter: Array) -> tuple[Array, Array]:
        spread, axes = jnp.linalg.eigh(scatter)
        spread = jnp.where(spread > noise(spread[-1], d * d), spread, 0) + floor
        return jnp.sqrt(spread)[:, None] * axes.T, 0.5 * jnp.log(spread).sum()

    def factor(a: Array, b: Array) -> Array:
        half = jnp.sqrt(jnp.asarray(0.5, a.dtype))
        return jnp.linalg.qr(half * jnp.concatenate([a, b]), mode="r").T

    def by_qr() -> Array:
        roots, half_logdet = lax.map(root, scatters)
        return _of_pairs(roots, half_logdet, means, factor)[0]

    return lax.cond(least**2 > noise(jnp.ones_like(least), d * d), lambda: values, by_qr)
