"""Compiled functions of models, which live as long as the models that they were made of."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any

from jaxte.runtime.programs import when_forgetting

__all__ = ["cached"]

_BY_IDENTITY: weakref.WeakKeyDictionary[Any, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
_BY_VALUE: OrderedDict[Any, dict[Hashable, Any]] = OrderedDict()
_MOST = 16  # architectures that are remembered
_LOCK = threading.RLock()  # threads share both


def _forget() -> None:
    with _LOCK:
        _BY_IDENTITY.clear()
        _BY_VALUE.clear()


when_forgetting(_forget)


def cached(
    apply: Callable[..., Any],
    key: Hashable,
    make: Callable[[Callable[[], Callable[..., Any]]], Any],
) -> Any:
    """What was made of a function before, else ``make`` of a way to refer to it.

    Functions that are equal by value, as those of two models of one architecture, share it.
    """
    with _LOCK:
        try:
            if _is_value(apply):
                entries = _BY_VALUE.setdefault(apply, {})
                _BY_VALUE.move_to_end(apply)
                while len(_BY_VALUE) > _MOST:
                    _BY_VALUE.popitem(last=False)
                refer: Callable[[], Any] = lambda: apply  # noqa: E731
            else:
                entries = _BY_IDENTITY.setdefault(apply, {})
                refer = weakref.ref(apply)
        except TypeError:  # it cannot be hashed or referred to weakly
            entries, refer = {}, lambda: apply
        if key not in entries:
            entries[key] = make(refer)
        return entries[key]


def _is_value(apply: Any) -> bool:
    """Whether equality says more than identity; a bound method holds on to its object."""
    equality: Any = type(apply).__eq__
    return equality is not object.__eq__ and not isinstance(apply, MethodType)
