"""Options of a metric: what they may be, and which of them programs are told apart by."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxte.intake import checks
from jaxte.runtime.programs import all_digits
from jaxte.statistics import Statistics

Options: TypeAlias = Mapping[str, Any]


def check_flags(parameters: Mapping[str, inspect.Parameter], options: Options) -> None:
    """Raise `InputError` for a flag that is neither True nor False."""
    for name, parameter in parameters.items():
        if isinstance(parameter.default, bool):
            checks.check_flag(name, options[name])


def plain(parameters: Mapping[str, inspect.Parameter], options: Options) -> dict[str, Any]:
    """Whole numbers as int, of which sizes can be made; as float where the default is one."""

    def one(name: str, value: Any) -> Any:
        kind = type(parameters[name].default) if name in parameters else None
        if kind is float and isinstance(value, int | np.integer):
            return float(value)  # an int may be too large for an array of integers
        whole = isinstance(value, float | np.floating) and float(value).is_integer()
        counts = kind in (int, type(None))
        return int(value) if isinstance(value, np.integer) or (whole and counts) else value

    return {name: one(name, value) for name, value in options.items()}


def split_options(options: Options) -> tuple[tuple[tuple[str, Any], ...], dict[str, Any]]:
    """Options that are known while tracing, and those that are arrays."""
    fixed = (str, bool, int, np.integer, tuple, type(None))
    static = {name: value for name, value in options.items() if isinstance(value, fixed)}
    dynamic = {name: value for name, value in options.items() if name not in static}
    return tuple(sorted(static.items())), dynamic


def jitted(
    function: Callable[..., Any],
    statistics: Statistics,
    completed: tuple[Any, ...],
    options: Options,
) -> Any:
    """Call a function of a metric as a program of its own, compiled once for its settings."""
    static, dynamic = split_options(options)
    return _jitted(statistics, completed, dynamic, function, static)


@partial(jax.jit, static_argnums=(3, 4))
@all_digits
def _jitted(
    statistics: Statistics,
    completed: tuple[Any, ...],
    dynamic: Options,
    function: Callable[..., Any],
    static: tuple[tuple[str, Any], ...],
) -> Any:
    return function(statistics, completed, **dict(static), **dynamic)


def percent(chance: float) -> str:
    """A chance for people, of which none is certain."""
    return ">99%" if chance >= 0.995 else f"{chance:.0%}"


def shortlist(names: Sequence[str]) -> str:
    """A few names in a sentence."""
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
