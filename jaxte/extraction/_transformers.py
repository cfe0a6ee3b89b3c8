"""Models of Hugging Face transformers on torch: texts and images."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.extraction._all_layers import distinct
from jaxte.extraction._arrays import MASK, STARTS
from jaxte.extraction._checkpoints import (
    LAST_STATE,
    STATE,
    TextsOrImages,
    all_states,
    load_preprocessor,
    load_pretrained,
    output_of,
    source,
    state,
)
from jaxte.extraction._model import Model, Request
from jaxte.extraction._outputs import ALL, LOGITS, NAMED, PENULTIMATE, split_layer
from jaxte.extraction._torch import Runner, model_of, watched
from jaxte.extraction._torch_layers import identity
from jaxte.extraction.preprocess import channels_first

__all__ = ["from_transformers", "load"]

_BASE = "base model"  # no path can have a space
_POOLER = re.compile(r"((?:.*\.)?)pooler\.")
# Heads that are worth keeping; that of a language model gives a score of every word.
_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForImageClassification")


class _Runner(Runner):
    """A model whose output has names, and whose base model has others."""

    named = (*NAMED, LAST_STATE, "pooler_output")

    def __init__(self, module: Any, layers: Sequence[str], request: Request) -> None:
        super().__init__(module, layers, request)
        self._towers = towers(module)
        self._options = {"return_dict": True}
        if tuple(layers) == (ALL,) or any(map(STATE.fullmatch, layers)):
            self._options["output_hidden_states"] = True

    def is_named(self, layer: str) -> bool:
        return layer in self.named or STATE.fullmatch(layer) is not None

    def trimmed(self, inputs: Any) -> Any:
        """Without the columns in which all texts have ended."""
        if not isinstance(inputs, Mapping) or MASK not in inputs:
            return inputs
        mask = np.asarray(inputs[MASK])
        used = int(np.flatnonzero(mask.any(axis=0)).max(initial=0)) + 1
        return {
            name: x[:, :used] if name != STARTS and np.shape(x) == mask.shape else x
            for name, x in inputs.items()
        }

    def forward(self, inputs: Any) -> Any:
        inputs = self._named(inputs)
        part = self._part(inputs)
        options = dict(self._options)
        if hasattr(part.config, "use_cache") and _takes(part.forward, "use_cache"):
            options["use_cache"] = False
        return part(**{name: x for name, x in inputs.items() if name != STARTS}, **options)

    def _named(self, inputs: Any) -> Mapping[str, Any]:
        """Inputs by name; an array with four axes is one of images."""
        if isinstance(inputs, Mapping):
            return inputs
        images = "pixel_values" in self._towers and inputs.ndim == 4
        return {"pixel_values" if images else self.module.main_input_name: inputs}

    def _part(self, inputs: Mapping[str, Any]) -> Any:
        """What of the model runs: of an encoder and a decoder, or of two towers, is one enough."""
        fitting = [name for name in self._towers if name in inputs]
        if len(fitting) > 1:
            raise InputError(
                f"{type(self.module).__name__} has a tower for each of {', '.join(fitting)}: give "
                "one of them"
            )
        if fitting:
            return self._towers[fitting[0]]
        decodes = any(name.startswith("decoder_") for name in inputs)
        return self.module if decodes else encoder(self.module) or self.module

    def layer_names(self, inputs: Any) -> tuple[str, ...]:
        head, part = self.head(inputs), self._part(self._named(inputs))
        watch = {} if head is None else {PENULTIMATE: head}
        if part.base_model is not part:
            watch[_BASE] = part.base_model
        with watched(watch) as calls:
            output = self.forward(inputs)
        outputs = [calls[_BASE].original if _BASE in calls else output, output]
        states = all_states(outputs)
        if not states[1:]:
            return super().layer_names(inputs)
        last = output_of(outputs[0]) if head is None else calls[PENULTIMATE].input
        arrays = [(name, identity(x)) for name, x in states if self.places(x) == self.places(last)]
        return distinct(arrays, identity(last))

    def collect(self, inputs: Any) -> dict[str, Any]:
        head, part = self.head(inputs), self._part(self._named(inputs))
        more = {} if head is None else {PENULTIMATE: head}
        if part.base_model is not part:
            more[_BASE] = part.base_model
        with self.watched(inputs, more) as calls:
            output = self.forward(inputs)
        base = calls.pop(_BASE).output if _BASE in calls else output
        named = {k: x for out in (output, base) for k, x in out.items() if hasattr(x, "shape")}
        of_head = None if head is None else calls.pop(PENULTIMATE)
        outputs = named | {name: one.output for name, one in calls.items()}
        outputs.pop(LOGITS, None)
        if LAST_STATE in named:
            outputs[PENULTIMATE] = named[LAST_STATE]
        for name in self.layers:
            if (match := STATE.fullmatch(name)) is not None:
                outputs[name] = state((base, output), int(match[1]))
            elif split_layer(name)[0] in self.named[len(NAMED) :] and name not in outputs:
                names = ", ".join(named)
                raise InputError(f"the model gives no {name!r}: its output has {names}")
        return self.select(output_of(output), of_head, outputs)


def from_transformers(model: Any, request: Request) -> Model:
    """A model of a transformers model; its tokenizer comes from where the model came from."""
    prepare, main = request.prepare, model.main_input_name
    if prepare is None and len(towers(model)) > 1:
        texts, images = (
            load_preprocessor(model, request, about) for about in ("input_ids", "pixel_values")
        )
        prepare = TextsOrImages(texts, channels_first(images))
    elif prepare is None:
        prepare = load_preprocessor(model, request, main)
    request = request._replace(prepare=channels_first(prepare))
    layers = request.layers or ((LAST_STATE if main == "input_ids" else PENULTIMATE),)
    runner = _Runner(model, layers, request)
    part = None if encoder(model) is None else "encoder"
    return model_of(model, runner, request, "transformers", source(model), part=part)


def encoder(model: Any) -> Any:
    """The encoder of a model that has a decoder, too; else None."""
    both = getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "get_encoder")
    part = model.get_encoder() if both else None
    return None if part is model else part


def towers(model: Any) -> dict[str, Any]:
    """Name of the inputs -> the part of a model that takes them, where there are several."""
    named = {"pixel_values": ("vision_model", "image_model"), "input_features": ("audio_model",)}
    named["input_ids"] = ("text_model",)
    towers = {
        inputs: getattr(model, part)
        for inputs, parts in named.items()
        for part in parts
        if hasattr(getattr(model, part, None), "base_model")
    }
    return towers if len(towers) > 1 else {}


def _takes(function: Any, name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def load(where: str) -> tuple[Any, str]:
    """The model of a checkpoint, with the head of a classifier, and its name."""
    transformers = require("transformers", f"hf:{where}", "hf")
    cuda = require("torch", f"hf:{where}", "hf").cuda.is_available()
    config = load_pretrained("AutoConfig", where)
    (kind,) = (config.architectures or [""])[:1]
    with_head = kind.endswith((*_HEADS, "EncoderModel")) and hasattr(transformers, kind)
    model, about = load_pretrained(
        kind if with_head else "AutoModel",
        where,
        output_loading_info=True,
        dtype="auto" if cuda else "float32",
    )
    missing = {name: _POOLER.match(name) for name in about["missing_keys"]}
    if encoder(model) is not None:  # the decoder is not run
        missing = {n: match for n, match in missing.items() if "decoder." not in n}
    if lacking := [name for name, pooler in missing.items() if pooler is None]:
        raise InputError(
            f"hf:{where} does not hold {len(lacking)} weights of {type(model).__name__}, as "
            f"{min(lacking)}: its features would be those of random weights"
        )
    for home in {pooler[1] for pooler in missing.values() if pooler}:
        model.get_submodule(home.rstrip(".")).pooler = None  # rather than a random one
    if cuda:
        model = model.to("cuda")
    return model, os.path.basename(os.path.normpath(where))
