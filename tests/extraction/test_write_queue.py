"""What follows behind the batches: the writer's queue, and compiled code that is kept."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte.extraction._compiled import _BY_VALUE, cached
from jaxte.extraction._write_queue import WriteQueue
from jaxte.extraction.models import Model
from jaxte.runtime.programs import forget


@pytest.mark.parametrize("threaded", [True, False])
def test_tasks_are_done_in_order_and_all_of_them(threaded: bool) -> None:
    done: list[int] = []

    def task(number: int) -> None:
        time.sleep(0.002 * (5 - number))
        done.append(number)

    with WriteQueue(2, threaded=threaded) as queue:
        for number in range(5):
            queue.submit(task, number)
    assert done == list(range(5))


def test_no_more_wait_than_the_limit() -> None:
    go, begun = threading.Semaphore(0), threading.Semaphore(0)

    def task() -> None:
        begun.release()
        assert go.acquire(timeout=20)

    asked: list[int] = []

    def ask() -> None:
        with WriteQueue(2, threaded=True) as queue:
            for number in range(6):
                asked.append(number)
                queue.submit(task)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.acquire(timeout=20)
    for finished in range(3):
        deadline = time.monotonic() + 20
        while len(asked) < 3 + finished and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(asked) == 3 + finished  # the next one waits for room
        go.release()
    for _ in range(3):
        go.release()
    asking.join(20)
    assert not asking.is_alive()


@pytest.mark.parametrize("threaded", [True, False])
def test_after_a_failure_nothing_more_is_done(threaded: bool) -> None:
    done: list[int] = []

    def task(number: int) -> None:
        if number == 2:
            raise OSError("the disk is full")
        done.append(number)

    def work() -> None:
        with WriteQueue(3, threaded=threaded) as queue:
            for number in range(9):
                queue.submit(task, number)

    with pytest.raises(OSError, match="full"):
        work()
    assert done == [0, 1]


def test_an_error_of_the_body_goes_first_and_what_was_asked_for_is_done() -> None:
    done: list[int] = []

    def work() -> None:
        with WriteQueue(3, threaded=True) as queue:
            for number in range(3):
                queue.submit(done.append, number)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert done == [0, 1, 2]


@dataclass(frozen=True)
class Scaled:
    factor: float

    def __call__(self, params: Any, x: Any) -> dict[str, Any]:
        return {"last": self.factor * x}


def test_equal_functions_share_what_was_made_of_them_and_few_are_kept() -> None:
    made: list[float] = []

    def make(refer: Callable[[], Any]) -> float:
        made.append(refer().factor)
        return made[-1]

    for _ in range(2):
        for factor in (1.0, 2.0):
            assert cached(Scaled(factor), "test", make) == factor
    assert made == [1.0, 2.0]
    for factor in range(50):
        cached(Scaled(factor), "test", make)
    assert len(_BY_VALUE) <= 16
    cached(Scaled(1.0), "test", make)
    assert made[-1] == 1.0  # made again


def test_threads_share_what_was_made_while_others_forget_it() -> None:
    def make(refer: Callable[[], Any]) -> float:
        return float(refer().factor)

    def ask(number: int) -> None:
        if number % 7 == 0:
            forget()
        factor = float(number % 40)
        assert cached(Scaled(factor), "threads", make) == factor

    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(ask, range(4000)):
            pass


def test_a_function_that_closes_over_its_weights_is_let_go() -> None:
    def model(weights: np.ndarray) -> Callable[[Any], Any]:
        return lambda x: jnp.tanh(x @ weights)

    apply = model(np.ones((3, 2), np.float32))
    jaxte.extract(apply, [(np.ones((4, 3), np.float32), np.arange(4))])
    gone = weakref.ref(apply)
    del apply
    gc.collect()
    assert gone() is None


def test_a_function_that_cannot_be_referred_to_weakly() -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self, params: Any, x: Any) -> dict[str, Any]:
            return {"last": x}

    net = Model("net", Slotted(), ("last",))
    store = jaxte.extract(net, [(np.ones((4, 3), np.float32), np.arange(4))])
    assert store.shape == (4, 3)
