"""The log evidence of Bayesian ridge regression as a function of t = alpha / beta alone.

Everything is written in centred coordinates. With X = Xc + 1 m' the uncentred Gram matrix of
LogME is G = A + n m m', so that the mean enters as a rank-one term in closed form. A common
offset of the features, however large, then costs no digits, and the decomposition needed is that
of the centred features, which other metrics use as well. Notation: lam and V the eigenpairs of A,
xi = U'y, mu = V'm, and ``off`` the part of m outside V.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte._inputs import Rows, centre
from jaxte.linalg import Spectrum, matmul, safe_root, spectrum

_GRID = 256  # trial values of ln t; the evidence changes on a scale of 1 or slower
_LOWEST, _HIGHEST = -55.0, 20.0  # the range of ln t searched, relative to ln tr G
_MAX_STEPS = 60


class Problem(NamedTuple):
    """Everything about (features, targets, weights) that the evidence depends on."""

    spec: Spectrum
    lam: Array  # [r]
    mu: Array  # [r]
    off: Array  # [d]
    off_square: Array
    xi: Array  # [r, k]
    rest: Array  # [k] squared length of the targets outside the span of the centred features
    y_mean: Array  # [k]
    gap: Array  # [k] mean of the targets that the least-squares fit on centred features misses
    n: Array
    unit: Array  # power of two by which the features were divided


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


def decompose(row: Rows, targets: Array) -> Problem:
    """Bring features and targets [n, k] into the coordinates of the evidence."""
    counted = jnp.where(row.weights[:, None] > 0, row.features, 0)
    peak = lax.stop_gradient(jnp.abs(counted).max())
    unit = jnp.exp2(jnp.round(jnp.log2(jnp.where(peak > 0, peak, 1))))
    x, mean = centre(row.features / unit, row)
    y, y_mean = centre(targets, row)
    spec = spectrum(x, row.weights)
    kept = spec.values > 0
    eps = jnp.finfo(x.dtype).eps
    square = matmul(row.weights, y**2)
    sigma = jnp.sqrt(jnp.where(kept, spec.values, 1))
    if x.dtype == jnp.float64 and x.shape[0] >= x.shape[1]:  # saves forming the dual
        along = matmul(spec.axes.T, matmul(x.T, row.weights[:, None] * y))
        xi = jnp.where(kept[:, None], along / sigma[:, None], 0)
    else:
        xi = matmul(spec.dual.T, y)
    rest = square - jnp.sum(xi**2, axis=0)
    noise = 100 * eps
    if x.dtype == jnp.float32:  # the difference has the right derivative but not the digits
        noise = noise**2
        rest += lax.stop_gradient(_outside(spec, row.weights, y, xi) - rest)
    interpolated = kept.sum() >= (row.weights > 0).sum() - 1
    rest = jnp.where(interpolated | (rest <= noise * square), 0, rest)
    mu = matmul(spec.axes.T, mean)
    off = mean - matmul(spec.axes, mu)
    # a mean inside the span leaves only rounding error outside it
    alone = off @ off + jnp.sum(jnp.where(kept, 0, mu) ** 2)
    real = alone > (100 * eps) ** 2 * (mean @ mean)
    off, mu = jnp.where(real, off, 0), jnp.where(kept | real, mu, 0)
    shares = jnp.where(kept[:, None], (mu / sigma)[:, None] * xi, 0)
    gap = y_mean - shares.sum(axis=0)
    rounding = 100 * eps * (jnp.abs(y_mean) + jnp.abs(shares).sum(axis=0))
    gap = jnp.where(jnp.abs(gap) <= rounding, 0, gap)
    return Problem(spec, spec.values, mu, off, off @ off, xi, rest, y_mean, gap, row.total, unit)


def _outside(spec: Spectrum, weights: Array, y: Array, xi: Array) -> Array:
    """Squared length of the targets outside the features' span, from the residual itself."""
    inverse = jnp.where(weights > 0, 1 / jnp.sqrt(jnp.where(weights > 0, weights, 1)), 0)
    left = spec.dual * inverse[:, None]
    return jnp.sum((jnp.sqrt(weights)[:, None] * y - matmul(left, xi)) ** 2, axis=0)


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
    found = terms(p, t)
    fitted = t * found.norm
    return found.gamma - p.n * fitted / jnp.maximum(found.residual + fitted, _tiny(t))


def maximise(problem: Problem) -> Fit:
    """The true maximum over alpha and beta: a grid on ln t, then safeguarded Newton steps.

    The range covers every t at which the evidence still changes; where it rises without end
    toward t = 0 (an exact fit), the value at the bound is returned and ``bounded`` says so. For
    given t the best beta is n / (R + t M), which leaves one variable. The evidence can have
    several local maxima in it, so the whole range is tried first; the best point's neighbours
    then bracket a maximum, and Newton steps on the derivative (gamma - n t M / (R + t M)) / 2,
    replaced by bisection whenever they leave the bracket, find it.
    """
    p = problem
    origin = jnp.log(total_energy(p))
    points = origin + jnp.linspace(_LOWEST, _HIGHEST, _GRID).astype(origin.dtype)
    profile = _profile_on_grid(p, jnp.exp(points))
    best = jnp.argmax(profile, axis=0)
    u, lower, upper = (points[jnp.clip(best + shift, 0, _GRID - 1)] for shift in (0, -1, 1))
    # flat up to an end of the range: that end is the optimum, as nearly as can be told
    flat = 4 * jnp.finfo(points.dtype).eps * (jnp.abs(profile).max(axis=0) + p.n)
    at_low, at_high = (profile[end] >= profile.max(axis=0) - flat for end in (0, -1))
    bounded = at_low | at_high
    u = jnp.where(at_low, points[0], jnp.where(at_high, points[-1], u))
    tolerance = 1e-10 if u.dtype == jnp.float64 else 1e-4

    def unfinished(state: Any) -> Array:
        *_, moving, step = state
        return jnp.any(moving) & (step < _MAX_STEPS)

    def advance(state: Any) -> Any:
        u, lower, upper, steps, moving, step = state
        value, curvature = jax.jvp(partial(slope, p), (u,), (jnp.ones_like(u),))
        lower, upper = jnp.where(value > 0, u, lower), jnp.where(value > 0, upper, u)
        newton = u - value / jnp.where(curvature < 0, curvature, -1)
        inside = (curvature < 0) & (newton >= lower) & (newton <= upper)
        target = jnp.where(inside, newton, 0.5 * (lower + upper))
        target = jnp.where(moving, target, u)
        still = moving & ~(jnp.abs(target - u) <= tolerance)
        return target, lower, upper, steps + moving.astype(steps.dtype), still, step + 1

    start = (u, lower, upper, jnp.zeros(u.shape, jnp.int32), ~bounded, 0)
    u, _, _, steps, moving, _ = lax.while_loop(unfinished, advance, start)
    t = jnp.exp(u)
    found = terms(p, t)
    beta = p.n / jnp.maximum(found.residual + t * found.norm, _tiny(t))
    evidence = 0.5 * (jnp.log(beta) - 1 - jnp.log(2 * jnp.pi)) - found.half_logdet / p.n
    return Fit(evidence, t * beta * p.unit**2, beta, t, steps, ~moving, bounded)


def iterate_as_released(problem: Problem, width: Array) -> Fit:
    """What the released fixed point returns: start, 1e-5 terms, stopping rule and d > n fault."""
    p = problem
    columns = p.xi.shape[1]
    offset = 1e-5

    def advance(_: int, fit: Fit) -> Fit:
        found = terms(p, fit.ratio)
        norm = found.norm / p.unit**2
        alpha = found.gamma / (norm + offset)
        beta = (p.n - found.gamma) / (found.residual + offset)
        ratio = alpha / beta / p.unit**2
        # ln alpha counts all d directions, the log determinant only min(n, d) of them
        fault = 0.5 * (width - jnp.minimum(p.n, width)) * jnp.log(alpha)
        evidence = fault + 0.5 * p.n * (jnp.log(beta) - jnp.log(2 * jnp.pi))
        evidence -= terms(p, ratio).half_logdet + 0.5 * (beta * found.residual + alpha * norm)
        near = jnp.abs(ratio - fit.ratio) <= 1e-3 * fit.ratio
        new = Fit(evidence / p.n, alpha, beta, ratio, fit.steps + 1, near, fit.bounded)
        return jax.tree.map(lambda old, late: jnp.where(fit.converged, old, late), fit, new)

    one = jnp.ones(columns, p.xi.dtype)
    no = jnp.zeros(columns, bool)
    start = Fit(0 * one, one, one, one / p.unit**2, jnp.zeros(columns, jnp.int32), no, no)
    return lax.fori_loop(0, 11, advance, start)


def posterior_mean(problem: Problem, t: Array) -> Array:
    """Posterior mean of the weights [d, k] at t, in units of the caller's features."""
    found = terms(problem, t)
    mean = matmul(problem.spec.axes, found.coefficients)
    return (mean + problem.off[:, None] * found.outside[None]) / problem.unit


def residuals(problem: Problem, row: Rows, y: Array, t: Array) -> Array:
    """Residual y - Xw at t [n, k], to relative precision also where the fit is all but exact."""
    p = problem
    found = terms(p, t)
    w = row.weights[:, None]
    safe = jnp.where(w > 0, w, 1)
    outside = y - p.y_mean[None] - matmul(p.spec.dual, p.xi) / safe
    outside = jnp.where(p.rest[None] > 0, outside, 0)
    counted = outside + matmul(p.spec.dual, found.misfit) / safe + (t * found.outside / p.n)[None]
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
