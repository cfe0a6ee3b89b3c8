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
from jaxte.extraction._checkpoints import LAST_STATE, STATE, beside, output_of, source, state
from jaxte.extraction._layers import Apply, Network, Seen, Watched, unknown
from jaxte.extraction._linen import is_dense
from jaxte.extraction._model import Model, Request, qualified
from jaxte.extraction._outputs import PENULTIMATE
from jaxte.extraction.preprocess import channels_first

__all__ = ["from_flax_transformers"]


@dataclass(frozen=True)
class _Module(Network):
    """A model without parameters; equal for models of one architecture."""

    model: Any = field(compare=False)
    architecture: str
    channels_first: ClassVar[bool] = True

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], dense: bool) -> Watched:
        """As `Network` says; outputs and hidden states have names, too."""
        passed: dict[str, Seen] = {}
        outputs: dict[str, Any] = {}
        wanted = set(paths)

        def intercept(forward: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = forward(*args, **kwargs)
            path = "/".join(context.module.path)
            if context.method_name == "__call__":
                outputs[path] = output
                if path in wanted or (dense and path and is_dense(context.module)):
                    taken = args[0] if args else next(iter(kwargs.values()), None)
                    passed[path] = Seen(taken, output)
            return output

        if not isinstance(inputs, Mapping):
            inputs = {self.model.main_input_name: inputs}
        known = inspect.signature(type(self.model).__call__).parameters
        given = {name: x for name, x in inputs.items() if name != STARTS and name in known}
        options = {"output_hidden_states": any(map(STATE.fullmatch, paths)), "return_dict": True}
        with nn.intercept_methods(intercept):
            output = self.model(**given, params=params, train=False, **options)
        base = outputs.get(self.model.base_model_prefix, output)
        named = [one for one in (output, base) if isinstance(one, Mapping)]
        for path in () if dense else paths:
            if (match := STATE.fullmatch(path)) is not None:
                passed[path] = Seen(None, state(named, int(match[1])))
            elif path not in passed:
                found = next((one[path] for one in named if one.get(path) is not None), None)
                if found is None:
                    raise unknown(path, outputs)
                passed[path] = Seen(None, found)
        return Watched(output_of(output), passed)


def from_flax_transformers(given: Any, request: Request) -> Model:
    """A model of a Flax model of transformers."""
    own = jnp.dtype(given.dtype).name
    if request.compute_dtype not in (None, own):
        raise InputError(
            f"{type(given).__name__} computes in {own} itself: load it with "
            f"dtype=jnp.{request.compute_dtype}"
        )
    prepare = (
        beside(given, request, given.main_input_name)
        if request.prepare is None
        else request.prepare
    )
    request = request._replace(prepare=channels_first(prepare))
    texts = given.main_input_name == "input_ids"
    layers = request.layers or ((LAST_STATE,) if texts else (PENULTIMATE,))
    bare = copy.copy(given)
    bare._params = None  # which come as an argument
    network = _Module(bare, f"{qualified(given)} {given.dtype} {given.config.to_json_string()}")
    return Model(
        name=request.name or type(given).__name__,
        apply=Apply.of(network, layers, request),
        layers=layers,
        params=given.params,
        prepare=request.prepare,
        card=request.card(
            "flax transformers", source(given), layers, architecture=qualified(given)
        ),
        level=request.level,
    )
