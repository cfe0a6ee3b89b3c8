"""What a selection returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Ensemble"]


class Ensemble(NamedTuple):
    """The models that were selected.

    Attributes:
        members: their names, the first chosen first.
        scores: of `greedy` the score of the ensemble once each member has joined it; of
            `complementary` that of the member by itself.
        candidates: for each step, every model that could have joined -> what it would have come
            to; of `complementary` one step.
    """

    members: tuple[str, ...]
    scores: tuple[float, ...]
    candidates: tuple[Mapping[str, float], ...]
