"""Flax models of Hugging Face transformers, which its releases before 5 have."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from jaxte.errors import InputError
from jaxte.extraction._arrays import STARTS
from jaxte.extraction._checkpoints import (
    LAST_STATE,
    STATE,
    all_states,
    load_preprocessor,
    output_of,
    source,
    state,
)
from jaxte.extraction._layers import Apply, Architecture, Call, Every, ForwardPass, unknown_layer
from jaxte.extraction._linen import is_dense
from jaxte.extraction._model import Model, Request, qualified_name
from jaxte.extraction._outputs import PENULTIMATE
from jaxte.extraction.preprocess import channels_first

__all__ = ["from_flax_transformers"]


@dataclass(frozen=True)
class _Module(Architecture):
    """A model without parameters; equal for models of one architecture."""

    model: Any = field(compare=False)
    architecture: str
    channels_first: ClassVar[bool] = True

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], every: Every) -> ForwardPass:
        """As `Architecture` says; outputs and hidden states have names, too."""
        calls: dict[str, Call] = {}
        outputs: dict[str, Any] = {}
        watched = set(paths)

        def intercept(forward: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = forward(*args, **kwargs)
            path = "/".join(context.module.path)
            if context.method_name == "__call__":
                outputs[path] = output
                if path in watched or (every == "dense" and path and is_dense(context.module)):
                    first = args[0] if args else next(iter(kwargs.values()), None)
                    calls[path] = Call(first, output)
            return output

        if not isinstance(inputs, Mapping):
            inputs = {self.model.main_input_name: inputs}
        parameters = inspect.signature(type(self.model).__call__).parameters
        arguments = {n: x for n, x in inputs.items() if n != STARTS and n in parameters}
        states = every == "all" or any(map(STATE.fullmatch, paths))
        options = {"output_hidden_states": states, "return_dict": True}
        with nn.intercept_methods(intercept):
            output = self.model(**arguments, params=params, train=False, **options)
        base = outputs.get(self.model.base_model_prefix, output)
        named = [one for one in (output, base) if isinstance(one, Mapping)]
        if every == "all":
            calls |= {name: Call(None, x) for name, x in all_states(named)}
        for path in () if every else paths:
            if (match := STATE.fullmatch(path)) is not None:
                calls[path] = Call(None, state(named, int(match[1])))
            elif path not in calls:
                array = next((one[path] for one in named if one.get(path) is not None), None)
                if array is None:
                    raise unknown_layer(path, outputs)
                calls[path] = Call(None, array)
        return ForwardPass(output_of(output), calls)


def from_flax_transformers(model: Any, request: Request) -> Model:
    """A model of a Flax model of transformers."""
    dtype = jnp.dtype(model.dtype).name
    if request.compute_dtype not in (None, dtype):
        raise InputError(
            f"{type(model).__name__} computes in {dtype} itself: load it with "
            f"dtype=jnp.{request.compute_dtype}"
        )
    prepare = request.prepare
    if prepare is None:
        prepare = load_preprocessor(model, request, model.main_input_name)
    request = request._replace(prepare=channels_first(prepare))
    texts = model.main_input_name == "input_ids"
    layers = request.layers or ((LAST_STATE,) if texts else (PENULTIMATE,))
    bare, kind = copy.copy(model), qualified_name(model)
    bare._params = None  # which come as an argument
    network = _Module(bare, f"{kind} {model.dtype} {model.config.to_json_string()}")
    return request.model(
        Apply.of(network, layers, request), model.params, type(model).__name__,
        "flax transformers", source(model), layers, architecture=kind,
    )  # fmt: skip
