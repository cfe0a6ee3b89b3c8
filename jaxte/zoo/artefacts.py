"""Small helpers for the files of the zoo: JSON in and out, digests, versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxte.intake import disk


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, naming the file if it cannot be read."""
    content: dict[str, Any] = disk.read_json(path, "build the zoo again")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step, so that a stopped build leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.replace(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_card(
    path: Path, artefact: Path, specification: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Read the card of an artefact; None where one of them is missing, or of another build."""
    if not (path.is_file() and artefact.is_file()):
        return None
    card = read_json(path)
    return card if all(card.get(key) == value for key, value in specification.items()) else None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers of the zoo depend on."""
    return {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
