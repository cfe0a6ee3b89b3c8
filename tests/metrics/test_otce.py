"""OTCE against Sinkhorn's iteration in NumPy; needs the optional package ott-jax."""

import importlib.util

import numpy as np
import pytest
from scipy.special import logsumexp

from jaxte import InputError
from jaxte.metrics import otce

needs_ott = pytest.mark.skipif(
    importlib.util.find_spec("ott") is None, reason='needs ott-jax: pip install "jaxte[ot]"'
)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), np.arange(40) % 3
SOURCE, LABELS = RNG.normal(size=(50, 3)), np.arange(50) % 4
SOURCE[:, 0] += 2 * LABELS
X[:, 0] += 2 * Y


def replica(weights: np.ndarray, epsilon: float) -> float:
    cost = ((SOURCE[:, None] - X[None]) ** 2).sum(axis=2)
    kernel = -cost / (epsilon * cost.mean())
    a, b = np.log(np.full(50, 1 / 50)), np.log(weights / weights.sum())
    f, g = np.zeros(50), np.zeros(40)
    for _ in range(5000):
        f = a - logsumexp(kernel + g[None], axis=1)
        g = b - logsumexp(kernel + f[:, None], axis=0)
    plan = np.exp(kernel + f[:, None] + g[None])
    joint = np.eye(4)[LABELS].T @ plan @ np.eye(3)[Y]
    return float((joint * np.log(joint / joint.sum(axis=1, keepdims=True))).sum())


@needs_ott
def test_otce_is_minus_the_conditional_entropy_under_the_coupling(x64: None) -> None:
    weights = np.linspace(0.5, 2, 40)
    score = otce(X, Y, source_features=SOURCE, source_labels=LABELS, weights=weights)
    assert float(score) == pytest.approx(replica(weights, 0.05), rel=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="of the same model"):
        otce(X, Y, source_features=SOURCE[:, :2], source_labels=LABELS)
    with pytest.raises(InputError, match="give classes"):
        otce(X, Y, source_features=SOURCE, source_labels=LABELS + 0.5)
    with pytest.raises(InputError, match="epsilon"):
        otce(X, Y, source_features=SOURCE, source_labels=LABELS, epsilon=0)


@pytest.mark.skipif(importlib.util.find_spec("ott") is not None, reason="ott-jax is installed")
def test_without_ott_it_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"otce needs ott, .*jaxte\[ot\]"):
        otce(X, Y, source_features=SOURCE, source_labels=LABELS)
