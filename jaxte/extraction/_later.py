"""Work that follows behind: in order, so much at most, errors brought to light."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

__all__ = ["Later"]


class Later:
    """Does one thing after the other, in a thread of its own or when room is needed.

    After a failure nothing more is done. Leaving the context waits for what was asked for; an
    error of the body goes before one of a task.

    Args:
        limit: of tasks that may be waiting; who asks for more waits too.
        threaded: whether tasks are done in another thread, as those that wait for a disk.
    """

    def __init__(self, limit: int, *, threaded: bool) -> None:
        self._limit = limit
        self._pending: deque[Callable[[], None]] = deque()
        self._broken = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jaxte") if threaded else None

    def do(self, task: Callable[..., None], *arguments: Any) -> None:
        """Do this after what was asked for before.

        Raises:
            Exception: what an earlier task raised.
        """
        call: Callable[[], None] = partial(task, *arguments)
        if self._thread is not None:
            call = self._thread.submit(self._run, call).result
        self._pending.append(call)
        while len(self._pending) > self._limit:
            self._pending.popleft()()

    def wait(self) -> None:
        """Until everything is done.

        Raises:
            Exception: what a task raised.
        """
        while self._pending:
            self._pending.popleft()()

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

    def _run(self, call: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            call()
        except BaseException:
            self._broken = True
            raise
