"""Whether a model is in evaluation mode: an example's features depend on that example alone.

Flags have many names, and a model may have none, so that the mode is seen by what a model does:
the first batch is run again with other examples beside each, in other places. Batch statistics,
dropout and noise all show by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxte.errors import InputError

if TYPE_CHECKING:
    from jaxte.statistics.measure import Moments

__all__ = ["compare", "compare_steps", "is_half", "order", "reordered", "training"]

# How far features may be off by rounding: of how much they differ between examples, and the
# least that this is taken for, of the largest of them. Dropout and batch statistics are far above.
_TOLERANCE = {False: (2e-2, 1e-2), True: (1e-1, 1e-1)}


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


def compare(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], half: bool) -> None:
    """Hold the features of the same examples in two passes against each other.

    Args:
        first: layer -> features [b, ...]; of texts the widths of the two may differ.
        second: of the same examples in the same order.
        half: whether they were computed in 16 bits.
    """
    tolerance, least = _TOLERANCE[half]
    for layer, one in first.items():
        other = second[layer]
        common = tuple(slice(min(sizes)) for sizes in zip(one.shape, other.shape, strict=True))
        a, b = (x[common].reshape(len(x), -1) for x in (one, other))
        finite = np.isfinite(a) & np.isfinite(b)  # what is not finite is refused by its row
        a, b = (np.where(finite, x, 0) for x in (a, b))
        spread = a - a.mean(axis=0) if len(a) > 1 else a
        scale = max(np.abs(spread).max(), least * np.abs(a).max())
        off = np.abs(a - b).max()
        if off > tolerance * scale:
            raise training(f"its features, layer {layer}, are off by {off:.2g} of {scale:.2g}")


def compare_steps(
    run: Callable[..., tuple[dict[str, Moments], Any]],
    empty: Callable[[], dict[str, Moments]],
    rows: tuple[Any, Any, np.ndarray, np.ndarray],
    half: bool,
) -> None:
    """`compare` for a step that gives moments: one example alone counts, in two places.

    Args:
        run: the step, of moments and ``rows``.
        empty: makes the moments of nothing.
        rows: inputs, places, labels and weights of a batch.
        half: whether features are computed in 16 bits.
    """
    inputs, places, labels, weights = rows
    size = len(jax.tree.leaves(inputs)[0])
    by_example = labels.reshape(size, -1, *labels.shape[1:])
    again = by_example[order(size)].reshape(labels.shape)
    passes = ((order(size)[0], rows[:3]), (0, (*reordered((inputs, places)), again)))
    features = []
    for place, arrays in passes:
        counted = np.zeros((size, len(weights) // size), weights.dtype)
        counted[place] = 1
        states, _ = run(empty(), rows=(*arrays, counted.reshape(-1)))
        features.append({layer: _mean(state) for layer, state in states.items()})
    compare(features[0], features[1], half)


def _mean(state: Moments) -> np.ndarray:
    """Of the classes that occur, in one row."""
    counts, means, origin = map(np.asarray, (state.counts, state.means, state.origin))
    return ((means + origin[None]) * (counts > 0)[:, None]).reshape(1, -1)


def training(shown: str) -> InputError:
    """The error for a model in training mode, as something has shown."""
    return InputError(
        "the features of an example depend on the others in its batch or on chance, as if the "
        f"model were training ({shown}): turn batch statistics, dropout and noise off, by eval(), "
        "by a function that passes the model's own flag, or by its constructor"
    )
