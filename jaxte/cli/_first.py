"""The first examples of a data set, for a quick look."""

from __future__ import annotations

from typing import Any

from jaxte.data import Dataset
from jaxte.errors import InputError

__all__ = ["First"]


class First(Dataset):
    """The first n rows of another data set."""

    def __init__(self, whole: Dataset, n: int) -> None:
        if not 1 <= n <= len(whole):
            raise InputError(f"--limit {n}: {whole.name} has {len(whole)} rows, choose from 1 up")
        self._whole, self._rows = whole, n
        self.name = f"{whole.name}{'&' if '?' in whole.name else '?'}first={n}"
        self.task, self.ignore = whole.task, whole.ignore
        self.num_classes, self.class_names = whole.num_classes, whole.class_names
        self.card = {**whole.card, "rows": n, "first": n}

    def __len__(self) -> int:
        return self._rows

    def read(self, row: int) -> tuple[Any, Any]:
        """Example and label of a row."""
        return self._whole.read(row)

    def label(self, row: int) -> Any:
        """The label of a row."""
        return self._whole.label(row)
