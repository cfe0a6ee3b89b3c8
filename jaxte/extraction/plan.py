"""What an extraction would do, without doing it: what is stored, and how large it will be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax

from jaxte.extraction._batches import checked
from jaxte.extraction._reader import facts
from jaxte.extraction._targets import Pixels
from jaxte.extraction.loop import identity, settings
from jaxte.extraction.models import Model, settled
from jaxte.store.columns import in_memory
from jaxte.store.journal import read
from jaxte.store.manifest import MANIFEST, Manifest, differences

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["Plan", "plan"]


class Plan(NamedTuple):
    """What would be done.

    Attributes:
        state: "cached" if it is complete; "resume" if a part of it is there; "extract" if nothing
            is; "refused" if something else is.
        examples: that are to be run through the model.
        rows: of features in the end, where that is known beforehand.
        width: of a row, all layers together, where JAX traces the model.
        size: bytes of the features in the end, likewise.
        reason: why it would be refused.
    """

    state: Literal["cached", "resume", "extract", "refused"]
    examples: int
    rows: int | None
    width: int | None
    size: int | None
    reason: str = ""


def plan(
    model: Model,
    dataset: Dataset,
    out: str | os.PathLike[str] | None,
    *,
    logits: bool = True,
    dtype: str = "float32",
    num_classes: int | None = None,
    pixels: Pixels | None = None,
) -> Plan:
    """Look at a store, and at the shapes that the model gives for one example.

    Raises:
        InputError: for an example that the model cannot take, or a damaged store.
    """
    wanted = Manifest.new(
        identity(model),
        facts(dataset, num_classes),
        model.layers,
        dtype,
        1,
        settings(model, logits, pixels or Pixels()),
    )
    stored = 0
    widths: list[int | None] = [None]
    if out is not None and (Path(out) / MANIFEST).exists():
        found = Manifest.read(Path(out))
        if different := differences(found, wanted):
            return Plan("refused", 0, None, None, None, "; ".join(different))
        widths = [column.width for column in found.layers.values()]
        if found.complete:
            return Plan("cached", 0, *_sizes(found.rows, _sum(widths), dtype))
        stored = sum(batch.examples for batch in read(Path(out))[0])
    rows = len(dataset) if model.level == "example" else None
    width = _sum(widths) if None not in widths else _width(model, dataset)
    state: Literal["resume", "extract"] = "resume" if stored else "extract"
    return Plan(state, len(dataset) - stored, *_sizes(rows, width, dtype))


def _sum(widths: Sequence[int | None]) -> int:
    return sum(width or 0 for width in widths)


def _sizes(
    rows: int | None, width: int | None, dtype: str
) -> tuple[int | None, int | None, int | None]:
    """Rows, width and bytes."""
    if rows is None or width is None:
        return rows, width, None
    return rows, width, rows * width * in_memory(dtype).itemsize


def _width(model: Model, dataset: Dataset) -> int | None:
    inputs, labels = next(dataset.batches(1, prepare=model.prepare))
    inputs = checked(inputs, labels, 0).inputs
    model = settled(model, inputs)
    if not model.traced:
        return None
    out: Any = jax.eval_shape(model.apply, model.params, inputs)
    return sum(int(out[layer].shape[-1]) for layer in model.layers)
