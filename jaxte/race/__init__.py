"""A few real fine-tuning steps instead of a guess: `jaxte.race(models, data, budget=0.05)`.

The room is the function: calling `jaxte.race` is calling `jaxte.race.race.race`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxte.race.race import race
from jaxte.race.result import Race, Stop

if TYPE_CHECKING:
    from jaxte.race.steps import Recipe
    from jaxte.race.trainer import Start

__all__ = ["Race", "Recipe", "Start", "Stop"]

_HOMES = {"Recipe": "steps", "Start": "trainer"}  # which load Flax and Optax


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxte.race' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"jaxte.race.{_HOMES[name]}"), name)
    return value


class _Callable(ModuleType):
    """A module that is called as its function."""

    __call__ = staticmethod(race)


sys.modules[__name__].__class__ = _Callable
