"""What a model returns: which of its arrays is a layer, and in which order its axes are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxte._optional import is_a
from jaxte.errors import InputError

__all__ = [
    "ALL",
    "LAYOUTS",
    "LOGITS",
    "NAMED",
    "OUTPUT",
    "PENULTIMATE",
    "channels_last",
    "layers_of",
]
__all__ += ["head_output", "is_channels_first", "named_parts", "only", "output_error", "pick"]
__all__ += ["places", "sole", "split_layer"]

PENULTIMATE, LOGITS, OUTPUT, ALL = "penultimate", "logits", "output", "all"
NAMED = (PENULTIMATE, LOGITS, OUTPUT, ALL)  # layers that are no paths
LAYOUTS = ("NHWC", "NCHW")

_LAYER = re.compile(r"(.*?)((?:\[[^\[\]]+\])*)")
_MOST = 12  # parts that a message lists
_DEEP = 4  # levels of nesting that are searched


def split_layer(layer: str) -> tuple[str, str]:
    """A layer, and which part of what it gives is meant.

    Example:
        >>> split_layer("output[logits][0]"), split_layer("blocks/3")
        (('output', '[logits][0]'), ('blocks/3', ''))
    """
    match = _LAYER.fullmatch(layer)
    return (layer, "") if match is None else (match[1], match[2])


def named_parts(output: Any) -> dict[str, Any] | None:
    """The entries of an output that has names for them; None where it has none."""
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        return dict(output._asdict())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {one.name: getattr(output, one.name) for one in dataclasses.fields(output)}
    return None


def only(output: Any, layer: str = OUTPUT, where: str = "") -> Any:
    """The array that an output is, alone or with nothing else beside it.

    Args:
        output: of a model, or of one of its modules.
        layer: what `layers` calls it.
        where: what returned it, for messages.
    """
    return pick(output, "", layer, where)


def pick(output: Any, part: str, layer: str, where: str = "") -> Any:
    """The array of an output at ``part``, as "[1][logits]"; see `only`."""
    where = where or ("the model" if layer in NAMED else f"layer {layer!r}")
    arrays = dict(_arrays(output, ""))
    chosen = {name: x for name, x in arrays.items() if name == part or name.startswith(f"{part}[")}
    if len(chosen) == 1:
        return _checked(next(iter(chosen.values())), where)
    raise output_error(output, part, layer, where)


def output_error(output: Any, part: str, layer: str, where: str) -> InputError:
    """The error for an output that is not one array: it names the parts, and how to pick one."""
    arrays = dict(_arrays(output, ""))
    kind = type(output).__name__
    if not arrays:
        return InputError(f"{where} returns a {kind} without any array: return features [b, ...]")
    some = list(arrays)[:_MOST]
    more = ", ..." if len(arrays) > _MOST else ""
    listed = ", ".join(f"{name or 'itself'} {tuple(arrays[name].shape)}" for name in some) + more
    chosen = [name for name in arrays if name.startswith(part)]
    if not chosen:
        return InputError(f"{where} returns a {kind} that has no part {part}: there are {listed}")
    base = OUTPUT if layer in NAMED else layer
    return InputError(
        f"{where} returns a {kind} of {len(arrays)} arrays, {listed}, not one array: pick one, as "
        f"layers={f'{base}{chosen[0]}'!r}, or return it alone, as lambda x: model(x)['features']"
    )


def sole(output: Any) -> Any:
    """The array of an output that has only one; else None."""
    arrays = dict(_arrays(output, ""))
    return next(iter(arrays.values())) if len(arrays) == 1 else None


def head_output(output: Any) -> Any:
    """The array that the head of a model would give: its only one, or "logits"; else None."""
    array = sole(output)
    return dict(_arrays(output, "")).get(f"[{LOGITS}]") if array is None else array


def layers_of(
    layers: Sequence[str], output: Any, head: tuple[Any, Any] | None, outputs: Mapping[str, Any]
) -> dict[str, Any]:
    """The layers of one forward pass, and "logits" if the model has a head.

    Args:
        layers: that are wanted.
        output: of the model.
        head: input and output of its head.
        outputs: path or name -> what the module there returned.
    """
    arrays = {} if head is None else dict(zip((PENULTIMATE, LOGITS), head, strict=True))
    if head is None and LOGITS in layers:
        raise InputError(
            "layer 'logits': the model has no head, as its output is not that of a dense layer"
        )
    for name in layers:
        base, part = split_layer(name)
        if name in arrays:
            continue
        if base not in (OUTPUT, PENULTIMATE) and base not in outputs:
            raise InputError(f"layer {base!r} takes no part in the model's output")
        arrays[name] = pick(outputs.get(base, output), part, base)
    return arrays


def channels_last(x: Any, layout: str | None, name: str) -> Any:
    """[b, h, w, c] of an array of any framework: torch has channels first, JAX and Flax last.

    Args:
        x: of fewer than four axes it stays as it is.
        layout: "NHWC" or "NCHW"; by default that of the framework.
        name: of the layer, for messages.
    """
    if x.ndim < 4:
        return x
    if layout is None and not (is_channels_first(x) or isinstance(x, jax.Array)):
        raise InputError(
            f"layer {name} has shape {tuple(x.shape)} and is of {type(x).__module__}, where "
            "channels may be first or last: say layout='NHWC' or layout='NCHW'"
        )
    if not (is_channels_first(x) if layout is None else layout == "NCHW"):
        return x
    axes = (0, *range(2, x.ndim), 1)
    return x.permute(axes) if hasattr(x, "permute") else x.transpose(axes)


def places(shape: Sequence[int], channels_first: bool) -> tuple[int, ...]:
    """The shape of a layer without its channels."""
    if channels_first and len(shape) > 3:
        return (shape[0], *shape[2:])
    return tuple(shape[:-1])


def is_channels_first(x: Any) -> bool:
    """Whether the framework of an array has channels before rows and columns."""
    return is_a(x, "torch", "Tensor")


def _arrays(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The arrays of an output, with where they are."""
    if hasattr(value, "shape"):
        yield path, value
        return
    named = named_parts(value)
    entries: Any = () if named is None else named.items()
    if named is None and isinstance(value, list | tuple):
        entries = enumerate(value)
    elif named is None and hasattr(value, "__dict__") and not callable(value):
        entries = ((name, one) for name, one in vars(value).items() if not name.startswith("_"))
    if path.count("[") < _DEEP:
        for name, entry in entries:
            yield from _arrays(entry, f"{path}[{name}]")


def _checked(x: Any, where: str) -> Any:
    """An array of real numbers that are all there."""
    dtype = str(getattr(x, "dtype", ""))
    if isinstance(x, np.ma.MaskedArray):
        raise InputError(f"{where} returns a masked array: fill or leave out what is missing")
    if hasattr(x, "toarray") or hasattr(x, "todense") or getattr(x, "is_sparse", False):
        raise InputError(f"{where} returns a sparse {type(x).__name__}: make it dense")
    if "complex" in dtype or dtype == "object" or dtype[:2] in ("<U", "|S", ">U"):
        raise InputError(f"{where} returns an array of type {dtype}: features are real numbers")
    return x
