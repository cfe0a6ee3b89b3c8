"""Features in their principal axes: what stays where it is while the targets are permuted.

A rotation of the features changes no score that does not depend on their axes, and permuting the
targets leaves their total scatter alone. In its eigenvectors that is a diagonal, and the scatter
within any classes is that diagonal less a matrix of rank C: every new labelling costs the sums of
its classes and products of C columns, and no factorisation.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments, TargetMoments, divisors
from jaxte.statistics.normal import Normal, only_present, targets_of
from jaxte.statistics.ridge import Ridge, problem_in_axes
from jaxte.statistics.rows import Rows, centre, class_sums, target_columns
from jaxte.statistics.sample import Measured, Sample
from jaxte.statistics.spectrum import spectrum, spectrum_of_gram
from jaxte.statistics.statistics import Statistics
from jaxte.statistics.total import inverse_or_0, whitened_targets

__all__ = [
    "Principal",
    "Relabelled",
    "RelabelledMoments",
    "permuted",
    "principal_of",
    "principal_of_moments",
]


class Principal(NamedTuple):
    """Features in their principal axes, whatever the targets.

    Attributes:
        features: [n, r] minus their mean, in units of ``unit``; r = min(n, d) + 1, the last axis
            being that of the mean outside of the others.
        weights: [n], or None.
        width: the true one.
        finite: whether every row that counts is finite.
        values: [r] the total scatter, a diagonal, largest first but for that last axis.
        mean: [r] of the features.
        ones: [r] coordinates of the vector of ones.
        unit: power of two that the features were divided by.
        samples: rows of positive weight.
    """

    features: Array
    weights: Array | None
    width: Array
    finite: Array
    values: Array
    mean: Array
    ones: Array
    unit: Array
    samples: Array

    @property
    def rows(self) -> Rows:
        """As the statistics read them."""
        x, w = self.features, self.weights
        weights = jnp.ones(len(x), x.dtype) if w is None else w
        return Rows(x, weights, weights.sum(), self.width, self.finite, w is None)


def principal_of(sample: Sample) -> Principal:
    """The principal axes of a model's features; its targets are not read."""
    one = jnp.ones(jnp.shape(sample.features)[0], jnp.float32)
    statistics = Statistics(sample._replace(targets=one), num_classes=None)
    rows, unit = statistics.rows, statistics.unit
    x, state = statistics.centred, statistics.measured.moments
    varies = jnp.where(state.rounding < rows.weights @ x**2, 1.0, 0.0).astype(x.dtype)
    x = x * varies[None]
    mean = state.origin + state.relative_mean
    axes = spectrum(x, rows.weights)
    along = matmul(axes.axes.T, mean)
    outside = mean - matmul(axes.axes, along)
    length = jnp.sqrt(outside @ outside)

    def beside(values: Array, last: Array | float) -> Array:
        return jnp.concatenate([values, jnp.asarray(last, values.dtype)[None]])

    turned = jnp.pad(matmul(x, axes.axes), ((0, 0), (0, 1)))
    ones = matmul(axes.axes.T, jnp.ones_like(mean))
    return Principal(
        turned,
        None if rows.unweighted else rows.weights,
        rows.width,
        jnp.asarray(rows.finite),
        beside(axes.values, 0),
        beside(along, length),
        beside(ones, 0),
        unit,
        state.samples,
    )


def principal_of_moments(state: Moments, width: Array, unit: Array) -> tuple[Principal, Array]:
    """The same of rows that have gone by, and the axes [d, d + 1]; without ``features``."""
    axes = spectrum_of_gram(state.total_scatter, state.samples)
    kept = jnp.pad(jnp.where(axes.values[None] > 0, axes.axes, 0), ((0, 0), (0, 1)))
    mean = state.origin + state.relative_mean
    principal = Principal(
        jnp.zeros((0, kept.shape[1]), kept.dtype),
        None,
        width,
        state.valid,
        jnp.pad(axes.values, (0, 1)),
        jnp.pad(matmul(axes.axes.T, mean), (0, 1)),
        jnp.pad(matmul(axes.axes.T, jnp.ones_like(mean)), (0, 1)),
        unit,
        state.samples,
    )
    return principal, kept


def permuted(targets: Array, weights: Array | None, order: Array) -> Array:
    """Targets [n] or [n, k] permuted among the rows that count, by random numbers [n]."""
    absent = jnp.zeros(len(order), bool) if weights is None else jnp.asarray(weights) <= 0
    places = jnp.argsort(absent, stable=True)
    drawn = jnp.argsort(jnp.where(absent, jnp.inf, order), stable=True)
    targets = jnp.asarray(targets)
    return targets.at[places].set(jnp.take(targets, drawn, axis=0))


class Relabelled(Statistics):
    """`Statistics` of features in principal axes with targets of their own."""

    def __init__(
        self, principal: Principal, targets: Any, num_classes: int | None, source: Any = None
    ) -> None:
        sample = Sample(principal.features, targets, principal.weights, principal.width, source)
        super().__init__(sample, num_classes=num_classes, route="full")
        self.principal = principal

    by_columns = True

    @cached_property
    def rows(self) -> Rows:
        """As of `Statistics`, in the axes."""
        rows = self.principal.rows
        return rows._replace(features=rows.features + self.principal.mean[None])

    @cached_property
    def ones(self) -> Array:
        """Coordinates of the vector of ones [r]."""
        return self.principal.ones

    @cached_property
    def measured(self) -> Measured:
        """As of `Statistics`; the rows minus the mean of their class are made where asked for."""
        p, x, w = self.principal, self.principal.rows.features, self.principal.rows.weights
        zero, total = jnp.zeros((), x.dtype), p.rows.total
        targets, valid = None, jnp.asarray(p.rows.finite)
        if self.num_classes is None:
            counts, means = total[None], jnp.zeros((1, x.shape[1]), x.dtype)
            y, y_mean = centre(target_columns(self._sample().targets, p.rows), p.rows)
            weighted = w[:, None] * y
            targets = TargetMoments(
                jnp.zeros_like(y_mean), y_mean, matmul(y.T, weighted), matmul(x.T, weighted)
            )
        else:
            labels = self.labels
            counts = class_sums(w, labels, self.num_classes)
            valid &= jnp.all((w <= 0) | ((labels >= 0) & (labels < self.num_classes)))
            weighted = x if p.rows.unweighted else w[:, None] * x
            means = class_sums(weighted, labels, self.num_classes) / divisors(counts)[:, None]
        state = Moments(p.mean, p.samples, counts, means, zero, zero, valid, targets)
        return Measured(state, None, p.unit, p.rows.width)

    @cached_property
    def residuals(self) -> Array:
        """As of `Statistics`."""
        x, means = self.principal.rows.features, self.measured.moments.means
        labels = self.labels if self.num_classes is not None else jnp.zeros(len(x), jnp.int32)
        return x - jnp.take(means, labels, axis=0, mode="clip")

    @cached_property
    def _between(self) -> Array:
        """Class means times the root of their counts [C, r], whose products are S_B."""
        state = self.measured.moments
        if self.num_classes is None:
            return jnp.zeros_like(state.means)
        return jnp.sqrt(state.counts)[:, None] * state.deviations

    @cached_property
    def scatter(self) -> Array:
        """As of `Statistics`: the total less that between the classes."""
        return jnp.diag(self.principal.values) - matmul(self._between.T, self._between)

    @cached_property
    def within_class_ss(self) -> Array:
        """As of `Statistics`."""
        rows, state = self.principal.rows, self.measured.moments
        square = rows.weights * jnp.sum(rows.features**2, axis=1)
        own = jnp.sum(state.means**2, axis=1)
        if self.num_classes is None:
            return square.sum()[None]
        return class_sums(square, self.labels, self.num_classes) - state.counts * own

    @cached_property
    def within_diagonal(self) -> Array:
        """As of `Statistics`."""
        return self.principal.values - jnp.sum(self._between**2, axis=0)

    def within_times(self, v: Array, scale: Array) -> Array:
        """As of `Statistics`."""
        along = matmul(self._between, v)
        return scale * (self.principal.values * v - matmul(self._between.T, along))

    def solve_within(self, scale: Array, ridge: Array, rhs: Array) -> Array:
        """As of `Statistics`, by Woodbury's identity: a system of C x C."""
        share = scale / self.total
        diagonal = 1 / (share * self.principal.values + ridge)
        turned = self._between * diagonal[None]
        inner = jnp.eye(len(turned), dtype=rhs.dtype) - share * matmul(turned, self._between.T)
        first = diagonal[:, None] * rhs
        return first + turned.T @ jnp.linalg.solve(inner, share * matmul(self._between, first))

    @cached_property
    def eigenvalues(self) -> Array:
        """As of `Statistics`."""
        return self.principal.values[:-1]

    @cached_property
    def target_products(self) -> Array:
        """As of `Statistics`."""
        crossed = self._between
        if self.num_classes is None:
            state = self.measured.moments
            assert state.targets is not None
            crossed = matmul(state.targets.cross, whitened_targets(state)[1]).T
        along = crossed * jnp.sqrt(inverse_or_0(self.principal.values))[None]
        return matmul(along, along.T)

    @cached_property
    def normal(self) -> Normal | None:
        """As of `Statistics`; nobody needs the matrix."""
        cross, square, y_mean = (
            only_present(part, self.present) for part in targets_of(self.measured.moments)
        )
        p, n = self.principal, self.total
        return Normal(jnp.diag(p.values), cross, square, p.mean, y_mean, n, p.samples, p.unit)

    @cached_property
    def ridge(self) -> Ridge:
        """As of `Statistics`."""
        assert self.normal is not None
        problem = problem_in_axes(self.principal.values, self.normal)
        return Ridge(problem, self.present, self.valid, jnp.zeros((), problem.lam.dtype))


class RelabelledMoments(Relabelled):
    """The same of rows that have gone by, from their moments, means and products in the axes."""

    def __init__(self, principal: Principal, state: Moments) -> None:
        number = None if state.targets is not None else len(state.counts)
        measured = Measured(state, None, principal.unit, principal.width)
        Statistics.__init__(self, None, num_classes=number, route="full", measured=measured)
        self.principal = principal

    @cached_property
    def within_class_ss(self) -> Array:
        """As of `Statistics`: no rotation changes it."""
        return self.squares.sum(axis=1)
