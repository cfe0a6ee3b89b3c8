"""Arrays on their way into a model and out of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.extraction.pooling import Positions
from jaxte.intake.arrays import of_torch

__all__ = ["MASK", "STARTS", "at_least_float32", "call_model", "cast", "inference_flags"]
__all__ += ["positions", "to_numpy"]

MASK = "attention_mask"
STARTS = "word_starts"  # [b, W] the first token of each word, -1 for a word that was cut off

# The many names of one argument: whether something is learnt or dropped, or whether it is not.
_TRAINING = {
    "train", "training", "is_train", "is_training", "train_mode", "training_mode",
    "enable_dropout", "use_dropout", "update_stats", "update_batch_stats",
}  # fmt: skip
_INFERENCE = {
    "deterministic", "use_running_average", "use_running_stats", "inference", "is_inference",
    "inference_mode", "eval", "is_eval", "eval_mode", "evaluate", "evaluation", "test", "is_test",
    "test_mode", "testing",
}  # fmt: skip
_MODES = ("train", "training")  # of an argument that is a text, whatever its name


def cast(tree: Any, dtype: str | None) -> Any:
    """Arrays of floats in another type."""
    if dtype is None:
        return tree
    kind = jnp.dtype(dtype)

    def one(leaf: Any) -> Any:
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(kind) if floating else leaf

    return jax.tree.map(one, tree)


def at_least_float32(x: Any) -> Any:
    """As float32, float64 as it is: half precision is no type to add up in."""
    x = x if isinstance(x, jax.Array) else to_numpy(x)
    return x if x.dtype == np.float64 else x.astype(np.float32)


def to_numpy(leaf: Any) -> np.ndarray:
    """An array of any framework as a NumPy array, without a copy where that can be."""
    if hasattr(leaf, "detach"):
        return of_torch(leaf)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def positions(inputs: Any, channels_first: bool) -> Positions:
    """What inputs say of the positions of the layers: tokens of texts, sizes of images."""
    if isinstance(inputs, Mapping):
        size = _size(inputs.get("pixel_values"), channels_first)
        return Positions(inputs.get(MASK), inputs.get(STARTS), size)
    return Positions(size=_size(inputs, channels_first))


def _size(images: Any, channels_first: bool) -> tuple[int, int] | None:
    """Height and width of images."""
    shape: Any = getattr(images, "shape", ())
    if len(shape) != 4:
        return None
    return (shape[2], shape[3]) if channels_first else (shape[1], shape[2])


def inference_flags(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that put a function in inference mode, as far as it has them.

    Example:
        >>> network = lambda x, is_train=True, deterministic=False, mode="train", test="abc": x
        >>> inference_flags(network)
        {'is_train': False, 'deterministic': True, 'mode': 'eval'}
    """
    arguments: dict[str, Any] = {}
    for name, one in _parameters(function).items():
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            continue
        if isinstance(one.default, str) and one.default in _MODES:
            arguments[name] = "eval"
        either = isinstance(one.default, bool | None) or one.default is one.empty
        if either and name in _TRAINING | _INFERENCE:
            arguments[name] = name in _INFERENCE
    return arguments


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function; none of one that does not tell, as one that is built in."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def call_model(model: Callable[..., Any], signature: Callable[..., Any], inputs: Any) -> Any:
    """The model's output in inference mode: names of inputs go to the arguments of these names.

    Args:
        model: takes inputs.
        signature: whose arguments tell what it takes.
        inputs: an array, a tuple of arguments, or a mapping from their names.
    """
    parameters, mode = _parameters(signature), inference_flags(signature)
    if isinstance(inputs, Mapping):
        inputs = {name: value for name, value in inputs.items() if name != STARTS}
        mode = {name: value for name, value in mode.items() if name not in inputs}
        anything = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if anything or set(inputs) <= set(parameters):
            return model(**inputs, **mode)
        if MASK in inputs and set(inputs) - {MASK, "token_type_ids"} <= set(parameters):
            return model(**{n: x for n, x in inputs.items() if n in parameters}, **mode)
        return model(inputs, **mode)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    positional = [name for name in parameters if name != "self"][: len(arguments)]
    return model(*arguments, **{name: x for name, x in mode.items() if name not in positional})
