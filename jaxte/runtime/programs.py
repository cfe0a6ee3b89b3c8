"""Compiled functions of fixed shapes, which can be made ahead of their first call, side by side."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.runtime.devices import default_device, platform_of

__all__ = [
    "CPU_COMPILE",
    "FAST_COMPILE",
    "Program",
    "all_digits",
    "compiled_programs",
    "forget",
    "in_context",
    "when_forgetting",
]

_KEPT = 512  # executables, of a megabyte or two each
# What a CPU compiles in half the time with, to code as good; releases of JAX know more or fewer
# of these. And what halves that again, to code that is a little slower.
CPU_COMPILE: Mapping[str, Any] = MappingProxyType(
    {"xla_cpu_parallel_codegen_split_count": 1, "xla_cpu_use_fusion_emitters": False}
)
FAST_COMPILE: Mapping[str, Any] = MappingProxyType(
    {**CPU_COMPILE, "xla_backend_optimization_level": 0}
)

_NONE: Mapping[str, Any] = MappingProxyType({})


# What a GPU is to do without: for float32 it compiles and times dozens of kernels for each product,
# a minute for SFDA, where its library's product is as fast.
_GPU_COMPILE: Mapping[str, Any] = MappingProxyType({"xla_gpu_enable_triton_gemm": False})

Result = TypeVar("Result")


def all_digits(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, none of whose float32 products a GPU computes in TF32 when it is traced.

    Those of vectors by ``@`` and those within ``jnp.linalg`` are meant, which name no precision.
    """

    @wraps(function)
    def inside(*arguments: Any, **keywords: Any) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **keywords)

    return inside


class _Executable:
    """What is, or will be, compiled for some shapes.

    Who needs it makes it, under its lock, unless it is made. So nobody ever waits for work that
    was dropped, or that an interrupt ended.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal's handler may ask for it, too
        self.lowered: jax.stages.Lowered | None = None  # until it is compiled
        self.shapes: Any = None  # of the result
        self.call: Callable[..., Any] | None = None


_made: OrderedDict[Any, _Executable] = OrderedDict()
_lock = threading.RLock()
_forgetting: list[Callable[[], None]] = []


def forget(kept: int = 0) -> None:
    """Drop what this package has compiled, but for so many of the last programs."""
    with _lock:
        while len(_made) > kept:
            _made.popitem(last=False)
    for let_go in (*_jitted(), *_forgetting):
        let_go()


def compiled_programs() -> int:
    """How many programs are kept compiled."""
    return len(_made)


def when_forgetting(let_go: Callable[[], None]) -> None:
    """Call this, too, when compiled functions are dropped."""
    _forgetting.append(let_go)


def _jitted() -> list[Callable[[], None]]:
    """What drops the executables of the jitted functions of this package's modules."""
    kind: Any = type(jax.jit(len))
    modules = [sys.modules[name] for name in tuple(sys.modules) if name.startswith("jaxte.")]
    values = [value for module in modules for value in vars(module).values()]
    return [value.clear_cache for value in values if isinstance(value, kind)]


@cache
def _is_known(option: str, value: Any) -> bool:
    """Whether this release of JAX compiles with it, for the default device."""
    try:
        jax.jit(lambda x: x).lower(np.float32(0)).compile({option: value})
    except Exception:  # which one differs between releases
        return False
    return True


def _context() -> tuple[bool, Any]:
    """Whether this thread computes in float64, and on which device if not on the first."""
    return jnp.result_type(float) == jnp.float64, default_device()


def in_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a thread is to call it: in the precision and on the device of this one."""
    x64, device = _context()

    def inside(*arguments: Any, **keywords: Any) -> Any:
        with jax.enable_x64(x64), jax.default_device(device):
            return function(*arguments, **keywords)

    return inside


class Program:
    """A function compiled once per shapes of its arguments, whoever asks first, with all digits.

    ``jax.jit`` cannot be told to compile without being called, and what is compiled ahead of time
    does not reach its cache: so there is one of its own.

    Args:
        function: of arrays.
        options: what a CPU is to compile it with, if known: `CPU_COMPILE` or `FAST_COMPILE`.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any] = _NONE) -> None:
        self._function, self._options = function, options

    def __call__(self, *arguments: Any) -> Any:
        """The function itself; waits for the compilation if one is under way."""
        return self.compiled(*arguments)(*arguments)

    def lowered(self, *like: Any) -> jax.stages.Lowered:
        """The function for arguments like these, not compiled."""

        @all_digits
        def function(*arguments: Any) -> Any:  # of its own: JAX keeps what it compiles as long
            return self._function(*arguments)

        return jax.jit(function).lower(*like)

    def shapes(self, *like: Any) -> Any:
        """The shapes of the result for arguments like these, before it is compiled."""
        executable = self._executable(like)
        with executable.lock:
            if executable.shapes is None:
                self._lower(executable, like)
            return executable.shapes

    def compiled(self, *like: Any) -> Callable[..., Any]:
        """The function compiled for arguments like these, on the devices where they lie."""
        executable = self._executable(like)
        with executable.lock:
            if executable.call is None:
                lowered = executable.lowered or self._lower(executable, like)
                platform = platform_of(*jax.tree.leaves(like))
                known = {"cpu": self._options, "gpu": _GPU_COMPILE}.get(platform, _NONE)
                options = {k: v for k, v in known.items() if _is_known(k, v)}
                executable.call = lowered.compile(options)
                executable.lowered = None
            return executable.call

    def _lower(self, executable: _Executable, like: tuple[Any, ...]) -> jax.stages.Lowered:
        lowered = executable.lowered = self.lowered(*like)
        executable.shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), lowered.out_info
        )
        return lowered

    def _executable(self, like: tuple[Any, ...]) -> _Executable:
        leaves, structure = jax.tree.flatten(like)
        shapes = tuple((np.shape(leaf), leaf.dtype, _sharding(leaf)) for leaf in leaves)
        key = self, structure, shapes, *_context()
        with _lock:
            executable = _made.setdefault(key, _Executable())
            _made.move_to_end(key)
            if len(_made) > _KEPT:
                _made.popitem(last=False)
        return executable


def _sharding(leaf: Any) -> Any:
    """Where an array has to stay; None if it may go anywhere."""
    return leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None


# --- mappings of memory --------------------------------------------------------------------------

# Linux grants a process so many, and ends it at the next without a word. An executable takes a
# hundred or more, and gives them back when it is dropped.
_MAPS, _MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_OFTEN = 8  # compilations between two counts


class _Watch:
    """Lets old executables go whenever half of the mappings that were free are used up.

    Where those of others leave hardly any, JAX's own caches go, too: better than the process.
    """

    def __init__(self) -> None:
        self._compiled = 0
        try:
            self.most = int(_MOST.read_text())
            self.bound = (_mappings() + self.most) // 2
        except (OSError, ValueError):  # not Linux, or not to be read
            self.bound = self.most = sys.maxsize

    def __call__(self, event: str, *_: Any, **__: Any) -> None:
        """Told by JAX what it has done."""
        if not event.endswith("backend_compile_duration") or self.bound == sys.maxsize:
            return
        self._compiled += 1
        if self._compiled % _OFTEN:
            return
        with suppress(OSError):  # too many open files, which is no fault of the compilation
            if _mappings() > self.bound:
                forget(len(_made) // 2)
                if _mappings() > self.most * 7 // 8:
                    jax.clear_caches()
                self.bound = (_mappings() + self.most) // 2


def _mappings() -> int:
    with _MAPS.open("rb") as lines:
        return sum(1 for _ in lines)


_watch = _Watch()
jax.monitoring.register_event_duration_secs_listener(_watch)
