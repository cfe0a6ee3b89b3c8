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
from jaxte.extraction._arrays import called
from jaxte.extraction._evaluation import training
from jaxte.extraction._layers import Apply, Network, Seen, Watched, of_type, unknown
from jaxte.extraction._model import Model, Request, Static, qualified
from jaxte.extraction._outputs import NAMED, PENULTIMATE, split
from jaxte.extraction.preprocess import zoo_images

__all__ = ["from_nnx", "from_zoo"]


class _Passed(nnx.Variable[Any]):
    """What went through a module, kept where lifted transformations take it along."""


@dataclass(frozen=True)
class _Module(Network):
    """A module without its parameters; equal for models of one architecture."""

    graph: Static

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], dense: bool) -> Watched:
        """As `Network` says."""
        module = nnx.merge(self.graph.value, params)  # nobody else has this one
        if dense:
            nodes = {path: node for path, node in _modules(module) if path and _is_dense(node)}
        else:
            nodes = {path: _at(module, path) for path in paths}
        for node in {id(node): node for node in nodes.values()}.values():
            kind: Any = type(node)
            object.__setattr__(node, "__class__", _watched(kind))
        statistics = _statistics(module)
        output = called(module, type(module).__call__, inputs)
        alone = len(jax.tree.leaves(inputs)[0]) == 1  # no other example could show it
        if alone and any(now is not statistics[path] for path, now in _statistics(module).items()):
            raise training(f"it writes to {', '.join(statistics)}")
        seen = {path: getattr(node, _MARK, None) for path, node in nodes.items()}
        for path in paths:
            if seen[path] is None:
                raise InputError(f"layer {path!r} takes no part in the model's output")
        passed = {path: one.get_value() for path, one in seen.items() if one is not None}
        return Watched(output, {path: Seen(*one) for path, one in passed.items()})


@dataclass(frozen=True)
class _ZooApply:
    body: Apply

    def __call__(self, params: Any, inputs: Any) -> dict[str, Any]:
        from jaxte.zoo.network import normalise

        images = normalise(inputs, params["mean"], params["std"])
        return self.body(params["weights"], images)


def from_nnx(given: nnx.Module, request: Request) -> Model:
    """A model of a module, which stays as it is."""
    copy = nnx.clone(given)
    copy.eval()
    _restart(copy)
    network = _Module(Static(nnx.split(copy)[0]))
    params = nnx.split(copy)[1]
    layers = request.layers or (PENULTIMATE,)
    for layer, _ in map(split, layers):
        if layer not in NAMED:
            _at(copy, layer)  # or an error, before any work
    return Model(
        name=request.name or type(given).__name__,
        apply=Apply.of(network, layers, request),
        layers=layers,
        params=params,
        prepare=request.prepare,
        card=request.card("nnx", qualified(given), layers, architecture=_architecture(copy)),
        level=request.level,
    )


def from_zoo(given: Any, request: Request) -> Model:
    """A model of the zoo, which normalises by itself."""
    if request.prepare is None:
        request = request._replace(prepare=zoo_images)
    layers = request.layers or (PENULTIMATE,)
    network = _Module(Static(given._graphdef))
    body = Apply.of(network, layers, request)
    normal = {
        key: np.asarray(given.card["normalisation"][key], np.float32) for key in ("mean", "std")
    }
    return Model(
        name=request.name or given.name,
        apply=_ZooApply(body),
        layers=layers,
        params={"weights": given._params, **normal},
        prepare=request.prepare,
        card=request.card("zoo", given.name, layers, architecture=given.card["architecture"]),
        level=request.level,
    )


# --- modules and their paths ---------------------------------------------------------------------

_MARK = "jaxte_passed"

_is_dense: Callable[[Any], bool] = of_type((nnx.Linear, nnx.LinearGeneral), nnx.Conv)


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
    """The module at a path.

    Raises:
        InputError: lists the paths that there are.
    """
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
        raise unknown(path, (name for name, found in _modules(module) if callable(found)))
    return node


@functools.lru_cache(maxsize=256)
def _watched(kind: Any) -> Any:
    """The class with a call that leaves a note of what went through."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        taken = args[0] if args else next(iter(kwargs.values()), None)
        taken = taken if hasattr(taken, "shape") else None
        setattr(self, _MARK, _Passed((taken, output)))
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
    found = hashlib.sha256()
    for path, node in sorted(_modules(module), key=lambda one: one[0]):
        found.update(f"\n{path} {type(node).__qualname__}".encode())
        for name, value in sorted(vars(node).items()):
            if not name.startswith("_") and _is_setting(value):
                found.update(f" {name}={value!r}".encode())
    return found.hexdigest()[:16]


def _is_setting(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_setting, value))
    return value is None or isinstance(value, bool | int | float | str)
