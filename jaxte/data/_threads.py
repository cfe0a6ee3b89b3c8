"""Work done ahead by a few threads, handed out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_order(make: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """``map(make, items)`` by ``workers`` threads, at most ``workers + 1`` results ahead.

    The first item is made alone, so that what ``make`` sets up lazily is set up by one thread.
    An error comes where its result would have come; then, or when the caller loses interest,
    what has not begun is dropped.
    """
    if workers == 0:
        yield from map(make, items)
        return
    left = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="jaxte-data")
    try:
        ahead: deque[Future[Made]] = deque(pool.submit(make, item) for item in islice(left, 1))
        for first in tuple(ahead):
            first.exception()  # waits
        ahead.extend(pool.submit(make, item) for item in islice(left, workers))
        while ahead:
            made = ahead.popleft().result()
            ahead.extend(pool.submit(make, item) for item in islice(left, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
