"""Work that follows behind in a thread: in order, so much at most, errors brought to light."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

__all__ = ["Later"]


class Later:
    """A thread that does one thing after the other.

    After a failure nothing more is done. Leaving the context waits for what was asked for; an
    error of the body goes before one of the thread.

    Args:
        limit: of tasks that may be waiting; who asks for more waits too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pending: deque[Future[None]] = deque()
        self._broken = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jaxte")

    def do(self, task: Callable[..., None], *arguments: Any) -> None:
        """Do this after what was asked for before.

        Raises:
            Exception: what an earlier task raised.
        """
        self._pending.append(self._thread.submit(self._run, task, arguments))
        while len(self._pending) > self._limit:
            self._pending.popleft().result()

    def wait(self) -> None:
        """Until everything is done.

        Raises:
            Exception: what a task raised.
        """
        while self._pending:
            self._pending.popleft().result()

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
            self._thread.shutdown(wait=True)

    def _run(self, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._broken:
            return
        try:
            task(*arguments)
        except BaseException:
            self._broken = True
            raise
