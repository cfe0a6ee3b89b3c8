"""Flax nnx modules, whose layers are watched in a copy that lives as long as one trace."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

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
from jaxte.extraction._model import Model, Request, Static, qualified_name
from jaxte.extraction._outputs import NAMED, PENULTIMATE, split_layer
from jaxte.extraction.preprocess import Images, zoo_images

__all__ = ["from_encoder", "from_nnx", "from_zoo"]


class _Recorded(nnx.Variable[Any]):
    """Input and output of a module, kept where lifted transformations take them along."""


@dataclass(frozen=True)
class _Module(Architecture):
    """A module without its parameters; equal for models of one architecture."""

    graph: Static

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], every: Every) -> ForwardPass:
        """As `Architecture` says."""
        module = nnx.merge(self.graph.value, params)  # a module of this call alone
        if every is not None:
            wanted = _is_dense if every == "dense" else _is_layer
            nodes = {path: node for path, node in _modules(module) if path and wanted(node)}
        else:
            nodes = {path: _at(module, path) for path in paths}
        for node in {id(node): node for node in nodes.values()}.values():
            kind: Any = type(node)
            object.__setattr__(node, "__class__", _watched(kind))
        statistics = _statistics(module)
        output = call_model(module, type(module).__call__, inputs)
        alone = len(jax.tree.leaves(inputs)[0]) == 1  # no other example could show it
        if alone and any(now is not statistics[path] for path, now in _statistics(module).items()):
            raise training(f"it writes to {', '.join(statistics)}")
        seen = {path: getattr(node, _MARK, None) for path, node in nodes.items()}
        for path in paths:
            if seen[path] is None:
                raise InputError(f"layer {path!r} takes no part in the model's output")
        passed = {path: one.get_value() for path, one in seen.items() if one is not None}
        return ForwardPass(output, {path: Call(*one) for path, one in passed.items()})


@dataclass(frozen=True)
class _ZooApply:
    body: Apply

    def __call__(self, params: Any, inputs: Any) -> dict[str, Any]:
        return self.body(params["weights"], _normalised(params, inputs))

    @property
    def layers(self) -> tuple[str, ...]:
        return self.body.layers

    def all_named(self, params: Any, inputs: Any) -> _ZooApply:
        images = jax.eval_shape(_normalised, params, inputs)
        return _ZooApply(self.body.all_named(params["weights"], images))


def _normalised(params: Any, inputs: Any) -> jax.Array:
    from jaxte.zoo.network import normalise

    return normalise(inputs, params["mean"], params["std"])


def from_nnx(module: nnx.Module, request: Request) -> Model:
    """A model of a module, which stays as it is."""
    copy = nnx.clone(module)
    copy.eval()
    _restart(copy)
    graph, params = nnx.split(copy)
    layers = request.layers or (PENULTIMATE,)
    for layer, _ in map(split_layer, layers):
        if layer not in NAMED:
            _at(copy, layer)  # or an error, before any work
    apply = Apply.of(_Module(Static(graph)), layers, request)
    name, source, architecture = type(module).__name__, qualified_name(module), _architecture(copy)
    return request.model(apply, params, name, "nnx", source, layers, architecture=architecture)


def from_encoder(module: Any, request: Request) -> Model:
    """An encoder of the zoo, which normalises by itself; images of any size come to its own."""
    if request.prepare is None:
        images = Images(size=module.size, interpolation="bilinear", scale=1.0)
        request = request._replace(prepare=images)
    return from_nnx(module, request._replace(name=request.name or module.name))


def from_zoo(model: Any, request: Request) -> Model:
    """A model of the zoo, which normalises by itself."""
    if request.prepare is None:
        request = request._replace(prepare=zoo_images)
    layers, card = request.layers or (PENULTIMATE,), model.card
    apply = _ZooApply(Apply.of(_Module(Static(model._graphdef)), layers, request))
    normal = {key: np.asarray(card["normalisation"][key], np.float32) for key in ("mean", "std")}
    params, kind = {"weights": model._params, **normal}, card["architecture"]
    return request.model(apply, params, model.name, "zoo", model.name, layers, architecture=kind)


# --- modules and their paths ---------------------------------------------------------------------

_MARK = "jaxte_recorded"

_is_dense: Callable[[Any], bool] = of_type((nnx.Linear, nnx.LinearGeneral), nnx.Conv)


def _is_layer(module: Any) -> bool:
    return callable(module) and is_feature(module)


def _modules(module: nnx.Module) -> Iterator[tuple[str, Any]]:
    for path, node in nnx.iter_modules(module):
        yield "/".join(map(str, path)), node


def _statistics(module: nnx.Module) -> dict[str, Any]:
    """Path -> value of the batch statistics."""
    return {
        "/".join(map(str, path)): node.get_value()
        for path, node in nnx.iter_graph(module)
        if isinstance(node, nnx.BatchStat)
    }


def _at(module: nnx.Module, path: str) -> Any:
    """The module at a path."""
    node: Any = module
    for part in path.split("/"):
        try:
            if isinstance(node, nnx.Module) and not part.lstrip("-").isdecimal():
                node = getattr(node, part)
            else:
                node = node[int(part) if part.lstrip("-").isdecimal() else part]
        except (AttributeError, LookupError, TypeError):
            node = None
        if node is None:
            break
    if not isinstance(node, nnx.Module) or not callable(node):
        raise unknown_layer(path, (name for name, one in _modules(module) if callable(one)))
    return node


@functools.lru_cache(maxsize=256)
def _watched(kind: Any) -> Any:
    """The class with a call that records its input and output."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        first = args[0] if args else next(iter(kwargs.values()), None)
        first = first if hasattr(first, "shape") else None
        setattr(self, _MARK, _Recorded((first, output)))
        return output

    body = {"__call__": functools.wraps(kind.__call__)(call), "__module__": kind.__module__}
    return type(kind)(kind.__name__, (kind,), body)


def _restart(module: nnx.Module) -> None:
    """Random streams begin at one place: in inference nothing is drawn, and params stay equal."""
    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.RngCount):
            node.set_value(jnp.zeros_like(node.get_value()))
        elif isinstance(node, nnx.RngKey):
            key = node.get_value()
            data = jnp.zeros_like(jax.random.key_data(key))
            node.set_value(jax.random.wrap_key_data(data, impl=jax.random.key_impl(key)))


def _architecture(module: nnx.Module) -> str:
    """Digest of what the parameters do not tell: classes and settings (heads, strides)."""
    digest = hashlib.sha256()
    for path, node in sorted(_modules(module), key=lambda one: one[0]):
        digest.update(f"\n{path} {type(node).__qualname__}".encode())
        for name, value in sorted(vars(node).items()):
            if not name.startswith("_") and _is_setting(value):
                digest.update(f" {name}={value!r}".encode())
    return digest.hexdigest()[:16]


def _is_setting(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_setting, value))
    return value is None or isinstance(value, bool | int | float | str)
