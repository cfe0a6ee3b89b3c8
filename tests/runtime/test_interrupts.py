"""Whatever interrupts a ranking, nothing is left running and the next one works."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import interrupt_worker
import numpy as np
import pytest

import jaxte
from jaxte.ranking import buckets, pool
from jaxte.ranking.plan import ScoringPlan
from jaxte.runtime import programs, threads

WORKER = Path(__file__).parent / "interrupt_worker.py"
HOW = ("signal", "cell", "exit", "worker", "consumer")


def interrupt(rounds: int, enough: int, *ways: str) -> dict[str, int]:
    """How often each way to interrupt did, in so many rounds or until it did often enough."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # else hardly any of it is compilation
    worker = subprocess.run(
        [sys.executable, str(WORKER), str(rounds), str(enough), *ways],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert worker.returncode == 0, worker.stderr
    return {how: int(count) for how, count in map(str.split, worker.stdout.splitlines())}


def test_at_any_point() -> None:
    counts = interrupt(20, 3, *HOW)
    assert tuple(counts) == HOW
    assert all(count == 3 for count in counts.values()), counts


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("how", HOW)
def test_at_many_points(how: str) -> None:
    assert interrupt(100, 100, how)[how] > 25


class _StoppedError(BaseException):
    """Neither an error nor the user's wish."""


@pytest.fixture
def kinds() -> Iterator[dict[str, np.ndarray]]:
    programs.forget()  # so that there is something to compile
    y = np.arange(50) % 3
    yield {f"{n}": np.random.default_rng(n).normal(size=(50, n)) + y[:, None] for n in (4, 20, 40)}
    assert not interrupt_worker.at_work()
    assert not threads._users


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, _StoppedError, RuntimeError])
@pytest.mark.parametrize("streamed", [False, True])
def test_what_a_progress_function_raises_is_raised_and_ends_the_work(
    error: type[BaseException],
    streamed: bool,
    kinds: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buckets, "_COMPILATION", 0)  # a program for each

    def stop(done: int, total: int | None, label: str) -> None:
        if done >= 1:
            raise error

    y = np.arange(50) % 3
    source = {name: [x] if streamed else x for name, x in kinds.items()}
    with pytest.raises(error) as kept:  # with its traceback, as a notebook keeps it
        jaxte.rank(source, y, metrics="face", progress=stop)
    assert not interrupt_worker.at_work()
    assert not threads._users
    assert len(jaxte.rank(kinds, y, metrics="face").order("face")) == 3
    del kept


def test_who_loses_interest_ends_the_work() -> None:
    programs.forget()
    plan = ScoringPlan((interrupt_worker.TOY,), {}, 3)
    with closing(pool.score(plan, interrupt_worker.POOL, memory_limit=1 << 20)) as results:
        next(iter(results))
    assert not interrupt_worker.at_work()
    assert not threads._users
