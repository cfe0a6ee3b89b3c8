"""Flax linen modules, whose layers are watched by interceptors of their calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flax import errors
from flax import linen as nn

from jaxte.errors import InputError
from jaxte.extraction._all_layers import is_feature
from jaxte.extraction._arrays import call_model
from jaxte.extraction._evaluation import training
from jaxte.extraction._layers import (
    Apply,
    Architecture,
    Call,
    Every,
    ForwardPass,
    of_type,
    unknown_layer,
)
from jaxte.extraction._model import Model, Request, Static, qualified_name, structure_digest
from jaxte.extraction._outputs import PENULTIMATE

__all__ = ["from_linen", "is_dense"]

_CALLS = "jaxte_calls"  # a collection of variables, which lifted transformations take along

is_dense: Callable[[Any], bool] = of_type((nn.Dense, nn.DenseGeneral), nn.Conv)


@dataclass(frozen=True)
class _Module(Architecture):
    """A module; equal for models of one architecture."""

    module: Static

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], every: Every) -> ForwardPass:
        """As `Architecture` says."""
        module: nn.Module = self.module.value
        met: dict[str, None] = {}
        kinds = {"dense": is_dense, "all": is_feature}

        def intercept(forward: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = forward(*args, **kwargs)
            one = context.module
            if context.method_name != "__call__" or not one.path:
                return output
            path = "/".join(one.path)
            met[path] = None
            if path in paths or (every is not None and kinds[every](one)):
                first = args[0] if args else next(iter(kwargs.values()), None)
                call: dict[str, Any] = {"output": (output,)}
                if hasattr(first, "shape"):
                    call["input"] = first
                for name, array in call.items():
                    one.sow(_CALLS, name, array, init_fn=lambda: None, reduce_fn=_last)
            return output

        def apply(*args: Any, **kwargs: Any) -> Any:
            return module.apply(params, *args, mutable=[_CALLS], **kwargs)

        try:
            with nn.intercept_methods(intercept):
                output, state = call_model(apply, type(module).__call__, inputs)
        except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
            raise training(str(error).partition(" (http")[0]) from error
        calls = {}
        for path in met if every else paths:
            call: Any = state.get(_CALLS, {})
            for part in path.split("/"):
                call = call.get(part, {})
            if isinstance(call.get("output"), tuple):
                calls[path] = Call(call.get("input"), call["output"][0])
            elif path in met and not every:
                raise InputError(
                    f"layer {path!r} runs inside a transformation that keeps its output to itself "
                    "(nn.scan, nn.vmap): name the module around it"
                )
            elif not every:
                raise unknown_layer(path, met)
        return ForwardPass(output, calls)


def _last(before: Any, now: Any) -> Any:
    return now


def from_linen(module: nn.Module, request: Request) -> Model:
    """A model of a module and its variables."""
    variables = request.variables
    if not isinstance(variables, Mapping) or "params" not in variables:
        keys = ", ".join(map(str, variables)) if isinstance(variables, Mapping) else "nothing"
        raise InputError(
            f"{type(module).__name__} is a linen module and needs its variables, as "
            f"as_model(module, variables={{'params': ...}}): got {keys}"
        )
    layers = request.layers or (PENULTIMATE,)
    apply = Apply.of(_Module(Static(module)), layers, request)
    name, source = module.name or type(module).__name__, qualified_name(module)
    digest = structure_digest(module)
    return request.model(apply, variables, name, "linen", source, layers, architecture=digest)
