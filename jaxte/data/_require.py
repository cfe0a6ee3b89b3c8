"""Optional packages, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, what: str) -> Any:
    """Import a module of an optional package, or say in one line what to install.

    Args:
        module: its full name; the package is the part before the first dot.
        what: what needs it, at the beginning of the message.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = _NAMES.get(module.split(".")[0], module.split(".")[0])
        raise ImportError(
            f'{what} needs {package}, which is not installed: pip install "jaxte[data]"'
        ) from error


_NAMES = {"PIL": "Pillow", "tensorflow_datasets": "tensorflow-datasets"}
