"""How much of the features may be in memory at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

__all__ = ["COPIES", "Limits", "limits_of"]

# Metrics hold about this many arrays of the size of its features at once.
COPIES = 6
_GIGABYTE = 1 << 30
# Of what an accelerator has free; the rest is for the workspaces of its solvers.
_SHARE = 0.8


class Limits(NamedTuple):
    """Bytes.

    Attributes:
        slices: what metrics may hold of the models under way.
        arrays: features in memory that are larger, and no wider than long, are streamed.
        batches: the same for files, and what the batches under way may take.
    """

    slices: int
    arrays: int
    batches: int


def limits_of(memory_limit: int | None, device: Any, devices: int = 1) -> Limits:
    """From what the user said, or else from what is free on each of so many devices alike.

    Several processes must take the same steps, so that theirs do not depend on what is free.
    """
    if memory_limit is not None:
        return Limits(memory_limit, memory_limit, memory_limit)
    slices = _GIGABYTE
    if device.platform != "cpu" and jax.process_count() == 1:
        stats = device.memory_stats() or {}
        free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
        slices = max(slices, int(_SHARE * free) * devices)
    return Limits(slices, max(_GIGABYTE, slices // COPIES), _GIGABYTE)
