"""Models of one padded shape, which one compilation serves, and how many fit in one call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxte.ranking.blocks import width_of
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.memory import COPIES
from jaxte.ranking.plan import ScoringPlan
from jaxte.statistics.shifted import NODES
from jaxte.statistics.tiles import LARGE_TILE

__all__ = ["Bucket", "at_once", "buckets", "bytes_of", "operations"]

# About the arithmetic that could be done while one more shape is compiled for the metrics.
_COMPILATION = 1e11
# What the passes over an entry of the features cost, in multiplications of a matrix product.
_PASSES = 1e4
# Entries of features that keep an accelerator busy.
_BUSY = 2.5e8


@dataclass(frozen=True)
class Bucket:
    """Candidates of one padded shape and kind of ``outputs`` of their heads: one compilation."""

    rows: int
    width: int
    members: tuple[Candidate, ...]
    outputs: tuple[str, int] = ("", 0)


def buckets(
    candidates: Sequence[Candidate],
    rows: Mapping[str, int] | None = None,
    *,
    exact: bool = False,
) -> list[Bucket]:
    """Group candidates by number of rows (theirs, or ``rows`` by name) and padded width.

    A bucket joins the next wider one where the arithmetic on the extra padding costs less than
    the compilation that it saves; ``exact``: nothing is padded.
    """
    groups: dict[tuple[int, tuple[str, int], int], list[Candidate]] = {}
    for candidate in candidates:
        n, d = np.shape(candidate.features)
        n = n if rows is None else rows[candidate.name]
        head = candidate.source
        outputs = ("", 0) if head is None else (head.kind, np.shape(head.values)[1])
        groups.setdefault((n, outputs, d if exact else width_of(d)), []).append(candidate)
    made: list[Bucket] = []
    for (n, outputs, width), members in sorted(groups.items()):
        if made and not exact and (made[-1].rows, made[-1].outputs) == (n, outputs):
            narrow = made[-1]
            extra = len(narrow.members) * (_operations(n, width) - _operations(n, narrow.width))
            if extra < _COMPILATION:
                members = [*narrow.members, *members]
                made.pop()
        made.append(Bucket(n, width, tuple(members), outputs))
    return made


def _operations(n: int, width: int) -> float:
    """About what the metrics cost on one model: Gram matrices, an eigenproblem, passes."""
    return 6.0 * n * width**2 + 10.0 * min(n, width) ** 3 + _PASSES * n * width


def operations(candidate: Candidate) -> float:
    """About what scoring it takes."""
    return _operations(*np.shape(candidate.features))


def bytes_of(bucket: Bucket, platform: str = "cpu") -> int:
    """About what the metrics hold of one model."""
    columns = bucket.width + bucket.outputs[1]
    numbers = COPIES * bucket.rows * columns
    if platform != "cpu":  # and as many matrices as it factorises at once
        square = min(bucket.rows, bucket.width) ** 2
        numbers += 2 * min(NODES * square, max(LARGE_TILE, square))
    return numbers * jnp.zeros(()).dtype.itemsize


def at_once(plan: ScoringPlan, bucket: Bucket, memory_limit: int, platform: str) -> int:
    """How many models are stacked for one call: two calls have room, if not all in one.

    An accelerator is given no more than keep it busy, so that the next are on their way meanwhile,
    and so many that few copies are needed to fill up the last call.
    """
    count, most = len(bucket.members), memory_limit // bytes_of(bucket, platform)
    most = max(1, most if most >= count else most // 2)
    devices = 1 if plan.layout is None else plan.layout.models
    if platform != "cpu":
        most = min(most, max(1, int(_BUSY * devices // (bucket.rows * bucket.width))))
    most = min(most, count)
    size = min(range(most, most // 2, -1), key=lambda size: -count % size)
    return math.ceil(size / devices) * devices
