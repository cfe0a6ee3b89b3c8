"""Three Flax models for scanned digits: nnx, linen with batch statistics, and one of the zoo."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from jaxte.extraction.models import Model, as_model, resolve

LAYERS = {"nnx": ("blocks/1", "penultimate"), "linen": ("stem",), "zoo": ("penultimate",)}


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([nnx.Linear(64, 24, rngs=rngs), nnx.Linear(24, 16, rngs=rngs)])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for block in self.blocks:
            x = nnx.relu(block(x))
        return self.head(self.drop(x))


class Cnn(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Conv(12, (3, 3), name="stem")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(10, name="head")(linen.relu(x).mean((1, 2)))


def scaled(images: Sequence[Any] | np.ndarray) -> np.ndarray:
    return np.stack(list(images)).astype(np.float32) / 255


def cnn() -> tuple[Cnn, Any]:
    module = Cnn()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    statistics = jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])
    return module, {**variables, "batch_stats": statistics}


def make(name: str) -> Model:
    layers = LAYERS[name]
    if name == "nnx":
        return as_model(Net(nnx.Rngs(0)), layers=layers, prepare=scaled, name=name)
    if name == "linen":
        module, variables = cnn()
        return as_model(module, variables=variables, layers=layers, prepare=scaled, name=name)
    return resolve("zoo:mlp-mnist", name=name)
