"""LogME by tridiagonal reduction: equal to the route by eigenvectors wherever it is sure."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import Array

from jaxte.metrics import logme
from jaxte.metrics.logme.metric import LOGME
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.ridge import _REDUCED

C = 4
SHAPES = {"tall": (216, 196), "wide": (196, 216)}


@cache
def compiled(route: str, classes: int | None) -> Callable[..., Any]:
    """One function for all data, so that every shape is compiled once."""

    @jax.jit
    def outputs(x: jax.Array, y: jax.Array, w: jax.Array) -> Any:
        statistics = Statistics(Sample(x, y, w), num_classes=classes, route=route)
        return LOGME.evaluate(statistics, LOGME.all_options({}))

    return outputs


def data(shape: str, task: str, case: str) -> tuple[Array, Array, Array]:
    """Few of the columns carry signal; the case makes the features or the targets difficult."""
    n, d = SHAPES[shape]
    random = np.random.default_rng(len(case))
    # columns that fade, or as many as rows would write out any targets exactly
    x, w = random.normal(size=(n, d)) / np.arange(1, d + 1), np.ones(n)
    y: Array = np.arange(n) % C
    if case == "absent class":
        y = np.where(y == 2, 0, y)
    x[:, 0] += y
    if task == "regression":
        y = x[:, :2] + 0.7 * random.normal(size=(n, 2))
    if case == "noise labels":
        y = random.permutation(y)
    if case == "offset":
        x += 1e4
    if case == "rank":
        x[:, d // 2 :] = x[:, : d - d // 2]
        x[:, -9:] = 0
    if case == "decaying":
        x = x @ np.linalg.qr(random.normal(size=(d, d)))[0] * np.logspace(0, -6, d)[None]
    if case in ("small", "large"):
        x *= 1e-6 if case == "small" else 1e6
    if case == "padding":
        w[-15:] = 0
        x[-15:] = np.nan
        y[-15:] = -3
        w[:10] = 2.5
    return x, y, w


CASES = ["plain", "noise labels", "offset", "rank", "decaying", "small", "large", "padding"]


@pytest.mark.parametrize("case", [*CASES, "absent class"])
@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ("tall", "classes"),
        ("wide", "classes"),
        ("tall", "regression"),
        pytest.param("wide", "regression", marks=pytest.mark.slow),
    ],
)
def test_the_quick_route_is_the_full_one(shape: str, task: str, case: str, x64: None) -> None:
    given = data(shape, task, case)
    classes = C if task == "classes" else None
    quick, full = (compiled(route, classes)(*given) for route in ("quick", "full"))
    assert not full["unsure"]
    # dependent columns, or fewer rows than columns and fewer still that count: all but an exact fit
    left = case in ("rank", "decaying") or (shape, case) == ("wide", "padding")
    assert left == bool(quick["unsure"])
    if left:
        sure = compiled("sure", classes)(*given)
        assert float(sure["score"]) == pytest.approx(float(full["score"]), rel=1e-12)
        return
    assert float(quick["score"]) == pytest.approx(float(full["score"]), rel=1e-10)
    assert bool(quick["bounded"]) == bool(full["bounded"])
    assert not quick["unconverged"]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exact_fit_is_left_to_the_eigenvectors(shape: str, x64: None) -> None:
    """Collapsed classes, and in the wide case targets that the features can write out."""
    n, d = SHAPES[shape]
    y = np.arange(n) % C
    x = np.eye(C, d)[y] + 1e-9 * np.random.default_rng(0).normal(size=(n, d))
    given = x, y, np.ones(n)
    quick, full = (compiled(route, C)(*given) for route in ("quick", "full"))
    assert quick["unsure"]
    assert not full["unsure"]
    expected = float(full["score"])
    assert float(compiled("sure", C)(*given)["score"]) == pytest.approx(expected, rel=1e-12)
    assert float(logme(x, y, num_classes=C)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_oracle_agrees(shape: str, x64: None) -> None:
    assert min(SHAPES[shape]) >= _REDUCED
    x, y, w = data(shape, "classes", "plain")
    found = float(compiled("quick", C)(x, y, w)["score"])
    assert found == pytest.approx(oracles.logme(x, y), rel=1e-8)


def test_many_models_at_once_are_a_loop(x64: None) -> None:
    """One of them is an exact fit, which must not decide the route of the others."""
    n, _ = SHAPES["tall"]
    (x, y, w), (z, *_) = data("tall", "classes", "plain"), data("tall", "classes", "rank")
    exact = np.eye(C, x.shape[1])[y] + 1e-9 * x
    pool = jnp.asarray(np.stack([x, exact, z]))
    one = partial(logme, num_classes=C, weights=np.ones(n))
    found = jax.jit(jax.vmap(one, in_axes=(0, None)))(pool, jnp.asarray(y))
    expected = [float(compiled("full", C)(model, y, w)["score"]) for model in pool]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
