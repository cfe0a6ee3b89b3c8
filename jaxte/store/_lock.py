"""One writer at a time: a lock that dies with its process, and the name of who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.store.columns import inside

LOCK, OWNER = ".lock", ".writer"
_PATIENCE = 1.0  # seconds in which a process that has just taken the lock writes who it is


def acquire(directory: Path) -> Any:
    """Take the lock of a store; an `InputError` if another process or another writer has it."""
    lock = disk.lock(inside(directory, directory / LOCK))
    if lock is None:
        raise InputError(
            f"{directory} is being written by {_holder(directory)}: wait for it, or write to "
            "another directory"
        )
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        disk.replace(directory / OWNER, json.dumps(owner) + "\n")
    except BaseException:
        lock.release()
        raise
    return lock


def release(lock: Any, directory: Path) -> None:
    """Give the lock back; its file stays, because others may be waiting at it."""
    try:
        with suppress(OSError):
            (directory / OWNER).unlink(missing_ok=True)
    finally:
        lock.release()


def _holder(directory: Path) -> str:
    """Who has the lock, if that can be read; it may have taken it a moment ago."""
    end = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads((directory / OWNER).read_text(encoding="utf-8"))
            if _alive(int(owner["pid"]), str(owner["host"])):
                return f"process {int(owner['pid'])} on {owner['host']}"
        if time.monotonic() > end:
            return "another process"
        time.sleep(0.02)


def _alive(pid: int, host: str) -> bool:
    """False for a process of this machine that is no more and left its name behind."""
    if os.name != "posix" or host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
