"""Functions as models: inputs -> features, or a dict of them, in JAX or outside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxte._inputs import InputError
from jaxte.extraction._arrays import cast, positions, wide
from jaxte.extraction._model import Model, Request, qualified
from jaxte.extraction.pooling import Pool, features

__all__ = ["from_callable"]

FEATURES = "features"


def from_callable(given: Callable[..., Any], request: Request, traced: bool | None) -> Model:
    """A model of a function of the inputs, or of (variables, inputs) if there are variables."""
    layers = request.layers or (FEATURES,)
    kind = _Apply if request.variables is None else _Pure
    source = qualified(given)
    return Model(
        name=request.name or source.rpartition(".")[2].strip("<>"),
        apply=kind(given, layers, request.pool, request.level, request.compute_dtype),
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

    def __call__(self, params: Any, inputs: Any) -> dict[str, Any]:
        given = cast(inputs, self.compute_dtype)
        if params is None:
            found = self.function(given)
        else:
            found = self.function(cast(params, self.compute_dtype), given)
        return features(self._named(found), self.layers, self.pool, self.level, positions(inputs))

    def _named(self, found: Any) -> dict[str, Any]:
        if not isinstance(found, Mapping):
            if self.layers != (FEATURES,):
                raise InputError(
                    f"{qualified(self.function)} returns a {type(found).__name__}, not a dict with "
                    f"{', '.join(self.layers)}: leave layers out, or let it return a dict"
                )
            return {FEATURES: wide(found)}
        others = [name for name in found if name != "logits"]
        if self.layers == (FEATURES,) and FEATURES not in found and len(others) == 1:
            found = {FEATURES: found[others[0]], **found}
        for name in self.layers:
            if name not in found:
                known = ", ".join(map(repr, found)) or "nothing"
                raise InputError(
                    f"{qualified(self.function)} returns a dict with {known}, not {name!r}: say "
                    "which of them are wanted (layers=...)"
                )
        return {name: wide(found[name]) for name in (*self.layers, "logits") if name in found}


@dataclass(frozen=True)  # by value: a function of its variables holds on to nothing else
class _Pure(_Apply):
    pass
