"""Derivatives in features and weights: finite, and equal to central differences in float64."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PERTURBED_CASES, PLAIN_CASES, Case, blobs, compiled, regression

pytestmark = pytest.mark.usefixtures("x64")
STEP = 1e-5
PROBLEMS = {
    "tall": blobs(30, 6, separation=1.0),
    "wide": blobs(9, 20, classes=3, separation=1.0),
    "regression": regression(30, 6),
}
CASES = [
    *((c, "tall") for c in PLAIN_CASES + PERTURBED_CASES),
    *((c, "wide") for c in PLAIN_CASES),
    *((c, "regression") for c in PLAIN_CASES if c.metric == "logme"),
]
each_case = pytest.mark.parametrize(
    ("case", "kind"), CASES, ids=[f"{c.label}-{kind}" for c, kind in CASES]
)


@cache
def differentiated(label: str, kind: str) -> Callable[..., Any]:
    case = next(c for c, _ in CASES if c.label == label)
    return jax.jit(jax.value_and_grad(compiled(case, PROBLEMS[kind].num_classes), argnums=(0, 2)))


def inputs(kind: str) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Two zero columns and three garbage rows of weight 0, as in a padded pool."""
    x, y = PROBLEMS[kind]
    n, d = x.shape
    features = np.full((n + 3, d + 2), np.nan)
    features[:n] = np.pad(x, ((0, 0), (0, 2)))
    weights = np.concatenate([np.linspace(0.7, 1.6, n), np.zeros(3)])
    targets = np.concatenate([y, np.zeros(3, y.dtype)])
    return jnp.asarray(features), jnp.asarray(targets), jnp.asarray(weights), jnp.asarray(d)


@each_case
def test_gradients_are_central_differences(case: Case, kind: str) -> None:
    x, y, w, d = inputs(kind)
    call = compiled(case, PROBLEMS[kind].num_classes)
    value, (by_features, by_weights) = differentiated(case.label, kind)(x, y, w, d)
    assert np.isfinite(value)
    assert np.all(np.isfinite(by_features[:-3]))
    assert np.all(np.isfinite(by_weights[:-3]))
    assert np.all(np.asarray(by_features[-3:]) == 0)
    rng = np.random.default_rng(0)
    for _ in range(2):
        v = np.zeros(x.shape)
        v[:-3, :-2] = rng.normal(size=(x.shape[0] - 3, x.shape[1] - 2))
        v = jnp.asarray(v / np.linalg.norm(v))
        moved = [call(jnp.where(w[:, None] > 0, x + s * v, x), y, w, d) for s in (STEP, -STEP)]
        numeric = float(moved[0] - moved[1]) / (2 * STEP)
        analytic = float(jnp.sum(by_features * v))
        assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-7)
        u = np.zeros(len(w))
        u[:-3] = rng.normal(size=len(w) - 3)
        u = jnp.asarray(u / np.linalg.norm(u))
        moved = [call(x, y, w + s * u, d) for s in (STEP, -STEP)]
        numeric = float(moved[0] - moved[1]) / (2 * STEP)
        analytic = float(jnp.sum((by_weights * u)[:-3]))
        assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda c: c.label)
def test_gradients_of_rank_deficient_features_are_finite(case: Case) -> None:
    """Repeated singular values: eigenvectors have no derivative there, the scores have."""
    x, y, w, d = inputs("tall")
    x = x.at[:, 3].set(x[:, 2]).at[:, 4].set(0.0)
    value, gradients = differentiated(case.label, "tall")(x, y, w, d)
    assert np.isfinite(value)
    for g in gradients:
        assert np.all(np.isfinite(np.asarray(g)[:-3]))
