"""The ridge probe against ridge regressions fitted once for every row that is left out."""

from typing import Any

import jax
import numpy as np
import pytest
from helpers import Array, blobs, regression
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

import jaxte
from jaxte.metrics import ridge_probe


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def penalty(x: Array, y: Array) -> float:
    """Of largest restricted likelihood, from the eigenvalues of the rows' products."""
    x, y = x - x.mean(0), y - y.mean(0)
    values, vectors = np.linalg.eigh(x @ x.T)
    values, along = np.maximum(values, 0), (vectors.T @ y) ** 2

    def loss(u: float) -> float:
        t = np.exp(u) * values.sum()
        left = (along * (t / (t + values))[:, None]).sum(0)
        log_likelihood = (len(x) - 1) * np.log(left).sum() + y.shape[1] * np.log1p(values / t).sum()
        return float(log_likelihood)

    best = minimize_scalar(loss, bounds=(-20, 5), method="bounded", options={"xatol": 1e-12}).x
    return float(np.exp(best) * values.sum())


def left_out(x: Array, y: Array, t: float) -> Array:
    """Each row as a ridge regression of all others predicts it."""
    predictions = np.zeros_like(y)
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        x_mean, y_mean = x[others].mean(0), y[others].mean(0)
        a, b = x[others] - x_mean, y[others] - y_mean
        weights = np.linalg.solve(a.T @ a + t * np.eye(x.shape[1]), a.T @ b)
        predictions[row] = y_mean + (x[row] - x_mean) @ weights
    return predictions


@pytest.mark.parametrize(("n", "d"), [(60, 9), (30, 44)])
def test_classes(n: int, d: int) -> None:
    """Above and below n = d: log likelihood at the best sharpness, and accuracy."""
    x, labels = blobs(n, d, separation=1.5, offset=4.0, seed=2)
    y = np.eye(4)[labels]
    predictions, prior = left_out(x, y, penalty(x, y)), y.mean(0)

    def loss(log_sharpness: float) -> float:
        logits = np.exp(log_sharpness) * (predictions - prior) + np.log(prior)
        return -float(log_softmax(logits, axis=1)[np.arange(n), labels].mean())

    best = minimize_scalar(loss, bounds=(-2, 6), method="bounded", options={"xatol": 1e-9})
    # a quintic between points half apart, tried at 65 places
    assert float(ridge_probe(x, labels)) == pytest.approx(-best.fun, abs=2e-5)
    accuracy = (predictions.argmax(1) == labels).mean()
    assert float(ridge_probe(x, labels, measure="accuracy")) == pytest.approx(accuracy)


@pytest.mark.parametrize(("n", "d"), [(50, 7), (24, 40)])
def test_regression(n: int, d: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) + 3
    y = x[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(n, 3))
    errors = y - left_out(x, y, penalty(x, y))
    trivial = (y - y.mean(0)) * n / (n - 1)
    r2 = 1 - (errors**2).sum(0) / (trivial**2).sum(0)
    assert float(ridge_probe(x, y)) == pytest.approx(r2.mean(), abs=1e-8)


def test_targets_that_do_not_vary_say_nothing() -> None:
    x, y = regression(60, 5)
    y = y.reshape(60, -1)[:, :1]
    for odd in (3.0, 1e6, 0.0):
        both = float(ridge_probe(x, np.append(y, np.full((60, 1), odd), axis=1)))
        assert both == pytest.approx(float(ridge_probe(x, y)), rel=1e-9)
    assert np.isnan(float(ridge_probe(x, np.full((60, 2), 3.0))))


def test_noise_scores_as_the_class_frequencies_alone_however_wide() -> None:
    """Where LogME and SFDA rise with the width."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, 120)
    prior = np.bincount(labels) / len(labels)
    entropy = -float(prior @ np.log(prior))
    for d in (10, 100, 400):
        score = float(ridge_probe(rng.normal(size=(120, d)), labels))
        assert -entropy - 1e-9 <= score <= -entropy + 0.05


def test_one_more_metric_of_a_pool_changes_no_other() -> None:
    """Shared statistics: alone and beside others the scores are the same."""
    x, labels = blobs(80, 12, seed=4)
    models = {"m": x, "wide": np.tile(x, (1, 20)) + np.random.default_rng(0).normal(size=(80, 240))}
    alone = jaxte.rank(models, labels, metrics="ridge_probe")
    beside = jaxte.rank(models, labels, metrics=["logme", "ridge_probe"])
    for name in models:
        expected = alone.score(name, "ridge_probe")
        assert beside.score(name, "ridge_probe") == pytest.approx(expected, rel=1e-12)


def test_unknown_measure() -> None:
    with pytest.raises(jaxte.InputError, match="log_likelihood"):
        ridge_probe(*blobs(30, 4), measure="brier")
