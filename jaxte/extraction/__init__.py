"""From a model and data to features in a store, or to their moments alone.

`as_model` makes one kind of thing of all models, `extract` runs it, `extract_many` runs several,
`stream` keeps no features.
Loaded on first use: moments need the metrics' own helpers, features do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxte.extraction.loop import extract
    from jaxte.extraction.many import extract_many
    from jaxte.extraction.models import Model, as_model, fingerprint, resolve
    from jaxte.extraction.streaming import stream

__all__ = ["Model", "as_model", "extract", "extract_many", "fingerprint", "resolve", "stream"]

_HOMES = {
    "extract": "loop",
    "extract_many": "many",
    "stream": "streaming",
}  # the others are at home in models


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'jaxte.extraction' has no attribute {name!r}")
    home = importlib.import_module(f"jaxte.extraction.{_HOMES.get(name, 'models')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
