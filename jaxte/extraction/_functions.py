"""Functions as models: inputs -> features, or a dict of them, in JAX or outside of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxte.errors import InputError
from jaxte.extraction._arrays import at_least_float32, cast, inference_flags, positions
from jaxte.extraction._model import Model, Request, qualified_name
from jaxte.extraction._outputs import (
    ALL,
    LOGITS,
    OUTPUT,
    channels_last,
    is_channels_first,
    named_parts,
    only,
    pick,
    split_layer,
)
from jaxte.extraction.pooling import Pool, features

__all__ = ["call_function", "from_function"]

FEATURES = "features"
_JITTED = type(jax.jit(lambda: None))


def from_function(function: Callable[..., Any], request: Request, traced: bool | None) -> Model:
    """A model of a function of the inputs, or of (variables, inputs) if there are variables."""
    layers = request.layers or (FEATURES,)
    if layers == (ALL,):
        raise InputError(
            f"{qualified_name(function)} is a function, whose layers have no names: give the "
            "module itself, or let it return a dict of layers and name its keys (layers=[...])"
        )
    kind = _Apply if request.variables is None else _PureApply
    options = (request.pool, request.level, request.compute_dtype, request.layout)
    apply, source = kind(function, layers, *options), qualified_name(function)
    name = source.rpartition(".")[2].strip("<>")
    return request.model(apply, request.variables, name, "callable", source, layers, traced)


@dataclass(frozen=True, eq=False)  # by identity: what was compiled of it holds what it closes over
class _Apply:
    function: Callable[..., Any]
    layers: tuple[str, ...]
    pool: Pool
    level: str
    compute_dtype: str | None
    layout: str | None

    def __call__(self, params: Any, inputs: Any) -> dict[str, Any]:
        arguments = (inputs,) if params is None else (params, inputs)
        output = call_function(self.function, *cast(arguments, self.compute_dtype))
        arrays = self._by_layer(output)
        channels_first = self.layout == "NCHW" or (
            self.layout is None and any(is_channels_first(arrays[name]) for name in self.layers)
        )
        if self.level != "example" or self.pool != "flatten":  # which loses no channel
            for name in self.layers:
                arrays[name] = channels_last(arrays[name], self.layout, name)
        arrays = {name: at_least_float32(x) for name, x in arrays.items()}
        where = positions(inputs, channels_first)
        return features(arrays, self.layers, self.pool, self.level, where)

    def _by_layer(self, output: Any) -> dict[str, Any]:
        """The layers that are wanted of an output, and logits."""
        source, kind = qualified_name(self.function), type(output).__name__
        named = named_parts(output)
        if named is None and self.layers == (FEATURES,):
            return {FEATURES: only(output, where=source)}
        arrays = dict(named or {})
        others = [name for name in arrays if name != LOGITS and arrays[name] is not None]
        if self.layers == (FEATURES,) and FEATURES not in arrays and len(others) == 1:
            arrays[FEATURES] = arrays[others[0]]
        for name in self.layers:
            base, part = split_layer(name)
            if name in arrays:
                continue
            if base == OUTPUT:
                arrays[name] = pick(output, part, OUTPUT, source)
            elif named is None:
                raise InputError(
                    f"{source} returns a {kind}, not a dict with {', '.join(self.layers)}: leave "
                    "layers out, or let it return a dict"
                )
            else:
                keys = ", ".join(map(repr, named)) or "nothing"
                shapes = (f"{n} {tuple(getattr(x, 'shape', ()))}" for n, x in arrays.items())
                raise InputError(
                    f"{source} returns a {kind} with {keys}, not {name!r}: say which of them are "
                    f"wanted (layers=...); their shapes are {', '.join(shapes)}"
                )
        layers = {name: only(arrays[name], name, source) for name in self.layers}
        if LOGITS in arrays and hasattr(arrays[LOGITS], "shape"):
            layers.setdefault(LOGITS, arrays[LOGITS])
        return layers


@dataclass(frozen=True)  # by value: a function of its variables holds on to nothing else
class _PureApply(_Apply):
    pass


def call_function(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in inference mode, if it has an argument for that."""
    mode = inference_flags(function)
    if mode and isinstance(function, _JITTED):  # to which Python's own True and False are arrays
        function = inspect.unwrap(function)
    return function(*arguments, **mode)
