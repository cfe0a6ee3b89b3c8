"""Gaussian mixtures by expectation and maximisation, from a start that is given.

What is carried from step to step are the responsibilities [n, V], not the parameters: of V
covariances [d, d] only as many exist at a time as a tile holds.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.statistics.linalg import gram, inverse_of_lower, matmul
from jaxte.statistics.tiles import at_width, map_tiles

COVARIANCES = ("full", "diagonal", "spherical")


class Mixture(NamedTuple):
    """A mixture of V components, as it is seen by n rows.

    Attributes:
        responsibilities: [n, V] of each component for each row, of the final parameters.
        log_likelihood: [n] of each row, of the final parameters.
        lower_bound: its weighted mean at the last expectation, so before the last maximisation.
        change: by how much the last iteration raised ``lower_bound``.
        n_iter: how many iterations there were.
    """

    responsibilities: Array
    log_likelihood: Array
    lower_bound: Array
    change: Array
    n_iter: Array


def fit(
    x: Array,
    weights: Array,
    start: Array,
    width: Array,
    floor: Array,
    covariance: str = "full",
    *,
    tol: ArrayLike = 1e-3,
    max_iter: int = 100,
) -> Mixture:
    r"""EM until an iteration changes the mean log likelihood by less than ``tol``.

    .. math:: r_{ik} \propto \pi_k N(x_i; m_k, \Sigma_k + \epsilon I)

    It is scikit-learn's ``GaussianMixture``, step by step. Rows of weight 0 have
    responsibilities, and decide nothing. A component that no row is responsible for stays empty.
    The derivative is that of the iterations that were made.

    Args:
        x: [n, d].
        weights: [n] sample weights >= 0.
        start: [n, V] log of weight times density of each component for each row: `of_clusters`
            or `of_parameters`.
        width: how many columns count; those beyond are zero.
        floor: variance that is added to all.
        covariance: "full", "diagonal" or "spherical".
        tol: when to stop.
        max_iter: iterations at most.

    Returns:
        `Mixture`.
    """
    tol = lax.stop_gradient(jnp.asarray(tol).astype(x.dtype))
    return _fit(covariance, max_iter, x, weights, start, width, floor, tol)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _fit(covariance: str, max_iter: int, x: Array, *rest: Array) -> Mixture:
    def run(
        x: Array, weights: Array, start: Array, width: Array, floor: Array, tol: Array
    ) -> Mixture:
        def unfinished(state: Mixture) -> Array:
            return (state.n_iter < max_iter) & (state.change >= tol)

        step = partial(_step, covariance, x, weights, width, floor)
        return lax.while_loop(unfinished, step, _begin(start))

    _weights, _start, width, *_ = rest
    out: Mixture = at_width(run, width, x, *rest)
    return out


@_fit.defjvp
def _fit_jvp(
    covariance: str, max_iter: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Mixture, Mixture]:
    out = _fit(covariance, max_iter, *primals)

    def unrolled(x: Array, weights: Array, start: Array, width: Array, floor: Array) -> Mixture:
        def once(state: Mixture, _: None) -> tuple[Mixture, None]:
            after = jax.checkpoint(partial(_step, covariance))(x, weights, width, floor, state)
            more = state.n_iter < out.n_iter
            return jax.tree.map(partial(jnp.where, more), after, state), None

        return lax.scan(once, _begin(start), length=max_iter)[0]

    return out, jax.jvp(unrolled, primals[:-1], tangents[:-1])[1]


def best_of(fits: Mixture) -> Mixture:
    """Of stacked fits that of largest likelihood; NaN is that of none."""
    bounds = fits.lower_bound
    best = jnp.argmax(jnp.where(jnp.isnan(bounds), -jnp.inf, bounds))
    return Mixture(*(part[best] for part in fits))


def _begin(start: Array) -> Mixture:
    """The first expectation."""
    likelihood = jax.nn.logsumexp(start, axis=1)
    endless = jnp.full((), jnp.inf, start.dtype)
    shares = jnp.exp(start - likelihood[:, None])
    return Mixture(shares, likelihood, -endless, endless, jnp.zeros((), start.dtype))


def _step(
    covariance: str, x: Array, weights: Array, width: Array, floor: Array, state: Mixture
) -> Mixture:
    """What the last expectation came to, then maximisation and expectation."""
    bound = weights @ state.log_likelihood / weights.sum()
    change = lax.stop_gradient(jnp.abs(bound - state.lower_bound))
    shares = weights[:, None] * state.responsibilities
    after = _begin(log_joint(x, shares, width, floor, covariance))
    return after._replace(lower_bound=bound, change=change, n_iter=state.n_iter + 1)


def log_joint(x: Array, shares: Array, width: Array, floor: Array, covariance: str) -> Array:
    """Maximisation: log of weight times density of the Gaussian of each column of shares [n, V]."""
    inside = jnp.arange(x.shape[1]) < width
    tiny = 10 * jnp.finfo(x.dtype).eps
    total = shares.sum()
    within = jnp.max(shares.sum(axis=1) @ x**2) / total
    # rounding leaves so much of a variance of 0
    floor = jnp.maximum(floor, lax.stop_gradient(jnp.finfo(x.dtype).eps * within))

    def one(share: Array) -> Array:
        count = share.sum()
        gap = x - (matmul(share, x) / (count + tiny))[None]
        if covariance == "full":
            variance = gram(gap, share) / (count + tiny)
            density = log_normal(gap, variance + jnp.diag(jnp.where(inside, floor, 1)), width)
        else:
            variances = matmul(share, gap**2) / (count + tiny)
            if covariance == "spherical":
                variances = jnp.full_like(variances, variances.sum() / width)
            variances = jnp.where(inside, variances + floor, 1)
            distance = jnp.sum(gap**2 / variances[None], axis=1)
            density = _density(distance, jnp.log(variances).sum(), width)
        empty = count <= 0
        return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1, count) / total) + density)

    n, d = x.shape
    size = 4 * n * d + (4 * d * d if covariance == "full" else 0)
    out: Array = map_tiles(one, shares.T, size, in_turn=covariance == "full")
    return out.T


def log_normal(gap: Array, covariance: Array, width: Array) -> Array:
    """Log density of rows [n] from their distance to the mean [n, d].

    Only the first ``width`` columns count: the covariance is that of the others 1 and 0.
    """
    inverse, logdet = _inverse_root(covariance)
    return _density(jnp.sum(matmul(gap, inverse.T) ** 2, axis=1), logdet, width)


def _inverse_root(covariance: Array) -> tuple[Array, Array]:
    """L^-1 for covariance = L L', and the log determinant."""
    lower = jnp.linalg.cholesky(covariance)
    return inverse_of_lower(lower), 2 * jnp.log(jnp.diagonal(lower)).sum()


def _density(distance: Array, logdet: Array, width: Array) -> Array:
    return -0.5 * (width * jnp.log(2 * jnp.pi) + logdet + distance)


def of_clusters(
    x: Array,
    weights: Array,
    clusters: Array,
    number: int,
    width: Array,
    floor: Array,
    covariance: str,
) -> Array:
    """Start of `fit` from a partition of the rows into clusters 0..number-1 [n]."""
    shares = weights[:, None] * jax.nn.one_hot(clusters, number, dtype=x.dtype)
    return _narrow_log_joint(covariance, x, shares, width, floor)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _narrow_log_joint(covariance: str, x: Array, *rest: Array) -> Array:
    """`log_joint` of no more columns than count."""
    _shares, width, _floor = rest
    joint: Array = at_width(partial(log_joint, covariance=covariance), width, x, *rest)
    return joint


@_narrow_log_joint.defjvp
def _narrow_log_joint_jvp(
    covariance: str, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    whole = partial(log_joint, covariance=covariance)
    return _narrow_log_joint(covariance, *primals), jax.jvp(whole, primals, tangents)[1]


def of_parameters(x: Array, priors: Array, means: Array, covariance: Array, width: Array) -> Array:
    """Start of `fit` from priors [V], means [V, d] and one covariance for all [d, d].

    The covariance is that of the columns beyond ``width`` 1 and 0.
    """
    inverse, logdet = _inverse_root(covariance)
    rows, centres = matmul(x, inverse.T), matmul(means, inverse.T)

    def one(centre: Array) -> Array:
        return _density(jnp.sum((rows - centre[None]) ** 2, axis=1), logdet, width)

    there = priors > 0
    prior = jnp.where(there, jnp.log(jnp.where(there, priors, 1)), -jnp.inf)
    densities: Array = map_tiles(one, centres, 2 * x.size, in_turn=False)
    return prior[None] + densities.T
