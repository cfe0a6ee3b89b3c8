"""``grid``: what a whole published comparison costs, 11 networks on 11 data sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import child, problems
from benchmarks.settings import Settings

# All samples of all splits, and classes, as TE-Bench reads them (its record of CIFAR-100 says
# 60000 samples), and the widths of its 11 CNNs: ResNets, DenseNets, GoogLeNet, Inception-v3,
# MnasNet, MobileNet-v2.
DATASETS = {
    "aircraft": (10000, 100),
    "caltech101": (8677, 101),
    "cars": (16185, 196),
    "cifar10": (60000, 10),
    "cifar100": (60000, 100),
    "dtd": (5640, 47),
    "flowers": (8189, 102),
    "food": (101000, 101),
    "pets": (7349, 37),
    "sun397": (108754, 397),
    "voc2007": (9963, 20),
}
WIDTHS = (512, 1024, 1024, 1280, 1280, 1664, 1920, 2048, 2048, 2048, 2048)
PUBLISHED = {"sfda": 454.8, "ncti": 242.4}  # seconds, of TE-Bench's README; its machine unknown
# Numbers of classes that are measured; a data set takes the next larger one.
CLASSES = (10, 47, 102, 196, 397)


def run(settings: Settings, ns: Sequence[int], widths: Sequence[int]) -> dict[str, Any]:
    """Measure the pool at two numbers of rows and go on linearly to those of the data sets."""
    low, high = ns
    measured: list[dict[str, Any]] = []
    for classes in CLASSES:
        spec = {"ns": [low, high], "widths": list(widths), "classes": classes}
        result = settings.attempt(
            f"grid C={classes}", partial(child.run, "grid", {**settings.common(), **spec})
        )
        measured += (result or {}).get("rows", [])
    return {"rows": extrapolated(measured, low, high), "measured": measured}


def extrapolated(measured: Sequence[dict[str, Any]], low: int, high: int) -> list[dict[str, Any]]:
    """Processor seconds of each metric and data set, linearly in n from the two that were run."""
    rows = []
    for name, (n, classes) in DATASETS.items():
        counted = min(c for c in CLASSES if c >= classes)
        for metric, published in PUBLISHED.items():
            here = [r for r in measured if (r["metric"], r["classes"]) == (metric, counted)]
            cpu = {row["n"]: min(row["cpu"]) for row in here}
            if len(cpu) < 2:
                continue
            slope = (cpu[high] - cpu[low]) / (high - low)
            row = {"metric": metric, "name": name, "n": n, "classes": classes, "as": counted}
            rows.append({**row, "cpu": cpu[high] + (n - high) * slope, "published": published})
    return rows


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """The pool of one number of classes, ranked by each metric: once to compile, then timed.

    By the processor: extrapolated, other work on the machine would count many times.
    """
    import jaxte

    rows = []
    for n in spec["ns"]:
        y = problems.labels(n, spec["classes"], spec["seed"])
        models = {
            f"{index}-{d}": problems.features(y, d, spec["classes"], seed=index, kind=spec["kind"])
            for index, d in enumerate(spec["widths"])
        }
        for metric in PUBLISHED:
            row: dict[str, Any] = {"metric": metric, "n": n, "classes": spec["classes"]}
            row["cpu"] = []
            for turn in range(spec["repeats"] + 1):
                begun = time.process_time()
                jaxte.rank(models, y, metrics=metric, precision="float64")
                if turn:
                    row["cpu"].append(time.process_time() - begun)
            rows.append(row)
    return {"rows": rows}
