"""The tridiagonal form that metrics share: spectra and leading axes as eigenvectors give them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Array
from jax.test_util import check_grads

import jaxte
from jaxte.statistics import Sample, Statistics, pseudo
from jaxte.statistics.pseudo import pseudo_solve
from jaxte.statistics.spectrum import leading

C = 3
SHAPES = {"tall": (230, 196), "wide": (196, 230)}
CASES = ("plain", "offset", "rank", "constant", "absent rows")


def data(shape: str, case: str) -> tuple[Array, Array, Array]:
    n, d = SHAPES[shape]
    random = np.random.default_rng(len(case))
    x, y, w = random.normal(size=(n, d)) / np.arange(1, d + 1), np.arange(n) % C, np.ones(n)
    x[:, :C] += np.eye(C)[y]
    if case == "offset":
        x += 50
    if case == "rank":
        x[:, 20:] = x[:, :20] @ random.normal(size=(20, d - 20))
    if case == "constant":
        x[:, 5], x[:, 7] = 50.0, 0.0
    if case == "absent rows":
        x[:15], w[:15], w[20:40] = 1e3, 0.0, 2.0
    return x, y, w


@jax.jit
def spectra(x: jax.Array, y: jax.Array, w: jax.Array) -> dict[str, Any]:
    def of(route: str) -> tuple[Any, Any]:
        statistics = Statistics(Sample(x, y, w), num_classes=C, route=route)
        assert (statistics.reduced is None) == (route == "full")
        return statistics.eigenvalues, statistics.gram_eigenvalues

    return {route: of(route) for route in ("quick", "full")}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_spectra_from_one_reduction(shape: str, case: str, x64: None) -> None:
    result = spectra(*data(shape, case))
    for quick, full in zip(result["quick"], result["full"], strict=True):
        assert quick.shape == full.shape
        np.testing.assert_allclose(quick, full, rtol=1e-9, atol=1e-13 * float(full[0]))
        assert int((quick > 0).sum()) == int((full > 0).sum())


@pytest.mark.parametrize("case", ["decaying", "alike", "rank"])
def test_leading_axes(case: str, x64: None) -> None:
    """Of eigenvalues that are alike any basis does; the space and the values are those of eigh."""
    d, number = 300, 12
    values = {
        "decaying": 0.9 ** np.arange(d),
        "alike": np.repeat([3.0, 2.0, 1.0], [5, 7, d - 12]),
        "rank": np.where(np.arange(d) < 8, 1.0, 0.0),
    }[case]
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    a = (basis * values) @ basis.T
    result, axes = jax.jit(leading, static_argnums=1)(jnp.asarray(a + a.T) / 2, number)
    np.testing.assert_allclose(result, values[:number], atol=1e-12)
    np.testing.assert_allclose(axes.T @ axes, np.eye(number), atol=1e-12)
    kept = int((values[:number] > 0).sum())
    space = basis[:, :kept]
    np.testing.assert_allclose(axes[:, :kept] @ axes[:, :kept].T, space @ space.T, atol=1e-10)


@pytest.mark.parametrize(
    "case", ["sound", "duplicates", "hardly dependent", "zero rows", "centred"]
)
def test_pseudo_solve(case: str, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cholesky only where it is sound: with and without it the answers are the same."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(90, 40))
    if case == "duplicates":
        rows[:, 9] = rows[:, 8]
    if case == "dependent":
        rows[:, 9] = rows[:, 8] + 1e-4 * rows[:, 10]
    if case == "zero rows":
        rows[:, 9:12] = 0
    null = None
    if case == "centred":
        rows -= rows.mean(axis=1, keepdims=True)
        null = jnp.full(40, 40**-0.5)
    a, b = jnp.asarray(rows.T @ rows), jnp.asarray(rows.T @ random.normal(size=(90, 3)))
    result = []
    for small in (0, 1000):
        monkeypatch.setattr(pseudo, "_SMALL", small)
        result.append(pseudo_solve(a, b, jnp.asarray(40.0), null))
    one, other = result
    assert int(one.rank) == int(other.rank) == np.linalg.matrix_rank(rows)
    np.testing.assert_allclose(one.solution, other.solution, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(one.half.T @ one.half, other.half.T @ other.half, rtol=1e-9)
    np.testing.assert_allclose(one.solution, np.linalg.pinv(np.asarray(a)) @ b, atol=1e-9)


@pytest.mark.parametrize("shape", [(900, 200), (150, 300)])
def test_hscore_of_float32_loses_no_direction(shape: tuple[int, int]) -> None:
    """Of a spectrum that ends a hundred thousand times below its start."""
    n, d = shape
    random = np.random.default_rng(5)
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    x = (random.normal(size=(n, d)) * np.geomspace(1, 3e-3, d)) @ turn
    y = np.arange(n) % C
    one, other = (
        jaxte.rank({"m": x}, y, metrics="hscore", precision=precision).score("m", "hscore")
        for precision in ("float32", "float64")
    )
    assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("case", ["sound", "centred", "hardly dependent", "zero rows", "taller"])
def test_pseudo_inverse(case: str, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerator's way through products gives what singular values do, side by side, too."""
    x = np.random.default_rng(3).normal(size=(6, 40))
    if case == "centred":
        x -= x.mean(axis=0)
    if case == "hardly dependent":  # by less than products can tell
        x[3] = x[2] + 1e-4 * x[4]
    if case == "zero rows":
        x[1] = 0
    if case == "taller":
        x = x.T
    expected = np.linalg.pinv(x, rcond=1e-5)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, default, **_: default(*x))
    inverse = partial(pseudo.pseudo_inverse, cut=1e-5)
    both = jax.jit(jax.vmap(inverse))(jnp.stack([x, 2 * x]))
    size = np.abs(expected).max()
    np.testing.assert_allclose(both[0], expected, atol=1e-9 * size)
    np.testing.assert_allclose(both[1], expected / 2, atol=1e-9 * size)
    if case in ("sound", "taller"):
        check_grads(inverse, (x,), order=1, modes=["fwd", "rev"])


def test_a_pool_that_shares_it_scores_as_the_metrics_alone(x64: None) -> None:
    n, d = 260, 258
    x, y = np.random.default_rng(2).normal(size=(n, d)) / np.arange(1, d + 1), np.arange(n) % C
    x[:, :C] += np.eye(C)[y]
    names = ("logme", "hscore", "rankme", "alpha_req", "ncti", "parc")
    ranking = jaxte.rank({"m": x}, y, metrics=names, precision="float64")
    for name in names:
        alone = float(getattr(jaxte.metrics, name)(x, y))
        terms = ranking.terms("m", name)
        shared = ranking.score("m", name)
        if name == "ncti":  # which a pool of one brings to 0
            shared = terms["feature_nuc"] + terms["cls_conf"] - terms["log_class_pred_nuc"]
        assert shared == pytest.approx(alone, rel=1e-9), name
