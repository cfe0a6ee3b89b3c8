"""Compiled code, kept between runs of the command line.

JAX can keep executables in a directory, but does not tell apart the processors that they were made
for; code for another one can crash. So each kind of processor has a directory of its own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

from jaxte.cli._errors import warn

__all__ = ["choice", "choose", "directory", "turn_on"]

_OFF = ("off", "no", "0", "false")
_LEAST_SECONDS = 0.05  # of compilation that are worth a file, unless the user says otherwise:
_LEAST_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_MOST_BYTES = 1 << 29

_enabled: bool | None = None  # --cache or --no-cache


def choose(enabled: bool | None) -> None:
    """Remember the flag of the command line; None leaves it to the environment."""
    global _enabled
    _enabled = enabled


def choice() -> bool | None:
    """The flag of the command line."""
    return _enabled


def directory() -> Path | None:
    """Where compiled code is kept: JAXTE_CACHE, else the user's cache directory; None for off."""
    setting = os.environ.get("JAXTE_CACHE", "")
    off = setting.lower() in _OFF
    if _enabled is False or (off and _enabled is None):
        return None
    if setting and not off:
        base = Path(setting)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "jaxte"
    elif sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = (Path(local) if local else Path.home() / "AppData" / "Local") / "jaxte"
    else:
        xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # the specification says to ignore a relative one
        base = (xdg if xdg.is_absolute() else Path.home() / ".cache") / "jaxte"
    return base / f"xla-{_processor()}"


def turn_on() -> None:
    """Let JAX keep what it compiles, unless the user has set it or us otherwise."""
    import jax

    if _enabled is False:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return  # the user's own, as they set it up
    try:
        folder = directory()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".writable-{os.getpid()}").touch()
        (folder / f".writable-{os.getpid()}").unlink()
        _prune(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        warn(f"compiled code is not kept ({error}): set JAXTE_CACHE to a directory or off")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if _LEAST_VARIABLE not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _prune(folder: Path) -> None:
    """Remove the oldest files above the limit; JAX's own limit needs another package."""
    files = []
    for file in folder.iterdir():
        try:
            if file.is_file():
                files.append((file.stat().st_mtime, file.stat().st_size, file))
        except FileNotFoundError:  # another process was quicker
            continue
    spare = _MOST_BYTES - sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if spare >= 0:
            break
        file.unlink(missing_ok=True)
        spare += size


def _processor() -> str:
    """A digest of what the compiled code depends on."""
    facts = [platform.machine(), platform.processor(), platform.system()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts += sorted(
            {line for line in lines if line.startswith(("model name", "flags", "Feat"))}
        )
    except OSError:
        pass
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
