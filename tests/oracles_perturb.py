"""The perturbations in plain float64 NumPy, written from the formulas."""

import itertools

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike
from oracles import Matrix, moments, repeat_rows

GATE = np.log(1e9) / 5


def spread(features: ArrayLike, labels: ArrayLike, force: float = 1.0) -> Matrix:
    """Every row moves by ``force`` away from the mean of its class; a row on the mean stays."""
    x, y = repeat_rows(features, labels, None)
    moved = x.copy()
    for i in range(len(x)):
        away = x[i] - x[y == y[i]].mean(axis=0)
        length = np.linalg.norm(away)
        if length > 0:
            moved[i] = x[i] + force * away / length
    return moved


def attract(
    features: ArrayLike,
    labels: ArrayLike,
    alpha: float = 0.005,
    sigma: float = 0.6,
    variant: str = "paper",
) -> Matrix:
    """Class a moves by alpha (d - sigma (R_a + R_b)) for every other class b.

    released: that much away from b, so toward it where negative; paper: toward b by its size.
    """
    x, y = repeat_rows(features, labels, None)
    m = moments(x, y)
    radius = np.sqrt(np.trace(m.covariance, axis1=1, axis2=2))
    moved = x.copy()
    for a, c in enumerate(np.unique(y)):
        for b in range(len(m.mean)):
            if b != a:
                away = m.mean[a] - m.mean[b]
                distance = np.linalg.norm(away)
                amount = alpha * (distance - sigma * (radius[a] + radius[b]))
                signed = amount if variant == "released" else -abs(amount)
                moved[y == c] += signed * away / distance
    return moved


def ped(
    features: ArrayLike,
    labels: ArrayLike,
    source: ArrayLike | None = None,
    nsigma: float = 0.6,
    time_step: float = 0.1,
    exit_ratio: float = 0.5,
) -> Matrix:
    """Every row moved at each step, by the classes as they then are."""
    x, y = repeat_rows(features, labels, None)
    source = x if source is None else np.asarray(source)
    mean, deviation = source.mean(axis=0), np.maximum(source.std(axis=0), 1e-3)
    z, first = (x - mean) / deviation, None
    for _ in range(6):
        m = moments(z, y)
        radius = np.sqrt(np.trace(m.covariance, axis1=1, axis2=2))
        shifts = np.zeros_like(m.mean)
        for a, b in itertools.permutations(range(len(m.mean)), 2):
            away = m.mean[a] - m.mean[b]
            overlap = max(nsigma * (radius[a] + radius[b]) - np.linalg.norm(away), 0)
            step = min(0.5 * time_step**2 * overlap, overlap)
            shifts[a] += step * away / np.linalg.norm(away)
        change = np.abs(shifts).sum()
        first = change if first is None else first
        if not change > exit_ratio * first:
            break
        z = z + shifts[np.unique(y, return_inverse=True)[1]]
    return z * deviation + mean


def pca(features: ArrayLike, num_components: int = 64) -> Matrix:
    """Centred projections on the leading axes; the largest entry of every axis is positive."""
    x = np.asarray(features, np.float64)
    centred = x - x.mean(axis=0)
    axes = scipy.linalg.svd(centred, full_matrices=False)[2][:num_components]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    projections: Matrix = centred @ (axes * signs[:, None]).T
    return projections


def gate_value(features: ArrayLike) -> float:
    """Mean of the two largest eigenvalues of the biased covariance; above ``GATE`` it opens."""
    x = np.asarray(features, np.float64)
    return float(np.mean(np.linalg.eigvalsh(np.cov(x.T, bias=True))[-2:]))
