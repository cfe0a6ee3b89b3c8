"""A queue of writes that follows the forward passes: in order, bounded, errors raised."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

__all__ = ["WriteQueue"]


class WriteQueue:
    """Runs one task after the other, in a thread of its own or when room is needed.

    After a failure no task is run. Leaving the context waits for the tasks in the queue; an error
    of the body goes before one of a task.

    Args:
        limit: of tasks that may be waiting; `submit` waits for room.
        threaded: whether tasks run in another thread, as those that wait for a disk.
    """

    def __init__(self, limit: int, *, threaded: bool) -> None:
        self._limit = limit
        self._pending: deque[Callable[[], None]] = deque()
        self._broken = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jaxte") if threaded else None

    def submit(self, task: Callable[..., None], *arguments: Any) -> None:
        """Add a task; raises what an earlier one raised."""
        call: Callable[[], None] = partial(task, *arguments)
        if self._thread is not None:
            call = self._thread.submit(self._run, call).result
        self._pending.append(call)
        self._drain(self._limit)

    def wait(self) -> None:
        """Until the queue is empty; raises what a task raised."""
        self._drain(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=True)

    def _drain(self, size: int) -> None:
        while len(self._pending) > size:
            self._pending.popleft()()

    def _run(self, call: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            call()
        except BaseException:
            self._broken = True
            raise
