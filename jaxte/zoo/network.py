"""A zoo model as data: graph definition, parameters, and one jitted forward pass for all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxte.errors import InputError
from jaxte.zoo.models import FAMILIES, Classifier

BATCH = 256  # one shape for every image set, so that each architecture compiles once

Params = Any  # an nnx.State whose leaves are arrays


def initial(family: str, width: int, classes: int, seed: int) -> tuple[nnx.GraphDef[Any], Params]:
    """Return a classifier with fresh parameters, split into graph and parameters."""
    return nnx.split(Classifier(family, width, classes, nnx.Rngs(seed)))


@lru_cache
def skeleton(family: str, width: int, classes: int | None) -> tuple[nnx.GraphDef[Any], Params]:
    """Return graph and parameter shapes, nothing computed; `classes` of None gives the body.

    Cached, so that models of one architecture share one graph object and one compilation.
    """

    def make() -> Any:
        if classes is None:
            return FAMILIES[family](width, nnx.Rngs(0))
        return Classifier(family, width, classes, nnx.Rngs(0))

    return nnx.split(nnx.eval_shape(make))


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Bring uint8 images to float32 of about zero mean and unit variance."""
    return (images.astype(jnp.float32) / 255 - mean) / std


@partial(jax.jit, static_argnames="graphdef")
def _forward(
    graphdef: nnx.GraphDef[Any], params: Params, mean: jax.Array, std: jax.Array, images: jax.Array
) -> jax.Array:
    output: jax.Array = nnx.merge(graphdef, params)(normalise(images, mean, std))
    return output


def forward(
    graphdef: nnx.GraphDef[Any], params: Params, normal: Mapping[str, Any], images: np.ndarray
) -> np.ndarray:
    """Run prepared images through a network in batches of `BATCH`, the last one padded."""
    mean, std = (np.asarray(normal[key], np.float32) for key in ("mean", "std"))
    outputs = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        padded = np.zeros((BATCH, *images.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        output = _forward(graphdef, params, mean, std, padded)
        outputs.append(np.asarray(output)[: len(batch)])
    return np.concatenate(outputs)


# --- parameters on disk --------------------------------------------------------------------------


def _paths(pure: Any) -> list[str]:
    flat, _ = jax.tree_util.tree_flatten_with_path(pure)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]


def save_params(path: Path, params: Params, dtype: type[np.floating[Any]] = np.float16) -> None:
    """Write parameters as safetensors, one tensor per parameter path."""
    pure = nnx.to_pure_dict(params)
    leaves = [np.asarray(leaf, dtype) for leaf in jax.tree.leaves(pure)]
    save_file(dict(zip(_paths(pure), leaves, strict=True)), path)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file as float32 arrays by parameter path."""
    try:
        tensors = load_file(path)
    except Exception as error:  # the reader raises its own exception types
        raise InputError(
            f"{path} cannot be read as safetensors ({error}): build it again"
        ) from error
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def fill(shapes: Params, tensors: Mapping[str, np.ndarray], prefix: str, where: Path) -> Params:
    """Return the parameters of `shapes` taken from `tensors`, whose names start with `prefix`."""
    pure = nnx.to_pure_dict(shapes)
    leaves = []
    for path, shape in zip(_paths(pure), jax.tree.leaves(pure), strict=True):
        tensor = tensors.get(prefix + path)
        if tensor is None or tensor.shape != shape.shape:
            state = "missing" if tensor is None else f"of shape {tensor.shape}"
            raise InputError(
                f"{where}: {prefix + path} is {state}, not {shape.shape}: build it again"
            )
        leaves.append(tensor)
    filled = jax.tree.map(lambda leaf: leaf, shapes)  # a fresh State; the cached one stays as it is
    nnx.replace_by_pure_dict(filled, jax.tree.unflatten(jax.tree.structure(pure), leaves))
    return filled


class Network(NamedTuple):
    """A model by its tensors, to be run as it is or trained with another head."""

    family: str
    width: int
    tensors: Mapping[str, np.ndarray]
    normal: Mapping[str, Any]
    where: Path  # for errors

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the penultimate features of prepared images."""
        graphdef, shapes = skeleton(self.family, self.width, None)
        body = fill(shapes, self.tensors, "body/", self.where)
        return forward(graphdef, body, self.normal, images)

    def with_head(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[nnx.GraphDef[Any], Params]:
        """Return graph and parameters of the model with another head."""
        graphdef, shapes = skeleton(self.family, self.width, len(bias))
        tensors = {**self.tensors, "head/kernel": kernel, "head/bias": bias}
        return graphdef, fill(shapes, tensors, "", self.where)
