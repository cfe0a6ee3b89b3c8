"""What all layers of the models say before a race: the ridge probe, from one forward pass more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxte.extraction import extract
from jaxte.extraction.models import Model, as_model, resolve
from jaxte.ranking.rank import rank
from jaxte.ranking.verdict import PROBE

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["layer_scores"]


def layer_scores(models: Mapping[str, Any], dataset: Dataset) -> dict[str, float]:
    """Model -> score of its layers; models of which they cannot be had are left out.

    Args:
        models: as `jaxte.race` takes them.
        dataset: with classes or numbers.
    """
    layers: dict[str, Any] = {}
    for name, model in models.items():
        try:
            store = extract(_with_all_layers(name, model), dataset, logits=False)
        except Exception:  # whatever a model raises; its trials will say why
            continue
        layers[name] = {"layers": {layer: store[layer].features() for layer in store.layers}}
    if len(layers) < 2:
        return {}
    ranking = rank(layers, dataset.labels(), metrics=PROBE)
    return {m: ranking.score(m, PROBE) for m in layers if ranking.status(m, PROBE) == "ok"}


def _with_all_layers(name: str, model: Any) -> Model:
    if isinstance(model, str):
        return resolve(model, name=name, layers="all")
    if isinstance(model, tuple):
        return as_model(model[0], variables=model[1], name=name, layers="all")
    return as_model(model, name=name, layers="all")
