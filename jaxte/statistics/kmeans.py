"""k-means: centres by greedy k-means++, then Lloyd's rounds until no row changes sides."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import divisors
from jaxte.statistics.rows import class_sums

_TRIALS, _ROUNDS = 5, 100  # candidates for each centre; rounds at most


def kmeans(x: Array, weights: Array, number: Array, most: int, key: Array) -> Array:
    """Cluster 0..number-1 of each row [n], for ``number`` <= ``most`` clusters; no derivative.

    A row of weight 2 is one written twice, one of weight 0 is never a centre. The draws go by
    rank of the distance from 0, so that neither the order of the rows nor a rotation decides.
    """
    order = jnp.argsort(jnp.sum(x**2, axis=1))
    x, weights = lax.stop_gradient((x[order], weights[order]))
    chosen = jnp.arange(most) < number
    centres = _plus_plus(x, weights, number, most, key)

    def nearest(centres: Array) -> Array:
        gaps = jnp.sum(centres**2, axis=1)[None] - 2 * matmul(x, centres.T)
        return jnp.argmin(jnp.where(chosen[None], gaps, jnp.inf), axis=1)

    def again(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        centres, clusters, _, rounds = state
        counts = class_sums(weights, clusters, most)
        means = class_sums(weights[:, None] * x, clusters, most) / divisors(counts)[:, None]
        centres = jnp.where(counts[:, None] > 0, means, centres)
        after = nearest(centres)
        changed = jnp.any((after != clusters) & (weights > 0))
        return centres, after, changed, rounds + 1

    state = centres, nearest(centres), jnp.ones((), bool), jnp.zeros((), jnp.int32)
    clusters = lax.while_loop(lambda s: s[2] & (s[3] < _ROUNDS), again, state)[1]
    return jnp.zeros_like(clusters).at[order].set(clusters)


def _plus_plus(x: Array, weights: Array, number: Array, most: int, key: Array) -> Array:
    """Centres [most, d]: each of a few rows drawn by squared distance that leaves least of it."""

    def drawn(key: Array, chances: Array, count: int) -> Array:
        chances = jnp.where(chances.sum() > 0, chances, weights)
        up_to = jnp.cumsum(chances)
        u = jax.random.uniform(key, (count,), jnp.float32)  # the same in both precisions
        target = u.astype(x.dtype) * up_to[-1] * (1 - jnp.finfo(x.dtype).eps)
        return jnp.argmax(up_to[None] > target[:, None], axis=1)

    def distances(rows: Array) -> Array:
        return jax.vmap(lambda row: jnp.sum((x - row[None]) ** 2, axis=1))(x[rows])

    first = drawn(jax.random.fold_in(key, 0), weights, 1)
    centres = jnp.zeros((most, x.shape[1]), x.dtype).at[0].set(x[first[0]])

    def add(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, left = state
        rows = drawn(jax.random.fold_in(key, index), weights * left, _TRIALS)
        after = jnp.minimum(left[None], distances(rows))
        best = jnp.argmin(matmul(after, weights))
        return centres.at[index].set(x[rows[best]]), after[best]

    return lax.fori_loop(1, number, add, (centres, distances(first)[0]))[0]
