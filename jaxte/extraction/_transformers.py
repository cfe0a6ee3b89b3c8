"""Models of Hugging Face transformers on torch: texts and images."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxte._inputs import InputError
from jaxte._optional import require
from jaxte.extraction._arrays import MASK, STARTS, main
from jaxte.extraction._layers import LOGITS, NAMED, OUTPUT, PENULTIMATE
from jaxte.extraction._model import Model, Request
from jaxte.extraction._texts import texts_of
from jaxte.extraction._torch import Runner, model_of, watched
from jaxte.extraction.preprocess import Processed, channels_first

__all__ = ["from_transformers", "load"]

_LAST = "last_hidden_state"
_BASE = "base model"  # no path can have a space
_STATE = re.compile(r"hidden/(-?\d+)")
# Heads that are worth keeping; that of a language model gives a score of every word.
_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForImageClassification")


class _Runner(Runner):
    """A model whose output has names, and whose base model has others."""

    named = (*NAMED, _LAST, "pooler_output")

    def __init__(self, module: Any, layers: Sequence[str], request: Request) -> None:
        super().__init__(module, layers, request)
        self._base = module.base_model
        self._options = {"return_dict": True}
        if any(map(_STATE.fullmatch, layers)):
            self._options["output_hidden_states"] = True
        if hasattr(module.config, "use_cache"):
            self._options["use_cache"] = False

    def is_named(self, layer: str) -> bool:
        return layer in self.named or _STATE.fullmatch(layer) is not None

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
        found[PENULTIMATE] = named.get(_LAST, found[OUTPUT])
        found.pop(LOGITS, None)
        if head is not None:
            passed = seen.pop(PENULTIMATE)
            found |= {PENULTIMATE: passed.taken, LOGITS: passed.given}
        found |= {name: main(passed.given, name) for name, passed in seen.items()}
        for name in self.layers:
            if (match := _STATE.fullmatch(name)) is not None:
                found[name] = _state(output, base, int(match[1]))
            elif name not in found and name != LOGITS:
                known = ", ".join(named)
                raise InputError(f"the model gives no {name!r}: its output has {known}")
        return self.picked({name: self.channels_last(x) for name, x in found.items()})


def _state(output: Any, base: Any, index: int) -> Any:
    states = next((o["hidden_states"] for o in (base, output) if "hidden_states" in o), ())
    if not -len(states) <= index < len(states):
        raise InputError(f"there is no layer 'hidden/{index}': the model has {len(states)} states")
    return states[index]


def from_transformers(given: Any, request: Request) -> Model:
    """A model of a transformers model; what it needs beside it comes from where it came from."""
    about = given.main_input_name
    texts = about == "input_ids"
    prepare = request.prepare
    if prepare is None and about in _SOURCES:
        prepare = _beside(given, request)
    request = request._replace(prepare=channels_first(prepare))
    layers = request.layers or ((_LAST,) if texts else (PENULTIMATE,))
    where = given.name_or_path
    source = os.path.basename(os.path.normpath(where)) if os.path.isdir(where) else where
    runner = _Runner(given, layers, request)
    return model_of(given, runner, request, "transformers", source or type(given).__name__)


_SOURCES = {"input_ids": "AutoTokenizer", "pixel_values": "AutoImageProcessor"}


class _Missing:
    """Stands for a tokenizer or image processor that could not be loaded, until it is needed."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why

    def __call__(self, examples: Sequence[Any]) -> Any:
        raise InputError(
            f"there is no {self.what} beside the model ({self.why}): give it as prepare=, or "
            "inputs by name, as the model takes them"
        )

    @property
    def card(self) -> dict[str, Any]:
        return {}


def _beside(model: Any, request: Request) -> Any:
    """The tokenizer or image processor that lies where the model was loaded from."""
    about = model.main_input_name
    loader = _SOURCES[about].removeprefix("Auto")
    if not model.name_or_path:
        return _Missing(loader, "the model was not loaded from anywhere")
    options = {} if about == "input_ids" else {"backend": "pil"}
    try:
        found = _loaded(_SOURCES[about], model.name_or_path, **options)
    except InputError as error:
        return _Missing(loader, str(error))
    if about == "pixel_values":
        return Processed(found)
    return texts_of(found, request.max_length, request.level, model.config)


def load(where: str) -> tuple[Any, str]:
    """The model of a checkpoint, with the head of a classifier, and its name.

    Raises:
        InputError: if it cannot be loaded, or does not hold all weights.
        ImportError: if transformers or torch is missing.
    """
    transformers = require("transformers", f"hf:{where}", "hf")
    cuda = require("torch", f"hf:{where}", "hf").cuda.is_available()
    config = _loaded("AutoConfig", where)
    (kind,) = (config.architectures or [""])[:1]
    kept = kind.endswith(_HEADS) and hasattr(transformers, kind)
    model, about = _loaded(
        kind if kept else "AutoModel",
        where,
        output_loading_info=True,
        dtype="auto" if cuda else "float32",
    )
    base = {n for n in about["missing_keys"] if not n.startswith("pooler") and ".pooler." not in n}
    if base:
        raise InputError(
            f"hf:{where} does not hold {len(base)} weights of {type(model).__name__}, as "
            f"{min(base)}: its features would be those of random weights"
        )
    if cuda:
        model = model.to("cuda")
    return model, os.path.basename(os.path.normpath(where))


def _loaded(loader: str, where: str, **options: Any) -> Any:
    """What one of the loaders of transformers gives, quietly; a directory needs no network.

    Raises:
        InputError: if there is nothing to be loaded.
    """
    transformers = require("transformers", f"hf:{where}", "hf")
    local = os.path.isdir(where)
    try:
        with _quiet(transformers):
            return getattr(transformers, loader).from_pretrained(
                where, local_files_only=local, trust_remote_code=False, **options
            )
    except (OSError, ValueError, KeyError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = "" if local else "; without a network give a directory"
        raise InputError(f"{where} cannot be loaded as {loader}: {first}{hint}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No reports, bars or warnings meanwhile."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
