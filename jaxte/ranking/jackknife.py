"""Scores of a pool without some of its rows, which are left out group by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte.ranking import pool
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import ScoringPlan

__all__ = ["Jackknife", "jackknife", "jackknifed"]

_GROUPS = 20


class Jackknife(NamedTuple):
    """What is left out of rows of one labelling.

    Attributes:
        kept: [resamples, m] numbers of the rows that stay.
        factor: of the mean square deviation of the scores, which makes it their variance.
        degrees: of freedom of that variance.
    """

    kept: np.ndarray
    factor: float
    degrees: int


def jackknife(targets: Any, weights: Any | None, resamples: int, seed: int) -> Jackknife:
    """Leave out one group after the other, and deal the rows anew when all have had their turn.

    Rows are dealt class by class, in random order; those of weight 0 are none.
    """
    rng = np.random.default_rng(seed)
    targets = np.asarray(targets)
    rows = np.arange(len(targets)) if weights is None else np.flatnonzero(np.asarray(weights) > 0)
    groups, n = min(_GROUPS, len(rows)), len(rows)
    size = -(-n // groups)
    is_class = targets.ndim == 1 and targets.dtype.kind in "iu"
    kept = []
    for turn in range(resamples):
        if turn % groups == 0:
            dealt = rng.permutation(rows)
            if is_class:
                dealt = dealt[np.argsort(targets[dealt], kind="stable")]
        left = (turn % groups + groups * np.arange(size)) % n
        kept.append(np.sort(np.delete(dealt, left)))
    return Jackknife(np.array(kept), (n - size) / size, resamples - -(-resamples // groups))


def jackknifed(
    plan: ScoringPlan,
    candidates: Sequence[Candidate],
    plans: Mapping[str, Jackknife],
    memory_limit: int,
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Model, number of the resample, and the outputs of the metrics, as they are ready."""
    for part in _slices(candidates, plans, memory_limit):
        only = [_only(one, plans[one.name].kept[i], str(k)) for k, (one, i) in enumerate(part)]
        for _, k, outputs in pool.score(plan, only, memory_limit=memory_limit):
            candidate, i = part[int(k)]
            yield candidate.name, i, {} if isinstance(outputs, Exception) else outputs


def _slices(
    candidates: Sequence[Candidate], plans: Mapping[str, Jackknife], memory_limit: int
) -> Iterator[list[tuple[Candidate, int]]]:
    """Models and resamples, the models side by side, as many as fit into the memory."""
    part: list[tuple[Candidate, int]] = []
    size = 0
    for i in range(len(next(iter(plans.values())).kept)):
        for one in candidates:
            if part and size + one.features.nbytes > memory_limit:
                yield part
                part, size = [], 0
            part.append((one, i))
            size += one.features.nbytes
    if part:
        yield part


def _only(candidate: Candidate, rows: np.ndarray, name: str) -> Candidate:
    """Some of its rows, as a model of its own."""
    weights = candidate.weights
    return replace(
        candidate,
        name=name,
        features=candidate.features[rows],
        targets=candidate.targets[rows],
        weights=None if weights is None else np.asarray(weights)[rows],
        source=jax.tree.map(lambda outputs: outputs[rows], candidate.source),
        joined=None,
    )
