"""The maximised evidence of target columns, by the cheapest route, and its derivative."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.lax import stop_gradient

from jaxte.metrics import _evidence
from jaxte.metrics._evidence import Fit, Normal, Problem
from jaxte.metrics._reduced import Reduced, reduce_normal, reduce_rows, search
from jaxte.statistics.linalg import matmul
from jaxte.statistics.rows import Rows, centre

Sample: TypeAlias = tuple[Array, Array, Array]  # rows, target columns, weights

_REDUCED = 192  # size of the smaller Gram matrix from which its reduction beats its eigenvectors
_SMALL = 1e-30  # keeps the logarithm of an all-zero feature matrix finite


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def maximum_evidence(
    route: str, features: Array, y: Array, weights: Array, normal: Normal | None
) -> tuple[Array, Array]:
    """Maximum log evidence per sample of each column of y [n, k], and flags [5, k]."""
    return optimum(route, (features, y, weights), normal)


def optimum(route: str, sample: Sample | None, normal: Normal | None) -> tuple[Array, Array]:
    """Evidence and flags, by the tridiagonal reduction where that pays and suffices.

    Without the rows, from the normal equations as far as those know.
    """

    def full(sample: Sample | None, normal: Normal | None) -> tuple[Array, Array]:
        problem = problem_of(sample, normal, sharp=route != "rough")
        fit = _evidence.maximise(problem)
        zero = jnp.zeros_like(fit.evidence)
        return fit.evidence, _flags(
            fit.bounded,
            ~fit.converged,
            zero + (problem.blurred if route == "rough" else 0),
            zero + problem.blurred,
            zero + constant(problem),
        )

    def quick(sample: Sample | None, normal: Normal | None) -> tuple[Array, Array]:
        return best(reduced(sample, normal))

    @sequential_vmap  # or both sides of the condition would be computed
    def sure(sample: Sample | None, normal: Normal | None) -> tuple[Array, Array]:
        found = quick(sample, normal)
        return lax.cond(jnp.any(found[1][2] > 0), lambda: full(sample, normal), lambda: found)

    if route in ("full", "rough") or not reducible(sample, normal):
        return full(sample, normal)
    fast = quick if route == "quick" else sure
    return lax.platform_dependent(sample, normal, cpu=fast, default=full)


def reducible(sample: Sample | None, normal: Normal | None) -> bool:
    """Whether the reduction beats the eigenvectors, on a CPU."""
    if normal is not None:
        array = normal.mean
    else:
        assert sample is not None
        array = sample[0]
    return min(array.shape) >= _REDUCED and array.dtype == jnp.float64


def reduced(sample: Sample | None, normal: Normal | None) -> Reduced:
    """The costly half of the quick route."""
    if normal is not None:
        return reduce_normal(normal)
    assert sample is not None
    features, y, weights = sample
    return reduce_rows(_rows(features, weights), y)


def best(problem: Reduced) -> tuple[Array, Array]:
    """Its other half: evidence and flags, as `maximum_evidence` gives them."""
    found = search(problem)
    zero = jnp.zeros_like(found.evidence)
    same = zero + (problem.diagonal.sum() <= 0)
    return found.evidence, _flags(found.bounded, ~found.converged, ~found.sure, zero, same)


def constant(problem: Problem) -> Array:
    """1 for features that do not vary."""
    return 1 - jnp.any(problem.lam > 0).astype(problem.lam.dtype)


def _flags(*flags: Array) -> Array:
    return jnp.stack([flag.astype(float) for flag in flags])


def _rows(features: Array, weights: Array) -> Rows:
    width = jnp.asarray(features.shape[1], features.dtype)
    return Rows(features, weights, weights.sum(), width)


def problem_of(
    sample: Sample | None, normal: Normal | None, *, dual: bool = False, sharp: bool = True
) -> Problem:
    """The evidence's coordinates: from the normal equations, and if ``sharp`` from the rows too.

    The latter only where need be: where the problem is ``blurred``.
    """
    if sample is None:
        assert normal is not None
        return _evidence.decompose_normal(normal)
    features, y, weights = sample
    row = _rows(features, weights)
    if normal is not None:
        problem = _evidence.decompose_normal(normal)
    else:
        problem = _evidence.decompose(row, y)
    return _evidence.sharpen(problem, row, y, dual=dual) if sharp else problem


@maximum_evidence.defjvp
def maximum_evidence_jvp(
    route: str, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """At a maximum the precisions and the posterior mean may be held fixed (envelope theorem)."""
    problem = problem_of(primals[:3], None, dual=True)
    fit = _evidence.maximise(problem)
    held = partial(_evidence_at, problem, fit)
    zero = jnp.zeros_like(fit.evidence)
    flags = _flags(fit.bounded, ~fit.converged, zero, zero, zero + constant(problem))
    moved = jax.jvp(held, primals[:3], tangents[:3])[1]
    return (fit.evidence, flags), (moved, jnp.zeros_like(flags))


def _evidence_at(problem: Problem, fit: Fit, features: Array, y: Array, weights: Array) -> Array:
    """A function of (features, y, weights) with the derivative of the maximised evidence.

    The log determinant's derivative, tr((tI + G)^-1 dG), is taken in centred coordinates as
    tr(D dA) + d ln(1 + n p) with D = (tI + A)^-1 and p = m' D m, D held fixed throughout.
    """
    p, t = problem, fit.ratio
    row = Rows(features / p.unit, weights, weights.sum(), p.n)
    x, mean = centre(row.features, row)
    n, axes = row.total, p.spec.axes
    counted = weights[:, None] > 0

    def square(held: Array, moving: Array) -> Array:
        """Column sums of weights * moving**2, its value and half its derivative from held."""
        cross = jnp.sum(stop_gradient(weights)[:, None] * held * moving, axis=0)
        return matmul(weights, held**2) + 2 * (cross - stop_gradient(cross))

    # products that are zero but for rounding are held at zero, since 1 / t may be 1e20
    scores = matmul(x, axes)
    held = stop_gradient(jnp.where(counted & (p.lam == 0)[None], 0, scores))
    inverse = 1 / (t[None] + p.lam[:, None])
    trace = matmul(square(held, scores), inverse)
    beyond = stop_gradient(jnp.where(counted, 0, x - matmul(scores, axes.T)))
    trace += jnp.where(p.off_square > 0, weights @ jnp.sum(beyond**2, axis=1), 0) / t

    coefficients = p.mu[:, None] * inverse
    direction = matmul(axes, coefficients) + p.off[:, None] / t[None]  # D m
    along = matmul(x, direction)
    held = stop_gradient(jnp.where(counted, matmul(held, coefficients), along))
    leverage = p.mu**2 @ inverse + p.off_square / t
    change = 2 * matmul(mean, direction) - square(held, along)
    logdet = trace + (p.n * change + n * leverage) / (1 + p.n * leverage)

    held = _evidence.residuals(p, row._replace(features=features), y, t)
    residual = y - matmul(row.features, _evidence.posterior_mean(p, t) * p.unit)
    moving = n * jnp.log(fit.beta / (2 * jnp.pi)) - logdet
    moving -= fit.beta * square(stop_gradient(held), residual)
    # at a bound the slope does not vanish, and the bound moves with tr G
    slope = jnp.where(fit.bounded, _evidence.slope(p, jnp.log(t)), 0)
    moving += slope * jnp.log(jnp.maximum(weights @ jnp.sum(row.features**2, axis=1), _SMALL))
    # the part that does not move makes the value right, which d(1/n) multiplies
    fixed = stop_gradient(2 * p.n * fit.evidence - moving)
    return (moving + fixed) / (2 * n)
