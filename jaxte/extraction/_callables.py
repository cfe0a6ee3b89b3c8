"""Functions as models: inputs -> features, or a dict of them, in JAX or outside of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxte.errors import InputError
from jaxte.extraction._arrays import cast, flags, positions, wide
from jaxte.extraction._model import Model, Request, qualified
from jaxte.extraction._outputs import (
    LOGITS,
    OUTPUT,
    channels_last,
    is_first,
    named_parts,
    only,
    pick,
    split,
)
from jaxte.extraction.pooling import Pool, features

__all__ = ["evaluated", "from_callable"]

FEATURES = "features"
_JITTED = type(jax.jit(lambda: None))


def from_callable(given: Callable[..., Any], request: Request, traced: bool | None) -> Model:
    """A model of a function of the inputs, or of (variables, inputs) if there are variables."""
    layers = request.layers or (FEATURES,)
    kind = _Apply if request.variables is None else _Pure
    source = qualified(given)
    return Model(
        name=request.name or source.rpartition(".")[2].strip("<>"),
        apply=kind(
            given, layers, request.pool, request.level, request.compute_dtype, request.layout
        ),
        layers=layers,
        params=request.variables,
        prepare=request.prepare,
        traced=traced,
        card=request.card("callable", source, layers),
        level=request.level,
    )


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
        given = cast(arguments, self.compute_dtype)
        found = self._named(evaluated(self.function, *given))
        first = self.layout == "NCHW" or (
            self.layout is None and any(is_first(found[name]) for name in self.layers)
        )
        for name in self.layers:
            if self.level != "example" or self.pool != "flatten":  # which loses no channel
                found[name] = channels_last(found[name], self.layout, name)
        found = {name: wide(x) for name, x in found.items()}
        where = positions(inputs, first)
        return features(found, self.layers, self.pool, self.level, where)

    def _named(self, output: Any) -> dict[str, Any]:
        source = qualified(self.function)
        parts = {name: split(name) for name in self.layers}
        whole = {name: part for name, (base, part) in parts.items() if base == OUTPUT}
        named = named_parts(output)
        if named is None and self.layers == (FEATURES,):
            return {FEATURES: only(output, where=source)}
        found = {} if named is None else dict(named)
        others = [name for name in found if name != LOGITS and found[name] is not None]
        if self.layers == (FEATURES,) and FEATURES not in found and len(others) == 1:
            found[FEATURES] = found[others[0]]
        for name in self.layers:
            if name in whole and name not in found:
                found[name] = pick(output, whole[name], OUTPUT, source)
            elif name not in found and named is None:
                raise InputError(
                    f"{source} returns a {type(output).__name__}, not a dict with "
                    f"{', '.join(self.layers)}: leave layers out, or let it return a dict"
                )
            elif name not in found:
                known = ", ".join(map(repr, named or ())) or "nothing"
                shapes = ", ".join(
                    f"{n} {tuple(getattr(x, 'shape', ()))}" for n, x in found.items()
                )
                raise InputError(
                    f"{source} returns a {type(output).__name__} with {known}, not {name!r}: say "
                    f"which of them are wanted (layers=...); their shapes are {shapes}"
                )
        kept = {name: only(found[name], name, source) for name in self.layers}
        if LOGITS in found and hasattr(found[LOGITS], "shape"):
            kept.setdefault(LOGITS, found[LOGITS])
        return kept


@dataclass(frozen=True)  # by value: a function of its variables holds on to nothing else
class _Pure(_Apply):
    pass


def evaluated(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in inference mode, if it has an argument for that."""
    mode = flags(function)
    if mode and isinstance(function, _JITTED):  # to which Python's own True and False are arrays
        function = inspect.unwrap(function)
    return function(*arguments, **mode)
