"""LogME without eigenvectors, tridiagonal or by shifts: equal to these wherever it is sure."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import Array, golden_set

from jaxte.metrics import REGISTRY, logme
from jaxte.metrics.logme.metric import LOGME
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.ridge import _REDUCED
from jaxte.statistics.shifted import shifted_normal

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


# What may be left to eigenvectors: all but exact fits, penalties near the rounding of products.
LEFT = ("rank", "decaying", "offset", "padding", "noise labels")
TALL = ("breast_cancer_raw", "digits_mlp_self", "synthetic_collapsed", "synthetic_rank_deficient")
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
    source = data(shape, task, case)
    classes = C if task == "classes" else None
    quick, full = (compiled(route, classes)(*source) for route in ("quick", "full"))
    assert not full["unsure"]
    # dependent columns, or fewer rows than columns and fewer still that count: all but an exact fit
    left = case in ("rank", "decaying") or (shape, case) == ("wide", "padding")
    assert left == bool(quick["unsure"])
    if left:
        sure = compiled("sure", classes)(*source)
        assert float(sure["score"]) == pytest.approx(float(full["score"]), rel=1e-12)
        return
    assert float(quick["score"]) == pytest.approx(float(full["score"]), rel=1e-10)
    assert bool(quick["bounded"]) == bool(full["bounded"])
    assert not quick["unconverged"]


@pytest.mark.parametrize("case", [*CASES, "absent class"])
@pytest.mark.parametrize(("shape", "task"), [("tall", "classes"), ("wide", "classes")])
def test_the_route_of_accelerators_is_the_full_one(
    shape: str, task: str, case: str, x64: None
) -> None:
    """Of dependent columns, too, as long as the penalty stands clear of rounding."""
    source = data(shape, task, case)
    batched, full = (compiled(route, C)(*source) for route in ("batched", "full"))
    if batched["unsure"]:
        assert case in LEFT
        return
    assert float(batched["score"]) == pytest.approx(float(full["score"]), abs=1e-10)
    assert bool(batched["bounded"]) == bool(full["bounded"])
    assert not batched["unconverged"]


@pytest.mark.parametrize("name", TALL)
def test_shifts_and_eigenvectors_on_the_golden_sets(
    name: str, x64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their size; what is unsure is all but an exact fit, or blurred."""
    monkeypatch.setattr("jaxte.statistics.ridge._REDUCED", 1)
    x, y = golden_set(name)
    made = {
        route: jax.jit(partial(_outputs, route=route, classes=int(y.max()) + 1))(x.astype(float), y)
        for route in ("batched", "full")
    }
    assert bool(made["batched"]["unsure"]) == (name == "breast_cancer_raw")
    if name != "breast_cancer_raw":
        assert abs(float(made["batched"]["score"] - made["full"]["score"])) < 1e-10


def _outputs(x: jax.Array, y: jax.Array, route: str, classes: int) -> Any:
    statistics = Statistics(Sample(x, y), num_classes=classes, route=route)
    return LOGME.evaluate(statistics, LOGME.all_options({}))


def test_the_forms_between_the_nodes(x64: None) -> None:
    """At penalties of the window: against solving with each."""
    x, y, _ = data("tall", "classes", "plain")
    normal = jax.jit(lambda x, y: Statistics(Sample(x, y), num_classes=C).normal)(x, y)
    form = jax.jit(shifted_normal)(normal)
    assert bool(form.sure.all())
    energy = np.trace(normal.scatter) + float(normal.n) * float(normal.mean @ normal.mean)
    a, b, m = normal.scatter / energy, normal.cross / energy**0.5, normal.mean / energy**0.5
    points = np.linspace(float(form.low), float(form.high), 7)[1:-1]
    alike = form.at(jnp.asarray(points)[:, None])
    apart = form.at(jnp.broadcast_to(jnp.asarray(points)[:, None], (5, C)))
    for i, t in enumerate(np.exp(points)):
        solved = np.linalg.solve(a + t * np.eye(len(a)), np.column_stack([b, m]))
        logdet = np.linalg.slogdet(np.eye(len(a)) + np.asarray(a) / t)[1]
        for forms in (alike, apart):
            np.testing.assert_allclose(forms.logdet[i], logdet, 1e-10)
            np.testing.assert_allclose(forms.own[i], np.sum(b * solved[:, :-1], axis=0), 1e-9)
            np.testing.assert_allclose(forms.across[i], m @ solved[:, :-1], 1e-9, 1e-12)
            np.testing.assert_allclose(forms.mean[i], m @ solved[:, -1], 1e-9)


def test_noise_has_its_optimum_where_nothing_is_explained(x64: None) -> None:
    x, _, w = data("tall", "classes", "plain")
    y = np.random.default_rng(5).normal(size=(len(x), 3))
    batched, full = (compiled(route, None)(x, y, w) for route in ("batched", "full"))
    if not batched["unsure"]:
        assert float(batched["score"]) == pytest.approx(float(full["score"]), abs=1e-10)

    @jax.jit
    def endless(x: jax.Array, y: jax.Array) -> jax.Array:
        normal = Statistics(Sample(x, y), num_classes=None).normal
        assert normal is not None
        return shifted_normal(normal).endless

    assert bool(endless(x, y).any())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_probe_by_shifts(shape: str, x64: None) -> None:
    x, y, _ = data(shape, "classes", "plain")

    def outputs(x: jax.Array, y: jax.Array, route: str) -> Any:
        statistics = Statistics(Sample(x, y), num_classes=C, route=route)
        return REGISTRY["ridge_probe"].evaluate(statistics, {"measure": "log_likelihood"})

    batched, full = (jax.jit(partial(outputs, route=route))(x, y) for route in ("batched", "full"))
    assert not full["unsure"]
    if not batched["unsure"]:
        assert float(batched["score"]) == pytest.approx(float(full["score"]), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exact_fit_is_left_to_the_eigenvectors(shape: str, x64: None) -> None:
    """Collapsed classes, and in the wide case targets that the features can write out."""
    n, d = SHAPES[shape]
    y = np.arange(n) % C
    x = np.eye(C, d)[y] + 1e-9 * np.random.default_rng(0).normal(size=(n, d))
    source = x, y, np.ones(n)
    quick, batched, full = (compiled(route, C)(*source) for route in ("quick", "batched", "full"))
    assert quick["unsure"]
    assert batched["unsure"]
    assert not full["unsure"]
    expected = float(full["score"])
    assert float(compiled("sure", C)(*source)["score"]) == pytest.approx(expected, rel=1e-12)
    assert float(logme(x, y, num_classes=C)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_oracle_agrees(shape: str, x64: None) -> None:
    assert min(SHAPES[shape]) >= _REDUCED
    x, y, w = data(shape, "classes", "plain")
    result = float(compiled("quick", C)(x, y, w)["score"])
    assert result == pytest.approx(oracles.logme(x, y), rel=1e-8)


def test_many_models_at_once_are_a_loop(x64: None) -> None:
    """One of them is an exact fit, which must not decide the route of the others."""
    n, _ = SHAPES["tall"]
    (x, y, w), (z, *_) = data("tall", "classes", "plain"), data("tall", "classes", "rank")
    exact = np.eye(C, x.shape[1])[y] + 1e-9 * x
    pool = jnp.asarray(np.stack([x, exact, z]))
    one = partial(logme, num_classes=C, weights=np.ones(n))
    result = jax.jit(jax.vmap(one, in_axes=(0, None)))(pool, jnp.asarray(y))
    expected = [float(compiled("full", C)(model, y, w)["score"]) for model in pool]
    np.testing.assert_allclose(result, expected, rtol=1e-10)
