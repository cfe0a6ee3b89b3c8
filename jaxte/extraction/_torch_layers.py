"""All layers of a torch module, as one pass over a few rows shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from jaxte._optional import is_a
from jaxte.extraction._all_layers import distinct, is_feature
from jaxte.extraction._outputs import sole

__all__ = ["ROWS", "Seen", "identity", "layer_names", "watched_all"]

ROWS = 7  # of the pass: a prime, which other axes will hardly have

Identity: TypeAlias = tuple[int, int, tuple[int, ...]]


class Seen(NamedTuple):
    """The last call of a module.

    Attributes:
        before: what identifies its input, as it was before the call.
        after: what identifies its output, as it was after the call.
        input: the first one.
        output: kept like the input, so that no other tensor takes its place in memory.
    """

    before: Identity | None
    after: Identity | None
    input: Any
    output: Any


def identity(array: Any) -> Identity | None:
    """Equal for the same tensor, in the same state, seen with the same axes longer than one."""
    if not is_a(array, "torch", "Tensor") or array.is_sparse:
        return None
    return array.data_ptr(), array._version, tuple(size for size in array.shape if size != 1)


@contextmanager
def watched_all(module: Any) -> Iterator[dict[str, Seen]]:
    """What goes through all modules, by path, in the order of their last calls."""
    seen: dict[str, Seen] = {}
    inputs: dict[str, tuple[Identity | None, Any]] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            first = args[0] if args else next(iter(kwargs.values()), None)
            inputs[name] = identity(first), first

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            seen.pop(name, None)
            (before, first), output = inputs[name], sole(output)
            seen[name] = Seen(before, identity(output), first, output)

        return hook

    hooks = []
    for path, one in module.named_modules():
        if path and is_feature(one):
            name = path.replace(".", "/")
            hooks.append(one.register_forward_pre_hook(before(name), with_kwargs=True))
            hooks.append(one.register_forward_hook(after(name)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def layer_names(
    seen: dict[str, Seen], last: Any, end: str | None, places: Callable[[Any], Any]
) -> tuple[str, ...]:
    """The layers before the head, in the order of the forward pass.

    Args:
        seen: from `watched_all`.
        last: the output of the model if it is one array and there is no head.
        end: path of the head.
        places: what has to be equal of the layers.
    """
    final = identity(last)
    if end is not None:
        last, final = seen[end].input, seen[end].before
    layers = []
    for name, one in seen.items():
        if name == end:
            break
        x = one.output
        if one.after in (None, one.before) or not x.is_floating_point() or x.shape[:1] != (ROWS,):
            continue
        if last is None or places(x) == places(last):
            layers.append((name, one.after))
    return distinct(layers, final)
