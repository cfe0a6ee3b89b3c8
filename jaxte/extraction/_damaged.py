"""Examples that cannot be read and are left out: which, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxte._progress import Progress
from jaxte.errors import InputError

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["check_skip", "left_out", "readable"]


def check_skip(dataset: Any) -> None:
    """Raise `InputError` where nothing can be left out."""
    if dataset is None:
        raise InputError("on_error='skip' needs a Dataset: an iterator ends where it fails")


def left_out(skipped: Mapping[Any, str]) -> str:
    """How many are left out, and why the first of them is."""
    (row, why), more = next(iter(skipped.items())), ", ..." if len(skipped) > 1 else ""
    return f"{len(skipped)} examples could not be read and are left out: row {row} ({why}){more}"


def readable(
    dataset: Dataset | None, workers: int, progress: bool | Progress
) -> tuple[Dataset, dict[int, str]]:
    """What of a data set can be read, known before any of it is used, and what cannot."""
    check_skip(dataset)
    assert dataset is not None
    damaged = dataset.damaged(workers=workers, progress=progress)
    return (dataset.without(damaged) if damaged else dataset), damaged
