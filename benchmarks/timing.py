"""Time callables against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

_SHORTEST = 0.02  # seconds that one timed run takes at least, so that the clock does not show


def once(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it returned; JAX results are waited for."""
    begun = time.perf_counter()
    value = ready(run())
    return time.perf_counter() - begun, value


def ready(value: Any) -> Any:
    """Wait for a JAX result; anything else is ready."""
    wait = getattr(value, "block_until_ready", None)
    return wait() if callable(wait) else value


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    first: Mapping[str, float],
    repeats: int,
    patience: float,
) -> dict[str, list[float]]:
    """Seconds of repeated runs of each callable, taken in turns so that noise hits all alike.

    Args:
        runs: name -> call, already warm.
        first: name -> seconds of a call before, from which the number of calls per timed run
            is chosen; who takes longer than ``patience`` is not run again but keeps that one.
        repeats: timed runs of each.
        patience: seconds after which one of them is repeated no more.
    """
    names = [name for name in runs if first[name] <= patience]
    inner = {name: max(1, min(1000, int(_SHORTEST / max(first[name], 1e-9)))) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        for name in [*names[turn % max(1, len(names)) :], *names[: turn % max(1, len(names))]]:
            if sum(seconds[name]) * inner[name] > patience:
                continue
            begun = time.perf_counter()
            for _ in range(inner[name]):
                ready(runs[name]())
            seconds[name].append((time.perf_counter() - begun) / inner[name])
    return {name: times or [first[name]] for name, times in seconds.items()}
