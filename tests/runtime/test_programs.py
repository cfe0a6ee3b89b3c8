"""Functions compiled ahead: the same values, compiled once, and errors that are not kept."""

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info

import jaxte
from jaxte.ranking import buckets, plan, pool
from jaxte.runtime import programs
from jaxte.runtime.mesh import layout_of
from jaxte.runtime.programs import CPU_COMPILE, FAST_COMPILE, Program, forget, in_context
from jaxte.runtime.threads import Threads, one_blas_thread
from jaxte.statistics import Sample, Statistics


def test_it_is_the_function_and_compiles_once() -> None:
    traced = []

    def double(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return 2 * x

    program = Program(double)
    x = np.arange(3, dtype=np.float32)
    with ThreadPoolExecutor(4) as executor:
        for _ in range(8):
            executor.submit(program.compiled, x)
        for _ in range(2):
            np.testing.assert_array_equal(program(x), 2 * x)
    assert traced == [(3,)]
    np.testing.assert_array_equal(program(jnp.asarray(x)), 2 * x)
    assert traced == [(3,)]
    np.testing.assert_array_equal(program(jax.device_put(x, jax.devices()[0])), 2 * x)


def test_the_shapes_of_the_result_are_known_before_it_is_compiled() -> None:
    program, x = Program(lambda x: x[:2]), np.arange(3.0)
    assert program.shapes(x).shape == (2,)
    np.testing.assert_array_equal(program(x), x[:2])


def test_both_precisions_are_kept_apart() -> None:
    program = Program(lambda x: x + jnp.zeros(()))
    x = np.ones(3, np.float32)
    with jax.enable_x64(True):
        double = program(x).dtype
    assert (program(x).dtype, double) == (jnp.float32, jnp.float64)


def test_threads_work_in_the_precision_of_the_caller() -> None:
    program = Program(lambda x: x + jnp.zeros(()))
    x = np.ones(3, np.float32)
    with jax.enable_x64(True), Threads(1) as threads:
        threads.submit("key", in_context(lambda: program(x)))
        key, actual = threads.result()
    assert (key, actual.dtype) == ("key", jnp.float64)


def test_a_failure_is_raised_and_may_be_mended() -> None:
    broken = threading.Event()
    broken.set()

    def fragile(x: jax.Array) -> jax.Array:
        if broken.is_set():
            raise ValueError("not yet")
        return x

    program, x = Program(fragile), np.ones(2)
    for _ in range(2):
        with pytest.raises(ValueError, match="not yet"):
            program(x)
    broken.clear()
    np.testing.assert_array_equal(program(x), x)


def test_a_pool_of_several_shapes_scores_as_its_models_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Widths on both sides of what the search behind LogME is cut off for."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    features = {}
    for d in (20, 210, 500, 770):
        features[f"m{d}"] = (rng.normal(size=(400, d)) / np.arange(1, d + 1)).astype(np.float32)
        features[f"m{d}"][:, 0] += y
    monkeypatch.setattr(buckets, "_COMPILATION", 0)  # else these are too small to be kept apart
    source = [pool.Candidate(name, x, y, None) for name, x in features.items()]
    assert len(pool.buckets(source)) == 4
    together = jaxte.rank(features, y, metrics="logme")
    for name, x in features.items():
        expected = jaxte.rank({name: x}, y, metrics="logme").score(name, "logme")
        assert together.score(name, "logme") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("options", [CPU_COMPILE, FAST_COMPILE, {"no_such_option": 1}])
def test_how_it_is_compiled_does_not_change_what_it_gives(options: Mapping[str, Any]) -> None:
    """Options that a release of JAX does not know are left out."""
    x = np.linspace(0.1, 2, 60, dtype=np.float32).reshape(6, 10)
    source = Program(lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(6)), options)(x)
    np.testing.assert_allclose(source, np.linalg.cholesky(x @ x.T + np.eye(6)), rtol=1e-5)


def test_only_the_last_executables_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a megabyte or two."""
    monkeypatch.setattr(programs, "_KEPT", 3)
    forget()
    program = Program(lambda x: x + 1)
    one, two, three = (program.compiled(np.ones(size)) for size in (1, 2, 3))
    assert program.compiled(np.ones(1)) is one
    program.compiled(np.ones(4))
    assert program.compiled(np.ones(1)) is one
    assert program.compiled(np.ones(2)) is not two
    assert program.compiled(np.ones(3)) is not three
    assert len(programs._made) == 3
    forget()
    assert not programs._made


def test_blas_has_its_threads_back_once_nobody_needs_them_kept() -> None:
    def threads() -> list[int]:
        loaded = threadpool_info()
        return [one["num_threads"] for one in loaded if one["user_api"] == "blas"]

    np.eye(2) @ scipy.linalg.inv(np.eye(2))
    before = threads()
    with one_blas_thread():
        with one_blas_thread():
            pass
        assert set(threads()) == {1}
    assert threads() == before


def test_many_small_pools_in_several_threads_come_to_an_end(x64: None) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    pools = [{f"{i}": rng.normal(size=(60, 16)) + i * y[:, None] for i in range(4)}] * 24
    expected = jaxte.rank(pools[0], y)
    with ThreadPoolExecutor(4) as executor:
        for actual in executor.map(lambda pool: jaxte.rank(pool, y), pools):
            for metric in expected.metrics:
                assert actual.order(metric) == expected.order(metric)


def test_an_option_that_is_an_array_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(Statistics):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            made.append(1)
            super().__init__(*arguments, **keywords)

    monkeypatch.setattr(plan, "Statistics", Counted)
    rng = np.random.default_rng(0)
    features = {f"{i}": rng.normal(size=(60, 8)) for i in range(5)}
    for shrinkage in (0.25, 0.5):
        options = {"sfda": {"shrinkage": np.array(shrinkage)}}
        ranking = jaxte.rank(features, np.arange(60) % 3, metrics="sfda", options=options)
        assert ranking.score("0", "sfda") > 0
    assert len(made) <= 4  # two shared statistics, the metric, and its full route


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices have no such threads")
def test_no_lapack_call_of_a_pool_is_batched(x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batched ones wait inside the threads that they need: two on two cores never end."""
    metrics = tuple(jaxte.metrics.get_metric(name) for name in ("logme", "sfda", "face"))
    layout = layout_of(jax.make_mesh((1,), ("models",)))
    task = plan.ScoringPlan(metrics, {}, 3, None, layout)
    sample = Sample(
        layout.place(np.zeros((4, 60, 16)), "models"),
        layout.place(np.zeros(60, np.int32)),
        layout.place(np.ones((4, 60)), "models"),
        layout.place(np.full(4, 16), "models"),
    )
    lowered: list[str] = []

    def lower(self: Program, *like: Any) -> Any:
        lowered.append(self.lowered(*like).as_text())
        return original(self, *like)

    original = Program.compiled
    monkeypatch.setattr(Program, "compiled", lower)
    task.run({"sample": sample}, plan.Form(stacked=True, one_weight=False), "quick", metrics)
    text = "\n".join(lowered)
    calls = [line for line in text.splitlines() if "@lapack_" in line]
    assert calls
    for call in calls:
        first = call[call.rindex(" : (") :].partition("tensor<")[2].partition(">")[0]
        assert first.count("x") == 2, call  # rows x columns x type


# --- mappings of memory ---------------------------------------------------------------------------


def _mapped() -> int:
    gc.collect()
    return programs._mappings()


def _problem(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(n).normal(size=(n, 6)), np.arange(n) % 3


def _ranked(n: int, **options: Any) -> float:
    x, y = _problem(n)
    return jaxte.rank({"m": x}, y, metrics="face", **options).score("m", "face")


def _streamed(n: int) -> float:
    x, y = np.random.default_rng(n).normal(size=(60, n)), np.arange(60) % 3
    return jaxte.rank({"m": [x[:30], x[30:]]}, y, metrics="face").score("m", "face")


def _on_a_mesh(n: int) -> float:
    return _ranked(n, mesh=jax.make_mesh((1,), ("samples",)))


ROUTES: dict[str, Callable[[int], float]] = {
    "memory": _ranked,
    "mesh": _on_a_mesh,
    "perturbed": lambda n: _ranked(n, perturb="pca"),
    "streamed": _streamed,
    "metric": lambda n: float(jaxte.metrics.face(*_problem(n))),
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts mappings")


@linux
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_forgotten_gives_its_mappings_back(route: str) -> None:
    score = ROUTES[route]
    score(20)
    forget()
    before = _mapped()
    first = score(21)
    grown = _mapped() - before
    assert grown > 10
    forget()
    assert _mapped() - before < grown / 3
    assert score(21) == first


@linux
@pytest.mark.parametrize("route", ROUTES)
def test_programs_go_before_the_mappings_are_used_up(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget()
    room = 120
    monkeypatch.setattr(programs, "_OFTEN", 1)
    monkeypatch.setattr(programs._watch, "most", _mapped() + 2 * room)
    monkeypatch.setattr(programs._watch, "bound", _mapped() + room)
    dropped = []

    def drop(kept: int) -> None:
        dropped.append(kept)
        forget(kept)

    monkeypatch.setattr(programs, "forget", drop)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # that of last resort
    for n in range(24, 220, 7):
        ROUTES[route](n)
        if dropped:
            break
    assert dropped
    assert _mapped() < programs._watch.most


@linux
def test_where_others_use_the_mappings_up_the_caches_of_jax_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cleared: list[int] = []
    monkeypatch.setattr(programs, "_OFTEN", 1)
    monkeypatch.setattr(programs._watch, "most", _mapped() + 10)
    monkeypatch.setattr(programs._watch, "bound", 0)
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    jax.jit(lambda x: x * 3)(np.ones(7, np.float32))
    assert cleared


@linux
@pytest.mark.slow
@pytest.mark.long
def test_three_hundred_shapes_in_one_call() -> None:
    """Of which each takes some hundred mappings: in a process of its own, which may crash."""
    code = (
        "import numpy as np, jaxte; from jaxte.runtime import programs\n"
        "y = {str(n): np.arange(n) % 3 for n in range(40, 340)}\n"
        "x = {k: np.random.default_rng(0).normal(size=(len(v), 6)) for k, v in y.items()}\n"
        "found = jaxte.rank(x, y)\n"
        "assert all(len(found.order(m)) == 300 for m in found.metrics)\n"
        "assert programs._mappings() < programs._watch.most * 3 // 4\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)
