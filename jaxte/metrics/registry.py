"""The facts about each metric, in one place: what it needs, what it does not change under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jax import Array

from jaxte._inputs import InputError
from jaxte.metrics.face import face, face_terms
from jaxte.metrics.logme import logme, logme_fit
from jaxte.metrics.sfda import sfda

__all__ = ["REGISTRY", "Metric", "get_metric"]

Parts = Mapping[str, Array]


@dataclass(frozen=True)
class Metric:
    """One transferability metric.

    Attributes:
        name: its name in the field.
        function: (features, targets, *, num_classes, weights, num_features, ...) -> scalar.
        parts: the same arguments -> named scalars: "score", and what a pool wants to know besides.
        terms: names of the parts that add up to the score, () if it has only one.
        paper: where it was published.
        tasks: "classification", "regression".
        needs: what it reads besides the targets.
        moments: whether class counts, class means and one Gram matrix are enough.
        invariances: which of "rotation", "shift", "scale" of the features never change a score;
            the order of samples and the numbering of classes never do.
        range: least and largest score.
        cost: arithmetic for n samples of width d and C classes, k = min(n, d).
        variants: the readings of it, the default first.
    """

    name: str
    function: Callable[..., Array]
    parts: Callable[..., Parts]
    paper: str
    tasks: tuple[str, ...]
    range: tuple[float, float]
    cost: str
    needs: tuple[str, ...] = ("features",)
    terms: tuple[str, ...] = ()
    moments: bool = False
    invariances: frozenset[str] = frozenset()
    variants: tuple[str, ...] = ()

    @property
    def default_variant(self) -> str | None:
        """The variant used unless another is asked for."""
        return self.variants[0] if self.variants else None


def _logme_parts(*args: Any, **options: Any) -> Parts:
    fit = logme_fit(*args, **options)
    return {"score": fit.score, "bounded": fit.bounded.any(), "unconverged": ~fit.converged.all()}


def _sfda_parts(*args: Any, **options: Any) -> Parts:
    return {"score": sfda(*args, **options)}


def _face_parts(*args: Any, **options: Any) -> Parts:
    terms = face_terms(*args, **options)
    return {"score": terms.variance_collapse + terms.class_fairness, **terms._asdict()}


REGISTRY: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="logme",
                function=logme,
                parts=_logme_parts,
                paper="You et al., ICML 2021 and JMLR 2022",
                tasks=("classification", "regression"),
                range=(float("-inf"), float("inf")),
                cost="2 n d k + O(k^3)",
                moments=True,
                invariances=frozenset({"rotation", "scale"}),
                variants=("paper", "released"),
            ),
            Metric(
                name="sfda",
                function=sfda,
                parts=_sfda_parts,
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
                parts=_face_parts,
                paper="Ding et al., arXiv 2310.05754 (reconstructed)",
                tasks=("classification",),
                range=(float("-inf"), float("inf")),
                cost="2 n d C + C^2 d",
                terms=("variance_collapse", "class_fairness"),
                moments=True,
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
