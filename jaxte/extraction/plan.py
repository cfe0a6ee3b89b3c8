"""What an extraction would do, without doing it: what is stored, and how large it will be.

Also what a manifest says of a model, its data and settings, by which a store is recognised.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax

from jaxte.extraction._batches import checked
from jaxte.extraction._resumable import ResumableBatches
from jaxte.extraction.models import Model, fingerprint, settled
from jaxte.extraction.targets import Pixels
from jaxte.store.columns import in_memory
from jaxte.store.journal import read
from jaxte.store.manifest import MANIFEST, Manifest, differences

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["Plan", "describe_data", "describe_model", "describe_settings", "plan"]


class Plan(NamedTuple):
    """What would be done.

    Attributes:
        state: "cached" if it is complete; "resume" if a part of it is there; "extract" if nothing
            is; "refused" if something else is.
        examples: that are to be run through the model.
        rows: of features in the end, where they can be counted beforehand.
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
    """Read the manifest of a store, and the shapes that the model gives for one example.

    Raises:
        InputError: for an example that the model cannot take, or a damaged store.
    """
    model = ResumableBatches(dataset, model.prepare, 1, 0).all_named(model)
    expected = Manifest.new(
        describe_model(model),
        describe_data(dataset, num_classes),
        model.layers,
        dtype,
        1,
        describe_settings(model, logits, pixels or Pixels()),
    )
    state: Literal["cached", "resume", "extract"] = "extract"
    examples, widths = len(dataset), list[int | None]([None])
    rows = len(dataset) if model.level == "example" else None
    if out is not None and (Path(out) / MANIFEST).exists():
        manifest = Manifest.read(Path(out))
        if different := differences(manifest, expected):
            return Plan("refused", 0, None, None, None, "; ".join(different))
        widths = [column.width for column in manifest.layers.values()]
        if manifest.complete:
            state, examples, rows = "cached", 0, manifest.rows
        elif stored := sum(batch.examples for batch in read(Path(out))[0]):
            state, examples = "resume", len(dataset) - stored
    if state == "cached" or None not in widths:
        width: int | None = sum(one or 0 for one in widths)
    else:
        width = _traced_width(model, dataset)
    size = None
    if rows is not None and width is not None:
        size = rows * width * in_memory(dtype).itemsize
    return Plan(state, examples, rows, width, size)


def _traced_width(model: Model, dataset: Dataset) -> int | None:
    inputs, labels = next(dataset.batches(1, prepare=model.prepare))
    inputs = checked(inputs, labels, 0).inputs
    model = settled(model, inputs)
    if not model.traced:
        return None
    out: Any = jax.eval_shape(model.apply, model.params, inputs)
    return sum(int(out[layer].shape[-1]) for layer in model.layers)


def describe_model(model: Model) -> dict[str, Any]:
    """What a manifest says of a model."""
    return {"name": model.name, "card": model.card, "fingerprint": fingerprint(model)}


def describe_data(dataset: Dataset | None, num_classes: int | None) -> Mapping[str, Any]:
    """What a manifest says of the data."""
    if dataset is None:
        return {"name": "batches", "num_classes": num_classes}
    return {
        "name": dataset.name,
        "task": dataset.task,
        "num_classes": dataset.num_classes if num_classes is None else num_classes,
        "class_names": dataset.class_names,
        "ignore": dataset.ignore,
        "card": dataset.card,
    }


def describe_settings(model: Model, logits: bool, pixels: Pixels) -> dict[str, Any]:
    """What decides about features beside model, data set and type."""
    settings: dict[str, Any] = {"level": model.level, "logits": logits and model.level == "example"}
    return settings | (pixels.settings() if model.level == "dense" else {})
