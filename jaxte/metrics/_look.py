"""What metrics see of one model inside jit: rows, classes and moments, each made once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.statistics.linalg import matmul, power_of_two
from jaxte.statistics.measure import Moments, measure
from jaxte.statistics.rows import Classes, Rows, as_classes, as_rows, class_sums, target_columns

Parts: TypeAlias = Mapping[str, Array]


class Pass(NamedTuple):
    """One more pass over the samples: ``carry = step(carry, held, x, y, weights)`` per batch."""

    step: Callable[..., Any]
    start: Any
    held: Any


# A metric of streamed samples asks for passes, is sent what they come to, and returns its parts.
Passes: TypeAlias = Generator[Pass, Any, Parts]


class Look:
    """Features and targets of one model, as several metrics read them in one compiled call.

    With ``axis``, the rows are those that one device of a mesh axis holds; counts and moments are
    those of all devices.
    """

    def __init__(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        num_classes: int | None,
        weights: ArrayLike | None = None,
        num_features: ArrayLike | None = None,
        axis: str | None = None,
    ) -> None:
        self.row: Rows = as_rows(features, weights, num_features)
        self.targets = targets
        self.num_classes = num_classes
        self.axis = axis

    @cached_property
    def unit(self) -> Array:
        """Power of two that the features are divided by before anything is squared.

        The squares of ordinary features leave the range of float32, not that of float64.
        """
        x, weights = self.row.features, self.row.weights
        if x.dtype != jnp.float32:
            return jnp.ones((), x.dtype)
        largest = jnp.abs(jnp.where((weights > 0)[:, None], x, 0)).max()
        if self.axis is not None:
            largest = lax.pmax(largest, self.axis)
        return power_of_two(lax.stop_gradient(largest))

    @property
    def by_columns(self) -> bool:
        """Whether d x d matrices are the smaller or, for rows on many devices, the only ones."""
        n, d = self.row.features.shape
        return n >= d or self.axis is not None

    @cached_property
    def group(self) -> Classes:
        """Labels of the rows at hand, counts of all."""
        assert self.num_classes is not None
        found = as_classes(self.targets, self.num_classes, self.row)
        if self.axis is None:
            return found
        counts = self.moments.counts
        number = (counts > 0).sum().astype(counts.dtype)
        return found._replace(
            counts=counts,
            present=counts > 0,
            number=number,
            scorable=self.moments.valid & (number >= 2),
        )

    @cached_property
    def _measured(self) -> tuple[Moments, Array]:
        row = self.row
        if row.features.dtype == jnp.float32:
            row = row._replace(features=row.features / self.unit)
        return measure(row, self.targets, self.num_classes, everywhere=self.everywhere)

    @property
    def moments(self) -> Moments:
        """Moments of all rows, in units of ``unit``."""
        return self._measured[0]

    @property
    def residuals(self) -> Array:
        """Rows minus the mean of their class [n, d], in units of ``unit``."""
        return self._measured[1]

    @cached_property
    def spread(self) -> Array:
        """Weighted squared distance of the rows from the mean of their class, by class [C]."""
        assert self.num_classes is not None
        square = self.row.weights * jnp.sum(self.residuals**2, axis=1)
        labels = self.group.labels
        return self.everywhere(class_sums(square[:, None], labels, self.num_classes))[:, 0]

    @property
    def total(self) -> Array:
        """Sum of all weights."""
        return self.row.total if self.axis is None else self.moments.total

    def everywhere(self, part: Array) -> Array:
        """A sum over the rows at hand, added up over all devices."""
        return part if self.axis is None else lax.psum(part, self.axis)

    @cached_property
    def columns(self) -> tuple[Array, Array, Array]:
        """Target columns [n, k], which of them count, and whether there is a score at all."""
        if self.num_classes is not None:
            y, active, scorable = self.group.one_hot, self.group.present, self.group.scorable
        else:
            y = target_columns(self.targets, self.row)
            active = self.everywhere(matmul(self.row.weights, y**2)) > 0
            scorable = active.any() & self.row.finite
        return only_active(y, active), active, scorable


def only_active(columns: Array, active: Array) -> Array:
    """Columns [..., k] that do not count replaced by one that does, so that all are finite."""
    copied = jnp.take(columns, jnp.argmax(active), axis=-1)[..., None]
    return jnp.where(active.reshape((1,) * (columns.ndim - 1) + (-1,)), columns, copied)
