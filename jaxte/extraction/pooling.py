"""From what a layer gives to features: vectors of examples, of words, or of places on a grid.

Everything here takes JAX arrays, traced ones too, NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxte.errors import InputError
from jaxte.intake.checks import choose

__all__ = ["LEVELS", "POOLS", "Pool", "Positions", "check_pool", "features", "label"]

Pool: TypeAlias = str | Callable[..., Any]

POOLS = ("mean", "max", "cls", "last", "flatten")
LEVELS = ("example", "token", "dense")
_MOST_PREFIX = 16  # tokens before those of the patches: class, distillation, registers


class Positions(NamedTuple):
    """The positions of the tokens, words or pixels of a batch.

    Attributes:
        mask: [b, t] integers, 1 where there is a token.
        first: [b, W] the token at which each word begins, -1 where the word has none.
        size: height and width of the images.
    """

    mask: Any = None
    first: Any = None
    size: tuple[int, int] | None = None


def check_pool(pool: Pool, level: str) -> None:
    """Raise `InputError` unless there are both."""
    if not callable(pool) and pool not in POOLS:
        names = ", ".join(map(repr, POOLS))
        raise InputError(f"unknown pool {pool!r}: choose one of {names}, or give a function")
    choose("level", level, LEVELS)


def label(pool: Pool) -> str:
    """The name of a pooling, for cards."""
    return pool if isinstance(pool, str) else getattr(pool, "__qualname__", type(pool).__name__)


def features(
    arrays: Mapping[str, Any], layers: Sequence[str], pool: Pool, level: str, where: Positions
) -> dict[str, Any]:
    """The layers of a batch as a `Model` returns them.

    Args:
        arrays: what the layers gave, [b, ...], channels last; "logits" if there is a head.
        layers: which of them are wanted.
        pool: how positions become one vector.
        level: "example" gives [b, d], "token" [b, W, d], "dense" [b, h, w, d].
        where: the positions of tokens and words, the size of images.

    Raises:
        InputError: for a layer that has not the positions which the level needs.
    """
    if level == "example":
        out = {name: _pooled(arrays[name], name, pool, where.mask) for name in layers}
        if "logits" in arrays and arrays["logits"].ndim == 2:
            out["logits"] = arrays["logits"]
        return out
    if level == "dense":
        return {name: _map(arrays[name], name, where.size) for name in layers}
    out = {name: _words(arrays[name], name, where.first) for name in layers}
    if where.first is not None:
        out["valid"] = where.first >= 0
    elif where.mask is not None:
        out["valid"] = where.mask > 0
    return out


def _pooled(x: Any, name: str, pool: Pool, mask: Any) -> Any:
    """[b, d] of [b, d] or [b, positions..., d]."""
    if x.ndim == 0:
        raise InputError(f"layer {name} has shape (), not [b, d]: it is one number for all")
    if x.ndim < 3:
        return x if x.ndim == 2 else x.reshape(len(x), 1)
    if mask is not None and x.shape[1] == mask.shape[1]:
        x = x.reshape(*x.shape[:2], -1)  # heads of attention belong to the channels
    else:
        mask = None  # these are not the positions of the tokens
    if callable(pool):
        vectors = pool(x, mask) if mask is not None and _takes_two(pool) else pool(x)
        if vectors.ndim != 2 or len(vectors) != len(x):
            raise InputError(
                f"pooling of layer {name} gives shape {tuple(vectors.shape)} for "
                f"{tuple(x.shape)}, not [b, d]"
            )
        return vectors.astype(x.dtype)
    if pool == "flatten":
        if mask is not None:
            raise InputError(
                f"layer {name} has tokens, whose number varies: it cannot be flattened"
            )
        return x.reshape(len(x), -1)
    x = x.reshape(len(x), -1, x.shape[-1])
    if pool == "mean":
        if mask is None:
            return x.mean(1)
        return (x * mask[..., None]).sum(1) / mask.sum(1).clip(1)[:, None]
    if pool == "max":
        return _largest(x if mask is None else x - 1e30 * (1 - mask)[..., None])
    if mask is None:
        return x[:, 0 if pool == "cls" else -1]
    at = mask.argmax(1) if pool == "cls" else mask.cumsum(1).argmax(1)
    return x[np.arange(len(x)), at]


def _largest(x: Any) -> Any:
    return x.amax(1) if hasattr(x, "amax") else x.max(1)


def _takes_two(pool: Callable[..., Any]) -> bool:
    try:
        inspect.signature(pool).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _words(x: Any, name: str, first: Any) -> Any:
    """[b, W, d]: of each word the first token."""
    if x.ndim != 3:
        raise InputError(
            f"layer {name} has shape {tuple(x.shape)}, not [b, tokens, d]: level 'token' needs a "
            "layer of tokens"
        )
    return x if first is None else x[np.arange(len(x))[:, None], first.clip(0)]


def _map(x: Any, name: str, size: tuple[int, int] | None) -> Any:
    """[b, h, w, d]: tokens of patches are put back in their places, those before them dropped."""
    if x.ndim == 4:
        return x
    if x.ndim != 3:
        raise InputError(
            f"layer {name} has shape {tuple(x.shape)}, not [b, h, w, d] or [b, tokens, d]: level "
            "'dense' needs a layer that still knows places"
        )
    height, width = grid(x.shape[1], size, name)
    return x[:, x.shape[1] - height * width :].reshape(len(x), height, width, x.shape[-1])


def grid(tokens: int, size: tuple[int, int] | None, name: str) -> tuple[int, int]:
    """Height and width in patches of tokens, of which a few at the front may be none.

    Raises:
        InputError: if no size of patches explains the number.

    Example:
        >>> grid(197, (224, 224), "blocks/11"), grid(261, (224, 224), "blocks/11")
        ((14, 14), (16, 16))
    """
    for prefix in range(min(_MOST_PREFIX, tokens - 1) + 1):
        number = tokens - prefix
        if size is None:
            side = math.isqrt(number)
            if side * side == number:
                return side, side
            continue
        for patch in range(1, min(size) + 1):
            if size[0] % patch == size[1] % patch == 0:
                height, width = size[0] // patch, size[1] // patch
                if height * width == number:
                    return height, width
    of = "" if size is None else f" of images of {size[0]} x {size[1]} pixels"
    raise InputError(f"layer {name} has {tokens} tokens, which are no grid of patches{of}")
