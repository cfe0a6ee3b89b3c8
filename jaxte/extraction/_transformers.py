"""Models of Hugging Face transformers on torch: texts and images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxte._inputs import InputError
from jaxte._optional import require
from jaxte.extraction._arrays import MASK, STARTS, main
from jaxte.extraction._checkpoints import LAST_STATE, STATE, beside, loaded, source, state
from jaxte.extraction._layers import LOGITS, NAMED, OUTPUT, PENULTIMATE
from jaxte.extraction._model import Model, Request
from jaxte.extraction._torch import Runner, model_of, watched
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
        self._base = module.base_model
        self._options = {"return_dict": True}
        if any(map(STATE.fullmatch, layers)):
            self._options["output_hidden_states"] = True
        if hasattr(module.config, "use_cache"):
            self._options["use_cache"] = False

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
        if not isinstance(inputs, Mapping):
            inputs = {self.module.main_input_name: inputs}
        given = {name: x for name, x in inputs.items() if name != STARTS}
        return self.module(**given, **self._options)

    def found(self, inputs: Any) -> dict[str, Any]:
        head = self.head(inputs)
        watch = dict(self.paths)
        if head is not None:
            watch[PENULTIMATE] = head
        if self._base is not self.module:
            watch[_BASE] = self._base
        with watched(watch) as seen:
            output = self.forward(inputs)
        base = seen.pop(_BASE).given if _BASE in seen else output
        named = {k: x for out in (output, base) for k, x in out.items() if hasattr(x, "shape")}
        found = {**named, OUTPUT: main(output, "the model")}
        found[PENULTIMATE] = named.get(LAST_STATE, found[OUTPUT])
        found.pop(LOGITS, None)
        if head is not None:
            passed = seen.pop(PENULTIMATE)
            found |= {PENULTIMATE: passed.taken, LOGITS: passed.given}
        found |= {name: main(passed.given, name) for name, passed in seen.items()}
        for name in self.layers:
            if (match := STATE.fullmatch(name)) is not None:
                found[name] = state((base, output), int(match[1]))
            elif name not in found and name != LOGITS:
                known = ", ".join(named)
                raise InputError(f"the model gives no {name!r}: its output has {known}")
        return self.picked({name: self.channels_last(x) for name, x in found.items()})


def from_transformers(given: Any, request: Request) -> Model:
    """A model of a transformers model; what it needs beside it comes from where it came from."""
    about = given.main_input_name
    texts = about == "input_ids"
    prepare = request.prepare
    if prepare is None:
        prepare = beside(given, request)
    request = request._replace(prepare=channels_first(prepare))
    layers = request.layers or ((LAST_STATE,) if texts else (PENULTIMATE,))
    runner = _Runner(given, layers, request)
    return model_of(given, runner, request, "transformers", source(given))


def load(where: str) -> tuple[Any, str]:
    """The model of a checkpoint, with the head of a classifier, and its name.

    Raises:
        InputError: if it cannot be loaded, or does not hold all weights.
        ImportError: if transformers or torch is missing.
    """
    transformers = require("transformers", f"hf:{where}", "hf")
    cuda = require("torch", f"hf:{where}", "hf").cuda.is_available()
    config = loaded("AutoConfig", where)
    (kind,) = (config.architectures or [""])[:1]
    kept = kind.endswith(_HEADS) and hasattr(transformers, kind)
    model, about = loaded(
        kind if kept else "AutoModel",
        where,
        output_loading_info=True,
        dtype="auto" if cuda else "float32",
    )
    missing = {name: _POOLER.match(name) for name in about["missing_keys"]}
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
