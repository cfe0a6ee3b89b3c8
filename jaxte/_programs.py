"""Compiled functions of fixed shapes, which can be made ahead of their first call, side by side."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["HASTY", "LEAN", "Finish", "Program", "forget", "in_context", "side_by_side"]

# As many at once as there are cores: more would only keep the first call waiting.
_AT_ONCE = min(4, os.cpu_count() or 1)
# A compiled function takes some hundred of the 65,530 mappings that Linux grants a process, which
# crashes without a word when they are used up. What is dropped here gives its own back once JAX's
# caches let go of it too (jax.clear_caches).
_KEPT = 64
# What a CPU compiles in half the time with, to code as good; releases of JAX know more or fewer
# of these. And what halves that again, to code that is a little slower.
LEAN: Mapping[str, Any] = MappingProxyType(
    {"xla_cpu_parallel_codegen_split_count": 1, "xla_cpu_use_fusion_emitters": False}
)
HASTY: Mapping[str, Any] = MappingProxyType({**LEAN, "xla_backend_optimization_level": 0})

_NONE: Mapping[str, Any] = MappingProxyType({})

_made: OrderedDict[Any, Future[Any]] = OrderedDict()
_lock = threading.Lock()


def forget() -> None:
    """Drop everything that was compiled."""
    with _lock:
        _made.clear()


@cache
def _is_known(option: str, value: Any) -> bool:
    """Whether this release of JAX compiles for CPUs with it."""
    try:
        jax.jit(lambda x: x).lower(np.float32(0)).compile({option: value})
    except Exception:  # which one differs between releases
        return False
    return True


def _context() -> tuple[bool, Any]:
    """Whether this thread computes in float64, and on which device if not on the first."""
    device = getattr(jax.config, "jax_default_device")  # noqa: B009 - it has no type
    return jnp.result_type(float) == jnp.float64, device


def in_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a thread is to call it: in the precision and on the device of this one."""
    x64, device = _context()

    def inside(*arguments: Any, **keywords: Any) -> Any:
        with jax.enable_x64(x64), jax.default_device(device):
            return function(*arguments, **keywords)

    return inside


class Program:
    """A function compiled once per shapes of its arguments, whoever asks first.

    ``jax.jit`` cannot be told to compile without being called, and what is compiled ahead of time
    does not reach its cache: so there is one of its own.

    Args:
        function: of arrays.
        options: what a CPU is to compile it with, if known: `LEAN` or `HASTY`.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any] = _NONE) -> None:
        self._jitted = jax.jit(function)
        self._options = options

    def __call__(self, *arguments: Any) -> Any:
        """The function itself; waits for the compilation if one is under way."""
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arguments)):
            return self._jitted(*arguments)  # only jit follows arrays to the device they lie on
        return self.start(None, *arguments).result()(*arguments)

    def start(
        self,
        executor: Executor | None,
        *like: Any,
        then: Callable[[Any], None] | None = None,
    ) -> Future[Any]:
        """Compile for arguments like these, in a thread of the executor if there is one.

        ``then`` is told the shapes of the result as soon as they are known.
        """
        leaves, structure = jax.tree.flatten(like)
        shapes = tuple((np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves)
        key = self, structure, shapes, *_context()
        with _lock:
            future = _made.get(key)
            if future is not None:
                _made.move_to_end(key)
                return future
            future = _made[key] = Future()
            if len(_made) > _KEPT:
                _made.popitem(last=False)

        def make() -> None:
            try:
                lowered = self._jitted.lower(*like)
                if then is not None:
                    then(lowered.out_info)
                on_cpu = jax.default_backend() == "cpu"
                options = {k: v for k, v in self._options.items() if on_cpu and _is_known(k, v)}
                future.set_result(lowered.compile(options))
            except BaseException as error:
                with _lock:
                    _made.pop(key, None)
                future.set_exception(error)

        if executor is None:
            make()
        else:
            executor.submit(in_context(make))
        return future


class Finish:
    """A program for what another one leaves, filled up to few sizes by ``padded(left, xp)``."""

    def __init__(self, function: Callable[[Any], Any], padded: Callable[[Any, Any], Any]) -> None:
        self._program, self._padded = Program(function), padded

    def __call__(self, left: Any) -> Any:
        """The result, for arrays on the host."""
        return self._program(self._padded(left, np))

    def start(self, executor: Executor, left: Any) -> None:
        """Begin to compile for arrays of these shapes."""
        like = jax.eval_shape(lambda left: self._padded(left, jnp), left)
        self._program.start(executor, like)


@contextmanager
def side_by_side() -> Iterator[Executor]:
    """Threads that compile; what is under way when the block is left goes on to its end."""
    executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="jaxte-compile")
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)
