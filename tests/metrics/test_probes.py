"""Probes and classifiers that are judged on rows they have not seen, against their replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GOLDEN, Array, Problem, blobs, golden_set
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from jaxte.metrics import REGISTRY, linear_probe, nearest_centroid_accuracy, qda


def logistic(x: Array, y: Array, folds: Array, weights: Array) -> tuple[float, float]:
    """Mean over folds of log likelihood and accuracy, by scikit-learn."""
    strength = 2.0 if y.max() == 1 else 1.0  # of two classes it penalises one column only
    scores = []
    for fold in range(folds.max() + 1):
        fit, w = folds != fold, weights[folds == fold]
        scaler = StandardScaler().fit(x[fit], sample_weight=weights[fit])
        probe = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
        probe.fit(scaler.transform(x[fit]), y[fit], sample_weight=weights[fit])
        log_p = probe.predict_log_proba(scaler.transform(x[~fit]))
        own = log_p[np.arange(len(w)), y[~fit]]
        right = log_p.argmax(axis=1) == y[~fit]
        scores.append((w @ own / w.sum(), w @ right / w.sum()))
    low, high = np.mean(scores, axis=0)
    return float(low), float(high)


@pytest.mark.parametrize(
    "problem", [blobs(90, 7), blobs(40, 60, classes=2)], ids=["tall", "wide-binary"]
)
def test_linear_probe_is_cross_validated_logistic_regression(problem: Problem, x64: None) -> None:
    """Its columns have very different scales, and one is constant."""
    x, y = problem
    x = x * np.logspace(-3, 3, x.shape[1])
    x[:, 2] = 0
    folds, weights = np.arange(len(y)) % 3, np.random.default_rng(0).uniform(0.5, 2, len(y))
    probe = REGISTRY["linear_probe"]
    options = probe.all_options({"folds": folds})
    outputs = probe.outputs(x, y, None, weights, None, **options)
    expected = logistic(x, y, folds, weights)
    assert float(outputs["log_likelihood"]) == pytest.approx(expected[0], rel=1e-6)
    assert float(outputs["accuracy"]) == pytest.approx(expected[1], rel=1e-12)


def test_linear_probe_has_the_accuracy_of_the_golden_folds() -> None:
    x, y = golden_set("wine_standardised")
    folds = np.zeros(len(y), int)
    for fold, (_, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)):
        folds[test] = fold
    expected = GOLDEN["wine_standardised"]["linear_probe"]["standardised_in_fold"]["mean"]
    assert linear_probe(x, y, folds=folds, measure="accuracy") == pytest.approx(expected, rel=1e-6)


def test_random_folds_follow_the_key() -> None:
    x, y = blobs(60, 5, separation=1.0)
    scores = [float(linear_probe(x, y, key=key)) for key in (None, 0, jax.random.key(0), 1)]
    assert scores[1] == scores[2]
    assert len(set(scores)) == 3


def test_a_class_of_one_row_is_never_foreseen() -> None:
    x, y = blobs(60, 5)
    y[7] = 4
    score = linear_probe(x, y, measure="accuracy", folds=2)
    assert np.isfinite(linear_probe(x, y, folds=2))
    assert score < 1
    assert np.isfinite(qda(x, y))


def brute_force(x: Array, y: Array, weights: Array) -> float:
    right = 0.0
    for i in range(len(y)):
        w = weights.copy()
        w[i] -= min(w[i], 1)
        sums = np.array([w[y == c].sum() for c in range(y.max() + 1)])
        means = [
            w[y == c] @ x[y == c] / sums[c] if sums[c] > 0 else np.inf for c in range(len(sums))
        ]
        distances = np.array([((x[i] - mean) ** 2).sum() for mean in means])
        others = np.delete(distances, y[i])
        right += weights[i] * bool(distances[y[i]] < others.min())
    return float(right / weights.sum())


@pytest.mark.parametrize("shape", [(80, 5), (25, 40)])
def test_nearest_centroid_leaves_each_row_out(shape: tuple[int, int], x64: None) -> None:
    x, y = blobs(*shape, separation=1.0, offset=50.0)
    y[3] = 4  # alone
    weights = np.random.default_rng(0).choice([0.0, 0.5, 1, 2], len(y))
    weights[3] = 1
    expected = brute_force(x, y, weights)
    assert 0.2 < expected < 1
    assert float(nearest_centroid_accuracy(x, y, weights=weights)) == pytest.approx(expected)


def quadratic(x: Array, y: Array, folds: Array, components: int) -> float:
    centred = x - x.mean(axis=0)
    z = centred @ np.linalg.svd(centred, full_matrices=False)[2][:components].T
    own, d = np.zeros(len(y)), z.shape[1]
    for fold in range(folds.max() + 1):
        fit, logits = folds != fold, []
        a, labels = z[fit], y[fit]
        each = [np.cov(a[labels == c].T, bias=True) for c in range(y.max() + 1)]
        pooled = sum(cov * np.mean(labels == c) for c, cov in enumerate(each))
        for c, cov in enumerate(each):
            mixed = 0.5 * cov + 0.5 * pooled
            sigma = 0.8 * mixed + (0.2 * np.trace(mixed) / d + 1e-6) * np.eye(d)
            gap = z[~fit] - a[labels == c].mean(axis=0)
            distance = (gap * np.linalg.solve(sigma, gap.T).T).sum(axis=1)
            prior = np.log(np.mean(labels == c))
            logits.append(prior - 0.5 * distance - 0.5 * np.linalg.slogdet(sigma)[1])
        p = np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=0))
        own[~fit] = p[y[~fit], np.arange((~fit).sum())]
    return float(own.mean())


@pytest.mark.parametrize(("shape", "components"), [((90, 6), 64), ((60, 80), 10)])
def test_qda_on_the_other_folds(shape: tuple[int, int], components: int, x64: None) -> None:
    x, y = blobs(*shape, separation=1.0)
    folds = np.arange(len(y)) % 4
    expected = quadratic(x, y, folds, components)
    score = float(qda(x, y, folds=folds, num_components=components))
    assert score == pytest.approx(expected, rel=1e-8)
