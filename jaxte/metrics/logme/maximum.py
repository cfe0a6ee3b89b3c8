"""The maximised evidence of target columns, by the cheapest route, and its derivative."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.lax import stop_gradient

from jaxte.metrics.logme.evidence import Fit, maximise, posterior_mean, residuals, slope
from jaxte.metrics.logme.search import search
from jaxte.statistics.linalg import matmul
from jaxte.statistics.normal import Normal
from jaxte.statistics.ridge import (
    Problem,
    Ridge,
    RowsOf,
    is_tridiagonal,
    problem_of,
    shifted_of,
    tridiagonal_of,
)
from jaxte.statistics.rows import Rows, centre
from jaxte.statistics.shifted import Shifted
from jaxte.statistics.tridiagonal import Tridiagonal

_SMALL = 1e-30  # keeps the logarithm of an all-zero feature matrix finite


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def maximum_evidence(
    route: str, features: Array, y: Array, weights: Array, normal: Normal | None
) -> tuple[Array, Array]:
    """Maximum log evidence per sample of each column of y [n, k], and flags [5, k]."""
    return optimum(route, (features, y, weights), normal)


def optimum(route: str, rows: RowsOf | None, normal: Normal | None) -> tuple[Array, Array]:
    """Evidence and flags; "sure" takes a form without eigenvectors where that pays and suffices.

    Without the rows, from the normal equations as far as those know.
    """

    def full(rows: RowsOf | None, normal: Normal | None) -> tuple[Array, Array]:
        return of_problem(problem_of(rows, normal))

    @sequential_vmap  # or both sides of the condition would be computed
    def mended(
        quick: tuple[Array, Array], rows: RowsOf | None, normal: Normal | None
    ) -> tuple[Array, Array]:
        return lax.cond(jnp.any(quick[1][2] > 0), lambda: full(rows, normal), lambda: quick)

    @sequential_vmap
    def reduced(rows: RowsOf | None, normal: Normal | None) -> tuple[Array, Array]:
        return mended(of_form(tridiagonal_of(rows, normal)), rows, normal)

    def shifted(rows: RowsOf | None, normal: Normal | None) -> tuple[Array, Array]:
        return mended(of_form(shifted_of(rows, normal)), rows, normal)

    if route == "full" or not is_tridiagonal(rows, normal):
        return full(rows, normal)
    return lax.platform_dependent(rows, normal, cpu=reduced, default=shifted)


def of_ridge(ridge: Ridge) -> tuple[Array, Array]:
    """Evidence and flags of the quick form."""
    if isinstance(ridge.form, Problem):
        return of_problem(ridge.form, ridge.rough)
    return of_form(ridge.form)


def of_form(form: Tridiagonal | Shifted) -> tuple[Array, Array]:
    """Evidence and flags: bounded, moving, unsure, blurred and constant, one each a column."""
    best = search(form)
    zero = jnp.zeros_like(best.evidence)
    size = form.size if isinstance(form, Shifted) else form.diagonal.sum()
    constant = zero + (size <= jnp.finfo(zero.dtype).tiny)
    return best.evidence, _flags(best.bounded, ~best.converged, ~best.sure, zero, constant)


def of_problem(problem: Problem, unsure: Array | float = 0.0) -> tuple[Array, Array]:
    """The same from eigenvectors."""
    fit = maximise(problem)
    zero = jnp.zeros_like(fit.evidence)
    return fit.evidence, _flags(
        fit.bounded,
        ~fit.converged,
        zero + unsure,
        zero + problem.blurred,
        zero + is_constant(problem),
    )


def is_constant(problem: Problem) -> Array:
    """1 for features that do not vary."""
    return 1 - jnp.any(problem.lam > 0).astype(problem.lam.dtype)


def _flags(*flags: Array) -> Array:
    return jnp.stack([flag.astype(float) for flag in flags])


@maximum_evidence.defjvp
def maximum_evidence_jvp(
    route: str, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """At a maximum the precisions and the posterior mean are constants (envelope theorem)."""
    problem = problem_of(primals[:3], None, dual=True)
    fit = maximise(problem)
    evidence = partial(_evidence_at, problem, fit)
    zero = jnp.zeros_like(fit.evidence)
    flags = _flags(fit.bounded, ~fit.converged, zero, zero, zero + is_constant(problem))
    moved = jax.jvp(evidence, primals[:3], tangents[:3])[1]
    return (fit.evidence, flags), (moved, jnp.zeros_like(flags))


def _evidence_at(problem: Problem, fit: Fit, features: Array, y: Array, weights: Array) -> Array:
    """A function of (features, y, weights) with the derivative of the maximised evidence.

    The log determinant's derivative, tr((tI + G)^-1 dG), is taken in centred coordinates as
    tr(D dA) + d ln(1 + n p) with D = (tI + A)^-1 and p = m' D m, D constant throughout.
    """
    p, t = problem, fit.ratio
    row = Rows(features / p.unit, weights, weights.sum(), p.n)
    x, mean = centre(row.features, row)
    n, axes = row.total, p.spec.axes
    counted = weights[:, None] > 0

    def square(constant: Array, moving: Array) -> Array:
        """Column sums of weights * moving**2, its value and half its derivative from constant."""
        cross = jnp.sum(stop_gradient(weights)[:, None] * constant * moving, axis=0)
        return matmul(weights, constant**2) + 2 * (cross - stop_gradient(cross))

    # products that are zero but for rounding stay at zero, since 1 / t may be 1e20
    scores = matmul(x, axes)
    constant = stop_gradient(jnp.where(counted & (p.lam == 0)[None], 0, scores))
    inverse = 1 / (t[None] + p.lam[:, None])
    trace = matmul(square(constant, scores), inverse)
    beyond = stop_gradient(jnp.where(counted, 0, x - matmul(scores, axes.T)))
    trace += jnp.where(p.off_square > 0, weights @ jnp.sum(beyond**2, axis=1), 0) / t

    coefficients = p.mu[:, None] * inverse
    direction = matmul(axes, coefficients) + p.off[:, None] / t[None]  # D m
    along = matmul(x, direction)
    constant = stop_gradient(jnp.where(counted, matmul(constant, coefficients), along))
    leverage = p.mu**2 @ inverse + p.off_square / t
    change = 2 * matmul(mean, direction) - square(constant, along)
    logdet = trace + (p.n * change + n * leverage) / (1 + p.n * leverage)

    constant = residuals(p, row._replace(features=features), y, t)
    residual = y - matmul(row.features, posterior_mean(p, t) * p.unit)
    moving = n * jnp.log(fit.beta / (2 * jnp.pi)) - logdet
    moving -= fit.beta * square(stop_gradient(constant), residual)
    # at a bound the slope does not vanish, and the bound moves with tr G
    steepness = jnp.where(fit.bounded, slope(p, jnp.log(t)), 0)
    moving += steepness * jnp.log(jnp.maximum(weights @ jnp.sum(row.features**2, axis=1), _SMALL))
    # the part that does not move makes the value right, which d(1/n) multiplies
    fixed = stop_gradient(2 * p.n * fit.evidence - moving)
    return (moving + fixed) / (2 * n)
