"""Ridge regression by Cholesky factors at few penalties, and in between by interpolation.

With u = ln t, the log determinant of A + tI and the quadratic forms of the targets and the mean in
its inverse are analytic functions of u. Their singularities, t = -lambda, lie at the distance pi
from the real axis, so that interpolants at j Chebyshev points of a window of half-length h converge
as rho^-j, with rho = s + sqrt(1 + s^2) and s = pi / h. Many factorisations at once are what an
accelerator does best, and eigenvectors what it does worst.

References: Trefethen, "Approximation Theory and Approximation Practice", SIAM 2013, chapter 8.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxte.statistics.linalg import factor_of, gram, matmul, noise, trace
from jaxte.statistics.normal import Normal
from jaxte.statistics.profile import NEAR_EXACT, Forms, profile
from jaxte.statistics.rows import Rows
from jaxte.statistics.tiles import map_tiles
from jaxte.statistics.tridiagonal import scaled_rows, weighted_targets

__all__ = ["NODES", "Shifted", "shifted_normal", "shifted_rows"]

_FURTHEST = 20.0  # ln t at which nothing is explained any more; tr G = 1
# ln t of the tries over the trace of A, among which lies an optimum, and their distance.
_LOWEST, _HIGHEST, _STEP = -23.0, 7.0, 2.0
# Nodes of the window, and the half-length up to which they leave an error of 1e-10.
NODES, _WIDEST = 32, 4.0
# A penalty so many times the rounding error of A has, by the golden values, the evidence to 1e-10.
_CLEAR = 1e5


class System(NamedTuple):
    """A [r, r], targets Y [r, k] and a vector v [r]: the mean; of rows, their products with it.

    Scaled so that tr G = 1, G = A + n m m' being the products of the rows that are not centred.
    """

    matrix: Array
    targets: Array
    vector: Array
    square: Array  # [k] squared length of the centred targets
    y_mean: Array  # [k]
    n: Array
    length: Array | None  # squared length of the mean, for rows; None for normal equations


class Shifted(NamedTuple):
    """The forms on a window of u = ln t that holds the optima of all columns.

    Attributes:
        low: of the window.
        high: of the window.
        coefficients: of Chebyshev polynomials on it [j, ...].
        square: [k] squared length of the centred targets.
        y_mean: [k]
        n: sum of the weights.
        length: squared length of the mean, for rows; None for normal equations.
        size: trace of A.
        far: [k] the profile of the evidence where nothing is explained.
        endless: [k] whether it is largest there.
        sure: [k] whether the window holds the optimum, and all digits.
    """

    low: Array
    high: Array
    coefficients: Forms
    square: Array
    y_mean: Array
    n: Array
    length: Array | None
    size: Array
    far: Array
    endless: Array
    sure: Array

    def at(self, u: Array) -> Forms:
        """The forms at ln t = u, [j, 1] for all columns alike or [j, k] for each its own."""
        s = (2 * u - self.low - self.high) / (self.high - self.low)
        degree = jnp.arange(NODES, dtype=u.dtype)
        basis = jnp.cos(degree[None, None] * jnp.arccos(jnp.clip(s, -1, 1))[..., None])
        c = self.coefficients

        def of_columns(part: Array) -> Array:
            if u.shape[1] == 1:
                return matmul(basis[:, 0], part)
            return jnp.sum(basis * part.T[None], axis=-1)

        logdet, mean = matmul(basis, c.logdet)[..., 0], matmul(basis, c.mean)[..., 0]
        return Forms(logdet, of_columns(c.own), of_columns(c.across), mean)


def shifted_normal(normal: Normal) -> Shifted:
    """Of normal equations, for n >= d."""
    energy = trace(normal.scatter) + normal.n * (normal.mean @ normal.mean)
    scale = jnp.where(energy > 0, energy, 1)
    root = jnp.sqrt(scale)
    rest = normal.square, normal.y_mean, normal.n, None
    return _shifted(System(normal.scatter / scale, normal.cross / root, normal.mean / root, *rest))


def shifted_rows(row: Rows, targets: Array) -> Shifted:
    """Of the products of the rows with each other, for n < d."""
    x, mean, *_ = scaled_rows(row)
    y, square, y_mean = weighted_targets(row, targets)
    rest = square, y_mean, row.total, mean @ mean
    return _shifted(System(gram(x.T), y, matmul(x, mean), *rest))


def _shifted(p: System) -> Shifted:
    """Tries over the whole range, then nodes in a window around the best of every column."""
    size = jnp.maximum(trace(p.matrix), jnp.finfo(p.matrix.dtype).tiny)
    origin = jnp.log(size)
    tries = origin + jnp.arange(_LOWEST, _HIGHEST + 1, _STEP, dtype=p.matrix.dtype)
    values, quadratic = profile(p, tries[:, None], _forms(p, tries))
    far, _ = profile(p, jnp.asarray(_FURTHEST, tries.dtype), _far_forms(p, size))
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    best, top = jnp.argmax(values, axis=0), values.max(axis=0)
    endless = far >= top - 4 * jnp.finfo(top.dtype).eps * (jnp.abs(top) + p.n)
    places = tries[best]
    low = jnp.min(jnp.where(endless, jnp.inf, places)) - _STEP
    high = jnp.max(jnp.where(endless, -jnp.inf, places)) + _STEP
    inside = (high - low <= 2 * _WIDEST) & jnp.isfinite(high)
    inside &= jnp.exp(low) >= _CLEAR * noise(size, len(p.matrix))
    low, high = (jnp.where(inside, end, origin + sign) for end, sign in ((low, -1), (high, 1)))
    angles = np.pi * (np.arange(NODES) + 0.5) / NODES
    nodes = 0.5 * (low + high) + 0.5 * (high - low) * jnp.asarray(np.cos(angles), low.dtype)
    to_coefficients = 2 / NODES * np.cos(np.arange(NODES)[:, None] * angles[None])
    to_coefficients[0] /= 2
    made = _forms(p, nodes)
    coefficients = Forms(*(matmul(jnp.asarray(to_coefficients, low.dtype), one) for one in made))
    lengths = p.square + p.n * p.y_mean**2
    # a fit that is all but exact at the lowest penalty, or may rise further below, is left out
    sure = inside & (best > 1) & (best < len(tries) - 1) & (values[0] < values[1])
    sure &= quadratic[0] > NEAR_EXACT * lengths
    rest = p.square, p.y_mean, p.n, p.length
    return Shifted(low, high, coefficients, *rest, size, far, endless, sure | endless)


def _forms(p: System, u: Array) -> Forms:
    """At ln t = u [j], by a Cholesky factor each; NaN where there is none."""
    right = jnp.concatenate([p.targets, p.vector[:, None]], axis=1)

    def one(u: Array) -> Forms:
        t = jnp.exp(u)
        factor = factor_of(p.matrix + t * jnp.eye(len(p.matrix), dtype=t.dtype))
        half = factor.half(right)
        y, v = half[:, :-1], half[:, -1]
        logdet = jnp.sum(2 * jnp.log(factor.diagonal) - u)
        return Forms(logdet, jnp.sum(y**2, axis=0), matmul(v, y), v @ v)

    logdet, own, across, mean = map_tiles(one, u, p.matrix.size + right.size)
    return Forms(logdet[:, None], own, across, mean[:, None])


def _far_forms(p: System, size: Array) -> Forms:
    """At `_FURTHEST`, to first order, which is all there."""
    t = jnp.exp(jnp.asarray(_FURTHEST, size.dtype))
    v = p.vector
    own, across = jnp.sum(p.targets**2, axis=0), matmul(v, p.targets)
    return Forms(size / t, own / t, across / t, v @ v / t)
