"""Layers of Flax models: which of them is meant, and which dense layer is the head."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax

from jaxte.errors import InputError
from jaxte.extraction._arrays import at_least_float32, cast, positions
from jaxte.extraction._model import Request
from jaxte.extraction._outputs import (
    LOGITS,
    NAMED,
    channels_last,
    head_output,
    layers_of,
    split_layer,
)
from jaxte.extraction.pooling import Pool, features

__all__ = ["Apply", "Call", "ForwardPass", "Network", "of_type", "unknown_layer"]

# What may lie between the last dense layer and the output without making it another array.
_SHAPING = {"reshape", "squeeze", "convert_element_type", "copy", "copy_p", "sharding_constraint"}


class Call(NamedTuple):
    """Input and output of a module."""

    input: Any
    output: Any


class ForwardPass(NamedTuple):
    """What a model returned, and the calls of the modules that were watched, by path."""

    output: Any
    calls: Mapping[str, Call]


class Network:
    """A model without its parameters; equal ones give the same program."""

    channels_first: ClassVar[bool] = False  # whether it takes images [b, c, h, w]

    def watch(self, params: Any, inputs: Any, paths: Sequence[str], dense: bool) -> ForwardPass:
        """One forward pass in inference mode.

        Args:
            params: of the model.
            inputs: of a batch.
            paths: of modules to be watched.
            dense: whether to watch all dense layers instead.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Apply:
    """What a `Model` of a network applies; equal for models of one architecture."""

    network: Network
    layers: tuple[str, ...]
    pool: Pool
    level: str
    compute_dtype: str | None
    layout: str | None

    @staticmethod
    def of(network: Network, layers: tuple[str, ...], request: Request) -> Apply:
        """As it was asked for."""
        options = (request.pool, request.level, request.compute_dtype, request.layout)
        return Apply(network, layers, *options)

    def __call__(self, params: Any, inputs: Any) -> dict[str, Any]:
        """The layers of a batch."""
        arrays = self._select(*cast((params, inputs), self.compute_dtype))
        where = positions(inputs, self.network.channels_first)
        return features(arrays, self.layers, self.pool, self.level, where)

    def _select(self, params: Any, inputs: Any) -> dict[str, Any]:
        """The layers of one forward pass, and "logits" if the model has a head."""
        layers, head = self.layers, _head_for(self.network, params, inputs)
        paths = {split_layer(name)[0] for name in layers} - set(NAMED)
        watched = sorted(paths | ({head} if head else set()))
        output, calls = self.network.watch(params, inputs, watched, False)
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
    near = difflib.get_close_matches(layer, names, 3, 0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    listed = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    return InputError(f"there is no layer {layer!r}: {hint}The layers are {listed or 'none'}")


def _head_for(network: Network, params: Any, inputs: Any) -> str | None:
    """The path of the head for inputs of these shapes, determined once."""
    leaves, structure = jax.tree.flatten((params, inputs))
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in map(_array, leaves))
    return _head(network, structure, shapes)


def _array(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "dtype") else jax.numpy.asarray(leaf)


@functools.lru_cache(maxsize=64)
def _head(network: Network, structure: Any, shapes: tuple[Any, ...]) -> str | None:
    """The last dense layer whose output is the output of the model, seen in its program."""
    names: list[str] = []

    def run(leaves: Any) -> Any:
        params, inputs = jax.tree.unflatten(structure, leaves)
        output, calls = network.watch(params, inputs, (), True)
        names[:] = calls
        return head_output(output), [call.output for call in calls.values()]

    program: Any = jax.make_jaxpr(run)(shapes).jaxpr
    if len(program.outvars) == len(names):  # the output is several arrays
        return None
    output, *dense = program.outvars
    made_by = {var: one for one in program.eqns for var in one.outvars}
    same = [output]
    while same[-1] in made_by and made_by[same[-1]].primitive.name in _SHAPING:
        same.append(made_by[same[-1]].invars[0])
    for name, var in reversed(list(zip(names, dense, strict=True))):
        if any(var is one for one in same):
            return name
    return None


def of_type(classes: tuple[type, ...], convolution: type) -> Callable[[Any], bool]:
    """Whether a module is a dense layer: of these classes, or a convolution of one pixel."""

    def is_dense(module: Any) -> bool:
        if isinstance(module, convolution):
            kernel = getattr(module, "kernel_size", ())
            return all(size == 1 for size in ((kernel,) if isinstance(kernel, int) else kernel))
        return isinstance(module, classes)

    return is_dense
