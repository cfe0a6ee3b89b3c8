"""The recommended order: what the ridge probe says, joined with what is known of the models.

Scores of the features and records of other targets err in different places. Their sum, each in its
own standard deviations over the pool, is better than either; `python -m benchmarks proof` shows by
how much on targets that are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.metrics.combination import tolerance_of
from jaxte.store.reader import model_and_layer

__all__ = [
    "HISTORY", "NO_GAIN", "PROBE", "are_tied", "decisive", "past_places", "recommended",
    "tie_groups",
]  # fmt: skip

PROBE, HISTORY = "ridge_probe", "history"
NO_GAIN = "no model predicts the targets better than"  # how a note begins that bears on the verdict
# By hand, on the benchmark's first two targets and the zoo's three: weighted tau 0.73 without a
# history, 0.75 with 0.43 of it, 0.66 with as much of it as of the probe.
HISTORY_WEIGHT = 0.5


def decisive(metrics: Sequence[str]) -> str | None:
    """The metric that decides where none is named, if one does."""
    own = [metric for metric in metrics if metric != HISTORY]
    return PROBE if PROBE in own else own[0] if len(own) == 1 else None


def are_tied(one: float, other: float, precision: str) -> bool:
    """Whether two scores, or terms of them, differ by no more than rounding, "float64" or not."""
    tolerance = tolerance_of(precision)
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


def tie_groups(scores: Mapping[str, float], precision: str) -> list[list[str]]:
    """Names best first, in groups whose scores tie with the first of the group."""
    groups: list[list[str]] = []
    best = math.nan
    for name in sorted(scores, key=lambda name: -scores[name]):
        if groups and are_tied(best, scores[name], precision):
            groups[-1].append(name)
        else:
            best = scores[name]
            groups.append([name])
    return groups


def past_places(history: Any, models: Sequence[str]) -> dict[str, float]:
    """Model -> its mean place on the data sets of a table of accuracies, 1 for the best.

    A layer, "model@layer", has the place of its model.

    Raises:
        InputError: for a table that cannot be read, or that names none of the models.
    """
    from jaxte.evaluate import accuracy_table, static_ranking  # 0.1 s that few need

    places = static_ranking(accuracy_table(history))
    own = {name: places.get(name, places.get(model_and_layer(name)[0])) for name in models}
    known = {name: place for name, place in own.items() if place is not None}
    if not places:
        raise InputError("history has no data set with the accuracies of two models: give some")
    if not known:
        raise InputError(
            f"history has accuracies of {', '.join(sorted(places)[:8])}, but of none of these "
            "models: use the same names"
        )
    return known


def recommended(
    scores: Mapping[str, float], past: Mapping[str, float], *, weight: float = HISTORY_WEIGHT
) -> dict[str, float]:
    """Scores of the recommended order of the models that have one, in standard deviations.

    A model without a past counts as an average one; ``weight`` is that of the past.
    """
    names = list(scores)
    own = _standardised(np.array([scores[name] for name in names]))
    records = np.array([past.get(name, np.nan) for name in names])
    joined = own + weight * np.nan_to_num(_standardised(records))
    return dict(zip(names, joined.tolist(), strict=True))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values in standard deviations from the mean of those that are known."""
    known = values[np.isfinite(values)]
    spread = known.std() if len(known) else 0.0
    return (
        (values - known.mean()) / spread
        if spread > 0
        else np.where(np.isfinite(values), 0.0, values)
    )
