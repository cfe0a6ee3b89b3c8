"""The log evidence of Bayesian ridge regression as a function of t = alpha / beta alone.

Everything is written in centred coordinates. With X = Xc + 1 m' the uncentred Gram matrix of
LogME is G = A + n m m', so that the mean enters as a rank-one term in closed form. A common
offset of the features, however large, then costs no digits, and the decomposition needed is that
of the centred features, which other metrics use as well. Notation: lam and V the eigenpairs of A,
xi = U'y, mu = V'm, and ``off`` the part of m outside V.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxte._inputs import Rows, centre
from jaxte.linalg import Spectrum, matmul, safe_root, spectrum, spectrum_of_gram
from jaxte.metrics._ascent import ascend
from jaxte.moments import Moments

_GRID = 256  # trial values of ln t; the evidence changes on a scale of 1 or slower
LOWEST, _HIGHEST = -55.0, 20.0  # the range of ln t searched, relative to ln tr G


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


class Normal(NamedTuple):
    """The normal equations of targets on centred features: what moments know about a fit."""

    scatter: Array  # [d, d]
    cross: Array  # [d, k]
    square: Array  # [k] squared length of the centred targets
    mean: Array  # [d]
    y_mean: Array  # [k]
    n: Array
    samples: Array


def normal_equations(state: Moments) -> Normal:
    """Normal equations from moments; for classification of the 0/1 column of every class."""
    mean, n = state.origin + state.relative_mean, state.total
    if state.targets is not None:
        t = state.targets
        y_mean = t.origin + t.mean
        return Normal(state.scatter, t.cross, t.square, mean, y_mean, n, state.samples)
    share = state.counts / jnp.where(n > 0, n, 1)
    cross = (state.counts[:, None] * state.deviations).T
    square = state.counts * (1 - share)
    return Normal(state.total_scatter, cross, square, mean, share, n, state.samples)


def decompose_normal(given: Normal) -> Problem:
    """Normal equations in the coordinates of the evidence."""
    unit = _power_of_two(jnp.sqrt(jnp.abs(jnp.diagonal(given.scatter) / given.n).max()))
    unit = jnp.maximum(unit, _power_of_two(jnp.abs(given.mean).max()))
    spec = spectrum_of_gram(given.scatter / unit**2, given.samples)
    along = matmul(spec.axes.T, given.cross / unit)
    kept = (spec.values > 0)[:, None]
    xi = jnp.where(kept, along / jnp.sqrt(jnp.where(kept, spec.values[:, None], 1)), 0)
    rest = given.square - jnp.sum(xi**2, axis=0)
    return _assemble(
        spec, xi, rest, given.square, given.mean / unit, given.y_mean, given.n, given.samples, unit
    )


def decompose(row: Rows, targets: Array) -> Problem:
    """Features and targets [n, k] themselves in the coordinates of the evidence."""
    counted = jnp.where(row.weights[:, None] > 0, row.features, 0)
    unit = _power_of_two(lax.stop_gradient(jnp.abs(counted).max()))
    x, mean = centre(row.features / unit, row)
    y, y_mean = centre(targets, row)
    spec = spectrum(x, row.weights)
    kept = spec.values > 0
    square = matmul(row.weights, y**2)
    if x.dtype == jnp.float64 and x.shape[0] >= x.shape[1]:  # saves forming the dual
        along = matmul(spec.axes.T, matmul(x.T, row.weights[:, None] * y))
        xi = jnp.where(kept[:, None], along / jnp.sqrt(jnp.where(kept, spec.values, 1))[:, None], 0)
    else:
        xi = matmul(spec.dual.T, y)
    rest = square - jnp.sum(xi**2, axis=0)
    if x.dtype == jnp.float32:  # the difference has the right derivative but not the digits
        rest += lax.stop_gradient(_outside(spec, row.weights, y, xi) - rest)
    samples = (row.weights > 0).sum()
    return _assemble(spec, xi, rest, square, mean, y_mean, row.total, samples, unit)


def _assemble(
    spec: Spectrum,
    xi: Array,
    rest: Array,
    square: Array,
    mean: Array,
    y_mean: Array,
    n: Array,
    samples: Array,
    unit: Array,
) -> Problem:
    """The problem, with what is only rounding error set to exactly zero."""
    kept, eps = spec.values > 0, jnp.finfo(xi.dtype).eps
    # residuals of rows are known to relative precision, differences of squares are not
    noise = (100 * eps) ** 2 if xi.dtype == jnp.float32 and len(spec.dual) else 100 * eps
    interpolated = kept.sum() >= samples - 1
    rest = jnp.where(interpolated | (rest <= noise * square), 0, rest)
    mu = matmul(spec.axes.T, mean)
    off = mean - matmul(spec.axes, mu)
    # a mean inside the span leaves only rounding error outside it
    alone = off @ off + jnp.sum(jnp.where(kept, 0, mu) ** 2)
    real = alone > (100 * eps) ** 2 * (mean @ mean)
    off, mu = jnp.where(real, off, 0), jnp.where(kept | real, mu, 0)
    sigma = jnp.sqrt(jnp.where(kept, spec.values, 1))
    shares = jnp.where(kept[:, None], (mu / sigma)[:, None] * xi, 0)
    gap = y_mean - shares.sum(axis=0)
    rounding = 100 * eps * (jnp.abs(y_mean) + jnp.abs(shares).sum(axis=0))
    gap = jnp.where(jnp.abs(gap) <= rounding, 0, gap)
    return Problem(spec, spec.values, mu, off, off @ off, xi, rest, y_mean, gap, n, unit)


def _power_of_two(size: Array) -> Array:
    """The power of two nearest to a size, so that dividing by it costs no digit."""
    return jnp.exp2(jnp.round(jnp.log2(jnp.where(size > 0, size, 1))))


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
    found = terms(p, t)
    beta = p.n / jnp.maximum(found.residual + t * found.norm, _tiny(t))
    evidence = 0.5 * (jnp.log(beta) - 1 - jnp.log(2 * jnp.pi)) - found.half_logdet / p.n
    return Fit(evidence, t * beta * p.unit**2, beta, t, steps, converged, bounded)


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
