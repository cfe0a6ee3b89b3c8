"""Layers of Flax models: which of them is meant, and which dense layer is the head."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxte.errors import InputError, did_you_mean
from jaxte.extraction._all_layers import distinct
from jaxte.extraction._arrays import at_least_float32, cast, positions
from jaxte.extraction._model import Request
from jaxte.extraction._outputs import (
    LOGITS,
    NAMED,
    channels_last,
    head_output,
    layers_of,
    places,
    sole,
    split_layer,
)
from jaxte.extraction.pooling import Pool, features

__all__ = ["Apply", "Architecture", "Call", "Every", "ForwardPass", "of_type", "unknown_layer"]

Every: TypeAlias = Literal["dense", "all"] | None

# What may lie between the last dense layer and the output without making it another array.
_SHAPING = {"reshape", "squeeze", "convert_element_type", "copy", "copy_p", "sharding_constraint"}
# Equations that are a program of their own, whose results are theirs.
_WITHIN = {"checkpoint", "remat", "remat2", "jit", "pjit", "closed_call"}
_ROWS = 61  # of the batch by which layers are told: a prime, which other axes will hardly have


class Call(NamedTuple):
    """Input and output of a module."""

    input: Any
    output: Any


class ForwardPass(NamedTuple):
    """What a model returned, and the calls of the modules that were watched, by path."""

    output: Any
    calls: Mapping[str, Call]


class Architecture:
    """A model without its parameters; equal ones give the same program."""

    channels_first: ClassVar[bool] = False  # whether it takes images [b, c, h, w]

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], every: Every) -> ForwardPass:
        """One forward pass in inference mode.

        Args:
            params: of the model.
            inputs: of a batch.
            paths: of modules to be watched.
            every: "dense" watches all dense layers instead, "all" whatever may be a layer.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Apply:
    """What a `Model` of a network applies; equal for models of one architecture."""

    network: Architecture
    layers: tuple[str, ...]
    pool: Pool
    level: str
    compute_dtype: str | None
    layout: str | None

    @staticmethod
    def of(network: Architecture, layers: tuple[str, ...], request: Request) -> Apply:
        """As it was asked for."""
        options = (request.pool, request.level, request.compute_dtype, request.layout)
        return Apply(network, layers, *options)

    def __call__(self, params: Any, inputs: Any) -> dict[str, Any]:
        """The layers of a batch."""
        arrays = self._select(*cast((params, inputs), self.compute_dtype))
        where = positions(inputs, self.network.channels_first)
        return features(arrays, self.layers, self.pool, self.level, where)

    def all_named(self, params: Any, inputs: Any) -> Apply:
        """The same with all layers by name, as inputs of these shapes show them."""
        leaves, structure = _abstract((params, inputs))
        within = None if self.level == "example" else self.layout == "NCHW"
        return replace(self, layers=_all_layers(self.network, structure, leaves, within))

    def _select(self, params: Any, inputs: Any) -> dict[str, Any]:
        """The layers of one forward pass, and "logits" if the model has a head."""
        layers, head = self.layers, _head_for(self.network, params, inputs)
        paths = {split_layer(name)[0] for name in layers} - set(NAMED)
        watched = sorted(paths | ({head} if head else set()))
        output, calls = self.network.watch(params, inputs, watched, None)
        outputs = {path: calls[path].output for path in paths}
        arrays = layers_of(layers, output, None if head is None else calls[head], outputs)
        arrays = {name: at_least_float32(x) for name, x in arrays.items()}
        arrays |= {name: channels_last(arrays[name], self.layout, name) for name in layers}
        if LOGITS in arrays and LOGITS not in layers and arrays[LOGITS].ndim > 2:
            logits = arrays.pop(LOGITS)
            if logits.size == len(logits) * logits.shape[-1]:  # [b, 1, 1, s] of a 1x1 convolution
                arrays[LOGITS] = logits.reshape(len(logits), -1)
        return arrays


def unknown_layer(layer: str, paths: Iterable[str]) -> InputError:
    """The error for a layer that there is not; it names those that may have been meant."""
    names = [path for path in paths if path]
    hint = did_you_mean(layer, names)
    listed = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    return InputError(f"there is no layer {layer!r}: {hint}The layers are {listed or 'none'}")


def _head_for(network: Architecture, params: Any, inputs: Any) -> str | None:
    """The path of the head for inputs of these shapes, determined once."""
    leaves, structure = _abstract((params, inputs))
    return _head(network, structure, leaves)


def _abstract(tree: Any) -> tuple[tuple[Any, ...], Any]:
    """Shapes and types of the leaves, and the structure."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = (leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in leaves)
    return tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays), structure


class _Program(NamedTuple):
    """A forward pass as JAX traced it, of which the arrays are variables.

    Attributes:
        jaxpr: the program.
        calls: of the modules that were watched and gave one array, by path.
        output: of the model; None where that is several arrays.
    """

    jaxpr: Any
    calls: dict[str, Call]
    output: Any


def _traced(
    network: Architecture, structure: Any, shapes: Any, every: Every, paths: Sequence[str] = ()
) -> _Program:
    """Trace a forward pass, with what `Architecture.watch` takes."""
    names: list[str] = []

    def run(leaves: Any) -> Any:
        params, inputs = jax.tree.unflatten(structure, leaves)
        output, calls = network.watch(params, inputs, paths, every)
        single = {name: Call(one.input, sole(one.output)) for name, one in calls.items()}
        single = {name: one for name, one in single.items() if one.output is not None}
        names[:] = single
        return list(single.values()), head_output(output)

    jaxpr, tree = jax.make_jaxpr(run, return_shape=True)(shapes)
    variables = iter(jaxpr.jaxpr.outvars)
    calls, output = jax.tree.map(lambda _: next(variables), tree)
    return _Program(jaxpr.jaxpr, dict(zip(names, calls, strict=True)), output)


@functools.lru_cache(maxsize=64)
def _head(network: Architecture, structure: Any, shapes: tuple[Any, ...]) -> str | None:
    """The last dense layer whose output is the output of the model, seen in its program."""
    program = _traced(network, structure, shapes, "dense")
    if program.output is None:
        return None
    made_by = {var: one for one in program.jaxpr.eqns for var in one.outvars}
    same = [program.output]
    while same[-1] in made_by and made_by[same[-1]].primitive.name in _SHAPING:
        same.append(made_by[same[-1]].invars[0])
    for name, call in reversed(program.calls.items()):
        if any(call.output is one for one in same):
            return name
    return None


@functools.lru_cache(maxsize=64)
def _all_layers(
    network: Architecture, structure: Any, shapes: tuple[Any, ...], channels_first: bool | None
) -> tuple[str, ...]:
    """The layers before the head, in the order of the forward pass.

    ``channels_first`` is None unless only those with the places of the last one are wanted.
    """
    params, inputs = jax.tree.unflatten(structure, shapes)
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((_ROWS, *x.shape[1:]), x.dtype), inputs)
    shapes, structure = _abstract((params, inputs))
    head = _head(network, structure, shapes)
    program = _traced(network, structure, shapes, "all", () if head is None else (head,))
    origin_of = _Origins(program.jaxpr)
    last = program.output if head is None else program.calls[head].input
    end = None if head is None else origin_of(program.output)
    layers = []
    for name, (before, x) in program.calls.items():
        origin = origin_of(x)
        new = origin != () and (before is None or origin != origin_of(before))
        if not new or not (end is None or origin < end):
            continue
        if x.aval.shape[:1] != (_ROWS,) or not jnp.issubdtype(x.aval.dtype, jnp.floating):
            continue
        if channels_first is not None and last is not None:
            one, other = (places(array.aval.shape, channels_first) for array in (x, last))
            if one != other:
                continue
        layers.append((origin, name))
    identity = None if last is None else origin_of(last)
    return distinct([(name, origin) for origin, name in sorted(layers)], identity)


class _Origins:
    """Where in a program arrays are made."""

    def __init__(self, jaxpr: Any) -> None:
        self._made = {
            id(var): (number, index, one)
            for number, one in enumerate(jaxpr.eqns)
            for index, var in enumerate(one.outvars)
        }
        self._within: dict[int, _Origins] = {}

    def __call__(self, var: Any) -> tuple[int, ...]:
        """The place, equal for the same array and ordered by time; () of an input."""
        if id(var) not in self._made:
            return ()
        number, index, one = self._made[id(var)]
        name, inner = one.primitive.name, one.params.get("jaxpr")
        if name in _SHAPING and _sizes(one.invars[0]) == _sizes(var):
            return self(one.invars[0])
        if name not in _WITHIN or inner is None:
            return (number, index)
        inner = getattr(inner, "jaxpr", inner)
        result = inner.outvars[index]
        for outer, x in zip(one.invars, inner.invars, strict=True):
            if x is result:
                return self(outer)
        if number not in self._within:
            self._within[number] = _Origins(inner)
        return (number, *self._within[number](result))


def _sizes(var: Any) -> tuple[int, ...]:
    return tuple(size for size in var.aval.shape if size != 1)


def of_type(classes: tuple[type, ...], convolution: type) -> Callable[[Any], bool]:
    """Whether a module is a dense layer: of these classes, or a convolution of one pixel."""

    def is_dense(module: Any) -> bool:
        if isinstance(module, convolution):
            kernel = getattr(module, "kernel_size", ())
            return all(size == 1 for size in ((kernel,) if isinstance(kernel, int) else kernel))
        return isinstance(module, classes)

    return is_dense
