"""Heads against SciPy's minimiser and the closed form of ridge, by folds, wide and narrow."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from jaxte.race.heads import fit_heads

N, CLASSES = 60, 3


def problem(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(width)
    labels = np.arange(N) % CLASSES
    features = rng.normal(size=(N, width)) * rng.uniform(0.5, 2, width) + 3
    features[:, :CLASSES] += 1.5 * np.eye(CLASSES)[labels]
    return features, labels, rng.permutation(N) % 4


def standardised(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean(0)) / x.std(0))


@pytest.mark.parametrize("width", [5, 90])
def test_logistic_heads_minimise_the_penalised_loss(width: int) -> None:
    features, labels, fold = problem(width)
    targets = np.eye(CLASSES)[labels]
    heads = fit_heads(features, targets, fold, regression=False)
    rows = fold != 1
    x = np.column_stack([standardised(features), np.full(N, 10.0)])[rows]

    def loss(flat: np.ndarray) -> float:
        kernel = flat.reshape(-1, CLASSES)
        logits = x @ kernel
        fit = (logsumexp(logits, axis=1) - (logits * targets[rows]).sum(1)).mean()
        return float(fit + heads.penalty / 2 * (kernel**2).sum())

    best = minimize(loss, np.zeros((width + 1) * CLASSES), method="L-BFGS-B")
    own = heads.kernels[1] * features.std(0)[:, None]
    bias = (heads.biases[1] + features.mean(0) @ heads.kernels[1]) / 10
    assert loss(np.vstack([own, bias]).ravel()) <= best.fun + 1e-3


def test_outputs_are_of_the_head_that_has_not_seen_the_row() -> None:
    features, labels, fold = problem(5)
    heads = fit_heads(features, np.eye(CLASSES)[labels], fold, regression=False)
    assert heads.kernels.shape == (5, 5, CLASSES)
    for row in (0, 17, 59):
        expected = features[row] @ heads.kernels[fold[row]] + heads.biases[fold[row]]
        np.testing.assert_allclose(heads.outputs[row], expected, rtol=1e-3, atol=1e-3)
    shuffled = np.random.default_rng(1).permutation(labels)
    blind = fit_heads(features, np.eye(CLASSES)[shuffled], fold, regression=False)
    assert (blind.outputs.argmax(1) == shuffled).mean() < 0.55 < 0.8
    assert (heads.outputs.argmax(1) == labels).mean() > 0.75


@pytest.mark.parametrize("width", [5, 90])
def test_ridge_is_the_closed_form(width: int) -> None:
    features, _, fold = problem(width)
    targets = standardised(features[:, :2] @ np.array([[1.0], [2.0]]) + 0.1)
    heads = fit_heads(features, targets, fold, regression=True)
    rows, x = fold != 2, np.column_stack([standardised(features), np.full(N, 10.0)])
    gram = x[rows].T @ x[rows] / rows.sum() + heads.penalty * np.eye(width + 1)
    expected = x @ np.linalg.solve(gram, x[rows].T @ targets[rows] / rows.sum())
    outputs = features @ heads.kernels[2] + heads.biases[2]
    np.testing.assert_allclose(outputs, expected, atol=2e-2)
    assert 1 - ((heads.outputs - targets) ** 2).mean() > (0.9 if width == 5 else 0.2)


def test_dead_features_do_no_harm() -> None:
    features, labels, fold = problem(5)
    features = np.column_stack([features, np.zeros(N), np.full(N, 7.0)])
    heads = fit_heads(features, np.eye(CLASSES)[labels], fold, regression=False)
    assert np.isfinite(heads.kernels).all()
    assert np.isfinite(heads.outputs).all()
