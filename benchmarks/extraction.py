"""``extraction``: what moments add to the forward passes that features need anyway."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from benchmarks import child, memory, timing
from benchmarks.settings import Settings

FORWARD, BOTH = "forward pass", "forward pass and moments"


def run(
    settings: Settings, models: list[tuple[str, int]], n: int, batch: int, classes: int
) -> dict[str, Any]:
    """Measure each model (family, width) of the zoo."""
    rows: list[dict[str, Any]] = []
    for family, width in models:
        case = {"family": family, "width": width, "n": n, "batch": batch, "classes": classes}
        label = f"extraction {family} of width {width}"
        spec = {**settings.common(), **case}
        found = settings.attempt(label, partial(child.run, "extraction", spec))
        rows += [{**case, **row} for row in (found or {}).get("rows", [])]
    return {"rows": rows}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Both in one process, in turns: their difference is small."""
    try:
        from flax import nnx

        from jaxte.zoo.models import FAMILIES, IMAGE_SIZE
    except ImportError as error:
        return {"rows": [], "skipped": [f"extraction skipped: {error.name} is not installed"]}
    import jax

    rng = np.random.default_rng(spec["seed"])
    shape = (spec["batch"], IMAGE_SIZE, IMAGE_SIZE, 3)
    images = [rng.standard_normal(shape, dtype=np.float32) for _ in range(2)]
    labels = [rng.integers(0, spec["classes"], spec["batch"]).astype(np.int32) for _ in range(2)]
    count = max(1, spec["n"] // spec["batch"])
    graph, params = nnx.split(FAMILIES[spec["family"]](spec["width"], nnx.Rngs(0)))

    @jax.jit
    def apply(x: Any) -> Any:
        return nnx.merge(graph, params)(x)

    def forward() -> Any:
        out = None
        for index in range(count):
            out = apply(images[index % 2])
        return out

    def both() -> Any:
        batches = ((images[i % 2], labels[i % 2]) for i in range(count))
        return jax.block_until_ready(stream(apply, batches, num_classes=spec["classes"]))

    runs = {FORWARD: forward}
    skipped: list[str] = []
    try:
        stream = importlib.import_module("jaxte").stream
        runs[BOTH] = both
    except (ImportError, AttributeError) as error:
        skipped.append(f"{BOTH} skipped: this jaxte does not stream: {error}")
    rows: dict[str, dict[str, Any]] = {}
    first = {}
    for name, call in runs.items():
        watch = memory.Watch()
        cold, _ = timing.once(call)
        used = watch.read(with_device=True)
        first[name] = timing.once(call)[0]
        rows[name] = {"name": name, "first": cold, "memory": used}
    for name, seconds in timing.interleaved(runs, first, spec["repeats"], spec["patience"]).items():
        rows[name]["run"] = seconds
    return {"rows": list(rows.values()), "skipped": skipped}
