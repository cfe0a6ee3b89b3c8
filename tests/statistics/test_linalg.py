"""Factorisations against NumPy, by every route that a size or a precision takes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Array

from jaxte.statistics import linalg
from jaxte.statistics.reduction import reduce

RANDOM = np.random.default_rng(3)


def symmetric(d: int) -> Array:
    rows = np.random.default_rng(d).normal(size=(d + 3, d))
    product: Array = rows.T @ rows
    return product


@jax.jit
def reduced(a: Any, vector: Any = None) -> tuple[Any, ...]:
    form = reduce(jnp.asarray(a), None if vector is None else jnp.asarray(vector))
    one = jnp.eye(len(a))
    return form.diagonal, form.below, form.turned(one), form.back(one), form.along


@pytest.mark.parametrize("d", [1, 2, 64, 65, 200])
def test_a_tridiagonal_reduction_is_undone_by_its_own_rotation(d: int, x64: None) -> None:
    a = symmetric(d)
    vector = np.arange(1.0, d + 1)
    diagonal, below, rotation, back, length = reduced(a, vector)
    q = np.asarray(rotation).T
    np.testing.assert_allclose(back, q, atol=1e-13 * d)
    along = np.eye(d)[0] * length
    np.testing.assert_allclose(q.T @ vector, along, atol=1e-13 * d * np.abs(vector).max())
    t = np.diag(diagonal) + np.diag(below, -1) + np.diag(below, 1)
    np.testing.assert_allclose(q.T @ q, np.eye(d), atol=1e-13 * d)
    np.testing.assert_allclose(q @ t @ q.T, a, atol=1e-13 * d * np.abs(a).max())


def test_a_reduction_of_a_matrix_that_is_reduced_already(x64: None) -> None:
    a = np.diag(np.arange(5.0))
    diagonal, below, rotation, *_ = reduced(a)
    q = np.asarray(rotation).T
    np.testing.assert_allclose(q @ (np.diag(diagonal) + np.diag(below, -1)) @ q.T, a, atol=1e-15)


def thresholds(monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    """Let a small matrix take the route of a large one."""
    reorder, halve = {"plain": (2e9, 1e10), "ordered": (0, 1e10), "halved": (0, 0)}[route]
    monkeypatch.setattr(linalg, "_REORDER", reorder)
    monkeypatch.setattr(linalg, "_HALVE", halve)


@pytest.mark.parametrize("route", ["plain", "ordered", "halved"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gram(route: str, weighted: bool, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """The value, and the derivative of the plain formula, also in weights that are 0."""
    thresholds(monkeypatch, route)
    x, dx = (RANDOM.normal(size=(9, 7)).astype(precision) for _ in range(2))
    w, dw = np.arange(9.0, dtype=precision), RANDOM.normal(size=9).astype(precision)

    def formula(x: Any, w: Any) -> Any:
        return jnp.einsum("ni,n,nj->ij", x, w, x, precision="highest")

    own, one = (linalg.gram, formula) if weighted else (lambda x, w: linalg.gram(x), formula)
    if not weighted:
        w, dw = np.ones_like(w), np.zeros_like(dw)
    result = jax.jit(lambda *a: jax.jvp(own, a[:2], a[2:]))(x, w, dx, dw)
    expected = jax.jvp(one, (x, w), (dx, dw))
    tolerance = 1e-13 if precision == "float64" else 1e-5
    for ours, plain in zip(result, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=tolerance, atol=10 * tolerance)
        np.testing.assert_allclose(ours, ours.T, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("strips", [1024, 6])
@pytest.mark.parametrize("condition", [1e1, 1e8])
def test_ridge_solve_in_double_precision(
    strips: int, condition: float, monkeypatch: pytest.MonkeyPatch, x64: None
) -> None:
    """From rows or from their scatter, with a factor in one piece or in strips of 3 or 4 rows."""
    monkeypatch.setattr(linalg, "_STRIPS", strips)
    for n, d in ((40, 15), (15, 40)):
        check_ridge(n, d, condition, n >= d, np.float64, 1e-16 * condition)


@pytest.mark.parametrize(
    "condition",
    [pytest.param(4.0, id="harmless"), pytest.param(3e2, id="mended"), pytest.param(1e6, id="QR")],
)
@pytest.mark.parametrize("known", [True, False])
def test_ridge_solve_in_single_precision(condition: float, known: bool) -> None:
    """The error is what the condition of the rows explains, the root of the matrix's."""
    check_ridge(40, 15, condition, known, np.float32, 2e-8 * np.sqrt(condition))


def check_ridge(n: int, d: int, condition: float, known: bool, dtype: Any, error: float) -> None:
    """Against NumPy in float64, within a hundred times the error to be expected."""
    ridge, scale = 1.0, 0.3
    left, _, right = np.linalg.svd(RANDOM.normal(size=(n, d)), full_matrices=False)
    values = np.sqrt(np.geomspace(ridge * condition / scale, ridge, min(n, d)))
    r = (left * values) @ right
    w = RANDOM.uniform(0.5, 1.5, size=n)
    w[3] = 0
    b = RANDOM.normal(size=(d, 2))
    r, w, b = (part.astype(dtype) for part in (r, w, b))
    double = r.astype(np.float64)
    a = scale * double.T @ (w.astype(np.float64)[:, None] * double)
    expected = np.linalg.solve(a + ridge * np.eye(d), b.astype(np.float64))
    scatter = jnp.asarray(double.T @ (w[:, None] * double), dtype) if known else None
    rows, weights, factor, constant, rhs = (
        jnp.asarray(part, dtype) for part in (r, w, scale, ridge, b)
    )
    solve = jax.jit(lambda *parts: linalg.ridge_solve(*parts))  # anew, as thresholds are set
    result = np.asarray(solve(rows, weights, factor, constant, rhs, scatter))
    assert np.abs(result - expected).max() <= 100 * error * np.abs(expected).max()


def test_ridge_solve_of_a_scatter_alone(monkeypatch: pytest.MonkeyPatch, x64: None) -> None:
    for strips in (1024, 6):
        monkeypatch.setattr(linalg, "_STRIPS", strips)
        a, b = symmetric(15), RANDOM.normal(size=(15, 3))
        solve = jax.jit(lambda *parts: linalg.ridge_solve_scatter(*parts))  # anew
        result = solve(jnp.asarray(a), jnp.asarray(0.7), jnp.asarray(0.1), jnp.asarray(b))
        expected = np.linalg.solve(0.7 * a + 0.1 * np.eye(15), b)
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("strips", [1024, 6])
def test_a_factor_knows_that_there_is_none(
    strips: int, monkeypatch: pytest.MonkeyPatch, x64: None
) -> None:
    monkeypatch.setattr(linalg, "_STRIPS", strips)
    lengths: list[int] = []

    @jax.jit
    def condition(a: jax.Array) -> jax.Array:
        factor = linalg.factor_of(a)
        lengths.append(len(factor.strips))
        return factor.condition

    assert np.isnan(condition(jnp.asarray(symmetric(9) - 50 * np.eye(9))))
    assert 1 < float(condition(jnp.asarray(symmetric(9)))) < 1e6
    assert lengths == [1 if strips > 9 else 4]


@pytest.mark.parametrize("q", [1, 2, 7, 64, 65, 130])
def test_the_inverse_of_a_lower_triangular_matrix(q: int, x64: None) -> None:
    scales = 10 ** np.linspace(0, -5, q)
    lower = np.linalg.cholesky(scales[:, None] * symmetric(q) * scales[None])
    inverse = jax.jit(linalg.inverse_of_lower)(lower)
    np.testing.assert_allclose(inverse @ lower, np.eye(q), atol=1e-12)
    assert not np.triu(inverse, 1).any()
