"""Functions compiled ahead: the same values, compiled once, and errors that are not kept."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte import pool
from jaxte._programs import Program, side_by_side


def test_it_is_the_function_and_compiles_once() -> None:
    traced = []

    def double(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return 2 * x

    program = Program(double)
    x = np.arange(3, dtype=np.float32)
    with side_by_side() as executor:
        shapes = []
        program.start(executor, x, then=lambda out: shapes.append(out.shape))
        program.start(executor, x)
        for _ in range(2):
            np.testing.assert_array_equal(program(x), 2 * x)
    assert traced == [(3,)]
    assert shapes == [(3,)]
    np.testing.assert_array_equal(program(jnp.asarray(x)), 2 * x)  # on its device, by jit


def test_both_precisions_are_kept_apart() -> None:
    program = Program(lambda x: x + jnp.zeros(()))
    x = np.ones(3, np.float32)
    with jax.enable_x64(True):
        double = program(x).dtype
    assert (program(x).dtype, double) == (jnp.float32, jnp.float64)


def test_threads_work_in_the_precision_of_the_caller() -> None:
    program = Program(lambda x: x + jnp.zeros(()))
    x = np.ones(3, np.float32)
    with side_by_side() as executor, jax.enable_x64(True):
        assert program.start(executor, x).result()(x).dtype == jnp.float64


def test_a_failure_is_raised_and_may_be_mended() -> None:
    broken = threading.Event()
    broken.set()

    def fragile(x: jax.Array) -> jax.Array:
        if broken.is_set():
            raise ValueError("not yet")
        return x

    program, x = Program(fragile), np.ones(2)
    with side_by_side() as executor, pytest.raises(ValueError, match="not yet"):
        program.start(executor, x).result()
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
    monkeypatch.setattr(pool, "_COMPILATION", 0)  # else these are too small to be kept apart
    given = [pool.Candidate(name, x, y, None) for name, x in features.items()]
    assert len(pool.buckets(given)) == 4
    together = jaxte.rank(features, y)
    for name, x in features.items():
        alone = jaxte.rank({name: x}, y)
        for metric in together.metrics:
            expected = alone.score(name, metric)
            assert together.score(name, metric) == pytest.approx(expected, rel=1e-9), metric


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices have no such threads")
def test_no_lapack_call_of_a_pool_is_batched(x64: None) -> None:
    """Batched ones wait inside the threads that they need: two on two cores never end."""
    metrics = tuple(jaxte.metrics.get_metric(name) for name in ("logme", "sfda", "face"))
    task = pool.Task(metrics, {}, 3, None)
    program = pool._compiled_for(task, True, True, True, True)
    like = [
        jax.ShapeDtypeStruct(shape, kind)
        for shape, kind in (((4, 60, 16), np.float64), ((60,), np.int32), ((4,), np.int64))
    ]
    text = program._jitted.lower(like[0], like[1], None, like[2]).as_text()
    calls = [line for line in text.splitlines() if "@lapack_" in line]
    assert calls
    for call in calls:
        first = call[call.rindex(" : (") :].partition("tensor<")[2].partition(">")[0]
        assert first.count("x") == 2, call  # rows x columns x type
