"""Torch modules, run as they are outside of JAX; hooks and modes are put back after each batch."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError, said
from jaxte.extraction._all_layers import with_rows
from jaxte.extraction._arrays import call_model, positions, to_numpy
from jaxte.extraction._evaluation import training
from jaxte.extraction._layers import of_type, unknown_layer
from jaxte.extraction._model import Model, Request, qualified_name, structure_digest
from jaxte.extraction._outputs import (
    LOGITS,
    NAMED,
    PENULTIMATE,
    channels_last,
    head_output,
    layers_of,
    places,
    sole,
    split_layer,
)
from jaxte.extraction._torch_layers import ROWS, layer_names, watched_all
from jaxte.extraction.pooling import Positions, features
from jaxte.extraction.preprocess import channels_first

__all__ = ["Call", "Runner", "from_torch", "model_of", "watched"]

_CHANNELS = (1, 3, 4)  # of images
_HALVES = ("bfloat16", "float16")
_LOCK = threading.RLock()  # of modes and hooks, which belong to the modules


class Runner:
    """One torch model at work.

    Args:
        module: the model.
        layers: that are wanted.
        request: how they are wanted.
    """

    # names of layers that are no paths
    named: tuple[str, ...] = NAMED

    def __init__(self, module: Any, layers: Sequence[str], request: Request) -> None:
        self.module, self.layers, self.request = module, tuple(layers), request
        bases = dict.fromkeys(split_layer(name)[0] for name in layers)
        self.paths = {name: self._module_at(name) for name in bases if not self.is_named(name)}
        self._unchecked = True
        self._format = getattr(module, "output_fmt", None)
        self._heads: dict[tuple[str, ...], str | None] = {}  # by the names of inputs
        kinds = {str(p.dtype) for p in module.parameters() if p.is_floating_point()}
        dtype = request.compute_dtype
        if dtype not in (None, *_HALVES) and kinds - {f"torch.{dtype}"}:
            raise InputError(
                f"{type(module).__name__} has parameters of {', '.join(sorted(kinds))}: on demand "
                f"torch models compute in 'bfloat16' or 'float16'; for {dtype} convert the model"
            )

    def __call__(self, params: Any, inputs: Any) -> dict[str, np.ndarray]:
        """The layers of a batch; the parameters are the model's own."""
        running = _inference(self.module, self.request.compute_dtype)
        with _LOCK, _layout_named(inputs), running as device:
            inputs = self._on_device(self.trimmed(inputs), device)
            with _unchanged(self.module) if self._unchecked else nullcontext():
                arrays = self.collect(inputs)
            self._unchecked = False
            out = self._features(arrays, self.layers, positions(inputs, channels_first=True))
            return {name: to_numpy(x) for name, x in out.items()}

    def all_named(self, params: Any, inputs: Any) -> Runner:
        """The same with all layers by name, as a few rows of the inputs show them."""
        torch, running = _torch(), _inference(self.module, self.request.compute_dtype)
        with _LOCK, _layout_named(inputs), running as device:
            inputs = self._on_device(self.trimmed(with_rows(inputs, ROWS)), device)
            # tensors made in inference mode do not tell when they were written over
            with torch.inference_mode(False), torch.no_grad(), _unchanged(self.module):
                layers = self.layer_names(_copied(inputs))
        return type(self)(self.module, layers, self.request)

    # --- what kinds of models differ in ----------------------------------------------------------

    def is_named(self, layer: str) -> bool:
        """Whether a layer has a name that is no path."""
        return layer in self.named

    def trimmed(self, inputs: Any) -> Any:
        """Without what no layer needs."""
        return inputs

    def forward(self, inputs: Any) -> Any:
        """The model's output."""
        return call_model(self.module, self.module.forward, inputs)

    def collect(self, inputs: Any) -> dict[str, Any]:
        """The layers that are wanted, and "logits" if the model has a head; channels last."""
        head = self.head(inputs)
        with self.watched(inputs, {} if head is None else {PENULTIMATE: head}) as calls:
            output = self.forward(inputs)
        head_output = None if head is None else calls.pop(PENULTIMATE)
        return self.select(output, head_output, {name: one.output for name, one in calls.items()})

    def select(self, output: Any, head: Call | None, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """The layers that are wanted, channels last, and logits; outputs of modules by name."""
        arrays = layers_of(self.layers, output, head and (head.input, head.output), outputs)
        layers = {n: channels_last(arrays[n], self.layout(n), n) for n in self.layers}
        if LOGITS in arrays and LOGITS not in layers:
            logits = channels_last(arrays[LOGITS], self.layout(LOGITS), LOGITS)
            if logits.numel() == len(logits) * logits.shape[-1]:
                layers[LOGITS] = logits.reshape(len(logits), -1)
        return layers

    def layout(self, name: str) -> str | None:
        """Of a layer, if it is not that of the framework; some models of timm have another."""
        return self.request.layout or ("NHWC" if self._format == "NHWC" else None)

    def layer_names(self, inputs: Any) -> tuple[str, ...]:
        """All layers, of inputs outside of inference mode."""
        head = self.head(inputs)
        with watched_all(self.module) as seen:
            output = self.forward(inputs)
        names = (name for name, one in self.module.named_modules() if one is head)
        end = next(names, "").replace(".", "/") or None
        return layer_names(seen, head_output(output), end, self.places)

    def places(self, x: Any) -> Any:
        """What layers of other levels than "example" have to share with the last one."""
        if self.request.level == "example":
            return None
        return places(x.shape, self.layout("") != "NHWC")

    # --- all -------------------------------------------------------------------------------------

    def watched(self, inputs: Any, more: Mapping[str, Any]) -> Any:
        """`watched` of the layers and more modules; outputs that may become vectors do at once."""
        where = positions(inputs, channels_first=True)

        parted = {base for base, part in map(split_layer, self.layers) if part}

        def vectors(name: str, output: Any) -> Any:
            output = sole(output) if name in self.paths and name not in parted else None
            if output is None or self.request.level != "example":
                return None
            arrays = {name: channels_last(output, self.layout(name), name)}
            x = self._features(arrays, (name,), where)[name]
            return x.clone() if hasattr(x, "clone") else np.array(x)

        return watched({**self.paths, **more}, vectors)

    def _features(
        self, arrays: Mapping[str, Any], layers: Sequence[str], where: Positions
    ) -> dict[str, Any]:
        arrays = {name: _wide(x) for name, x in arrays.items()}
        if callable(self.request.pool):
            arrays = {name: to_numpy(x) for name, x in arrays.items()}
            mask, first = (None if x is None else to_numpy(x) for x in (where.mask, where.first))
            where = Positions(mask, first, where.size)
        return features(arrays, layers, self.request.pool, self.request.level, where)

    def head(self, inputs: Any) -> Any:
        """The last dense layer whose output is the output of the model, determined once."""
        key = tuple(inputs) if isinstance(inputs, Mapping) else ()
        if key not in self._heads:
            dense = {name: one for name, one in self.module.named_modules() if _dense()(one)}
            with watched(dense) as calls:
                output = head_output(self.forward(_first(inputs)))
            same = [name for name, call in calls.items() if _is_same(output, call)]
            self._heads[key] = same[-1] if same else None
        name = self._heads[key]
        return None if name is None else self.module.get_submodule(name)

    def _module_at(self, path: str) -> Any:
        try:
            return self.module.get_submodule(path.replace("/", "."))
        except AttributeError:
            paths = (name.replace(".", "/") for name, _ in self.module.named_modules())
            raise unknown_layer(path, paths) from None

    def _on_device(self, inputs: Any, device: Any) -> Any:
        if isinstance(inputs, Mapping):
            return {name: self._on_device(x, device) for name, x in inputs.items()}
        if isinstance(inputs, tuple | list):
            return tuple(self._on_device(x, device) for x in inputs)
        torch, array = _torch(), np.ascontiguousarray(to_numpy(inputs))
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        if tensor.is_floating_point():
            kinds = (p.dtype for p in self.module.parameters() if p.is_floating_point())
            tensor = tensor.to(next(kinds, tensor.dtype))
        elif tensor.dtype in (torch.int32, torch.int16):
            tensor = tensor.long()
        return tensor.to(device)


def from_torch(module: Any, request: Request) -> Model:
    """A model of any torch module, for inputs as it takes them."""
    request = request._replace(prepare=channels_first(request.prepare))
    layers = request.layers or (PENULTIMATE,)
    runner = Runner(module, layers, request)
    return model_of(module, runner, request, "torch", qualified_name(module))


def model_of(
    module: Any, runner: Runner, request: Request, kind: str, source: str, **more: Any
) -> Model:
    """A `Model` that a runner runs."""
    name, params = type(module).__name__, dict(module.state_dict())
    digest = structure_digest(module)
    return request.model(
        runner, params, name, kind, source, runner.layers, False, architecture=digest, **more
    )


class Call(NamedTuple):
    """The last call of a module.

    Attributes:
        input: the first one.
        output: copied, as modules behind it may write over a tensor.
        original: the output itself.
    """

    input: Any
    output: Any
    original: Any


@contextmanager
def watched(
    modules: Mapping[str, Any], vectors: Callable[[str, Any], Any] = lambda name, output: None
) -> Iterator[dict[str, Call]]:
    """What goes through modules, by name, in the order of their last calls.

    Args:
        modules: by name.
        vectors: of an output by name, which then is all that is kept of a call; None keeps it all.
    """
    seen: dict[str, Call] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen.pop(name, None)
            first = args[0] if args else next(iter(kwargs.values()), None)
            pooled = vectors(name, output)
            if pooled is None:
                seen[name] = Call(first, _copied(output), output)
            else:
                seen[name] = Call(None, pooled, None)

        return hook

    hooks = [one.register_forward_hook(watch(n), with_kwargs=True) for n, one in modules.items()]
    try:
        yield seen
    finally:
        for one in hooks:
            one.remove()


@contextmanager
def _unchanged(module: Any) -> Iterator[None]:
    """Buffers are put back, and that they were changed is an error."""
    before = {name: x.clone() for name, x in module.named_buffers()}
    changed = []
    try:
        yield
    finally:
        for name, x in module.named_buffers():
            was = before.get(name)
            if was is not None and was.shape == x.shape and not bool((was == x).all()):
                if not bool(was.isnan().any()):
                    changed.append(name)
                x.copy_(was)
    if changed:
        raise training(f"it writes to {', '.join(changed[:5])}")


@contextmanager
def _layout_named(inputs: Any) -> Iterator[None]:
    """Where a model fails on images with channels last, that is the likely reason."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # as torch has it, of sizes that do not fit
        for shape in (np.shape(leaf) for leaf in jax.tree.leaves(inputs)):
            if len(shape) == 4 and shape[-1] in _CHANNELS and shape[1] not in _CHANNELS:
                raise InputError(
                    f"the images {list(shape)} have their channels last (NHWC), but torch models "
                    "expect them first (NCHW): give images.transpose(0, 3, 1, 2) "
                    f"({said(error)})"
                ) from error
        raise


@contextmanager
def _inference(module: Any, compute_dtype: str | None) -> Iterator[Any]:
    """Nothing is learnt or dropped meanwhile; yields the device of the model."""
    torch = _torch()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    training = [one for one in module.modules() if one.training]
    for one in training:
        one.training = False
    half = getattr(torch, compute_dtype) if compute_dtype in _HALVES else None
    try:
        with torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
            yield device
    finally:
        for one in training:
            one.training = True


def _copied(output: Any) -> Any:
    """A copy of the tensors of an output, in lists and such, too."""
    if hasattr(output, "clone"):
        return output.clone()
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        return tuple(map(_copied, output))
    if type(output) is list:
        return list(map(_copied, output))
    if type(output) is dict:
        return {name: _copied(x) for name, x in output.items()}
    return output


def _torch() -> Any:
    return require("torch", "a torch model", "hf")


@functools.cache
def _dense() -> Callable[[Any], bool]:
    return of_type((_torch().nn.Linear,), _torch().nn.Conv2d)


def _wide(x: Any) -> Any:
    return x.float() if hasattr(x, "float") and x.dtype != _torch().float64 else x


def _first(inputs: Any) -> Any:
    """The first rows of a batch: of one alone some layers cannot normalise."""
    if isinstance(inputs, Mapping):
        return {name: x[:2] for name, x in inputs.items()}
    return tuple(x[:2] for x in inputs) if isinstance(inputs, tuple) else inputs[:2]


def _is_same(output: Any, call: Call) -> bool:
    """Whether an output is that of a module, maybe of another shape, and not written over."""
    original = call.original
    if not hasattr(output, "data_ptr") or output.numel() != original.numel():
        return False
    same = output is original or output.data_ptr() == original.data_ptr()
    return bool(same and (output.reshape(-1) == call.output.reshape(-1)).all())
