"""The cores of a CPU, shared between models instead of between the parts of one.

Factorisations of one model keep little more than one core busy, and the threads of LAPACK wait
for each other by spinning, on cores that others need. Two models side by side, each with one
thread of LAPACK, take a fifth to a half less time than one after the other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["WORKERS", "Budget", "one_blas_thread"]

WORKERS = os.cpu_count() or 1


class Budget:
    """Bytes that threads may hold between them; who asks for more than all waits to be alone."""

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Wait for so many bytes, and give them back in the end."""
        size = min(size, self._limit)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


_lock = threading.Lock()
_users = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS and LAPACK to one thread a call, in the whole process, until the last user ends."""
    global _users, _limit
    import scipy.linalg  # noqa: F401 - the LAPACK that JAX calls, which must be there to be limited
    from threadpoolctl import threadpool_limits

    with _lock:
        if _users == 0:
            _limit = threadpool_limits(1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limit.restore_original_limits()
                _limit = None
