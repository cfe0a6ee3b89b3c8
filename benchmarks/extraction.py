"""``extraction``: what jaxte adds to the forward passes that features need anyway."""

from __future__ import annotations

import importlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import child, memory, timing
from benchmarks.settings import Settings

FORWARD, BOTH = "forward pass", "forward pass and moments"
FETCHED = "forward pass, features fetched"
KEPT, STORED = "jaxte.extract", "jaxte.extract to disk"
# what a row is compared with
AGAINST = {BOTH: FORWARD, KEPT: FETCHED, STORED: FETCHED}

# the networks of the zoo, and three at the width of usual ones
NETWORKS = [
    *(("densenet", 96), ("mixer", 64), ("mlp", 256), ("plain-cnn", 64), ("resnet", 96)),
    *(("senet", 128), ("sepconv", 128), ("vgg", 192), ("vit", 64)),
    *(("resnet", 256), ("plain-cnn", 256), ("vit", 256)),
]


def run(
    settings: Settings, models: list[tuple[str, int]], n: int, batch: int, classes: int
) -> dict[str, Any]:
    """Measure each model (family, width) of the zoo."""
    rows: list[dict[str, Any]] = []
    for family, width in models:
        case = {"family": family, "width": width, "n": n, "batch": batch, "classes": classes}
        label = f"extraction {family} of width {width}"
        spec = {**settings.common(), **case}
        result = settings.attempt(label, partial(child.run, "extraction", spec))
        rows += [{**case, **row} for row in (result or {}).get("rows", [])]
    return {"rows": rows}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """All in one process, in turns: their differences are small."""
    try:
        from flax import nnx

        from jaxte.zoo.images import SIZE
        from jaxte.zoo.models import FAMILIES
    except ImportError as error:
        return {"rows": [], "skipped": [f"extraction skipped: {error.name} is not installed"]}
    import jax

    rng = np.random.default_rng(spec["seed"])
    shape = (spec["batch"], SIZE, SIZE, 3)
    images = [rng.standard_normal(shape, dtype=np.float32) for _ in range(2)]
    labels = [rng.integers(0, spec["classes"], spec["batch"]).astype(np.int32) for _ in range(2)]
    count = max(1, spec["n"] // spec["batch"])
    network: Any = FAMILIES[spec["family"]](spec["width"], nnx.Rngs(0))
    graph, params = nnx.split(network)

    @jax.jit
    def apply(x: Any) -> Any:
        return nnx.merge(graph, params)(x)

    @jax.jit
    def of_params(params: Any, x: Any) -> Any:
        return nnx.merge(graph, params)(x)

    def forward() -> Any:
        out = None
        for index in range(count):
            out = apply(images[index % 2])
        return out

    def both() -> Any:
        batches = ((images[i % 2], labels[i % 2]) for i in range(count))
        return jax.block_until_ready(stream(apply, batches, num_classes=spec["classes"]))

    on_device = jax.device_put(params)

    def fetched() -> Any:
        """One batch ahead of the device, as a careful loop of one's own would be."""
        features = np.empty((count * spec["batch"], spec["width"]), np.float32)
        waiting: list[Any] = []
        for index in range(count + 1):
            if index < count:
                waiting.append(of_params(on_device, images[index % 2]))
            if index:
                start = (index - 1) * spec["batch"]
                features[start : start + spec["batch"]] = waiting.pop(0)
        return features

    batches = [(images[i % 2], labels[i % 2]) for i in range(count)]

    def kept() -> Any:
        return np.asarray(extract(model, batches))

    def stored() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return extract(model, batches, out=Path(folder) / "store").rows

    runs = {FORWARD: forward}
    skipped: list[str] = []
    try:
        stream = importlib.import_module("jaxte").stream
        runs[BOTH] = both
    except (ImportError, AttributeError) as error:
        skipped.append(f"{BOTH} skipped: this jaxte does not stream: {error}")
    runs[FETCHED] = fetched
    try:
        extraction = importlib.import_module("jaxte.extraction")
        extract, model = extraction.extract, extraction.as_model(network, layers="output")
        runs |= {KEPT: kept, STORED: stored}
    except (ImportError, AttributeError) as error:
        skipped.append(f"{KEPT} skipped: this jaxte does not extract: {error}")
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
    if KEPT in runs:
        np.testing.assert_allclose(kept(), fetched(), 1e-4, 1e-4)
    return {"rows": list(rows.values()), "skipped": skipped}
