"""The cores of a CPU, shared between models instead of between the parts of one.

Factorisations of one model keep little more than one core busy, and the threads of LAPACK wait
for each other by spinning, on cores that others need. Two models side by side, each with one
thread of LAPACK, take a fifth to a half less time than one after the other.
"""

from __future__ import annotations

import _thread
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeAlias

__all__ = ["Threads", "cores", "one_blas_thread"]

# Where Linux says to which control groups a process belongs, and what these may use.
_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may keep busy: of the machine, its affinity, its container."""
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1  # Python 3.13 has the first
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    return max(1, math.ceil(min(count, _quota(_GROUPS, _LIMITS))))


def _quota(groups: Path, limits: Path) -> float:
    """The least quota, in cores, of the control groups (version 1 or 2) that hold this process."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = limits / "cpu" if controllers else limits
        group = root / path.lstrip("/")  # in a container it may be the root, whatever its path
        for folder in (group, *group.parents):
            least = min(least, _quota_at(folder))
            if folder == root:
                break
    return least


def _quota_at(folder: Path) -> float:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # none is set here ("max"), or it may not be read
        return math.inf


_Job: TypeAlias = tuple[Any, Callable[[], Any]]


class Threads:
    """A few threads that take jobs in order, and end with the block whatever interrupts it.

    `concurrent.futures` and `threading.Thread` share locks written in Python with their threads.
    An interrupt comes at any bytecode: where it comes just after such a lock was taken, the
    threads wait for it for ever. Here are only queues and locks in C, which are taken or are not.
    """

    def __init__(self, count: int) -> None:
        self._count, self._begun = count, 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        self._working: list[threading.Lock] = []  # one a thread, which it holds until it ends

    def submit(self, key: Any, job: Callable[[], Any]) -> None:
        """Do this in one of the threads."""
        self._jobs.put((key, job))
        if self._begun < self._count:
            self._begin()

    def result(self) -> tuple[Any, Any]:
        """Wait for any job: its key, and what it returned, or the `Exception` that it raised."""
        while True:
            try:
                key, result = self._results.get(timeout=1)
            except Empty:
                if not any(lock.locked() for lock in self._working):
                    self._begin()  # an interrupt ended one before it took a job
                continue
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
            return key, result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what has not begun, and wait for what has."""
        try:
            while True:
                self._jobs.get_nowait()
        except Empty:
            pass
        for __ in range(self._begun + self._count):  # one job may still ask for more threads
            self._jobs.put(None)
        for lock in tuple(self._working):
            with lock:
                pass

    def _begin(self) -> None:
        self._begun += 1
        _thread.start_new_thread(_work, (self._jobs, self._results, self._working))


def _work(
    jobs: SimpleQueue[_Job | None],
    results: SimpleQueue[tuple[Any, Any]],
    working: list[threading.Lock],
) -> None:
    """Do jobs until there is None; what else ends a thread is a result."""
    lock = threading.Lock()
    try:
        with lock:
            working.append(lock)
            while (job := jobs.get()) is not None:
                key, function = job
                try:
                    result = function()
                except Exception as error:
                    result = error
                results.put((key, result))
                del job, key, function, result  # nothing is kept while waiting for the next
    except BaseException as error:
        results.put((None, error))


_lock = threading.Lock()
_users: set[object] = set()
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS and LAPACK to one thread a call, in the whole process, until the last user ends."""
    global _limit
    import scipy.linalg  # noqa: F401 - the LAPACK that JAX calls, which must be there to be limited
    from threadpoolctl import threadpool_limits

    user = object()
    try:
        with _lock:
            _users.add(user)
            if _limit is None:
                _limit = threadpool_limits(1, user_api="blas")
        yield
    finally:
        with _lock:
            _users.discard(user)
            if not _users and _limit is not None:
                _limit.restore_original_limits()
                _limit = None
