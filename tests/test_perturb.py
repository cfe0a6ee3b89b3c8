"""Perturbations: against the oracles, and the same contract as the metrics."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import blobs

from jaxte import perturb
from jaxte.metrics import REGISTRY

X, Y = blobs(30, 8)
pytestmark = pytest.mark.usefixtures("x64")

Move = Callable[..., Any]
MOVES: dict[str, tuple[Move, Move]] = {
    "spread": (perturb.spread, oracles.spread),
    "spread-strong": (
        lambda x, y, **k: perturb.spread(x, y, force=3.0, **k),
        lambda x, y: oracles.spread(x, y, force=3.0),
    ),
    "attract": (perturb.attract, oracles.attract),
    "attract-strong": (
        lambda x, y, **k: perturb.attract(x, y, alpha=0.1, sigma=1.1, **k),
        lambda x, y: oracles.attract(x, y, alpha=0.1, sigma=1.1),
    ),
    "attract-released": (
        lambda x, y, **k: perturb.attract(x, y, alpha=0.1, sigma=1.1, variant="released", **k),
        lambda x, y: oracles.attract(x, y, alpha=0.1, sigma=1.1, variant="released"),
    ),
    "pca": (
        lambda x, y, **k: perturb.pca(x, y, num_components=5, **k),
        lambda x, y: oracles.pca(x, 5),
    ),
    "pca-all": (lambda x, y, **k: perturb.pca(x, y, **k), lambda x, y: oracles.pca(x)),
    "spread_attract": (
        lambda x, y, **k: perturb.spread_attract(x, y, num_components=5, **k),
        lambda x, y: oracles.attract(oracles.spread(oracles.pca(x, 5), y), y),
    ),
    "spread_attract-no-pca": (
        lambda x, y, **k: perturb.spread_attract(x, y, num_components=None, **k),
        lambda x, y: oracles.attract(oracles.spread(x, y), y),
    ),
    "spread_attract-released": (
        lambda x, y, **k: perturb.spread_attract(
            x, y, num_components=5, variant="released", gate=False, **k
        ),
        lambda x, y: oracles.attract(oracles.pca(x, 5), y, variant="released"),
    ),
}
each_move = pytest.mark.parametrize(("move", "oracle"), MOVES.values(), ids=MOVES.keys())


@each_move
def test_oracle(move: Move, oracle: Move) -> None:
    np.testing.assert_allclose(move(jnp.asarray(X), jnp.asarray(Y)), oracle(X, Y), atol=1e-10)


@each_move
def test_oracle_in_single_precision(move: Move, oracle: Move) -> None:
    with jax.enable_x64(False):
        found = move(jnp.asarray(X, jnp.float32), jnp.asarray(Y))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, oracle(X, Y), atol=1e-4)


@each_move
def test_jit_is_eager(move: Move, oracle: Move) -> None:
    jitted = jax.jit(lambda x, y: move(x, y, num_classes=4))
    np.testing.assert_allclose(jitted(X, Y), move(X, Y), atol=1e-12)


@each_move
def test_integer_weights_repeat_rows(move: Move, oracle: Move) -> None:
    weights = np.arange(30) % 3
    moved = np.asarray(move(jnp.asarray(X), jnp.asarray(Y), weights=jnp.asarray(weights)))
    expected = oracle(*oracles.repeat_rows(X, Y, weights))
    np.testing.assert_allclose(np.repeat(moved, weights, axis=0), expected, atol=1e-10)


@each_move
def test_garbage_in_rows_of_weight_zero_moves_nobody(move: Move, oracle: Move) -> None:
    kept = np.arange(30) % 4 > 0
    spoiled = np.where(kept[:, None], X, np.nan)
    labels = np.where(kept, Y, -5)
    moved = np.asarray(move(jnp.asarray(spoiled), jnp.asarray(labels), weights=jnp.asarray(kept)))
    np.testing.assert_allclose(moved[kept], oracle(X[kept], Y[kept]), atol=1e-10)


@each_move
def test_zero_columns_stay_zero(move: Move, oracle: Move) -> None:
    wide = np.pad(X, ((0, 0), (0, 3)))
    moved = np.asarray(move(jnp.asarray(wide), jnp.asarray(Y), num_features=8))
    expected = oracle(X, Y)
    columns = expected.shape[1]
    np.testing.assert_allclose(moved[:, :columns], expected, atol=1e-10)
    np.testing.assert_allclose(moved[:, columns:], 0, atol=1e-12)


@each_move
def test_an_absent_class_moves_nobody(move: Move, oracle: Move) -> None:
    gap = Y + (Y > 1)
    np.testing.assert_allclose(
        move(jnp.asarray(X), jnp.asarray(gap), num_classes=7), oracle(X, Y), atol=1e-10
    )


def test_a_row_on_its_class_mean_stays_where_it_is() -> None:
    x = X.copy()
    x[4] = x[np.flatnonzero((Y[4] == Y) & (np.arange(30) != 4))].mean(axis=0)
    moved = perturb.spread(jnp.asarray(x), jnp.asarray(Y))
    assert np.all(np.isfinite(moved))
    gradient = jax.grad(lambda v: perturb.spread(v, jnp.asarray(Y), num_classes=4).sum())(
        jnp.asarray(x)
    )
    assert np.all(np.isfinite(gradient))


def test_a_singleton_class_does_not_spread() -> None:
    y = np.append(Y[:-1], 4).astype(np.int32)
    moved = perturb.spread(jnp.asarray(X), jnp.asarray(y))
    np.testing.assert_allclose(moved[-1], X[-1], atol=1e-12)


def test_coinciding_class_means_do_not_attract() -> None:
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [5, 5], [6, 6]])
    moved = perturb.attract(jnp.asarray(x), jnp.array([0, 0, 1, 1, 2, 2]), alpha=0.1)
    assert np.all(np.isfinite(moved))
    np.testing.assert_allclose(moved[0] - x[0], moved[2] - x[2], atol=1e-12)


def test_attract_moves_toward_or_away_as_named() -> None:
    """Two tight classes, 4 apart: released pushes them further, the paper pulls them together."""
    x = np.array([[-2.0, 0.1], [-2.0, -0.1], [2.0, 0.1], [2.0, -0.1]])
    y = np.array([0, 0, 1, 1])
    step = 0.1 * (4 - 0.6 * 0.2)
    for variant, sign in (("paper", 1), ("released", -1)):
        moved = perturb.attract(jnp.asarray(x), jnp.asarray(y), alpha=0.1, variant=variant)
        np.testing.assert_allclose(moved[:, 0] - x[:, 0], sign * step * np.array([1, 1, -1, -1]))
        np.testing.assert_allclose(moved[:, 1], x[:, 1], atol=1e-12)


def test_pca_axes_have_a_sign_and_fall_in_variance() -> None:
    z = np.asarray(perturb.pca(jnp.asarray(X), num_components=5))
    assert z.shape == (30, 5)
    assert np.all(np.diff(z.var(axis=0)) < 0)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(
        perturb.pca(jnp.asarray(X[::-1].copy()), num_components=5)[::-1], z, atol=1e-10
    )


@pytest.mark.parametrize(("n", "d", "asked"), [(30, 8, 64), (5, 20, 64), (30, 8, 3)])
def test_pca_width(n: int, d: int, asked: int) -> None:
    """Never more columns than the features have; directions without variance are zero."""
    x, y = blobs(n, d, classes=2)
    z = np.asarray(perturb.pca(jnp.asarray(x), jnp.asarray(y), num_components=asked))
    assert z.shape == (n, min(d, asked))
    expected = oracles.pca(x, min(asked, n - 1, d))
    np.testing.assert_allclose(z[:, : expected.shape[1]], expected, atol=1e-10)
    np.testing.assert_allclose(z[:, expected.shape[1] :], 0, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_released_gate_follows_the_two_largest_variances(scale: float) -> None:
    x = scale * X
    opened = oracles.gate_value(x) > oracles.GATE
    assert opened == (scale > 1)
    wrapped = perturb.with_perturbation(
        REGISTRY["sfda"], perturb.spread_attract, variant="released", num_components=5
    )
    moved = oracles.attract(oracles.pca(x, 5), Y, variant="released") if opened else x
    found = float(wrapped.function(jnp.asarray(x), jnp.asarray(Y)))
    assert found == pytest.approx(oracles.sfda(moved, Y), rel=1e-8)


def test_wrapped_metric_scores_the_moved_features() -> None:
    for name, metric in REGISTRY.items():
        wrapped = perturb.with_perturbation(metric, perturb.spread, force=0.5)
        moved = perturb.spread(jnp.asarray(X), jnp.asarray(Y), force=0.5)
        expected = float(metric.function(moved, jnp.asarray(Y)))
        assert float(wrapped.function(jnp.asarray(X), jnp.asarray(Y))) == pytest.approx(expected)
        assert wrapped.name != name
        assert name in wrapped.name
        assert "spread" in wrapped.name
