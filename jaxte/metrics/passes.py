"""Passes over the rows that a metric asks for where moments are not enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxte.statistics import Statistics

__all__ = ["Completed", "Pass", "PassRequest", "deviations", "head_width", "mean_of_last"]


class Completed(NamedTuple):
    """What an earlier pass was prepared with, and what it came to."""

    constants: Any
    result: Any


class Pass(NamedTuple):
    """One more pass over the rows: in memory all at once, streamed batch by batch, or on a mesh.

    Attributes:
        prepare: (statistics, completed passes, options) -> constants, made once.
        apply: (constants, batch, options) -> sums over the rows of the batch, which are added up
            over batches and devices; or with ``transform`` the new features of the rows.
        transform: whether the pass makes new features. Its result are their `Statistics`, and
            later passes see the new rows.
        instead: (statistics, options) -> the result, where the moments of a stream hold it
            already, else None.
        lacking: what to do where moments alone do not hold it.
        repeat: how many times it is made; ``prepare`` sees as the last result that of the time
            before, and at first that of the pass before, which has to be of the same shapes.
    """

    prepare: Callable[..., Any]
    apply: Callable[..., Any]
    transform: bool = False
    instead: Callable[..., Any] | None = None
    lacking: str = ""
    repeat: int = 1


class PassRequest(NamedTuple):
    """A pass that a metric asks for, after those that transform the rows before it.

    Attributes:
        chain: each pass with its constants and the statistics of the rows that it reads.
    """

    chain: tuple[tuple[Pass, Any, Statistics], ...]


def deviations(statistics: Statistics, *_: Any, **__: Any) -> Array:
    """Class means less the mean of all [C, d], for a pass over rows from the mean of all."""
    return statistics.measured.moments.deviations


def head_width(statistics: Statistics, *_: Any, **__: Any) -> Array | None:
    """The true number of outputs of the model's own head, where columns of them are padding."""
    sample = statistics.sample
    return None if sample is None or sample.source is None else sample.source.width


def mean_of_last(
    statistics: Statistics, completed: tuple[Completed, ...], **_: Any
) -> dict[str, Array]:
    """The score that is the mean over the rows of what the last pass has summed."""
    score = completed[-1].result / statistics.total
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}
