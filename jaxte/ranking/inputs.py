"""What `jaxte.rank` is given, with stores taken apart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxte.errors import InputError
from jaxte.intake.sources import Rows, Source
from jaxte.store import formats
from jaxte.store.imports import read_arrays
from jaxte.store.manifest import is_store
from jaxte.store.reader import FeatureStore, layer_names

__all__ = ["by_layer"]


def by_layer(features: Mapping[str, Any], targets: Any) -> tuple[dict[str, Any], Any]:
    """Stores among what `jaxte.rank` is given become the sources of their layers.

    Args:
        features: model name -> anything; a store, or the path of one or of a file of another
            tool, becomes "model@layer" each where it has several layers.
        targets: as for `jaxte.rank`; a mapping may name models or layers.

    Returns:
        Both, with an `InputError` in place of what cannot be read.

    Raises:
        InputError: if two have the same name then.
    """
    found: dict[str, Any] = {}
    own = dict(targets) if isinstance(targets, Mapping) else None
    for name, given in features.items():
        try:
            sources = _sources(str(name), given)
        except (ImportError, OSError, ValueError) as error:  # an InputError is one of the last
            found[name] = error if isinstance(error, InputError) else InputError(str(error))
            continue
        if sources is None:
            found[name] = given
            continue
        for key, source in sources.items():
            if key in found or (key != str(name) and key in features):
                raise InputError(f"two models are called {key}: rename one of them")
            found[key] = source
            if own is not None and name in own:
                own.setdefault(key, own[name])
    return found, targets if own is None else own


def _sources(name: str, given: Any) -> Mapping[str, Source] | None:
    """The layers of a store; None for anything else."""
    if isinstance(given, FeatureStore):
        return given.sources(name)
    if not isinstance(given, str | os.PathLike):
        return None
    path = Path(given)
    if is_store(path):
        return FeatureStore.open(path).sources(name)
    if path.suffix.lower() in formats.OF_OTHERS:
        read = read_arrays(path)
        names = layer_names(name, read.layers)
        return {names[layer]: Rows(x, read.labels) for layer, x in read.layers.items()}
    return None
