"""What the measurements were made on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = (
    *("jaxte", "numpy", "scipy", "jax", "jaxlib", "flax"),
    *("scikit-learn", "numba", "torch", "transformer-ranker", "tllib"),
)
_SETTINGS = (
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("XLA_FLAGS", "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_PREALLOCATE", "JAX_ENABLE_X64"),
)


def git(folder: Path, *arguments: str) -> str | None:
    """What git says in a folder, None where it cannot."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Installed versions of what takes part."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def cpu_model() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named.group(1) if named else platform.processor() or platform.machine()


def _ram() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Describe this machine; run in a child, so that the parent holds no device."""
    import jax

    from benchmarks import clones

    device = jax.devices()[0]
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": cpu_model(),
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "ram": _ram(),
        "platform": device.platform,
        "device": cpu_model() if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "os": platform.platform(),
        "versions": versions(),
        "commit": git(ROOT, "rev-parse", "HEAD"),
        "changed": bool(git(ROOT, "status", "--porcelain", "--untracked-files=no")),
        "threads": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "clones": {name: clones.commit(path) for name, path in spec["clones"].items()},
    }


def slug(text: str) -> str:
    """A name fit for a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"
