"""The log evidence of Bayesian ridge regression as a function of t = alpha / beta alone.

In the centred coordinates of `jaxte.statistics.ridge`, whose notation this shares.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte.metrics.logme.ascent import ascend
from jaxte.statistics.linalg import matmul, safe_root
from jaxte.statistics.ridge import Problem
from jaxte.statistics.rows import Rows

_GRID = 256  # trial values of ln t; the evidence changes on a scale of 1 or slower
LOWEST, _HIGHEST = -55.0, 20.0  # the range of ln t searched, relative to ln tr G


class Fit(NamedTuple):
    """An optimum (or last iterate) per target column [k], in the units of the caller."""

    evidence: Array
    alpha: Array
    beta: Array
    ratio: Array  # t in the units of the problem
    steps: Array
    converged: Array
    bounded: Array


class Terms(NamedTuple):
    """The pieces of the evidence at one t per column; all [k] but ``coefficients``."""

    residual: Array  # R = |y - Xw|^2
    norm: Array  # M = |w|^2
    gamma: Array  # effective number of parameters
    half_logdet: Array  # 1/2 ln |I + G / t|
    coefficients: Array  # V'w [r, k]
    outside: Array  # w = V @ coefficients + off * outside
    misfit: Array  # the centred residual inside the features' span [r, k]


def total_energy(p: Problem) -> Array:
    """Trace of G in the units of the problem, 1 for features that are all zero."""
    trace = p.lam.sum() + p.n * (p.mu @ p.mu + p.off_square)
    return jnp.where(trace > 0, trace, 1)


def terms(problem: Problem, t: Array) -> Terms:
    """R, M, gamma and the log determinant at t [k], free of overflow for every t > 0."""
    p = problem
    lam, mu, across = p.lam[:, None], p.mu[:, None], t[None]
    shrunk = across / (across + lam)
    sigma, length = safe_root(lam), safe_root(p.off_square)
    leverage = jnp.sum(mu**2 * shrunk, axis=0) + p.off_square
    inverse = jnp.where(lam > 0, 1 / jnp.where(lam > 0, sigma, 1), 0)
    gap = p.gap + jnp.sum(mu * inverse * p.xi * shrunk, axis=0)
    kappa = p.n * gap / (t + p.n * leverage)
    coefficients = sigma * p.xi / (across + lam) + kappa[None] * mu * shrunk
    misfit = (p.xi - sigma * kappa[None] * mu) * shrunk
    fresh = jnp.sum(mu**2 * shrunk**2, axis=0) + p.off_square
    return Terms(
        residual=p.rest + jnp.sum(misfit**2, axis=0) + (t * kappa) ** 2 / p.n,
        norm=jnp.sum(coefficients**2, axis=0) + (kappa * length) ** 2,
        gamma=jnp.sum(lam / (across + lam), axis=0) + fresh / (t / p.n + leverage),
        half_logdet=0.5
        * (jnp.sum(jnp.log1p(lam / across), axis=0) + jnp.log1p(p.n * leverage / t)),
        coefficients=coefficients,
        outside=kappa,
        misfit=misfit,
    )


def slope(p: Problem, u: Array) -> Array:
    """Derivative of 2 n times the evidence, maximised over beta, with respect to u = ln t."""
    t = jnp.exp(u)
    at = terms(p, t)
    fitted = t * at.norm
    return at.gamma - p.n * fitted / jnp.maximum(at.residual + fitted, _tiny(t))


def maximise(problem: Problem) -> Fit:
    """The true maximum over alpha and beta.

    For given t the best beta is n / (R + t M), which leaves one variable. The range covers every
    t at which the evidence still changes; where it rises without end toward t = 0 (an exact fit),
    the value at the bound is returned and ``bounded`` says so.
    """
    p = problem
    origin = jnp.log(total_energy(p))
    points = origin + jnp.linspace(LOWEST, _HIGHEST, _GRID).astype(origin.dtype)
    u, steps, converged, bounded, _ = ascend(
        points, _profile_on_grid(p, jnp.exp(points)), partial(slope, p), p.n
    )
    t = jnp.exp(u)
    at = terms(p, t)
    beta = p.n / jnp.maximum(at.residual + t * at.norm, _tiny(t))
    evidence = 0.5 * (jnp.log(beta) - 1 - jnp.log(2 * jnp.pi)) - at.half_logdet / p.n
    return Fit(evidence, t * beta * p.unit**2, beta, t, steps, converged, bounded)


def iterate_as_released(problem: Problem, width: Array) -> Fit:
    """What the released fixed point returns: start, 1e-5 terms, stopping rule and d > n fault."""
    p = problem
    columns = p.xi.shape[1]
    offset = 1e-5

    def advance(_: int, fit: Fit) -> Fit:
        at = terms(p, fit.ratio)
        norm = at.norm / p.unit**2
        alpha = at.gamma / (norm + offset)
        beta = (p.n - at.gamma) / (at.residual + offset)
        ratio = alpha / beta / p.unit**2
        # ln alpha counts all d directions, the log determinant only min(n, d) of them
        fault = 0.5 * (width - jnp.minimum(p.n, width)) * jnp.log(alpha)
        evidence = fault + 0.5 * p.n * (jnp.log(beta) - jnp.log(2 * jnp.pi))
        evidence -= terms(p, ratio).half_logdet + 0.5 * (beta * at.residual + alpha * norm)
        near = jnp.abs(ratio - fit.ratio) <= 1e-3 * fit.ratio
        new = Fit(evidence / p.n, alpha, beta, ratio, fit.steps + 1, near, fit.bounded)
        return jax.tree.map(lambda old, late: jnp.where(fit.converged, old, late), fit, new)

    one = jnp.ones(columns, p.xi.dtype)
    no = jnp.zeros(columns, bool)
    start = Fit(0 * one, one, one, one / p.unit**2, jnp.zeros(columns, jnp.int32), no, no)
    return lax.fori_loop(0, 11, advance, start)


def posterior_mean(problem: Problem, t: Array) -> Array:
    """Posterior mean of the weights [d, k] at t, in units of the caller's features."""
    at = terms(problem, t)
    mean = matmul(problem.spec.axes, at.coefficients)
    return (mean + problem.off[:, None] * at.outside[None]) / problem.unit


def residuals(problem: Problem, row: Rows, y: Array, t: Array) -> Array:
    """Residual y - Xw at t [n, k], to relative precision also where the fit is all but exact."""
    p = problem
    at = terms(p, t)
    w = row.weights[:, None]
    safe = jnp.where(w > 0, w, 1)
    outside = y - p.y_mean[None] - matmul(p.spec.dual, p.xi) / safe
    outside = jnp.where(p.rest[None] > 0, outside, 0)
    counted = outside + matmul(p.spec.dual, at.misfit) / safe + (t * at.outside / p.n)[None]
    return jnp.where(w > 0, counted, y - matmul(row.features, posterior_mean(p, t)))


def _tiny(like: Array) -> Array:
    """The smallest normal number, where a squared length may have underflowed to 0."""
    return jnp.asarray(jnp.finfo(like.dtype).tiny, like.dtype)


def _profile_on_grid(p: Problem, t: Array) -> Array:
    """Log evidence up to a constant, maximised over beta, at grid points [j] -> [j, k]."""
    shrunk = t[:, None] / (t[:, None] + p.lam[None])
    leverage = matmul(shrunk, p.mu**2) + p.off_square
    sigma = jnp.sqrt(p.lam)
    inverse = jnp.where(sigma > 0, p.mu / jnp.where(sigma > 0, sigma, 1), 0)
    gap = p.gap[None] + matmul(shrunk * inverse[None], p.xi)
    quadratic = p.rest[None] + matmul(shrunk, p.xi**2)
    share = t / (t + p.n * leverage)
    quadratic += p.n * gap**2 * share[:, None]
    quadratic = jnp.maximum(quadratic, _tiny(t))
    half_logdet = 0.5 * (-jnp.log(shrunk).sum(axis=1) - jnp.log(share))
    return -0.5 * p.n * jnp.log(quadratic) - half_logdet[:, None]
