"""Scores a small pool again and again, interrupted at random, and after each time once in peace.

Run as a script with a number of rounds, how many interrupts are enough, and ways to interrupt: it
says how often it did in each, or, where anything waits for ever, where that is, and exits with 1.
"""

import ctypes
import faulthandler
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxte
from jaxte.metrics import Metric
from jaxte.ranking import pool
from jaxte.ranking.plan import ScoringPlan
from jaxte.runtime import programs, threads
from jaxte.statistics import Statistics

RANDOM = random.Random(0)


def score(statistics: Statistics, completed: Any) -> dict[str, jax.Array]:
    x = statistics.rows.features
    unsure = (statistics.route == "quick") & (x[0, 0] > 0)
    return {"score": jnp.linalg.cholesky(x.T @ x + jnp.eye(x.shape[1])).sum(), "unsure": unsure}


# cheap to compile, with shared statistics and scores that have to be made again
TOY = Metric(
    name="toy",
    function=jaxte.metrics.logme,
    score=lambda statistics, completed, **_: score(statistics, completed),
    needs=frozenset({"rows", "measured"}),
)
Y = np.arange(60) % 3
POOL = [
    pool.Candidate(f"{n}", np.random.default_rng(n).normal(size=(n, 16)), Y[:n], None)
    for n in range(40, 43)
]


def scores(interrupt: Callable[[], None] = lambda: None) -> dict[str, Any]:
    plan = ScoringPlan((TOY,), {}, 3)
    actual = {}
    for done, (_, name, result) in enumerate(pool.score(plan, POOL, memory_limit=1 << 20)):
        actual[name] = result
        if done == 1:
            interrupt()
    return actual


def at_work() -> list[int]:
    """The threads of a pool."""

    def whose(frame: Any) -> Iterator[Any]:
        while frame is not None:
            yield frame.f_code
            frame = frame.f_back

    code = threads._work.__code__
    return [one for one, frame in sys._current_frames().items() if code in whose(frame)]


def raised_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


@contextmanager
def interrupted(how: str, delay: float) -> Iterator[Callable[[], None]]:
    """What the consumer is to do after a few models; meanwhile an interrupt may come."""
    main = threading.get_ident()

    def fail() -> None:
        raise KeyboardInterrupt

    def in_a_worker() -> None:
        threads = at_work()
        if threads:
            raised_in(RANDOM.choice(threads), SystemExit)

    timers = {
        "cell": lambda: raised_in(main, KeyboardInterrupt),
        "exit": lambda: raised_in(main, SystemExit),
        "worker": in_a_worker,
    }
    timer = threading.Timer(delay, timers.get(how, lambda: None))
    if how == "signal":
        signal.setitimer(signal.ITIMER_REAL, delay)
    timer.start()
    try:
        yield fail if how == "consumer" else lambda: None
        timer.join()
        time.sleep(0.001)  # one that is late comes here
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        timer.cancel()


def main(rounds: int, enough: int, *ways: str) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    expected = scores()
    programs.forget()
    started = time.perf_counter()
    scores()
    takes = time.perf_counter() - started
    for how in ways:
        sys.stdout.write(f"{how} {count(how, rounds, enough, takes, expected)}\n")


def count(how: str, rounds: int, enough: int, takes: float, expected: dict[str, Any]) -> int:
    """How often the rounds were interrupted; each leaves nothing behind."""
    ended = 0
    for _ in range(rounds):
        if ended == enough:
            break
        faulthandler.dump_traceback_later(30, exit=True)
        programs.forget()
        try:
            with interrupted(how, RANDOM.uniform(0, takes)) as interrupt:
                scores(interrupt)
        except (KeyboardInterrupt, SystemExit):
            ended += 1
        for _ in range(100):  # one that has not come to a job yet ends at once
            if not at_work():
                break
            time.sleep(0.01)
        assert not at_work()
        assert how == "worker" or all(one.shapes is not None for one in programs._made.values())
        assert not threads._users
        assert scores() == expected
    faulthandler.cancel_dump_traceback_later()
    return ended


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
