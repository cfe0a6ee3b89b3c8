"""Scores of the models that `jaxte extract` or `jaxte run` has just extracted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxte.cli import _common
from jaxte.cli._jobs import FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxte.cli._jobs import Outcome
    from jaxte.data import Dataset
    from jaxte.ranking import Ranking

__all__ = ["chosen", "problems", "ranked"]

_ALL = ("logme", "sfda", "face")


def chosen(names: Sequence[str] | None, dataset: Dataset) -> tuple[str, ...]:
    """The metrics, by default those of the usual ones that the task allows.

    Raises:
        InputError: for a metric that there is not, or one that needs another task.
    """
    from jaxte.errors import InputError
    from jaxte.metrics import get_metric

    task = "regression" if dataset.task in ("regression", "multilabel") else "classification"
    if names is None:
        return tuple(name for name in _ALL if task in get_metric(name).tasks)
    unable = [name for name in names if task not in get_metric(name).tasks]
    if unable:
        raise InputError(
            f"{dataset.name} is a {dataset.task} data set, but {', '.join(unable)} cannot score "
            f"that: choose of {', '.join(chosen(None, dataset))}"
        )
    return tuple(names)


def ranked(outcomes: Sequence[Outcome], metrics: Sequence[str], **options: Any) -> Ranking:
    """The models that could be extracted, layer by layer."""
    import jaxte

    features = {name: one for outcome in outcomes for name, one in outcome.features.items()}
    with _common.progress_bar("scoring") as progress:
        return jaxte.rank(features, metrics=metrics, progress=progress, **options)


def problems(outcomes: Sequence[Outcome]) -> Mapping[str, str]:
    """The models that could not, and why."""
    return {one.name: one.reason for one in outcomes if one.status == FAILED}
