"""A few real fine-tuning steps instead of a guess: `jaxte.race(models, data, budget=0.05)`.

The module can be called: `jaxte.race(...)` is `jaxte.race.race.race(...)`.

From the bottom: `heads` fits linear heads of all folds; `steps` fine-tunes any traced model;
`trainer` makes the trials of a race of them, `memo` keeps the trials of any race; `posterior` says
what is known after some of them, `prior` what before; `engine` decides who goes on; `result` and
`picture` show it.

What the constants were chosen by, on digits, drawings, fashion and drawings-24, by races replayed
from stored outputs: the score of an example, of accuracy, log loss, probability and calibrated
probability; 20 and 40 % of the training before 10 %; steps of 8 images at a rate of 1e-3, since
fewer steps of a larger batch or rate leave models below their frozen features; five doublings from
frozen features to the end; the grids of `posterior`; and the next run for the lower of the two
models most likely to be the best. At 5, 10 and 20 % of the cost that lost 0.25, 0.20 and 0.20
points of accuracy there, about as the likeliest alone (0.28, 0.23, 0.20; but run alone, on
natural-longtail, it proved nothing), and less than successive halving and the knowledge gradient
(about 0.5, 0.5 to 0.7 and 0.3 to 0.5). Two folds did as well as four there, at less cost, but on
mnist-100, of 100 images, a ResNet trained on half of them reaches 0.73 where one trained on three
quarters reaches 0.89: so there are four.
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
