"""``together``: all metrics of one pass over the rows in one call, against LogME alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import child, problems
from benchmarks.settings import Settings

BASE, ALL = "logme", "all of one pass"


def run(
    settings: Settings,
    ns: Sequence[int],
    ds: Sequence[int],
    classes: Sequence[int],
    dtypes: Sequence[str],
) -> dict[str, Any]:
    """Measure every triple of n, d and C, in order, in each dtype."""
    rows: list[dict[str, Any]] = []
    cases = itertools.product(zip(ns, ds, classes, strict=True), dtypes)
    for (n, d, c), dtype in cases:
        case = {"n": n, "d": d, "classes": c, "dtype": dtype}
        label = f"together n={n} d={d} C={c} {dtype}"
        result = settings.attempt(
            label, partial(child.run, "together", {**settings.common(), **case})
        )
        rows += [{**case, **row} for row in (result or {}).get("rows", [])]
    return {"rows": rows}


def of_one_pass() -> list[str]:
    """Metrics that moments suffice for, LogME first; without LiDAR, whose classes are images."""
    from jaxte.metrics import REGISTRY

    others = [name for name, metric in REGISTRY.items() if metric.moments]
    return [BASE, *(name for name in others if name not in (BASE, "lidar"))]


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Each metric joined to those before it, compiled; then each alone, and all, in turns.

    Processor time is told beside the clock's: on a machine with other work the clock says less.
    """
    import jaxte
    from jaxte.runtime import programs

    x, y = problems.of_metric({**spec, "metric": BASE})
    names = of_one_pass()

    def timed(metrics: Sequence[str]) -> tuple[float, float]:
        clock, processor = time.perf_counter(), time.process_time()
        jaxte.rank({"model": x}, y, metrics=metrics, precision=spec["dtype"])
        return time.perf_counter() - clock, time.process_time() - processor

    rows: dict[str, dict[str, Any]] = {
        name: {"name": name, "run": [], "cpu": []} for name in [*names, ALL]
    }
    for index, name in enumerate(names):
        before = programs.compiled_programs()
        first = timed(names[: index + 1])[1]
        rows[name]["programs"] = programs.compiled_programs() - before
        rows[name]["first"] = first - timed(names[: index + 1])[1]
    calls = {name: [name] for name in names} | {ALL: names}
    for metrics in calls.values():
        timed(metrics)
    for _ in range(spec["repeats"]):
        for name, metrics in calls.items():
            clock, processor = timed(metrics)
            rows[name]["run"].append(clock)
            rows[name]["cpu"].append(processor)
    return {"rows": list(rows.values())}
