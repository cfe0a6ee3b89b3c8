"""How evenly the classes of FaCe overlap."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import solve_triangular

from jaxte._inputs import Classes
from jaxte._measure import Moments
from jaxte.linalg import gram, noise


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


def full_overlaps(
    residuals: Array,
    share: Array,
    means: Array,
    group: Classes,
    floor: Array,
    everywhere: Callable[[Array], Array],
) -> Array:
    """As `overlaps`, with a full covariance per class, floor * I added to each."""
    number, d = means.shape
    eye = jnp.eye(d, dtype=means.dtype)

    def covariance(members: Array) -> Array:
        return everywhere(gram(residuals, members * share))

    scatters = lax.map(covariance, group.one_hot.T)
    i, j = jnp.triu_indices(number)
    pairs = jnp.stack([i, j], axis=1)

    def overlaps_of(
        own: Array, half_logdet: Array, factor: Callable[[Array, Array], Array]
    ) -> tuple[Array, Array]:
        """Coefficients of all pairs, and the least share of any diagonal that factors keep."""

        def pair(index: Array) -> tuple[Array, Array]:
            i, j = index
            lower = factor(own[i], own[j])
            gap = solve_triangular(lower, means[i] - means[j], lower=True)
            diagonal = jnp.abs(jnp.diagonal(lower))
            logs = jnp.log(diagonal).sum()
            value = jnp.exp(-0.125 * (gap @ gap) - logs + 0.5 * (half_logdet[i] + half_logdet[j]))
            return value, diagonal.min() / diagonal.max()

        return lax.map(pair, pairs)

    def by_cholesky(scatters: Array) -> tuple[Array, Array]:
        own = scatters + floor * eye[None]
        half = lax.map(lambda s: jnp.log(jnp.diagonal(jnp.linalg.cholesky(s))).sum(), own)
        return overlaps_of(own, half, lambda a, b: jnp.linalg.cholesky(0.5 * (a + b)))

    @sequential_vmap  # or both sides of the condition would be computed
    def mended(scatters: Array, found: Array, least: Array) -> Array:
        """Where the floor is lost beside the variances: rounding error in them counts as 0."""

        def root(s: Array) -> tuple[Array, Array]:
            values, axes = jnp.linalg.eigh(s)
            values = jnp.where(values > noise(values[-1], d * d), values, 0) + floor
            return jnp.sqrt(values)[:, None] * axes.T, 0.5 * jnp.log(values).sum()

        def by_qr() -> Array:
            def factor(a: Array, b: Array) -> Array:
                stacked = jnp.concatenate([a, b]) * jnp.sqrt(0.5).astype(a.dtype)
                return jnp.linalg.qr(stacked, mode="r").T

            return overlaps_of(*lax.map(root, scatters), factor)[0]

        return lax.cond(least**2 > noise(jnp.ones_like(least), d * d), lambda: found, by_qr)

    values, least = by_cholesky(scatters)
    held = lax.stop_gradient((scatters, values, least.min()))
    values = jnp.where(jnp.isnan(values), 0, values)
    values += lax.stop_gradient(mended(*held) - values)
    return jnp.zeros((number, number), means.dtype).at[i, j].set(values).at[j, i].set(values)


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
