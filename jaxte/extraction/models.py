"""Models in: whatever turns inputs into features, as one kind of thing that `extract` can run."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxte._optional import is_a
from jaxte.errors import InputError
from jaxte.extraction._evaluation import reordered
from jaxte.extraction._functions import from_function
from jaxte.extraction._model import Model, Prepare, Request, describe_preprocessing, fingerprint
from jaxte.extraction._outputs import ALL, LAYOUTS
from jaxte.extraction._texts import is_tokenizer, texts_of
from jaxte.extraction.pooling import Pool, check_pool
from jaxte.extraction.preprocess import Images, Processed, is_processor
from jaxte.intake.checks import choose

__all__ = ["COMPUTE_TYPES", "Model", "as_model", "check_spec", "fingerprint", "log", "resolve"]
__all__ += ["resolve_traced", "settled"]

log = logging.getLogger("jaxte")

COMPUTE_TYPES = ("bfloat16", "float16", "float32")


def as_model(
    model: Any,
    *,
    layers: str | int | Sequence[str | int] | None = None,
    pool: Pool = "mean",
    name: str | None = None,
    variables: Any = None,
    prepare: Prepare | Mapping[str, Any] | Any = None,
    level: str = "example",
    compute_dtype: str | None = None,
    max_length: int | None = None,
    traced: bool | None = None,
    layout: str | None = None,
) -> Model:
    """One kind of model of whatever gives features, which is never changed itself.

    A layer is named by the path of a module ("blocks/11", numbers count in lists), whose output
    it is, that of the last call if there are several. Beside these:

    * "penultimate": the input of the last dense layer (or 1x1 convolution) whose output is the
      model's output; the output itself where there is none. The default, except for texts.
    * "logits": that output. Kept beside the features anyway, where there is a head.
    * "output": what the model returns.
    * "hidden/i": state i of a transformers model, from 0 (embeddings), or block i of a timm model;
      -1 is the last; i alone means the same.
    * "last_hidden_state" (the default for texts), "pooler_output": of a transformers model.
    * "all", alone: every module whose output is an array of floats with a row of each example, in
      the order of the forward pass, "penultimate" last; of a transformers model its hidden states.
      Of modules that give the same array the outermost counts, of several calls the last. Left
      out are heads, weights of attention, instance normalisation (whose means are rounding
      errors) and, at other levels than "example", what has other places than the last layer. The
      first batch shows which they are: until then the layers of the model are ("all",).

    Where a model or a module returns several arrays, "[...]" picks one: "output[0]",
    ``"blocks/3[1][logits]"``. Of models with an encoder and a decoder the encoder is run, of those
    of images and texts (CLIP, SigLIP) what fits the data.

    Features come back as float32, whatever the model computes in (float64 as that).

    Args:
        model: a function inputs -> features, or -> a dict of them (``layers`` are its keys, and
            "logits"); a Flax nnx module; a linen module, with ``variables`` or as (module,
            variables); a zoo model; a transformers, timm or other torch model; a `Model`, of which
            ``layers`` picks some.
        layers: one layer, or several.
        pool: how [b, positions..., d] becomes [b, d]: "mean", "max", "cls" (the first position),
            "last", "flatten", or a function of the layer, and of the mask [b, t] if it takes two.
            Tokens that only fill up do not count.
        name: in stores and rankings; by default that of the class, the zoo or the checkpoint.
        variables: of a linen module; of a function that takes (variables, inputs).
        prepare: list of raw examples -> inputs. Also a `jaxte.extraction.preprocess.Images` or a
            dict of its fields, or a tokenizer or an image processor of transformers. By default
            what the model's card says.
        level: "example": a vector of each example. "token": of each word, which is that of its
            first token. "dense": of each place of a grid.
        compute_dtype: "bfloat16", "float16" or "float32": parameters and inputs are cast to it
            where JAX traces the model (layers that ask for a type of their own keep it); torch
            computes under autocast.
        max_length: tokens at which texts are cut; by default what the model can take, 512 at most.
        traced: whether JAX can trace a function; by default the first batch shows it.
        layout: "NHWC" or "NCHW", of layers with four axes or more. By default that of the
            framework: channels are first in torch, last in JAX and Flax; of other arrays it has
            to be said.

    Returns:
        A `Model`.

    Raises:
        InputError: for what cannot be used, or options that do not fit.
        ImportError: if a package is missing that the model needs.

    Example:
        >>> import jax, numpy as np
        >>> from flax import nnx
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.blocks = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(3)])
        ...         self.head = nnx.Linear(6, 2, rngs=rngs)
        ...     def __call__(self, x):
        ...         for block in self.blocks:
        ...             x = nnx.relu(block(x))
        ...         return self.head(x)
        >>> model = as_model(Net(nnx.Rngs(0)), layers=["blocks/1", "penultimate"])
        >>> out = jax.jit(model.apply)(model.params, np.ones((5, 6), np.float32))
        >>> {name: array.shape for name, array in out.items()}
        {'blocks/1': (5, 6), 'logits': (5, 2), 'penultimate': (5, 6)}
    """
    if isinstance(model, tuple) and not isinstance(model, Model) and len(model) == 2:
        model, variables = model
    check_pool(pool, level)
    if compute_dtype is not None:
        choose("compute_dtype", compute_dtype, COMPUTE_TYPES)
    if layout is not None:
        choose("layout", layout, LAYOUTS)
    prepare = _preparing(prepare, model, max_length, level)
    names = None if layers is None else _names(layers)
    request = Request(
        names, pool, name, variables, prepare, level, compute_dtype, max_length, layout
    )
    if isinstance(model, Model):
        return _changed(model, request)
    return _convert(model, request, traced)


def settled(model: Model, inputs: Any) -> Model:
    """The model with ``traced`` set: where it is None, tracing is tried on these inputs.

    Raises what the model raises, if it neither can be traced nor called.
    """
    return resolve_traced(model, inputs)[0]


def resolve_traced(model: Model, inputs: Any) -> tuple[Model, Any]:
    """`settled`, and what the model gave for the `reordered` inputs if it was called."""
    if model.traced is not None:
        return model, None
    try:
        jax.eval_shape(model.apply, model.params, inputs)
        return replace(model, traced=True), None
    except InputError:
        raise
    except Exception as error:  # whatever a function says to a tracer
        why = error
    try:
        outputs = model.apply(model.params, reordered(inputs))
    except Exception as error:
        if (type(error), str(error)) != (type(why), str(why)):
            error.add_note(f"JAX cannot trace {model.name} either: {_first_line(why)}")
        raise
    # arrays of other libraries are the usual reason; of a function in JAX the user wants to know
    concrete = isinstance(why, jax.errors.ConcretizationTypeError)
    usual = isinstance(why, jax.errors.TracerArrayConversionError | TypeError) and not concrete
    log.log(
        logging.INFO if usual else logging.WARNING,
        "%s runs as it is, uncompiled, because JAX cannot trace it: %s (traced=False says so)",
        model.name,
        _first_line(why),
    )
    return replace(model, traced=False), outputs


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_spec(spec: str) -> tuple[str, str]:
    """The parts of a specification, once its form and its name in the zoo are right."""
    kind, _, where = spec.partition(":")
    if not where or kind not in ("zoo", "encoder", "hf", "timm", "python"):
        raise InputError(f"{spec!r} is no model: the forms are {_FORMS}")
    if kind == "zoo":
        from jaxte.zoo import catalog

        catalog.check_names("model", [where], catalog.names())
    return kind, where


_FORMS = "zoo:NAME, encoder:DIR/NAME, hf:PATH_OR_NAME, timm:NAME, python:MODULE:ATTRIBUTE"


def resolve(spec: str, **options: Any) -> Model:
    """The model that a specification names, as the command line takes it.

    Args:
        spec: "zoo:NAME" of `jaxte.zoo.names`; "encoder:DIR/NAME" of what `jaxte zoo convert` wrote
            to DIR; "hf:PATH_OR_NAME" of a transformers checkpoint; "timm:NAME";
            "python:MODULE:ATTRIBUTE", which is anything that `as_model` takes, or a function
            without arguments that returns it. Modules may lie in the working directory.
        **options: as `as_model` takes them.

    Raises:
        InputError: if it names nothing.
        ImportError: if a package is missing.

    Example:
        >>> resolve("zoo:resnet-cifar", layers="blocks/1")
        Model(name='resnet-cifar', layers=('blocks/1',), traced=True, level='example')
    """
    kind, where = check_spec(spec)
    if kind == "python":
        return as_model(_attribute(spec, where), **options)
    if kind == "zoo":
        from jaxte import zoo

        return as_model(zoo.load(where), **options)
    if kind == "encoder":
        from jaxte.zoo import encoders

        path = Path(where)
        return as_model(encoders.load(path.name, root=path.parent), **options)
    home = "_timm" if kind == "timm" else "_transformers"
    model, name = importlib.import_module(f"jaxte.extraction.{home}").load(where)
    return as_model(model, **{"name": name} | {k: v for k, v in options.items() if v is not None})


def _attribute(spec: str, where: str) -> Any:
    home, colon, path = where.partition(":")
    if not colon or not path:
        raise InputError(f"{spec!r} names no attribute: write python:MODULE:ATTRIBUTE")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value: Any = importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name != home and not home.startswith(f"{error.name}."):
            raise
        raise InputError(f"{spec!r}: there is no module {home}") from error
    for part in path.split("."):
        if not hasattr(value, part):
            raise InputError(f"{spec!r}: {home} has no attribute {path}")
        value = getattr(value, part)
    if inspect.isclass(value) or (inspect.isroutine(value) and _takes_nothing(value)):
        return value()
    return value


def _takes_nothing(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _names(layers: str | int | Sequence[str | int]) -> tuple[str, ...]:
    """As names; a number means a hidden state."""
    names = (layers,) if isinstance(layers, str | int) else tuple(layers)
    if not names or "" in names:
        raise InputError("layers are empty: name at least one, or leave them out")
    if ALL in names and len(names) > 1:
        raise InputError(f"layers are {list(names)}: 'all' stands alone, or name the layers")
    return tuple(f"hidden/{one}" if isinstance(one, int) else one for one in names)


def _preparing(prepare: Any, model: Any, max_length: int | None, level: str) -> Any:
    """A function of a list of examples, of whatever stands for one."""
    if isinstance(prepare, Mapping):
        return Images.of(prepare)
    if is_tokenizer(prepare):
        return texts_of(prepare, max_length, level, getattr(model, "config", None))
    return Processed(prepare) if is_processor(prepare) else prepare


# The class of a model, by the module that has it -> the function here that makes a `Model` of it.
_CONVERTERS = {
    ("jaxte.zoo.catalog", "ZooModel"): ("_nnx", "from_zoo"),
    ("jaxte.zoo.encoders.modules", "Encoder"): ("_nnx", "from_encoder"),
    ("flax.nnx", "Module"): ("_nnx", "from_nnx"),
    ("flax.linen", "Module"): ("_linen", "from_linen"),
    ("transformers.modeling_utils", "PreTrainedModel"): ("_transformers", "from_transformers"),
    ("transformers.modeling_flax_utils", "FlaxPreTrainedModel"): (
        "_flax_transformers",
        "from_flax_transformers",
    ),
    ("torch.nn", "Module"): ("_timm", "from_torch"),
}


def _convert(value: Any, request: Request, traced: bool | None) -> Model:
    for kind, (home, function) in _CONVERTERS.items():
        if is_a(value, *kind):
            module = importlib.import_module(f"jaxte.extraction.{home}")
            model: Model = getattr(module, function)(value, request)
            return model
    if not callable(value):
        raise InputError(
            f"a {type(value).__name__} is no model: give a function inputs -> features, a Flax, "
            "torch, transformers or timm model, or a zoo model"
        )
    return from_function(value, request, traced)


def _changed(model: Model, request: Request) -> Model:
    """Fewer layers, another name or preprocessing; the rest was decided before."""
    fixed = request._replace(layers=None, name=None, prepare=None, level="example")
    if fixed != Request(None, "mean", None, None, None, "example", None, None):
        raise InputError(
            f"{model.name} is a Model already: pool, variables, compute_dtype, max_length and "
            "layout are given when it is made (as_model)"
        )
    if request.level not in ("example", model.level):
        raise InputError(f"{model.name} is of level {model.level!r}, not {request.level!r}")
    layers = model.layers if request.layers is None else request.layers
    for layer in layers:
        if layer not in model.layers:
            names = ", ".join(model.layers)
            raise InputError(f"{model.name} has no layer {layer!r}: it has {names}")
    card = {**model.card, "layers": list(layers)}
    if request.prepare is not None:
        card["preprocessing"] = describe_preprocessing(request.prepare)
    return replace(
        model,
        layers=layers,
        name=request.name or model.name,
        prepare=request.prepare or model.prepare,
        card=card,
    )
