"""`Statistics`: what is known of the features and targets of one model.

In memory, on a mesh, streamed and from moments are four ways to the same statistics. A metric is
written once, of these, and never asks where they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.statistics.linalg import (
    gram,
    matmul,
    ridge_solve,
    ridge_solve_scatter,
    rounding_square,
    unit_of,
)
from jaxte.statistics.measure import Moments, measure
from jaxte.statistics.normal import Normal, normal_equations, only_present
from jaxte.statistics.outputs import rows_of_outputs, sum_with_outputs
from jaxte.statistics.ridge import Ridge, reduced_of, ridge_of
from jaxte.statistics.rows import Rows, as_rows, class_sums, target_columns, weighted_sum
from jaxte.statistics.sample import Batch, Measured, Sample
from jaxte.statistics.total import target_products, total_eigenvalues
from jaxte.statistics.tridiagonal import Reduced

__all__ = ["FACTORISED", "OF_REDUCED", "SHARED", "UNSURE", "Statistics"]

_NO_ROWS = "the rows are not at hand: a metric has to name what it reads in `needs`"

# What is made once and serves several metrics, in the order in which it is made.
# Each is made of the first two, and those of `FACTORISED` cost a factorisation. Those of
# `OF_REDUCED` are quick once the first of them is there.
OF_REDUCED = ("reduced", "ridge", "eigenvalues", "gram_eigenvalues")
FACTORISED = (*OF_REDUCED, "target_products")
SHARED = ("measured", "scatter", "squares", *FACTORISED)
# Routes that may leave a score unsure: of a CPU, and of an accelerator.
UNSURE = ("quick", "batched")


@jax.tree_util.register_pytree_node_class
class Statistics:
    """Statistics of one model, each made when it is first asked for.

    Args:
        sample: the rows; None where only ``shared`` is left of them.
        num_classes: C; None for regression.
        axis: of a mesh, over which the rows are cut; counts and moments are those of all devices.
        route: "quick", on a CPU, and "batched", on an accelerator, may leave a score "unsure",
            "full" never does; "sure", for one program that has to do both, takes the quick way
            and where that is not enough the full one.
        shared: statistics that are known already, by the names of `SHARED`.
    """

    # Who leaves out rows in closed form takes a weight of 2 as two twins, of which one stays. For
    # derivatives by a weight it is one row, which goes as a whole: or it would judge itself.
    whole_rows = False

    def __init__(
        self,
        sample: Sample | None,
        *,
        num_classes: int | None,
        axis: str | None = None,
        route: str = "sure",
        **shared: Any,
    ) -> None:
        self.sample, self.num_classes, self.axis, self.route = sample, num_classes, axis, route
        self._shared = shared
        self.__dict__.update(shared)  # where the cached properties look first

    @classmethod
    def of_moments(
        cls,
        state: Moments,
        width: ArrayLike,
        unit: ArrayLike = 1,
        *,
        route: str = "sure",
        **shared: Any,
    ) -> Statistics:
        """Of samples that have gone by, in units of ``unit``."""
        num_classes = None if state.targets is not None else state.counts.shape[0]
        width, unit = (jnp.asarray(one).astype(state.means.dtype) for one in (width, unit))
        shared |= {"measured": Measured(state, None, unit, width), "scatter": state.scatter}
        return cls(None, num_classes=num_classes, route=route, **shared)

    def only(self, **shared: Any) -> Statistics:
        """The same model, of which only these statistics are known."""
        return Statistics(
            None, num_classes=self.num_classes, axis=self.axis, route=self.route, **shared
        )

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """As a pytree: the rows, and what is known already."""
        names = tuple(self._shared)
        settings = (self.num_classes, self.axis, self.route)
        return (self.sample, *self._shared.values()), (names, settings)

    @classmethod
    def tree_unflatten(cls, auxiliary: tuple[Any, ...], children: tuple[Any, ...]) -> Statistics:
        """From its parts."""
        names, (num_classes, axis, route) = auxiliary
        shared = dict(zip(names, children[1:], strict=True))
        return cls(children[0], num_classes=num_classes, axis=axis, route=route, **shared)

    # --- the rows -------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> Rows:
        """Features and weights, promoted and masked; in memory only."""
        sample = self._sample()
        return as_rows(sample.features, sample.weights, sample.num_features)

    def _sample(self) -> Sample:
        if self.sample is None:
            raise InputError(_NO_ROWS)
        return self.sample

    @property
    def may_be_unsure(self) -> bool:
        """Whether a score that takes longer may be left to another run."""
        return self.route in UNSURE

    @property
    def in_memory(self) -> bool:
        """Whether all rows are at hand, here and at once."""
        return self.sample is not None and self.axis is None

    @property
    def by_columns(self) -> bool:
        """Whether d x d matrices are the smaller or, without all rows at hand, the only ones."""
        if not self.in_memory:
            return True
        n, d = self.rows.features.shape
        return n >= d

    @property
    def labels(self) -> Array:
        """Class numbers [n] of the rows."""
        return jnp.asarray(self._sample().targets).astype(jnp.int32)

    @cached_property
    def _unit(self) -> Array:
        rows, alone = self.rows, self.axis is None
        across = () if alone else (partial(lax.pmax, axis_name=self.axis),)
        return unit_of(rows.features, rows.weights, *across)

    def all_reduce(self, part: Array) -> Array:
        """A sum over the rows at hand, added up over all devices."""
        return part if self.axis is None else lax.psum(part, self.axis)

    @cached_property
    def columns(self) -> Array:
        """Target columns [n, k]; those that do not count are copies of one that does."""
        if self.num_classes is not None:
            y = jax.nn.one_hot(self.labels, self.num_classes, dtype=self.rows.weights.dtype)
        else:
            y = target_columns(self._sample().targets, self.rows)
        return only_present(y, self.present)

    # --- moments ----------------------------------------------------------------------------------

    @cached_property
    def measured(self) -> Measured:
        """Moments of all rows, and the rows minus the mean of their class."""
        rows, unit = self.rows, self._unit
        if rows.features.dtype == jnp.float32:
            rows = rows._replace(features=rows.features / unit)
        state, residuals = measure(
            rows, self._sample().targets, self.num_classes, all_reduce=self.all_reduce
        )
        # their own program would make the squares, though few metrics read them
        state = state._replace(squares=jnp.zeros((), unit.dtype))
        return Measured(state, residuals, unit, rows.width)

    @cached_property
    def scatter(self) -> Array:
        """Within-class scatter [d, d], in units of ``unit`` squared."""
        return self.all_reduce(gram(self.residuals, self._own_weights))

    @property
    def _own_weights(self) -> Array | None:
        """Weights of the rows; None where all are 1."""
        return None if self.rows.unweighted else self.rows.weights

    @property
    def moments(self) -> Moments:
        """Moments of all rows, in units of ``unit``."""
        return self.measured.moments._replace(scatter=self.scatter)

    @property
    def residuals(self) -> Array:
        """Rows minus the mean of their class [n, d], in units of ``unit``; in memory only."""
        if self.measured.residuals is None:
            raise InputError(_NO_ROWS)
        return self.measured.residuals

    @property
    def centred(self) -> Array:
        """Rows minus the mean of all [n, d], in units of ``unit``; in memory only."""
        return self.batch().centred(self.measured.moments.deviations)

    @property
    def unit(self) -> Array:
        """Power of two that the features are divided by before anything is squared."""
        return self.measured.unit

    @property
    def width(self) -> Array:
        """True number of features."""
        return self.measured.width

    @property
    def counts(self) -> Array:
        """Weight of each class [C]; of all rows [1] for regression."""
        return self.measured.moments.counts

    @property
    def total(self) -> Array:
        """Sum of all weights."""
        return self.measured.moments.total

    @property
    def present(self) -> Array:
        """Which target columns [k] count: classes that occur, targets that are not all 0."""
        state = self.measured.moments
        if state.targets is None:
            return state.counts > 0
        targets = state.targets
        return targets.square + state.total * (targets.origin + targets.mean) ** 2 > 0

    @property
    def varying(self) -> Array:
        """Which target columns [k] tell rows apart: classes that occur, targets that vary."""
        state = self.measured.moments
        if state.targets is None:
            return self.present
        mean = state.targets.origin + state.targets.mean
        return state.targets.square > rounding_square(mean, state.total)

    @property
    def valid(self) -> Array:
        """Whether there can be a score: labels and features in order, something to tell apart."""
        least = 1 if self.measured.moments.targets is not None else 2
        return self.measured.moments.valid & (self.present.sum() >= least)

    @cached_property
    def squares(self) -> Array:
        """Weighted squared distances from the class mean, by class and coordinate [C, d]."""
        if self.sample is None:
            return self.measured.moments.squares
        square = self.rows.weights[:, None] * self.residuals**2
        return self.all_reduce(class_sums(square, self.labels, len(self.counts)))

    @cached_property
    def within_class_ss(self) -> Array:
        """Weighted squared distance of the rows from the mean of their class, by class [C]."""
        if self.sample is None:
            return self.squares.sum(axis=1)
        square = self.rows.weights * jnp.sum(self.residuals**2, axis=1)
        return self.all_reduce(class_sums(square, self.labels, len(self.counts)))

    # --- spectra of all rows, whatever their class ------------------------------------------------

    @cached_property
    def reduced(self) -> Reduced | None:
        """The total scatter in tridiagonal form, where with the route "quick" that is cheapest."""
        row = self.rows if self.in_memory else None
        return reduced_of(row, self.normal) if self.route == "quick" else None

    @cached_property
    def eigenvalues(self) -> Array:
        """Eigenvalues of the total scatter [r], largest first, 0 where they are rounding error.

        r = min(n, d), or d where the rows are not at hand; in units of ``unit`` squared.
        """
        return total_eigenvalues(self, centred=True)

    @cached_property
    def gram_eigenvalues(self) -> Array:
        """As `eigenvalues`, of X' diag(w) X: the rows are not centred."""
        return total_eigenvalues(self, centred=False)

    @cached_property
    def target_products(self) -> Array:
        """Products [C, C] of class means, or of whitened targets, in units of the total scatter."""
        return target_products(self)

    # --- the within-class scatter, from the rows where it is not formed ---------------------------

    @cached_property
    def within_diagonal(self) -> Array:
        """Diagonal of the within-class scatter [d]."""
        if self.by_columns:
            return jnp.diagonal(self.scatter)
        return weighted_sum(self.residuals**2, self.rows.weights)

    @property
    def ones(self) -> Array:
        """The vector of ones [d], in the axes of the features."""
        return jnp.ones_like(self.within_diagonal)

    def within_times(self, v: Array, scale: Array) -> Array:
        """Product of the scaled within-class scatter with a vector [d]."""
        if self.by_columns:
            return scale * matmul(self.scatter, v)
        along = self.rows.weights * matmul(self.residuals, v)
        return scale * matmul(self.residuals.T, along)

    def solve_within(self, scale: Array, ridge: Array, rhs: Array) -> Array:
        """Solve (scale * S_W / n + ridge * I) Z = rhs [d, k]; NaN where "quick" is not enough."""
        if not self.in_memory:
            return ridge_solve_scatter(self.scatter / self.total, scale, ridge, rhs)
        scatter = self.scatter / self.total if self.by_columns else None
        weights = self.rows.weights / self.total
        quick = self.may_be_unsure
        return ridge_solve(self.residuals, weights, scale, ridge, rhs, scatter, quick=quick)

    # --- targets against features -----------------------------------------------------------------

    @cached_property
    def normal(self) -> Normal | None:
        """The normal equations, where they keep the digits; else None: take the rows."""
        if self.in_memory and not (self.by_columns and self.rows.features.dtype == jnp.float64):
            return None
        return normal_equations(self.moments, self.present, self.unit)

    @cached_property
    def ridge(self) -> Ridge:
        """The targets in coordinates in which ridge regression is solved for many penalties."""
        rows = (self.rows.features, self.columns, self.rows.weights) if self.in_memory else None
        known = self.normal, self.present, self.valid
        how: Any = {"quick": self.may_be_unsure, "batched": self.route == "batched"}
        return ridge_of(rows, *known, **how, reduced=self.reduced)

    # --- passes -----------------------------------------------------------------------------------

    def transformed(self, features: Array) -> Statistics:
        """Of the same rows with other features [n, d], in units of ``unit`` and about 0."""
        rows = self.rows._replace(features=features)
        state, residuals = measure(
            rows, self.labels, self.num_classes, all_reduce=self.all_reduce, centred=True
        )
        return Statistics(
            self.sample,
            num_classes=self.num_classes,
            axis=self.axis,
            route=self.route,
            rows=rows,
            measured=Measured(state, residuals, self.unit, self.width),
        )

    def batch(self) -> Batch:
        """All rows at hand."""
        batch = self._of_features()
        weights, logits, probabilities = rows_of_outputs(self._sample().source, batch.weights)
        return batch._replace(weights=weights, logits=logits, probabilities=probabilities)

    def sum_over_rows(self, function: Callable[[Batch], Any]) -> Any:
        """What a function makes of all rows, summed; it may be given few of them at a time."""
        batch, source = self._of_features(), self._sample().source
        sums = sum_with_outputs(function, batch, source, unweighted=self.rows.unweighted)
        return jax.tree.map(self.all_reduce, sums)

    def _of_features(self) -> Batch:
        labels = self.labels if self.num_classes is not None else self.columns
        return Batch(self.residuals, labels, self.rows.weights, features=self.rows.features)
