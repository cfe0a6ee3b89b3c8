"""Perturbations: against the oracles, and the same contract as the metrics."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_perturb as plain
import pytest
from helpers import blobs

from jaxte import InputError, perturb
from jaxte.metrics import sfda

X, Y = blobs(30, 8)
SOURCE = 0.5 + 1.5 * blobs(20, 8, seed=1).features
pytestmark = pytest.mark.usefixtures("x64")

Move = Callable[..., Any]
MOVES: dict[str, tuple[Move, Move]] = {
    "spread": (partial(perturb.spread, force=3.0), partial(plain.spread, force=3.0)),
    "attract": (
        partial(perturb.attract, alpha=0.1, sigma=1.1),
        partial(plain.attract, alpha=0.1, sigma=1.1),
    ),
    "attract-released": (
        partial(perturb.attract, alpha=0.1, sigma=1.1, variant="released"),
        partial(plain.attract, alpha=0.1, sigma=1.1, variant="released"),
    ),
    "pca": (partial(perturb.pca, num_components=5), lambda x, y: plain.pca(x, 5)),
    "ped": (partial(perturb.ped, nsigma=2.0), partial(plain.ped, nsigma=2.0)),
    "ped-of-source": (
        partial(perturb.ped, source_features=SOURCE),
        partial(plain.ped, source=SOURCE),
    ),
    "spread_attract": (
        partial(perturb.spread_attract, num_components=5),
        lambda x, y: plain.attract(plain.spread(plain.pca(x, 5), y), y),
    ),
    "spread_attract-no-pca": (
        partial(perturb.spread_attract, num_components=None, force=0.5),
        lambda x, y: plain.attract(plain.spread(x, y, force=0.5), y),
    ),
    "spread_attract-released": (
        partial(perturb.spread_attract, num_components=5, variant="released", gate=False),
        lambda x, y: plain.attract(plain.pca(x, 5), y, variant="released"),
    ),
}
each_move = pytest.mark.parametrize("name", MOVES)
ROWS, COLUMNS, CLASSES = 33, 11, 6


@cache
def compiled_move(name: str) -> Move:
    def call(x: jax.Array, y: jax.Array, w: jax.Array, d: jax.Array) -> jax.Array:
        moved: jax.Array = MOVES[name][0](x, y, weights=w, num_features=d, num_classes=CLASSES)
        return moved

    return jax.jit(call)


def padded_move(
    name: str, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Moved features of the rows given, padded with garbage rows, zero columns, absent classes."""
    n, d = x.shape
    features = np.full((ROWS, COLUMNS), np.nan)
    features[:n] = np.pad(x, ((0, 0), (0, COLUMNS - d)))
    labels = np.concatenate([y, np.full(ROWS - n, -3, np.int32)])
    w = np.concatenate([np.ones(n) if weights is None else weights, np.zeros(ROWS - n)])
    dtype = jnp.result_type(float)
    moved = compiled_move(name)(
        jnp.asarray(features, dtype), jnp.asarray(labels), jnp.asarray(w, dtype), jnp.asarray(d)
    )
    return np.asarray(moved)[:n]


def same(result: np.ndarray, expected: np.ndarray, atol: float = 1e-10) -> None:
    """Equal in the columns that there are, zero in the padding after them."""
    columns = expected.shape[1]
    np.testing.assert_allclose(result[:, :columns], expected, atol=atol)
    np.testing.assert_allclose(result[:, columns:], 0, atol=1e-12)


@each_move
def test_eager_is_the_oracle(name: str) -> None:
    move, oracle = MOVES[name]
    np.testing.assert_allclose(move(jnp.asarray(X), jnp.asarray(Y)), oracle(X, Y), atol=1e-10)


@each_move
def test_padding_moves_nobody(name: str, precision: str) -> None:
    expected = MOVES[name][1](X, Y)
    same(padded_move(name, X, Y), expected, atol=1e-10 if precision == "float64" else 1e-4)


@each_move
def test_an_absent_class_moves_nobody(name: str) -> None:
    gap = Y + (Y > 1).astype(np.int32)
    same(padded_move(name, X, gap), MOVES[name][1](X, Y))


@each_move
def test_integer_weights_repeat_rows(name: str) -> None:
    weights = np.arange(30) % 3
    moved = padded_move(name, X, Y, weights)
    expected = MOVES[name][1](*oracles.repeat_rows(X, Y, weights))
    same(np.repeat(moved, weights, axis=0), expected)


@each_move
def test_garbage_in_rows_of_weight_zero_moves_nobody(name: str) -> None:
    kept = np.arange(30) % 4 > 0
    spoiled = np.where(kept[:, None], X, np.nan)
    moved = padded_move(name, spoiled, np.where(kept, Y, -5).astype(np.int32), kept.astype(float))
    same(moved[kept], MOVES[name][1](X[kept], Y[kept]))


@each_move
def test_gradients_are_central_differences(name: str) -> None:
    rng = np.random.default_rng(0)
    pick, v = rng.normal(size=(30, COLUMNS)), rng.normal(size=X.shape)
    call = compiled_move(name)
    rest = (jnp.asarray(Y), jnp.linspace(0.5, 1.5, 30), jnp.asarray(8))

    @jax.jit
    def total(x: jax.Array) -> jax.Array:
        moved = call(jnp.pad(x, ((0, 0), (0, COLUMNS - 8))), *rest)
        return jnp.sum(moved * pick[:, : moved.shape[1]])

    gradient = jax.jit(jax.grad(total))(jnp.asarray(X))
    forward, backward = (float(total(jnp.asarray(X + s * v))) for s in (1e-6, -1e-6))
    numeric = (forward - backward) / 2e-6
    assert float(np.sum(np.asarray(gradient) * v)) == pytest.approx(numeric, rel=1e-5)


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


def test_ped_ends_where_little_is_left_to_move_and_where_nothing_overlaps() -> None:
    """A step of 1.2 mends 72 % of each overlap, so that the second is the last."""
    each: list[dict[str, Any]] = [{"time_step": 1.2}, {"exit_ratio": 0.99}, {"nsigma": 1e-3}]
    for options in each:
        expected = plain.ped(X, Y, **({"nsigma": 3.0} | options))
        moved = perturb.ped(jnp.asarray(X), jnp.asarray(Y), **({"nsigma": 3.0} | options))
        np.testing.assert_allclose(moved, expected, atol=1e-10)
    np.testing.assert_array_equal(moved, X)


def test_ped_leaves_classes_of_one_mean_together() -> None:
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.5, 0.5], [1, 1]])
    moved = perturb.ped(jnp.asarray(x), jnp.array([0, 0, 1, 1, 2, 2]), nsigma=2.0)
    assert np.all(np.isfinite(moved))
    np.testing.assert_allclose(moved[0] - x[0], moved[2] - x[2], atol=1e-12)
    assert np.abs(moved[0] - x[0]).max() > 1e-3


@pytest.mark.parametrize(
    "options", [{"nsigma": 0.0}, {"exit_ratio": 2.0}, {"source_features": np.ones((5, 7))}], ids=str
)
def test_ped_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        perturb.ped(X, Y, **options)


@pytest.mark.parametrize("number", [0, 2.5])
def test_components_are_a_whole_number(number: Any) -> None:
    for move in (lambda: perturb.pca(X, num_components=number),
                 lambda: perturb.spread_attract(X, Y, num_components=number)):  # fmt: skip
        with pytest.raises(InputError, match=f"num_components is {number}"):
            move()


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
    expected = plain.pca(x, min(asked, n - 1, d))
    np.testing.assert_allclose(z[:, : expected.shape[1]], expected, atol=1e-10)
    np.testing.assert_allclose(z[:, expected.shape[1] :], 0, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_released_gate_follows_the_two_largest_variances(scale: float) -> None:
    x = scale * X
    opened = plain.gate_value(x) > plain.GATE
    assert opened == (scale > 1)
    wrapped = perturb.with_perturbation(
        sfda, "spread_attract", variant="released", num_components=5
    )
    moved = plain.attract(plain.pca(x, 5), Y, variant="released") if opened else x
    result = float(wrapped(jnp.asarray(x), jnp.asarray(Y)))
    assert result == pytest.approx(oracles.sfda(moved, Y), rel=1e-8)


@each_move
def test_a_wrapped_metric_gets_moved_features_and_their_width(name: str) -> None:
    """Of padded features, and all that it was called with besides."""
    seen: dict[str, Any] = {}

    def metric(features: Any, labels: Any, **options: Any) -> float:
        seen.update(options, features=np.asarray(features))
        return 3.0

    move, oracle = MOVES[name]
    x, y, weights = np.pad(X, ((0, 3), (0, 2))), np.pad(Y, (0, 3)), np.arange(33) < 30
    wrapped = perturb.with_perturbation(metric, move)
    known: dict[str, Any] = {"num_classes": 4, "weights": weights}
    assert wrapped(x, y, num_features=8, variant="any", **known) == 3
    expected = oracle(X, Y)
    same(seen.pop("features")[:30], expected)
    assert int(seen.pop("num_features")) == expected.shape[1]
    assert seen == {"variant": "any", **known}


def test_a_metric_or_perturbation_may_leave_out_what_it_has_no_use_for() -> None:
    def total_variance(features: Any, labels: Any) -> Any:
        return jnp.cov(features.T).trace()

    def doubled(features: Any, labels: Any) -> Any:
        return 2 * features

    twice = perturb.with_perturbation(total_variance, doubled)
    assert float(twice(X, Y)) == pytest.approx(4 * float(total_variance(X, Y)), rel=1e-5)
    narrow = perturb.with_perturbation(total_variance, "pca", num_components=2)
    moved = np.asarray(perturb.pca(X, Y, num_components=2))
    assert float(narrow(X, Y)) == pytest.approx(np.cov(moved.T).trace(), rel=1e-5)
    with pytest.raises(InputError, match="doubled takes no weights"):
        twice(X, Y, weights=np.ones(30))
    with pytest.raises(InputError, match="no option 'zz'"):
        perturb.with_perturbation(total_variance, "pca", zz=3)
    with pytest.raises(InputError, match="perturb is None"):
        perturb.with_perturbation(total_variance, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["1", float("nan"), [1.0], 10**400, None], ids=str)
def test_strengths_are_finite_numbers(value: Any) -> None:
    x, y = blobs(12, 5, classes=3)
    for function, name in ((perturb.spread, "force"), (perturb.attract, "sigma")):
        call: Any = function
        with pytest.raises(InputError, match=f"{name} is"):
            call(x, y, **{name: value})


def test_whole_strengths_of_any_size() -> None:
    x, y = blobs(12, 5, classes=3)
    np.testing.assert_array_equal(
        perturb.spread(x, y, force=10**30), perturb.spread(x, y, force=1e30)
    )
