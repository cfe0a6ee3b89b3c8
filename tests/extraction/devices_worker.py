"""Features over a mesh of 4 virtual CPU devices beside those of one, as .npz: run as a script."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import jaxte
from jaxte.extraction.loop import extraction
from jaxte.extraction.models import Model, as_model

X = np.random.default_rng(0).normal(size=(50, 6, 6, 3)).astype(np.float32)
Y = np.arange(50) % 3
MAPS = np.random.default_rng(1).integers(0, 3, size=(50, 6, 6))


class Net(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.conv(x)).mean((1, 2)))


def batches(y: Any = Y, size: int = 10) -> list[Any]:
    return [(X[i : i + size], y[i : i + size]) for i in range(0, 50, size)]


def message(*arguments: Any, **options: Any) -> str:
    try:
        extraction(*arguments, **options)
    except jaxte.InputError as error:
        return str(error)
    return "no error"


def main(out: Path) -> None:
    assert jax.device_count() == 4
    model = as_model(Net(), layers=["conv", "penultimate"])
    dense = as_model(Net(), layers="conv", level="dense")
    result: dict[str, Any] = {}
    kinds = {
        "none": None,
        "samples": jax.make_mesh((4,), ("samples",)),
        "both": jax.make_mesh((2, 2), ("models", "samples")),
        "auto": jax.make_mesh((4,), ("samples",), axis_types=(jax.sharding.AxisType.Auto,)),
    }
    for name, mesh in kinds.items():
        store = extraction(model, batches(), mesh=mesh).store
        for layer in store.layers:
            result[f"{name} {layer}"] = np.asarray(store[layer])
        assert store.logits is not None
        result[f"{name} logits"] = np.asarray(store.logits)
        result[f"{name} labels"] = store.labels
        pixels = extraction(dense, batches(MAPS), mesh=mesh).store
        result[f"{name} pixels"] = np.asarray(pixels)
        result[f"{name} classes"] = pixels.labels
    mesh = kinds["samples"]
    outside = Model("outside", lambda p, x: {"last": x}, ("last",), traced=False)
    result["untraced"] = message(outside, batches(), mesh=mesh)
    # resumed on another number of devices
    with contextlib.suppress(ZeroDivisionError):
        broken = (1 / (i < 3) and batch for i, batch in enumerate(batches()))
        extraction(model, broken, out=out / "s")
    resumed = extraction(model, batches(), out=out / "s", mesh=mesh)
    assert resumed.status == "resumed"
    result["resumed"] = np.asarray(resumed.store["penultimate"])
    np.savez(out / "found.npz", **result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
