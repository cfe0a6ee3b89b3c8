"""Arrays on their way into a model and out of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte._inputs import InputError
from jaxte._optional import require
from jaxte.extraction.pooling import Positions

__all__ = ["MASK", "STARTS", "called", "cast", "host", "main", "positions", "wide"]

MASK = "attention_mask"
STARTS = "word_starts"  # [b, W] the first token of each word, -1 for a word that was cut off

# How the many ways to say it say that nothing is to be learnt or dropped.
_INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
    "inference": True,
}
# Which part of an output with several names is the output.
_MAIN = ("logits", "last_hidden_state", "features", "output", "out", "x")


def cast(tree: Any, dtype: str | None) -> Any:
    """Arrays of floats in another type."""
    if dtype is None:
        return tree
    kind = jnp.dtype(dtype)

    def one(leaf: Any) -> Any:
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(kind) if floating else leaf

    return jax.tree.map(one, tree)


def wide(x: Any) -> Any:
    """As float32, float64 as it is: half precision is no type to add up in."""
    x = x if isinstance(x, jax.Array) else host(x)
    return x if x.dtype == np.float64 else x.astype(np.float32)


def host(leaf: Any) -> np.ndarray:
    """An array of any framework as a NumPy array, without a copy where that can be."""
    if hasattr(leaf, "detach"):
        tensor = leaf.detach().cpu()
        torch = require("torch", "an array of torch", "hf")
        if tensor.dtype != torch.bfloat16:
            return np.asarray(tensor.numpy())
        return np.asarray(tensor.view(torch.uint16).numpy().view(jnp.bfloat16))
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def positions(inputs: Any) -> Positions:
    """What inputs say of the positions of the layers: tokens of texts, sizes of images."""
    if isinstance(inputs, Mapping):
        return Positions(inputs.get(MASK), inputs.get(STARTS), _size(inputs.get("pixel_values")))
    return Positions(size=_size(inputs))


def _size(images: Any) -> tuple[int, int] | None:
    """Height and width of images, whose channels are first or last."""
    shape: Any = getattr(images, "shape", ())
    if len(shape) != 4:
        return None
    first = shape[1] in (1, 3) and shape[3] not in (1, 3)
    return (shape[2], shape[3]) if first else (shape[1], shape[2])


def called(model: Callable[..., Any], signature: Callable[..., Any], inputs: Any) -> Any:
    """The model's output in inference mode: names of inputs go to the arguments of these names.

    Args:
        model: takes inputs.
        signature: whose arguments tell what it takes.
        inputs: an array, a tuple of arguments, or a mapping from their names.
    """
    known = inspect.signature(signature).parameters
    mode = {name: value for name, value in _INFERENCE.items() if name in known}
    if isinstance(inputs, Mapping):
        inputs = {name: value for name, value in inputs.items() if name != STARTS}
        anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
        if anything or set(inputs) <= set(known):
            return model(**inputs, **mode)
        if MASK in inputs and set(inputs) - {MASK, "token_type_ids"} <= set(known):
            return model(**{n: x for n, x in inputs.items() if n in known}, **mode)
        return model(inputs, **mode)
    return model(*inputs, **mode) if isinstance(inputs, tuple) else model(inputs, **mode)


def main(output: Any, where: str) -> Any:
    """The array that an output is about.

    Raises:
        InputError: if it is not to be seen which.
    """
    if hasattr(output, "shape"):
        return output
    if isinstance(output, tuple | list) and output and not hasattr(output, "_fields"):
        return main(output[0], where)
    named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    if hasattr(output, "_asdict"):
        named = output._asdict()
    for name in _MAIN:
        if named.get(name) is not None:
            return main(named[name], where)
    arrays = [value for value in named.values() if hasattr(value, "shape")]
    if len(arrays) == 1:
        return arrays[0]
    raise InputError(
        f"{where} gives a {type(output).__name__} of {', '.join(map(str, named)) or 'no arrays'}: "
        "give a function that returns the array that is meant"
    )
