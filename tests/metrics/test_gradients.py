"""Derivatives in features and weights: finite, and equal to central differences in float64."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PLAIN_CASES, SHAPES, Case, compiled, problem_of

pytestmark = pytest.mark.usefixtures("x64")
STEP = 1e-5
CASES = [
    *((c, "tall") for c in PLAIN_CASES),
    *((c, "wide") for c in PLAIN_CASES),
    *((c, "regression") for c in PLAIN_CASES if c.metric == "logme"),
]
each_case = pytest.mark.parametrize(
    ("case", "kind"), CASES, ids=[f"{c.label}-{kind}" for c, kind in CASES]
)


@cache
def differentiated(label: str, kind: str) -> Callable[..., Any]:
    case = next(c for c in PLAIN_CASES if c.label == label)
    return jax.jit(jax.value_and_grad(compiled(case, SHAPES[kind][2]), argnums=(0, 2)))


def inputs(kind: str) -> tuple[jax.Array, ...]:
    """Padded as a pool pads: zero columns, garbage rows of weight 0; the other weights differ.

    In the wide case they stay below 1: there the features reach every target exactly, and a row
    that counts more than once makes the evidence unbounded, so that it has no derivative.
    """
    x, y = problem_of(kind)
    rows, width, _ = SHAPES[kind]
    n, d = x.shape
    features = np.full((rows, width), np.nan)
    features[:n] = np.pad(x, ((0, 0), (0, width - d)))
    weights = np.zeros(rows)
    weights[:n] = np.linspace(0.55, 0.95 if kind == "wide" else 1.6, n)
    targets = np.concatenate([y, np.zeros((rows - n, *y.shape[1:]), y.dtype)])
    return tuple(map(jnp.asarray, (features, targets, weights, d)))


@each_case
def test_gradients_are_central_differences(case: Case, kind: str) -> None:
    x, y, w, d = inputs(kind)
    n = len(problem_of(kind).features)
    call = compiled(case, SHAPES[kind][2])
    value, (by_features, by_weights) = differentiated(case.label, kind)(x, y, w, d)
    assert np.isfinite(value)
    assert np.all(np.isfinite(by_features))
    assert np.all(np.isfinite(by_weights[:n]))
    assert np.all(np.asarray(by_features[n:]) == 0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        v, u = np.zeros(x.shape), np.zeros(len(w))
        v[:n, : int(d)] = rng.normal(size=(n, int(d)))
        u[:n] = rng.normal(size=n)
        v, u = v / np.linalg.norm(v), u / np.linalg.norm(u)
        forward, backward = (call(x + s * v, y, w, d) for s in (STEP, -STEP))
        numeric = float(forward - backward) / (2 * STEP)
        assert float(jnp.sum(by_features * v)) == pytest.approx(numeric, rel=1e-5, abs=1e-7)
        forward, backward = (call(x, y, w + s * u, d) for s in (STEP, -STEP))
        numeric = float(forward - backward) / (2 * STEP)
        assert float(jnp.sum((by_weights * u)[:n])) == pytest.approx(numeric, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda c: c.label)
def test_gradients_of_rank_deficient_features_are_finite(case: Case) -> None:
    """Repeated singular values: eigenvectors have no derivative there, the scores have."""
    x, y, w, d = inputs("tall")
    x = x.at[:, 3].set(x[:, 2]).at[:36, 4].set(0.0)
    value, (by_features, by_weights) = differentiated(case.label, "tall")(x, y, w, d)
    assert np.isfinite(value)
    assert np.all(np.isfinite(by_features))
    assert np.all(np.isfinite(by_weights[:36]))
