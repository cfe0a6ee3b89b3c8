"""How evenly the classes of FaCe overlap."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from jaxte._inputs import Classes
from jaxte.linalg import gram
from jaxte.moments import Moments


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
    eye = jnp.eye(residuals.shape[1], dtype=residuals.dtype)

    def covariance(members: Array) -> Array:
        return everywhere(gram(residuals, members * share)) + floor * eye

    def half_logdet(lower: Array) -> Array:
        return jnp.log(jnp.diagonal(lower)).sum()

    scatters = lax.map(covariance, group.one_hot.T)
    own = lax.map(lambda s: half_logdet(jnp.linalg.cholesky(s)), scatters)

    def pair(index: Array) -> Array:
        i, j = index
        lower = jnp.linalg.cholesky(0.5 * (scatters[i] + scatters[j]))
        gap = solve_triangular(lower, means[i] - means[j], lower=True)
        return jnp.exp(-0.125 * (gap @ gap) - half_logdet(lower) + 0.5 * (own[i] + own[j]))

    i, j = jnp.triu_indices(means.shape[0])
    values = lax.map(pair, jnp.stack([i, j], axis=1))
    return jnp.zeros((means.shape[0],) * 2, means.dtype).at[i, j].set(values).at[j, i].set(values)


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
