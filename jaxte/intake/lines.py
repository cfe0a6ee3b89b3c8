"""Files of one JSON object a line, which a kill leaves readable, and digests of what they hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError

__all__ = ["append_line", "digest_arrays", "key_of", "read_lines"]


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Read the lines of a results file by key; a last line cut short by a kill is left out.

    Raises:
        InputError: if another line is damaged; the message names it.
    """
    entries: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return entries
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise InputError(f"{path}, line {number}, is no JSON ({error}): remove it") from error
        if entry is None:
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
            raise InputError(f'{path}, line {number}, is no object with a "key": remove it')
        entries[entry["key"]] = entry
    return entries


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line in one write, and see it on the disk; a torn line before it is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def key_of(*parts: Any) -> str:
    """Return a digest of what a result depends on."""
    content = json.dumps(parts, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a digest of arrays by name, the same however they are stored."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
