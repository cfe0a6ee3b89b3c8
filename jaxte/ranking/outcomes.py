"""What becomes of the models of a pool, however they are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from jaxte.errors import said

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
        influences: metric -> model -> what each row does to its outputs, arrays [rows].
        unrepeated: model -> why it has no nulls or influences.
        classes: the largest set of classes among the models; None for regression.
        sizes: model -> rows that count and width, of those that are streamed.
    """

    outputs: dict[str, dict[str, Mapping[str, float]]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    nulls: Repeated = field(default_factory=dict)
    influences: Repeated = field(default_factory=dict)
    unrepeated: dict[str, str] = field(default_factory=dict)
    classes: Sequence[Any] | None = None
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

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

    @staticmethod
    def add_repeated(
        to: Repeated, model: str, outputs: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        """What the metrics gave for a model repeatedly."""
        for metric, values in outputs.items():
            to.setdefault(metric, {})[model] = values
