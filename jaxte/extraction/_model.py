"""What a model is to the extraction, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.extraction._arrays import to_numpy
from jaxte.extraction.pooling import LEVELS, Pool, label
from jaxte.runtime.threads import cores

__all__ = ["Model", "Prepare", "Request", "Static", "describe_preprocessing", "fingerprint"]
__all__ += ["qualified_name"]
__all__ += ["structure_digest"]

Prepare = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, eq=False)
class Model:
    """A model at work on batches; `as_model` makes one of what you have.

    Attributes:
        name: in stores and rankings.
        apply: (params, inputs) -> {layer: array, ...}, with "logits" [b, s] where the model has a
            head, and of words "valid" [b, W], false for those that were cut off.
        layers: those of the keys that are features, in order.
        params: weights, a pytree of arrays; None where ``apply`` closes over them. Models that
            JAX does not trace keep their own: there they only tell it from others.
        prepare: list of raw examples (uint8 images [h, w, c] of any size, texts, lists of words,
            dicts) -> pytree of NumPy arrays of one shape, a row for each; None takes inputs as
            they are.
        traced: whether JAX can trace ``apply``; else it is called as it is. None where only
            the first batch can tell: see `settled`.
        card: what it is, in terms of JSON: kind, source, layers, pooling, preprocessing, types.
        level: "example" where layers are [b, d], "token" where they are [b, W, d] of W words,
            "dense" where they are [b, h, w, d].

    Raises:
        InputError: for an unknown level, and unless there are layers of different names.
    """

    name: str
    apply: Callable[[Any, Any], Mapping[str, Any]] = field(repr=False)
    layers: tuple[str, ...]
    params: Any = field(default=None, repr=False)
    prepare: Prepare | None = field(default=None, repr=False)
    traced: bool | None = True
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    level: str = "example"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InputError(f"{self.name} has level {self.level!r}: choose one of {LEVELS}")
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise InputError(
                f"{self.name} has layers {list(self.layers)}: name at least one, and each once"
            )


class Request(NamedTuple):
    """What `as_model` was asked for beside the model."""

    layers: tuple[str, ...] | None
    pool: Pool
    name: str | None
    variables: Any
    prepare: Any
    level: str
    compute_dtype: str | None
    max_length: int | None
    layout: str | None = None

    def card(self, kind: str, source: str, layers: Sequence[str], **more: Any) -> dict[str, Any]:
        """The card of a model; what is None is left out."""
        prepare = self.prepare
        entries = {
            "kind": kind,
            "source": source,
            "layers": list(layers),
            "level": self.level,
            "pool": label(self.pool) if self.level == "example" else None,
            "layout": self.layout,
            "compute_dtype": self.compute_dtype,
            "preprocessing": None if prepare is None else describe_preprocessing(prepare),
            **more,
        }
        return {key: value for key, value in entries.items() if value is not None}

    def model(
        self, apply: Any, params: Any, name: str, kind: str, source: str,
        layers: tuple[str, ...], traced: bool | None = True, **more: Any,
    ) -> Model:  # fmt: skip
        """The `Model` of these options; ``name`` is that of the network, ``more`` for the card."""
        return Model(
            name=self.name or name,
            apply=apply,
            layers=layers,
            params=params,
            prepare=self.prepare,
            traced=traced,
            card=self.card(kind, source, layers, **more),
            level=self.level,
        )


def describe_preprocessing(prepare: Any) -> Any:
    """What a card says of a preprocessing."""
    card = getattr(prepare, "card", None)
    return card if isinstance(card, Mapping) else qualified_name(prepare)


def qualified_name(value: Any) -> str:
    """The full name of a function, or of the class of an object."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def structure_digest(network: Any) -> str:
    """Digest of the text that a network shows itself as, without addresses in memory."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Static:
    """Something that a compiled function depends on, compared by value where it has one."""

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            self._hash, self._by_value = hash(value), True
        except TypeError:
            self._hash, self._by_value = id(value), False

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        if self.value is not other.value:
            if self._hash != other._hash or not (self._by_value and other._by_value):
                return False
            if self.value != other.value:
                return False
            self.value = other.value  # so that they are not compared again
        return True


def fingerprint(model: Model) -> str:
    """SHA-256 of a model: names, shapes, types and bytes of its parameters, and its card.

    The same in every process and on every machine; without parameters, of the card alone.

    Args:
        model: from `as_model`.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> from jaxte import zoo
        >>> from jaxte.extraction.models import as_model, fingerprint
        >>> one, other = (as_model(zoo.load(name)) for name in ("resnet-cifar", "resnet-random"))
        >>> fingerprint(one) == fingerprint(one), fingerprint(one) == fingerprint(other)
        (True, False)
    """
    digest = hashlib.sha256(json.dumps(model.card, sort_keys=True).encode())
    leaves = jax.tree_util.tree_flatten_with_path(model.params)[0]
    with ThreadPoolExecutor(cores()) as pool:  # hashing lets other threads run
        for (path, _), of_leaf in zip(leaves, pool.map(_digest, leaves), strict=True):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            digest.update(f"\0{name}\0".encode())
            digest.update(of_leaf)
    return digest.hexdigest()


def _digest(leaf_with_path: tuple[Any, Any]) -> bytes:
    leaf = leaf_with_path[1]
    kind = str(leaf.dtype) if hasattr(leaf, "dtype") else ""
    digest = hashlib.sha256(f"{kind} {np.shape(leaf)} ".encode())
    digest.update(np.ascontiguousarray(to_numpy(leaf)).reshape(-1).view(np.uint8).data)
    return digest.digest()
