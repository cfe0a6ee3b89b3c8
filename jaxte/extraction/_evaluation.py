"""Whether a model is in evaluation mode: an example's features depend on that example alone.

Flags have many names, and a model may have none, so that the mode is seen by what a model does:
the first batch is run again with other examples beside each, in other places. Batch statistics,
dropout and noise all show by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxte._inputs import InputError

__all__ = ["compare", "is_half", "order", "reordered", "training"]

# How far features may be off by rounding: of how much they differ between examples, and the
# least that this is taken for, of the largest of them. Dropout and batch statistics are far above.
_TOLERANCE = {False: (2e-2, 1e-3), True: (1e-1, 1e-1)}


def order(rows: int) -> np.ndarray:
    """Which example stands where in the second pass: every other one twice, in another place.

    Example:
        >>> order(2), order(5)
        (array([1, 1]), array([1, 1, 2, 2, 3]))
    """
    return (np.arange(rows) // 2 + 1) % rows


def reordered(inputs: Any) -> Any:
    """The inputs of the second pass."""
    return jax.tree.map(lambda leaf: leaf[order(len(leaf))], inputs)


def is_half(*trees: Any) -> bool:
    """Whether anything is of a type of 16 bits or fewer, whose rounding is coarse."""
    kinds = (getattr(leaf, "dtype", None) for leaf in jax.tree.leaves(trees))
    names = {str(kind).removeprefix("torch.") for kind in kinds}
    return any(name.startswith(("float16", "bfloat16", "float8")) for name in names)


def compare(first: Mapping[str, Any], second: Mapping[str, Any], half: bool) -> None:
    """Hold the features of the same examples in two passes against each other.

    Args:
        first: layer -> features [b, ...].
        second: of the same examples in the same order.
        half: whether they were computed in 16 bits.

    Raises:
        InputError: for a layer that differs by more than rounding.
    """
    tolerance, least = _TOLERANCE[half]
    for layer, one in first.items():
        a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (one, second[layer]))
        finite = np.isfinite(a) & np.isfinite(b)  # what is not finite is refused by its row
        a, b = (np.where(finite, x, 0) for x in (a, b))
        spread = a - a.mean(axis=0) if len(a) > 1 else a
        scale = max(np.abs(spread).max(), least * np.abs(a).max())
        off = np.abs(a - b).max()
        if off > tolerance * scale:
            raise training(f"its features, layer {layer}, are off by {off:.2g} of {scale:.2g}")


def training(shown: str) -> InputError:
    """The error for a model in training mode, as something has shown."""
    return InputError(
        "the features of an example depend on the others in its batch or on chance, as if the "
        f"model were training ({shown}): turn batch statistics, dropout and noise off, by eval(), "
        "by a function that passes the model's own flag, or by its constructor"
    )
