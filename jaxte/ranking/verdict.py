"""The recommended order: what the ridge probe says, joined with what is known of the models.

The rule has no constant that was fitted. Scores of the features and records of other targets err in
different places, so that their places, each between 0 and 1, are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.evaluate import read_accuracies, static_ranking

__all__ = ["HISTORY", "PROBE", "past_places", "recommended"]

PROBE, HISTORY = "ridge_probe", "history"


def past_places(history: Any, models: Sequence[str]) -> dict[str, float]:
    """Model -> its mean place on the data sets of a table of accuracies, 1 for the best.

    A layer, "model@layer", has the place of its model.

    Raises:
        InputError: for a table that cannot be read, or that names none of the models.
    """
    table: dict[str, dict[str, list[float]]] = {}
    for entry in read_accuracies(history):
        if np.isfinite(entry.value):
            models_of = table.setdefault(entry.dataset or "", {})
            models_of.setdefault(entry.model, []).append(entry.value)
    places = static_ranking({name: _equal(rows) for name, rows in table.items()})
    own = {name: places.get(name, places.get(name.split("@")[0])) for name in models}
    known = {name: place for name, place in own.items() if place is not None}
    if not known:
        raise InputError(
            f"history has accuracies of {', '.join(sorted(places)[:8]) or 'no two models'}, but of "
            "none of these models: use the same names"
        )
    return known


def _equal(rows: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in rows.items()}


def recommended(scores: Mapping[str, float], past: Mapping[str, float]) -> dict[str, float]:
    """Model -> place between 0 and 1, of those with a score; one without a past has no bonus."""
    names, values = list(scores), np.array(list(scores.values()))
    above = (values[:, None] > values).sum(axis=1) - (values[:, None] < values).sum(axis=1)
    places = dict(zip(names, ((1 + above / max(len(names) - 1, 1)) / 2).tolist(), strict=True))
    return {name: (place + past.get(name, place)) / 2 for name, place in places.items()}
