"""What lies beside a model of transformers: checkpoints, tokenizers, image processors, states."""

from __future__ import annotations

import os
import re
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.extraction._model import Request
from jaxte.extraction._texts import texts_of
from jaxte.extraction.preprocess import Processed

__all__ = ["LAST_STATE", "STATE", "TextsOrImages", "load_preprocessor", "load_pretrained"]
__all__ += ["all_states", "output_of", "source", "state"]

LAST_STATE = "last_hidden_state"
STATE = re.compile(r"hidden/(-?\d+)")

_MAIN = ("logits", LAST_STATE)
_SOURCES = {"input_ids": "AutoTokenizer", "pixel_values": "AutoImageProcessor"}


class _Missing:
    """Stands for a tokenizer or image processor that could not be loaded, until it is needed."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why, self.card = what, why, dict[str, Any]()

    def __call__(self, examples: Sequence[Any]) -> Any:
        raise InputError(
            f"there is no {self.what} beside the model ({self.why}): give it as prepare=, or "
            "inputs by name, as the model takes them"
        )


class TextsOrImages:
    """Prepares texts, or images, whichever the data are.

    Args:
        texts: list of texts -> inputs.
        images: list of images -> pixel values.
    """

    def __init__(self, texts: Any, images: Any) -> None:
        self._texts, self._images = texts, images
        self.card = {"texts": texts.card, "images": images.card}

    def __call__(self, examples: Sequence[Any]) -> Any:
        """Inputs by name."""
        first = examples[0]
        if isinstance(first, Mapping):
            first = first.get("text", first.get("words"))
        if isinstance(first, str | tuple | list):
            return self._texts(examples)
        return {"pixel_values": self._images(examples)}


def load_preprocessor(model: Any, request: Request, about: str) -> Any:
    """What lies where the model was loaded from to make its inputs, if there is anything.

    Args:
        model: of transformers.
        request: how it is wanted.
        about: the name of the inputs, "input_ids" or "pixel_values".
    """
    where = model.config._name_or_path
    if about not in _SOURCES:
        return None
    what = _SOURCES[about].removeprefix("Auto")
    if not where:
        return _Missing(what, "the model was not loaded from anywhere")
    options: dict[str, Any] = {} if about == "input_ids" else {"backend": "pil"}
    if options and not hasattr(model, "named_modules"):  # of a release that has models in Flax
        options = {"use_fast": False}
    try:
        processor = load_pretrained(_SOURCES[about], where, **options)
    except InputError as error:
        return _Missing(what, str(error))
    if about == "pixel_values":
        return Processed(processor)
    config = getattr(model.config, "text_config", model.config)
    return texts_of(processor, request.max_length, request.level, config)


def source(model: Any) -> str:
    """Where a model comes from; a directory may be moved, so that only its name counts."""
    where = model.config._name_or_path or type(model).__name__
    return os.path.basename(os.path.normpath(where)) if os.path.isdir(where) else where


def output_of(output: Any) -> Any:
    """What a model of transformers returns first of all; its outputs have names."""
    return next((output[one] for one in _MAIN if output.get(one) is not None), output)


def state(outputs: Iterable[Any], index: int) -> Any:
    """A hidden state of the first output that has any."""
    states = _states(outputs)
    if not -len(states) <= index < len(states):
        raise InputError(f"there is no layer 'hidden/{index}': the model has {len(states)} states")
    return states[index]


def all_states(outputs: Iterable[Any]) -> list[tuple[str, Any]]:
    """All hidden states by name, and the last one as it leaves the model."""
    outputs = list(outputs)
    last = next((one[LAST_STATE] for one in outputs if one.get(LAST_STATE) is not None), None)
    named = [(f"hidden/{index}", one) for index, one in enumerate(_states(outputs))]
    return named if last is None else [*named, (LAST_STATE, last)]


def _states(outputs: Iterable[Any]) -> Sequence[Any]:
    return next((o["hidden_states"] for o in outputs if "hidden_states" in o), ())


def load_pretrained(loader: str, where: str, **options: Any) -> Any:
    """What one of the loaders of transformers gives, quietly; a directory needs no network."""
    transformers = require("transformers", f"hf:{where}", "hf")
    local = os.path.isdir(where) or not _is_online()
    try:
        with _quiet(transformers):
            return getattr(transformers, loader).from_pretrained(
                where, local_files_only=local, trust_remote_code=False, **options
            )
    except (OSError, ValueError, KeyError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if not os.path.exists(where) and os.path.isdir(os.path.dirname(where)):
            first = f"there is no folder {where}, nor such a model of the hub: {first}"
        hint = "" if os.path.isdir(where) else "; without a network give a directory"
        raise InputError(f"{where} cannot be loaded as {loader}: {first}{hint}") from error


@lru_cache(maxsize=1)
def _is_online() -> bool:
    """Whether the hub has an address, asked once; its own client tries for most of a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # which looks the address up
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


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
