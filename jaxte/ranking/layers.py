"""Models of several layers: each a candidate, of which the best or the mean speaks for the model.

A score of the best of many layers is the higher the more there are, and so are those of permuted
targets, of which the best layer is taken as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.metrics.options import shortlist
from jaxte.ranking.outcomes import Outcomes
from jaxte.store.arrays import StoreSource
from jaxte.store.reader import layer_names, model_and_layer

__all__ = ["FOLDS", "LAYERS", "arranged", "fold"]

FOLDS = ("best", "mean")
LAYERS = ("each", "joined", *FOLDS)


def arranged(
    models: Mapping[str, Any], targets: Any, layers: str | None, names: Collection[str]
) -> tuple[dict[str, Any], Any, list[str]]:
    """Models as the option ``layers`` has them ranked, their targets, and notes.

    Args:
        models: by name, stores of several layers as "model@layer" each.
        targets: as of `jaxte.rank`.
        layers: of `LAYERS`, or None.
        names: of the call, in which an @ may have been meant otherwise.

    Raises:
        InputError: if two have the same name then.
    """
    if layers is None:
        return dict(models), targets, _apart(models)
    if layers == "each":
        return *_each_layer(models, targets), []
    notes = _by_name(models, names)
    arrange = _joined if layers == "joined" else partial(_each_layer, folded=True)
    return *arrange(models, targets), notes


def _apart(models: Mapping[str, Any]) -> list[str]:
    """A note on models whose layers are ranked one by one, though that was not asked for."""
    of_layers = (model_and_layer(str(name)) for name in models)
    layers = Counter(model for model, layer in of_layers if layer)
    several = [model for model, number in layers.items() if number > 1]
    if not several:
        return []
    return [
        f"The layers of {shortlist(several)} are ranked one by one. layers='joined' (--layers "
        "joined) scores a model by all its layers at once, which predicts fine-tuning better; "
        "'each' is this without the note."
    ]


def _by_name(models: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """A note on those that are layers of a model by nothing but their names "model@layer"."""
    layers: dict[str, list[str]] = {}
    for name, value in models.items():
        model, layer = model_and_layer(str(name))
        if not layer or isinstance(value, StoreSource) or _has_layers(value) or name not in names:
            continue
        if model in models:
            raise InputError(f"{name} is by its name a layer of {model}: rename one of them")
        layers.setdefault(model, []).append(str(name))
    if not layers:
        return []
    shown = shortlist([f"{model} ({', '.join(own)})" for model, own in layers.items()])
    return [f"Layers by their names: {shown}. If they are models, leave out the @."]


def _has_layers(value: Any) -> bool:
    return isinstance(value, Mapping) and "layers" in value


def _joined(models: Mapping[str, Any], targets: Any) -> tuple[dict[str, Any], Any]:
    """Layers "model@layer" as one model that brings them; its targets are those of any."""
    joined: dict[str, Any] = {}
    own_targets = dict(targets) if isinstance(targets, Mapping) else None
    for key, value in models.items():
        name, layer = model_and_layer(str(key))
        parts = value if isinstance(value, Mapping) else {"features": value}
        whole = "features" not in parts or "layers" in parts
        if not layer or whole or isinstance(value, Exception):
            joined[key] = value
            continue
        own = joined.setdefault(name, {"layers": {}})
        own["layers"][layer] = parts["features"]
        own |= {part: values for part, values in parts.items() if part != "features"}
        if own_targets is not None and key in own_targets:
            own_targets.setdefault(name, own_targets[key])
    return joined, targets if own_targets is None else own_targets


def _each_layer(
    models: Mapping[str, Any], targets: Any, *, folded: bool = False
) -> tuple[dict[str, Any], Any]:
    """Models that bring "layers" as one for each, named as those of stores; targets as theirs.

    If they are to be ``folded``, the only layer of a model is named "model@layer", too.
    """
    apart: dict[str, Any] = {}
    own = dict(targets) if isinstance(targets, Mapping) else None
    for name, value in models.items():
        layers = value["layers"] if _has_layers(value) else None
        parts = {name: value}
        if isinstance(layers, Mapping) and layers:
            rest = {key: part for key, part in value.items() if key != "layers"}
            names = layer_names(name, layers)
            if folded:
                names = {layer: f"{name}@{layer}" for layer in layers}
            parts = {names[layer]: {**rest, "features": x} for layer, x in layers.items()}
        for key, part in parts.items():
            if key in apart:
                raise InputError(f"two models are called {key}: rename one of them")
            apart[key] = part
            if own is not None and name in own:
                own.setdefault(key, own[name])
    return apart, targets if own is None else own


def fold(outcomes: Outcomes, names: Sequence[str], how: str) -> tuple[Outcomes, list[str]]:
    """Outcomes of the models that layers "model@layer" belong to, and notes on which speak.

    Args:
        outcomes: of the layers.
        names: of all layers.
        how: "best" or "mean".
    """
    models: dict[str, list[str]] = {}
    for name in names:
        models.setdefault(model_and_layer(name)[0], []).append(name)
    folded, notes = Outcomes(classes=outcomes.classes), []
    for metric in outcomes.outputs:
        best = {m: _fold_one(outcomes, folded, metric, m, own, how) for m, own in models.items()}
        shown = [f"{m} at {layer}" for m, layer in best.items() if layer]
        if how == "best" and shown:
            notes.append(f"{metric}, best layers: {', '.join(shown)}.")
    for model, layers in models.items():
        lost = {one: outcomes.problems[one] for one in layers if one in outcomes.problems}
        if len(lost) == len(layers):
            folded.problems[model] = lost[layers[0]]
        elif lost:
            reasons = "; ".join(dict.fromkeys(lost.values()))
            notes.append(f"{model} goes without {shortlist(list(lost))}: {reasons}.")
        for (name, metric), why in outcomes.reasons.items():
            if name in layers and model not in folded.outputs.get(metric, {}):
                folded.reasons.setdefault((model, metric), why)
    return folded, notes


def _fold_one(
    outcomes: Outcomes, folded: Outcomes, metric: str, model: str, layers: list[str], how: str
) -> str:
    """What a metric gave for the layers of one model, added to ``folded``; the best layer."""
    own_outputs = outcomes.outputs[metric]
    outputs = {one: own_outputs[one] for one in layers if one in own_outputs}  # not as they came
    if not outputs:
        return ""
    scored = {one: own for one, own in outputs.items() if math.isfinite(own["score"])} or outputs
    best = max(scored, key=lambda one: scored[one]["score"])
    chosen = scored if how == "mean" else {best: scored[best]}
    folded.outputs.setdefault(metric, {})[model] = {
        key: float(np.mean([own[key] for own in chosen.values()])) for key in scored[best]
    }
    for repeated, to, own in (
        (outcomes.nulls, folded.nulls, scored),  # any layer may be the best of permuted targets
        (outcomes.influences, folded.influences, chosen),
    ):
        parts = [again for one, again in repeated.get(metric, {}).items() if one in own]
        if len(parts) == len(own) and len({len(part["score"]) for part in parts}) == 1:
            folded.add_repeated(to, model, {metric: _folded(parts, how)})
    return model_and_layer(best)[1] if len(layers) > 1 else ""


def _folded(repeated: Sequence[Mapping[str, np.ndarray]], how: str) -> dict[str, np.ndarray]:
    """Outputs of the layers, repeated as often: their mean, or each time those of the best."""
    stacked = {key: np.stack([own[key] for own in repeated]) for key in repeated[0]}
    if how == "mean" or len(repeated) == 1:
        return {key: own.mean(0) for key, own in stacked.items()}
    best = np.where(np.isnan(stacked["score"]), -np.inf, stacked["score"]).argmax(0)
    return {key: np.take_along_axis(own, best[None], 0)[0] for key, own in stacked.items()}
