"""All layers of a model, ``layers="all"``: named when the first batch is there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.extraction._model import Model
from jaxte.extraction._outputs import ALL, PENULTIMATE

__all__ = ["all_named", "distinct", "is_feature", "with_rows"]


def all_named(model: Model, inputs: Any) -> Model:
    """The model with its layers by name, if all were asked for; else as it is.

    Args:
        model: from `as_model`.
        inputs: of a batch; only their shapes matter, but torch runs a few of them.

    Raises:
        InputError: if the model has no layer.
    """
    if model.layers != (ALL,):
        return model
    apply: Any = model.apply
    try:
        apply = apply.all_named(model.params, inputs)
    except InputError as error:
        raise InputError(f"{model.name}: {error}") from error
    if not apply.layers:
        raise InputError(f"{model.name} has no layer whose output is an array of an example each")
    card = {**model.card, "layers": list(apply.layers)}
    return replace(model, apply=apply, layers=apply.layers, card=card)


def distinct(arrays: Iterable[tuple[str, Hashable]], penultimate: Hashable) -> tuple[str, ...]:
    """The layers, in order: of modules that give the same array the outermost, the last alone.

    Args:
        arrays: path of a module, and what identifies its output, in the order of the forward pass.
        penultimate: what identifies that of the model; None if it has none.

    Example:
        >>> distinct([("stem/norm", 1), ("stem", 1), ("block", 2), ("pool", 3)], 3)
        ('stem', 'block', 'penultimate')
    """
    names: dict[Hashable, str] = {}
    for name, identity in arrays:
        known = names.get(identity, f"{name}/")
        if identity != penultimate and known.startswith(f"{name}/"):
            names[identity] = name
    return (*names.values(), *(() if penultimate is None else (PENULTIMATE,)))


def is_feature(module: Any) -> bool:
    """Whether what a module gives may be features.

    Softmax gives weights of attention, and the mean of a channel that was normalised over its
    positions is that of rounding errors.
    """
    return not type(module).__name__.startswith(("Softmax", "LogSoftmax", "InstanceNorm"))


def with_rows(inputs: Any, rows: int) -> Any:
    """As many rows as wanted, the first ones, again where there are fewer."""
    return jax.tree.map(lambda leaf: leaf[np.arange(rows) % len(leaf)], inputs)
