"""One array that lies in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Parts"]


class Parts:
    """Arrays one after the other along the rows, read only where they are indexed.

    Args:
        parts: at least one, all of one type and width.

    Example:
        >>> whole = Parts([np.arange(4), np.arange(4, 6)])
        >>> whole.shape, int(whole[5]), whole[3:].tolist(), whole[[5, 0]].tolist()
        ((6,), 5, [3, 4, 5], [5, 0])
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *self._parts[0].shape[1:])
        self.dtype = self._parts[0].dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return np.array(whole, dtype, copy=copy)

    def __getitem__(self, rows: Any) -> Any:
        """Rows by number, slice, list of numbers or mask."""
        chosen = np.arange(len(self))[rows]
        where = np.searchsorted(self._ends, chosen, side="right")
        starts = self._ends - [len(part) for part in self._parts]
        if chosen.ndim == 0:
            return self._parts[int(where)][chosen - starts[where]]
        result = np.empty((*chosen.shape, *self.shape[1:]), self.dtype)
        for index in np.unique(where):
            here = where == index
            result[here] = self._parts[index][chosen[here] - starts[index]]
        return result
