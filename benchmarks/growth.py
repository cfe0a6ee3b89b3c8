"""``growth``: seconds and memory against samples, width, classes and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks import child
from benchmarks.settings import Settings, say
from benchmarks.stats import exponents, summary

AXES = ("n", "d", "classes", "models")
MODES = ("streamed", "moments", "array")
POINTS: dict[str, tuple[int, ...]] = {
    "n": (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "d": (64, 128, 256, 512, 1024, 2048),
    "classes": (2, 10, 30, 100, 300, 1000),
    "models": (1, 2, 4, 8, 16, 32),
}
# what is held fixed while one of them varies
BASE = {"n": 5_000, "d": 256, "classes": 10, "models": 1}
_ONLY_MOMENTS = ("logme", "face")


def run(
    settings: Settings,
    axes: Sequence[str],
    metrics: Sequence[str],
    modes: Sequence[str],
    points: Mapping[str, Sequence[int]],
    base: Mapping[str, int],
    batch: int,
    largest: int,
) -> dict[str, Any]:
    """Measure along every axis; arrays of more than ``largest`` bytes only streamed."""
    rows: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    absent: set[tuple[str, str]] = set()
    for axis in axes:
        for metric in metrics:
            for mode in modes:
                if mode == "moments" and (metric not in _ONLY_MOMENTS or axis == "models"):
                    continue
                line: list[dict[str, Any]] = []
                for value in points[axis]:
                    at = {**base, axis: value}
                    if (mode, metric) in absent or not _possible(at, mode, largest):
                        continue
                    spec = {**settings.common(), **at, "metric": metric, "mode": mode}
                    spec["batch"] = batch
                    label = f"growth {axis}={value} {metric} {mode}"
                    result = settings.attempt(label, partial(child.run, "growth", spec))
                    if result is None:
                        break  # larger ones would not end better
                    if result.get("missing"):
                        absent.add((mode, metric))
                        continue
                    line.append({"axis": axis, "metric": metric, "mode": mode, **at, **result})
                rows += line
                if len(line) > 1:
                    fits.append({"axis": axis, "metric": metric, "mode": mode, **_fit(line, axis)})
    return {"rows": rows, "fits": fits}


def _possible(at: Mapping[str, int], mode: str, largest: int) -> bool:
    if at["n"] < 2 * at["classes"]:
        return False
    size = 4 * at["n"] * at["d"] * at["models"]
    if mode == "array" and size > largest:
        say(f"array of {size / 2**30:.1f} GiB left out: above --largest")
        return False
    return True


def _fit(line: Sequence[Mapping[str, Any]], axis: str) -> dict[str, Any]:
    """Exponents of the warm run and of the memory that it added."""
    x = [float(row[axis]) for row in line]
    seconds = exponents(x, [summary(row["warm"]).median for row in line])
    rise = exponents(x, [float(row["memory"]["rise"]) for row in line])
    return {"seconds": seconds._asdict(), "memory": rise._asdict(), "points": len(line)}
