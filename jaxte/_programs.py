"""Compiled functions of fixed shapes, which can be made ahead of their first call, side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Finish", "Program", "side_by_side"]

# As many at once as there are cores: more would only keep the first call waiting.
_AT_ONCE = min(4, os.cpu_count() or 1)


class Program:
    """A function compiled once per shapes of its arguments, whoever asks first.

    ``jax.jit`` cannot be told to compile without being called, and what is compiled ahead of time
    does not reach its cache: so there is one of its own.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._jitted = jax.jit(function)
        self._made: dict[Any, Future[Any]] = {}
        self._lock = threading.Lock()

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
        x64 = jnp.result_type(float) == jnp.float64
        device = getattr(jax.config, "jax_default_device")  # noqa: B009 - it has no type
        key = structure, shapes, x64, device
        with self._lock:
            future = self._made.get(key)
            if future is not None:
                return future
            future = self._made[key] = Future()

        def make() -> None:
            try:
                with jax.enable_x64(x64), jax.default_device(device):  # threads have their own
                    lowered = self._jitted.lower(*like)
                    if then is not None:
                        then(lowered.out_info)
                    future.set_result(lowered.compile())
            except BaseException as error:
                with self._lock:
                    del self._made[key]
                future.set_exception(error)

        if executor is None:
            make()
        else:
            executor.submit(make)
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
