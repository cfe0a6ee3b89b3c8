"""Optional packages, imported where they are used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["is_a", "require"]


def require(module: str, what: str, extra: str) -> Any:
    """Import a module of an optional package, or say in one line what to install.

    Args:
        module: its full name.
        what: what needs it, at the beginning of the message.
        extra: the extra of jaxte that installs it.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        advice = f'pip install "jaxte[{extra}]"'
        if name == "torch":  # which no extra picks: there is one for each kind of machine
            advice = "pip install torch, the build for your machine"
        raise ImportError(
            f"{what} needs {name}, which cannot be imported ({error}): {advice}"
        ) from error


def is_a(value: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class of a module, which is not imported to find out."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)
