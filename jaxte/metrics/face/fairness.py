"""How evenly the classes of FaCe overlap."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import solve_triangular

from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import gram, noise
from jaxte.statistics.measure import divisors


def overlaps(state: Moments, squares: Array, width: Array, floor: Array) -> Array:
    """Bhattacharyya coefficients between all pairs of Gaussian classes [C, C].

    ``squares``: the moments' own [C, d], for a variance per coordinate, or their sums over
    coordinates [C, 1], for one that all share.
    """
    means = state.deviations
    variance = squares / jnp.where(state.counts > 0, state.counts, 1)[:, None]
    size = jnp.ones((), floor.dtype)
    if squares.shape[1] < means.shape[1]:
        variance, size = variance / width, width
    variance = jnp.maximum(variance, floor)

    def against_all(one: tuple[Array, Array]) -> Array:
        mean, own = one
        pooled = 0.5 * (own[None] + variance)
        gap = jnp.sum((mean[None] - means) ** 2 / pooled, axis=1)
        # ln(pooled / sqrt(own variance)) from the relative gap, which does not cancel
        relative = (own[None] - variance) ** 2 / (4 * own[None] * variance)
        return jnp.exp(-0.125 * gap - 0.25 * size * jnp.log1p(relative).sum(axis=1))

    return lax.map(against_all, (means, variance))


def full_overlaps(statistics: Statistics, floor: Array) -> Array:
    """As `overlaps`, with a full covariance per class, floor * I added to each."""
    batch, counts = statistics.batch(), statistics.counts
    means, number = statistics.moments.deviations, len(counts)
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
    half = lax.map(lambda s: jnp.log(jnp.diagonal(jnp.linalg.cholesky(s))).sum(), own)
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
        value = jnp.exp(-0.125 * (gap @ gap) - logs + 0.5 * (half_logdet[i] + half_logdet[j]))
        return value, diagonal.min() / diagonal.max()

    values, least = lax.map(pair, jnp.stack(jnp.triu_indices(len(means)), axis=1))
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


def class_fairness(logits: Array, present: Array) -> Array:
    """Mean entropy of each present class's softmax over the other present classes."""
    own = jnp.eye(len(logits), dtype=bool)
    others = present[:, None] & present[None] & ~own
    # a row of -inf alone would give NaN: an absent class compares with itself and is left out
    shown = others | (own & ~present[None])
    log_p = jax.nn.log_softmax(jnp.where(shown, logits, -jnp.inf), axis=1)
    entropy = -jnp.sum(jnp.exp(log_p) * jnp.where(shown, log_p, 0), axis=1)
    number = jnp.maximum(present.sum(), 1).astype(logits.dtype)
    return jnp.where(present, entropy, 0).sum() / number
