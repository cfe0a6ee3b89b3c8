"""``memory``: peak memory of ranking features on disk, larger and larger files under one cap."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import child, memory, problems, timing
from benchmarks.settings import Settings

_ROWS = 1 << 14  # that are made, and then written again and again


def run(
    settings: Settings,
    gigabytes: Sequence[float],
    d: int,
    classes: int,
    metrics: Sequence[str],
    limit: float,
    folder: str | None,
) -> dict[str, Any]:
    """Write a file of each size, rank it alone in a process, remove it."""
    rows: list[dict[str, Any]] = []
    for size in gigabytes:
        n = int(size * 2**30 / (4 * d))
        case = {"gigabytes": size, "n": n, "d": d, "classes": classes, "metrics": list(metrics)}
        with tempfile.TemporaryDirectory(dir=folder) as place:
            if shutil.disk_usage(place).free < 1.1 * size * 2**30:
                settings.skip([f"memory of {size} GiB skipped: the disk has too little room"])
                continue
            path = _write(Path(place) / "features.npy", n, d, classes, settings)
            spec = {**settings.common(), **case, "path": str(path), "limit": int(limit * 2**20)}
            label = f"memory of {size} GiB, {n} x {d}"
            result = settings.attempt(label, partial(child.run, "disk", spec))
        if result is not None:
            rows.append({**case, "limit": spec["limit"], **result})
    return {"rows": rows}


def _write(path: Path, n: int, d: int, classes: int, settings: Settings) -> Path:
    y = _labels(n, classes)[:_ROWS]
    x = problems.features(y, d, classes, seed=settings.seed, kind=settings.kind)
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, d)}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, n, len(x)):
            x[: n - start].tofile(stream)
    return path


def _labels(n: int, classes: int) -> np.ndarray:
    return np.resize((np.arange(_ROWS) % classes).astype(np.int32), n)


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Peak resident memory of one ranking, compilation and the pages of files included."""
    from jaxte import rank

    targets = _labels(spec["n"], spec["classes"])

    def run() -> dict[str, float]:
        ranking = rank(
            {"m": spec["path"]}, targets, metrics=spec["metrics"], memory_limit=spec["limit"]
        )
        return {metric: ranking.score("m", metric) for metric in spec["metrics"]}

    watch = memory.Watch()
    seconds, scores = timing.once(run)
    return {"first": seconds, "memory": watch.read(with_device=True), "scores": scores}
