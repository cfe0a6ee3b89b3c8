"""Stores and files of other tools among the models that `jaxte.rank` is handed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxte.errors import InputError
from jaxte.intake import sources
from jaxte.store import FeatureStore, formats, imports, is_store
from jaxte.store.reader import layer_names

__all__ = ["expand_stores"]


def expand_stores(features: Mapping[str, Any], targets: Any) -> tuple[dict[str, Any], Any]:
    """Stores, their paths and files of other tools become the sources of their layers.

    One of several layers becomes "model@layer" each; ``targets`` may name models or layers. What
    cannot be read becomes an `InputError` in its place.

    Raises:
        InputError: if two have the same name then.
    """
    models: dict[str, Any] = {}
    own = dict(targets) if isinstance(targets, Mapping) else None
    for name, value in features.items():
        try:
            layers = _layers(str(name), value)
        except (ImportError, OSError, ValueError) as error:  # an InputError is one of the last
            models[name] = error if isinstance(error, InputError) else InputError(str(error))
            continue
        if layers is None:
            models[name] = value
            continue
        for key, source in layers.items():
            if key in models or (key != str(name) and key in features):
                raise InputError(f"two models are called {key}: rename one of them")
            models[key] = source
            if own is not None and name in own:
                own.setdefault(key, own[name])
    return models, targets if own is None else own


def _layers(name: str, value: Any) -> Mapping[str, Any] | None:
    """The layers of a store; None for anything else."""
    if isinstance(value, FeatureStore):
        return value.sources(name)
    if not isinstance(value, str | os.PathLike):
        return None
    path = Path(value)
    if is_store(path):
        return FeatureStore.open(path).sources(name)
    if path.suffix.lower() in formats.OF_OTHERS:
        read = imports.read_arrays(path)
        names = layer_names(name, read.layers)
        return {
            names[layer]: sources.Rows(x, read.labels, read.logits)
            for layer, x in read.layers.items()
        }
    return None
