"""Peak memory of this process and of its accelerator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_REFERENCES = Path("/proc/self/clear_refs")


def _from_status(field: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(field + ":")]
    return int(values[0]) * 1024 if values else None


def peak() -> int:
    """Largest resident memory so far, in bytes.

    Read from /proc where it exists: getrusage of a fresh process starts at its parent's peak.
    """
    largest = _from_status("VmHWM")
    if largest is not None:
        return largest
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def start() -> int:
    """Forget the peak, where the system can, and return what is resident now (or the peak)."""
    try:
        _REFERENCES.write_text("5", encoding="ascii")
    except OSError:
        return peak()
    resident = _from_status("VmRSS")
    return peak() if resident is None else resident


def device() -> dict[str, int] | None:
    """The accelerator's memory in use and its peak, where its driver counts them."""
    import jax

    stats = jax.local_devices()[0].memory_stats()
    if not stats or "peak_bytes_in_use" not in stats:
        return None
    return {"in_use": stats["bytes_in_use"], "peak": stats["peak_bytes_in_use"]}


class Watch:
    """Memory from the moment it is made to `read`."""

    def __init__(self) -> None:
        self._start = start()

    def read(self, with_device: bool) -> dict[str, Any]:
        """Peak of the process, how far it rose above the start, and the device's peak."""
        highest = peak()
        result: dict[str, Any] = {"peak": highest, "rise": max(0, highest - self._start)}
        result["device"] = device() if with_device else None
        return result
