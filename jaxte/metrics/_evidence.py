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
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike

from jaxte.metrics._ascent import ascend
from jaxte.statistics.linalg import matmul, power_of_two, safe_root
from jaxte.statistics.measure import Moments, centred
from jaxte.statistics.rows import Rows, centre
from jaxte.statistics.spectrum import (
    Spectrum,
    gram_terms,
    spectrum,
    spectrum_of_gram,
    spectrum_of_rows,
)

_GRID = 256  # trial values of ln t; the evidence changes on a scale of 1 or slower
LOWEST, _HIGHEST = -55.0, 20.0  # the range of ln t searched, relative to ln tr G
NEAR_EXACT = 1e-8  # share of the targets left unexplained below which a difference lacks digits


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
    blurred: Array  # 1 where the rows might tell more than their products do


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
    unit: ArrayLike = 1  # that the features were divided by


def normal_equations(state: Moments, unit: ArrayLike = 1) -> Normal:
    """Normal equations from moments; for classification of the 0/1 column of every class.

    Columns that vary only by rounding become 0. ``unit``: that of the moments.
    """
    mean, n = state.origin + state.relative_mean, state.total
    scatter = state.total_scatter
    varies = jnp.diagonal(scatter) > state.rounding
    scatter = jnp.where(varies[:, None] & varies[None], scatter, 0)
    if state.targets is not None:
        t = state.targets
        cross, square, y_mean = t.cross, t.square, t.origin + t.mean
    else:
        y_mean = state.counts / jnp.where(n > 0, n, 1)
        cross = (state.counts[:, None] * state.deviations).T
        square = state.counts * (1 - y_mean)
    cross = jnp.where(varies[:, None], cross, 0)
    return Normal(scatter, cross, square, mean, y_mean, n, state.samples, unit)


def decompose_normal(given: Normal) -> Problem:
    """Normal equations in the coordinates of the evidence."""
    unit = power_of_two(jnp.sqrt(jnp.abs(jnp.diagonal(given.scatter) / given.n).max()))
    unit = jnp.maximum(unit, power_of_two(jnp.abs(given.mean).max()))
    spec = spectrum_of_gram(given.scatter / unit**2, given.samples)
    along = matmul(spec.axes.T, given.cross / unit)
    kept = (spec.values > 0)[:, None]
    xi = jnp.where(kept, along / jnp.sqrt(jnp.where(kept, spec.values[:, None], 1)), 0)
    rest = given.square - jnp.sum(xi**2, axis=0)
    mean, n, samples = given.mean / unit, given.n, given.samples
    unit = unit * given.unit
    return _assemble(spec, xi, rest, given.square, mean, given.y_mean, n, samples, unit)


def decompose(row: Rows, targets: Array, *, exact: bool = False) -> Problem:
    """Features and targets [n, k] themselves in the coordinates of the evidence.

    ``exact``: never from products of the rows, for which float64 has no derivative; float32 does
    so anyway.
    """
    counted = jnp.where(row.weights[:, None] > 0, row.features, 0)
    unit = power_of_two(lax.stop_gradient(jnp.abs(counted).max()))
    x, mean = centred(row._replace(features=row.features / unit))
    y, y_mean = centre(targets, row)
    exact |= x.dtype == jnp.float32
    spec = (spectrum_of_rows if exact and x.dtype == jnp.float64 else spectrum)(x, row.weights)
    kept = spec.values > 0
    square = matmul(row.weights, y**2)
    direct = exact or x.shape[0] < x.shape[1]
    if direct:
        xi = matmul(spec.dual.T, y)
    else:  # saves forming the dual
        along = matmul(spec.axes.T, matmul(x.T, row.weights[:, None] * y))
        xi = jnp.where(kept[:, None], along / jnp.sqrt(jnp.where(kept, spec.values, 1))[:, None], 0)
    rest = square - jnp.sum(xi**2, axis=0)
    if direct:  # the difference has the right derivative but not the digits
        rest += lax.stop_gradient(_outside(spec, row.weights, y, xi) - rest)
    samples = (row.weights > 0).sum()
    return _assemble(spec, xi, rest, square, mean, y_mean, row.total, samples, unit, direct=direct)


def sharpen(problem: Problem, row: Rows, targets: Array, *, dual: bool = False) -> Problem:
    """The same problem from the rows themselves, where their products hide something.

    Without a derivative, and without the dual unless it is asked for.
    """
    if problem.lam.dtype == jnp.float32:
        return problem

    def bare(p: Problem) -> Problem:
        return p if dual else p._replace(spec=p.spec._replace(dual=p.spec.dual[:0]))

    @sequential_vmap  # or both sides of the condition would be computed
    def choose(features: Array, weights: Array, y: Array, p: Problem) -> Problem:
        own = Rows(features, weights, weights.sum(), p.n)
        return lax.cond(p.blurred > 0, lambda: bare(decompose(own, y, exact=True)), lambda: bare(p))

    return choose(*lax.stop_gradient((row.features, row.weights, targets, problem)))


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
    *,
    direct: bool = False,
) -> Problem:
    """The problem, with what is only rounding error set to exactly zero.

    ``direct``: ``rest`` comes from residuals, which are known to relative precision, and not from
    a difference of squares.
    """
    kept, eps = spec.values > 0, jnp.finfo(xi.dtype).eps
    noise = (100 * eps) ** 2 if direct else 100 * eps
    blurred = spec.blurred
    if not direct:
        blurred = jnp.maximum(blurred, jnp.any(rest < NEAR_EXACT * square).astype(blurred.dtype))
    interpolated = kept.sum() >= samples - 1
    rest = jnp.where(interpolated | (rest <= noise * square), 0, rest)
    mu = matmul(spec.axes.T, mean)
    off = mean - matmul(spec.axes, mu)
    # a mean inside the span leaves only rounding error outside it
    alone = off @ off + jnp.sum(jnp.where(kept, 0, mu) ** 2)
    real = alone > (100 * eps) ** 2 * (mean @ mean)
    # and what is hidden among the eigenvalues that were cut is no direction of its own either
    cut = gram_terms(samples, len(mean)) * eps * spec.values[0]
    real &= (spec.blurred == 0) | (n * alone > cut)
    off, mu = jnp.where(real, off, 0), jnp.where(kept | real, mu, 0)
    sigma = jnp.sqrt(jnp.where(kept, spec.values, 1))
    shares = jnp.where(kept[:, None], (mu / sigma)[:, None] * xi, 0)
    gap = y_mean - shares.sum(axis=0)
    rounding = 100 * eps * (jnp.abs(y_mean) + jnp.abs(shares).sum(axis=0))
    gap = jnp.where(jnp.abs(gap) <= rounding, 0, gap)
    return Problem(spec, spec.values, mu, off, off @ off, xi, rest, y_mean, gap, n, unit, blurred)


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
