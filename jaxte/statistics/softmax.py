"""Multinomial logistic regression with a penalty, to convergence, by Newton's method.

The problem is strictly convex but for a common constant in the intercepts, which decides nothing.
No matrix of all parameters is formed: each Newton step is solved by conjugate gradients. What
there is of each row and class is [C, n], so that the rows are read in order by every product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.sparse.linalg import cg
from jax.typing import ArrayLike

from jaxte.statistics.linalg import matmul
from jaxte.statistics.spectrum import spectrum

_STEPS, _SHORTEST, _INNER = 60, 1e-6, 300  # of Newton; least share of a step; of one solution
_LOOSEST = 0.1  # relative error of a solution far from the optimum


class Linear(NamedTuple):
    """Logits W x' + b of rows x: W [C, r], b [C]."""

    slopes: Array
    intercepts: Array


class Regression(NamedTuple):
    """What is minimised: weighted cross entropies plus |W|^2 / (2 lam).

    Attributes:
        x: [n, r] centred rows, along the principal axes of the rows that count.
        targets: [C, n], 0/1.
        weights: [n].
        lam: variance of the prior of W.
    """

    x: Array
    targets: Array
    weights: Array
    lam: Array

    @property
    def occurs(self) -> Array:
        """Which classes have rows that count [C]."""
        return matmul(self.targets, self.weights) > 0

    def log_probabilities(self, model: Linear) -> Array:
        """Log probabilities [C, n], -inf for classes that do not occur."""
        logits = matmul(model.slopes, self.x.T) + model.intercepts[:, None]
        return jax.nn.log_softmax(jnp.where(self.occurs[:, None], logits, -jnp.inf), axis=0)

    def probabilities(self, model: Linear) -> Array:
        """Probabilities [C, n]."""
        return jnp.exp(self.log_probabilities(model))

    def value(self, model: Linear) -> Array:
        """What is minimised."""
        own = jnp.where(self.targets > 0, self.log_probabilities(model), 0).sum(axis=0)
        counted = jnp.where(self.weights > 0, own, 0)
        return jnp.sum(model.slopes**2) / (2 * self.lam) - self.weights @ counted

    def slope(self, model: Linear) -> Linear:
        """Its gradient."""
        gaps = self.weights[None] * (self.probabilities(model) - self.targets)
        return Linear(matmul(gaps, self.x) + model.slopes / self.lam, gaps.sum(axis=1))

    def bend(self, p: Array, along: Linear) -> Linear:
        """Its Hessian times a vector, where the probabilities are p."""
        moved = matmul(along.slopes, self.x.T) + along.intercepts[:, None]
        moved = p * (moved - jnp.sum(p * moved, axis=0)[None]) * self.weights[None]
        return Linear(matmul(moved, self.x) + along.slopes / self.lam, moved.sum(axis=1))

    def scales(self, p: Array) -> Linear:
        """Roots of about the diagonal of the Hessian."""
        spread = matmul(p * (1 - p), self.weights)
        squares = matmul(self.weights, self.x**2) / self.weights.sum()
        slopes = spread[:, None] * squares[None] + 1 / self.lam
        return Linear(jnp.sqrt(slopes), jnp.sqrt(jnp.where(self.occurs, spread, 1)))


def along_axes(x: Array, weights: Array) -> Array:
    """Centred rows [n, r] along the principal axes of those that count, for n < d their span.

    The penalised regression is the same in them, and well conditioned up to a diagonal.
    """
    axes = spectrum(x, weights).axes
    if len(x) >= x.shape[1]:  # a basis of the whole space, and any other would do
        axes = lax.stop_gradient(axes)
    return matmul(x, axes)


def fit(x: Array, targets: Array, weights: Array, lam: ArrayLike) -> Linear:
    """The minimum, with the derivative of the implicit function.

    Args:
        x: [n, r] rows, from `along_axes`.
        targets: [C, n], 0/1.
        weights: [n] sample weights >= 0.
        lam: variance of the prior of W, scikit-learn's C.

    Returns:
        `Linear`.
    """
    return _minimum(Regression(x, targets, weights, jnp.asarray(lam).astype(x.dtype)))


@jax.custom_jvp
def _minimum(problem: Regression) -> Linear:
    shares = matmul(problem.targets, problem.weights) / problem.weights.sum()
    intercepts = jnp.log(jnp.where(problem.occurs, shares, 1))
    slopes = jnp.zeros((len(shares), problem.x.shape[1]), problem.x.dtype)
    return _newton(problem, Linear(slopes, intercepts))


@_minimum.defjvp
def _minimum_jvp(primals: tuple[Regression], tangents: tuple[Regression]) -> tuple[Linear, Linear]:
    (problem,) = primals
    model = _minimum(problem)
    moved = jax.jvp(lambda problem: problem.slope(model), primals, tangents)[1]
    p = problem.probabilities(model)

    def bend(along: Linear) -> Linear:
        return problem.bend(p, along)

    def solve(bend: Callable[[Linear], Linear], rhs: Linear) -> Linear:
        return _solve(problem, bend, p, rhs, jnp.finfo(p.dtype).eps ** 0.6)

    rhs = jax.tree.map(jnp.negative, moved)
    return model, lax.custom_linear_solve(bend, rhs, solve, symmetric=True)


def _solve(
    problem: Regression,
    bend: Callable[[Linear], Linear],
    p: Array,
    rhs: Linear,
    tolerance: ArrayLike,
    enough: ArrayLike = 0.0,
) -> Linear:
    """Solve H z = rhs, in units in which the diagonal of H is about 1.

    To a relative error, or to one that is ``enough``.
    """
    # what rounding leaves of the direction that decides nothing has no solution
    occurs = problem.occurs
    constant = jnp.where(occurs, rhs.intercepts, 0).sum() / jnp.maximum(occurs.sum(), 1)
    rhs = rhs._replace(intercepts=jnp.where(occurs, rhs.intercepts - constant, 0))
    scales = problem.scales(p)

    def scaled(vector: Linear) -> Linear:
        return jax.tree.map(jnp.divide, vector, scales)

    def product(vector: Linear) -> Linear:
        return scaled(bend(scaled(vector)))

    return scaled(cg(product, scaled(rhs), tol=tolerance, atol=enough, maxiter=_INNER)[0])


class _State(NamedTuple):
    model: Linear
    value: Array
    promised: Array  # by how much the last step should have lowered the value, twice
    steps: Array


def _newton(problem: Regression, begin: Linear) -> Linear:
    """Damped Newton steps until one promises less than rounding hides."""
    dtype = problem.x.dtype
    eps = jnp.finfo(dtype).eps
    enough = eps**0.75 if dtype == jnp.float64 else 10 * eps

    def step(state: _State) -> _State:
        p = problem.probabilities(state.model)
        slope = problem.slope(state.model)
        rhs = jax.tree.map(jnp.negative, slope)
        # the closer, the more exact: convergence is quadratic
        error = jnp.clip(jnp.sqrt(state.promised / (state.value + 1)), eps**0.5, _LOOSEST)
        rounding = 0.02 * jnp.sqrt(eps * jnp.abs(state.value))
        way = _solve(problem, lambda v: problem.bend(p, v), p, rhs, error, rounding)
        promised = jnp.vdot(rhs.slopes, way.slopes) + jnp.vdot(rhs.intercepts, way.intercepts)

        sound = jnp.isfinite(promised)
        way = jax.tree.map(lambda part: jnp.where(sound, part, 0), way)
        promised = jnp.where(sound, promised, 0)

        def after(share: Array) -> Linear:
            return jax.tree.map(lambda a, b: a + share * b, state.model, way)

        def too_long(share: Array) -> Array:
            limit = state.value - 1e-4 * share * promised + 10 * eps * jnp.abs(state.value)
            return ~(problem.value(after(share)) <= limit) & (share > _SHORTEST)

        share = lax.while_loop(too_long, lambda s: s / 2, jnp.ones((), dtype))
        model = after(share)
        return _State(model, problem.value(model), promised, state.steps + 1)

    def unfinished(state: _State) -> Array:
        return (state.promised > enough * state.value) & (state.steps < _STEPS)

    value = problem.value(begin)
    first = _State(begin, value, jnp.full_like(value, jnp.inf), jnp.zeros((), jnp.int32))
    return lax.while_loop(unfinished, step, first).model
