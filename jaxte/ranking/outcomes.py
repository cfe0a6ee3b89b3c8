"""What becomes of the models of a pool, however they are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from jaxte.errors import said
from jaxte.ranking.jackknife import Jackknife

__all__ = ["Outcomes", "Repeated"]

Repeated: TypeAlias = dict[str, dict[str, Mapping[str, np.ndarray]]]


@dataclass
class Outcomes:
    """Outputs, or the reason why there are none.

    Attributes:
        outputs: metric -> model -> named numbers.
        reasons: (model, metric) -> why that metric has no score.
        problems: model -> why no metric has one.
        nulls: metric -> model -> its outputs for permuted targets, arrays [permutations].
        without: metric -> model -> its outputs without some of the rows, arrays [resamples].
        jackknives: model -> which rows these are.
        classes: the largest set of classes among the models; None for regression.
    """

    outputs: dict[str, dict[str, Mapping[str, float]]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    nulls: Repeated = field(default_factory=dict)
    without: Repeated = field(default_factory=dict)
    jackknives: dict[str, Jackknife] = field(default_factory=dict)
    classes: Sequence[Any] | None = None

    def add(self, model: str, outputs: Mapping[str, Any] | Exception) -> None:
        """What the metrics gave for a model: numbers, a reason or an `Exception` for each."""
        if isinstance(outputs, Exception):
            self.problems[model] = said(outputs)
            return
        for metric, values in outputs.items():
            if isinstance(values, Exception):
                self.reasons[model, metric] = said(values)
            else:
                self.outputs.setdefault(metric, {})[model] = values

    def add_nulls(self, model: str, nulls: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """What the metrics gave for permuted targets."""
        for metric, values in nulls.items():
            self.nulls.setdefault(metric, {})[model] = values

    def add_resample(self, model: str, turn: int, outputs: Mapping[str, Any]) -> None:
        """What the metrics gave without some of the rows, NaN where they gave nothing."""
        resamples = len(self.jackknives[model].kept)
        for metric, values in outputs.items():
            if isinstance(values, Exception) or model not in self.outputs.get(metric, {}):
                continue
            columns = self.without.setdefault(metric, {}).setdefault(
                model, {key: np.full(resamples, np.nan) for key in values}
            )
            for key, column in columns.items():
                column[turn] = values[key]
