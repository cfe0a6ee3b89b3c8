"""The facts about each metric, in one place: what it needs, what it does not change under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from jax import Array

from jaxte.errors import InputError
from jaxte.metrics._look import Parts, Passes
from jaxte.metrics.face import face, face_from_moments, face_parts, face_passes
from jaxte.metrics.logme import (
    logme,
    logme_finish,
    logme_from_moments,
    logme_padded,
    logme_parts,
    logme_passes,
    logme_reduced,
)
from jaxte.metrics.sfda import sfda, sfda_parts, sfda_passes
from jaxte.runtime.programs import Finish

__all__ = ["REGISTRY", "Metric", "get_metric"]


@dataclass(frozen=True)
class Metric:
    """One transferability metric.

    Attributes:
        name: its name in the field.
        function: (features, targets, *, num_classes, weights, num_features, ...) -> scalar.
        parts: (what several metrics see of one model inside jit, ...) -> named scalars: "score",
            and what a pool wants to know besides.
        reduce: as parts, but only the costly half of the work; returns what `finish` makes the
            parts of, or parts that may be "unsure", or None where neither pays.
        finish: its other half, compiled once for all widths; an "unsure" part says that the
            model needs `parts`.
        passes: (moments, width, ...) -> the same, asking for more passes over streamed samples.
        from_moments: (moments, ...) -> scalar, where moments suffice; else None.
        balanced: whether all classes weigh the same, so that class counts known beforehand save
            a pass over streamed samples.
        terms: names of the parts that add up to the score, () if it has only one.
        paper: where it was published.
        tasks: "classification", "regression".
        needs: what it reads besides the targets.
        invariances: which of "rotation", "shift", "scale" of the features never change a score;
            the order of samples and the numbering of classes never do.
        range: least and largest score.
        cost: arithmetic for n samples of width d and C classes, k = min(n, d).
        variants: the readings of it, the default first.
    """

    name: str
    function: Callable[..., Array]
    parts: Callable[..., Parts]
    passes: Callable[..., Passes]
    paper: str
    tasks: tuple[str, ...]
    range: tuple[float, float]
    cost: str
    reduce: Callable[..., Any] | None = None
    finish: Finish | None = None
    from_moments: Callable[..., Array] | None = None
    needs: tuple[str, ...] = ("features",)
    balanced: bool = False
    terms: tuple[str, ...] = ()
    invariances: frozenset[str] = frozenset()
    variants: tuple[str, ...] = ()

    @property
    def moments(self) -> bool:
        """Whether class counts, means and scatter are enough, so that one pass is."""
        return self.from_moments is not None

    @property
    def default_variant(self) -> str | None:
        """The variant used unless another is asked for."""
        return self.variants[0] if self.variants else None


REGISTRY: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="logme",
                function=logme,
                parts=partial(logme_parts, route="full"),
                reduce=logme_reduced,
                finish=Finish(logme_finish, logme_padded),
                passes=logme_passes,
                paper="You et al., ICML 2021 and JMLR 2022",
                tasks=("classification", "regression"),
                range=(float("-inf"), float("inf")),
                cost="2 n d k + O(k^3)",
                from_moments=logme_from_moments,
                invariances=frozenset({"rotation", "scale"}),
                variants=("paper", "released"),
            ),
            Metric(
                name="sfda",
                function=sfda,
                parts=sfda_parts,
                reduce=partial(sfda_parts, quick=True),
                passes=sfda_passes,
                paper="Shao et al., ECCV 2022",
                tasks=("classification",),
                range=(0.0, 1.0),
                cost="4 n d k + 2 k^3 / 3",
                invariances=frozenset({"shift"}),
                variants=("released", "paper"),
            ),
            Metric(
                name="face",
                function=face,
                parts=face_parts,
                passes=face_passes,
                paper="Ding et al., arXiv 2310.05754 (reconstructed)",
                tasks=("classification",),
                range=(float("-inf"), float("inf")),
                cost="2 n d C + C^2 d",
                balanced=True,
                terms=("variance_collapse", "class_fairness"),
                from_moments=face_from_moments,
                invariances=frozenset({"rotation", "shift"}),
            ),
        )
    }
)


def get_metric(name: str) -> Metric:
    """Return the metric of that name; an `InputError` lists the known ones.

    Example:
        >>> import jaxte
        >>> jaxte.metrics.get_metric("logme").tasks
        ('classification', 'regression')
    """
    try:
        return REGISTRY[name]
    except (KeyError, TypeError):
        raise InputError(f"unknown metric {name!r}: choose from {', '.join(REGISTRY)}") from None
