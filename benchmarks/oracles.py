"""The metrics in plain float64 NumPy and SciPy, written straight from their formulas.

What somebody would write who wants the right number and takes no further trouble: one model at a
time, dense d x d matrices. They share nothing with jaxte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Labels = NDArray[Any]
_GRID = 241
_REACH = 35.0  # of ln(alpha / beta) to either side of ln tr(X'X)
_RANK = 1e-13


def logme(features: NDArray[Any], y: Labels) -> float:
    r"""Mean over classes of the largest log evidence per sample.

    .. math:: \max_{\alpha,\beta} \tfrac1n \ln N(y \mid 0, \beta^{-1} I + \alpha^{-1} X X')

    With t = alpha / beta the best beta is known, which leaves one variable.
    """
    from scipy.optimize import minimize_scalar

    x = np.asarray(features, np.float64)
    n, d = x.shape
    values, vectors = np.linalg.eigh(x.T @ x if d <= n else x @ x.T)
    kept = values > _RANK * max(n, d) * values[-1]
    lam, vectors = values[kept], vectors[:, kept]
    origin = np.log(values.sum())
    grid = np.linspace(origin - _REACH, origin + _REACH, _GRID)
    best = []
    for c in np.unique(y):
        target = (y == c).astype(np.float64)
        z = (vectors.T @ (x.T @ target)) / np.sqrt(lam) if d <= n else vectors.T @ target
        rest = 0.0 if len(lam) == n else max(target @ target - z @ z, 0.0)

        def negative(u: float, z: Matrix = z, rest: float = rest) -> float:
            t = np.exp(u)
            quadratic = rest + np.sum(z**2 * t / (lam + t))
            logdet = np.sum(np.log1p(lam / t))
            return float(0.5 * (np.log(2 * np.pi * quadratic / n) + 1 + logdet / n))

        tried = np.array([negative(u) for u in grid])
        i = int(tried.argmin())
        low, high = grid[max(i - 1, 0)], grid[min(i + 1, _GRID - 1)]
        result = minimize_scalar(negative, bounds=(low, high), method="bounded")
        best.append(-min(float(result.fun), float(tried[i])))
    return float(np.mean(best))


def shrinkage(within: Matrix) -> float:
    """SFDA's lambda: exp(-5 s), at least 1e-10, s the largest eigenvalue by power steps."""
    v = within.sum(axis=1)
    for _ in range(3):
        u = within @ v
        u /= np.linalg.norm(u)
        v = within @ u
        v /= np.linalg.norm(v)
    return float(max(np.exp(-5 * (v @ within @ u)), 1e-10))


def within_scatter(x: Matrix, group: Labels, means: Matrix) -> Matrix:
    """Pooled within-class covariance [d, d]."""
    residuals = x - means[group]
    scatter: Matrix = residuals.T @ residuals / len(x)
    return scatter


def class_means(x: Matrix, group: Labels) -> Matrix:
    """Mean of each class [C, d]; every class 0..C-1 occurs."""
    return np.stack([x[group == c].mean(axis=0) for c in range(int(group.max()) + 1)])


def confmix(x: Matrix, group: Labels, probabilities: Matrix, means: Matrix) -> Matrix:
    """Pull each row toward the mean of the other classes' means, by the softmax of its p."""
    softened = np.exp(probabilities)
    softened /= softened.sum(axis=1, keepdims=True)
    own = softened[np.arange(len(x)), group][:, None]
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    mixed: Matrix = own * x + (1 - own) * others[group]
    return mixed


def sfda(features: NDArray[Any], y: Labels) -> float:
    """Mean probability of the true class under a second regularised Fisher discriminant.

    The first one's confidence makes the second one's rows harder (`confmix`); both share the
    first one's shrinkage.
    """
    x = np.asarray(features, np.float64)
    group = np.unique(y, return_inverse=True)[1]
    means = class_means(x, group)
    lam = shrinkage(within_scatter(x, group, means))
    mixed = confmix(x, group, _fisher(x, group, lam), means)
    return float(_fisher(mixed, group, lam)[np.arange(len(x)), group].mean())


def _fisher(x: Matrix, group: Labels, lam: float) -> Matrix:
    """Probabilities [n, C] of the discriminant with shrunk within-class scatter."""
    from scipy.linalg import cho_factor, cho_solve
    from scipy.special import softmax

    means = class_means(x, group)
    within = within_scatter(x, group, means)
    d = len(within)
    shrunk = (1 - lam) * within + lam * np.trace(within) / d * np.eye(d)
    directions = cho_solve(cho_factor(shrunk), means.T)
    prior = np.bincount(group) / len(x)
    logits = x @ directions - 0.5 * np.sum(means.T * directions, axis=0) + np.log(prior)
    probabilities: Matrix = softmax(logits, axis=1)
    return probabilities


def face(
    features: NDArray[Any], y: Labels, temperature: float = 0.05, floor: float = 1e-4
) -> float:
    """Variance collapse plus class fairness, with spherical Gaussian classes."""
    from scipy.special import softmax

    x = np.asarray(features, np.float64)
    group = np.unique(y, return_inverse=True)[1]
    means = class_means(x, group)
    count, d = means.shape
    residuals = x - means[group]
    size = np.bincount(group)
    within = residuals.T @ (residuals / size[group][:, None]) / count
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / count
    collapse = -np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / count

    squares = np.sum(residuals**2, axis=1)
    variance = np.maximum(np.bincount(group, squares) / size / d, floor)
    pooled = 0.5 * (variance[:, None] + variance[None])
    distance = np.sum((means[:, None] - means[None]) ** 2, axis=2) / (8 * pooled)
    distance += d / 2 * np.log(pooled / np.sqrt(variance[:, None] * variance[None]))
    off = ~np.eye(count, dtype=bool)
    overlap = np.exp(-distance)[off].reshape(count, count - 1)
    p = softmax(overlap / temperature, axis=1)
    fairness = -np.sum(p * np.log(p), axis=1).mean()
    return float(collapse + fairness)
