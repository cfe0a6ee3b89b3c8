"""Plain float64 NumPy/SciPy versions of every metric, written from the formulas.

They share nothing with jaxte. Dense matrices and explicit loops on purpose: slow and obvious.
Every oracle takes integer ``weights`` by repeating rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
Labels = NDArray[Any]


def repeat_rows(
    features: ArrayLike, targets: ArrayLike, weights: ArrayLike | None
) -> tuple[Matrix, Labels]:
    """Write every row as often as its integer weight says; a row of weight 0 is gone."""
    x, y = np.asarray(features, np.float64), np.asarray(targets)
    if weights is not None:
        counts = np.asarray(weights)
        assert np.all(counts == counts.astype(int)), "oracles take integer weights only"
        x, y = np.repeat(x, counts.astype(int), axis=0), np.repeat(y, counts.astype(int), axis=0)
    return x, y


def target_columns(targets: Labels) -> Matrix:
    """Class labels become one 0/1 column per class that occurs; real targets become columns."""
    if np.issubdtype(targets.dtype, np.integer):
        return np.stack([(targets == c).astype(np.float64) for c in np.unique(targets)], axis=1)
    return np.asarray(targets, np.float64).reshape(len(targets), -1)


# ---------------------------------------------------------------- LogME


def log_evidence(x: Matrix, y: Matrix, alpha: float, beta: float) -> float:
    """ln N(y; 0, I/beta + X X^T/alpha) from the dense n x n covariance."""
    covariance = np.eye(len(x)) / beta + x @ x.T / alpha
    sign, logdet = np.linalg.slogdet(covariance)
    assert sign > 0
    quadratic = y @ np.linalg.solve(covariance, y)
    return float(-0.5 * (len(x) * np.log(2 * np.pi) + logdet + quadratic))


class Evidence(NamedTuple):
    """A maximum of the evidence: its value per sample and where it is."""

    value: float
    alpha: float
    beta: float


def evidence_profile(x: Matrix, y: Matrix) -> Callable[[Any], tuple[Any, Any]]:
    """Evidence per sample, and the best beta, as a function of ln(alpha/beta), one or many.

    For a fixed ratio t the covariance is (I + X X^T/t)/beta, so the best beta is
    n/(y^T (I + X X^T/t)^-1 y).
    """
    n = len(x)
    u, s, _ = scipy.linalg.svd(x, full_matrices=False)
    u, s = u[:, s > 1e-12 * s.max(initial=0)], s[s > 1e-12 * s.max(initial=0)]
    z = u.T @ y
    outside = np.sum((y - u @ z) ** 2)
    if len(s) == n:
        outside = 0.0

    def profile(log_t: Any) -> tuple[Any, Any]:
        t = np.exp(np.asarray(log_t))[..., None]
        beta = n / (outside + np.sum(z**2 * t / (s**2 + t), axis=-1))
        value = -np.log(2 * np.pi) - np.sum(np.log1p(s**2 / t), axis=-1) / n + np.log(beta) - 1
        return 0.5 * value, beta

    return profile


def logme_maximum(x: Matrix, y: Matrix, low: float = -60.0, high: float = 60.0) -> Evidence:
    """The largest evidence: a fine grid on ln(alpha/beta), then every peak refined."""
    profile = evidence_profile(x, y)
    grid = np.linspace(low, high, 2401)
    values = profile(grid)[0]
    best = (float(values.max()), float(grid[values.argmax()]))
    left, here, right = values[:-2], values[1:-1], values[2:]
    peaks = (here >= left) & (here >= right) & (here - np.minimum(left, right) > 1e-13)
    inner = np.flatnonzero(peaks) + 1  # where it is flat but for rounding, nothing is to be gained
    for i in inner:
        result = scipy.optimize.minimize_scalar(
            lambda v: -profile(v)[0],
            bounds=(grid[i - 1], grid[i + 1]),
            method="bounded",
            options={"xatol": 1e-12},
        )
        best = max(best, (-float(result.fun), float(result.x)))
    beta = profile(best[1])[1]
    return Evidence(best[0], beta * np.exp(best[1]), beta)


def logme_fixed_point(x: Matrix, y: Matrix) -> Evidence:
    """The released fixed point, which forgets the null directions when d > n.

    At most 11 updates, 1e-5 in both denominators, stop when alpha/beta moved by 1e-3 of itself.
    """
    n, d = x.shape
    u, s, _ = scipy.linalg.svd(x, full_matrices=False)
    eigenvalues = s**2
    projected = (u.T @ y) ** 2
    rest = y @ y - projected.sum()
    alpha = beta = 1.0
    for _ in range(11):
        t = alpha / beta
        gamma = np.sum(eigenvalues / (eigenvalues + t))
        weight_norm = np.sum(eigenvalues * projected / (eigenvalues + t) ** 2)
        residual = np.sum(projected * (t / (eigenvalues + t)) ** 2) + rest
        alpha, beta = gamma / (weight_norm + 1e-5), (n - gamma) / (residual + 1e-5)
        value = (
            d * np.log(alpha)
            + n * np.log(beta)
            - np.sum(np.log(alpha + beta * eigenvalues))
            - beta * residual
            - alpha * weight_norm
            - n * np.log(2 * np.pi)
        ) / (2 * n)
        if abs(alpha / beta - t) / t <= 1e-3:
            break
    return Evidence(float(value), float(alpha), float(beta))


def logme_columns(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    variant: str = "paper",
) -> list[Evidence]:
    """One maximum (or fixed point) per target column."""
    x, y = repeat_rows(features, targets, weights)
    fit = {"paper": logme_maximum, "released": logme_fixed_point}[variant]
    return [fit(x, column) for column in target_columns(y).T]


def logme(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    variant: str = "paper",
) -> float:
    """Mean evidence per sample over the target columns."""
    return float(np.mean([e.value for e in logme_columns(features, targets, weights, variant)]))


# ---------------------------------------------------------------- classes


class Moments(NamedTuple):
    """Shares, means and biased covariances of the classes that occur."""

    share: Matrix
    mean: Matrix
    covariance: Matrix


def moments(x: Matrix, y: Labels) -> Moments:
    """Class by class, from the rows themselves."""
    groups = [x[y == c] for c in np.unique(y)]
    return Moments(
        np.array([len(g) / len(x) for g in groups]),
        np.stack([g.mean(axis=0) for g in groups]),
        np.stack([(g - g.mean(axis=0)).T @ (g - g.mean(axis=0)) / len(g) for g in groups]),
    )


# ---------------------------------------------------------------- SFDA


def sfda_shrinkage(within: Matrix) -> float:
    """max(exp(-5 s), 1e-10), s the top eigenvalue after three double power steps on row sums."""
    v = within.sum(axis=1)
    for _ in range(3):
        u = within @ v / np.linalg.norm(within @ v)
        v = within @ u / np.linalg.norm(within @ u)
    return float(max(np.exp(-5 * (v @ within @ u)), 1e-10))


def shrunk_within(m: Moments, shrinkage: float, target: str) -> Matrix:
    """(1 - a) S_W + a T with T the mean variance times the identity, or the identity itself."""
    within = np.einsum("c,cij->ij", m.share, m.covariance)
    d = len(within)
    scale = np.trace(within) / d if target == "trace" else 1.0
    shrunk: Matrix = (1 - shrinkage) * within + shrinkage * scale * np.eye(d)
    return shrunk


def fisher_log_probabilities(x: Matrix, m: Moments, shrinkage: float, target: str) -> Matrix:
    """Log-probabilities of the regularised Fisher classifier.

    Through all d generalised eigenvectors V, for which V V^T = S^-1.
    """
    within = shrunk_within(m, shrinkage, target)
    centred = m.mean - m.share @ m.mean
    between = np.einsum("c,ci,cj->ij", m.share, centred, centred)
    _, v = scipy.linalg.eigh(between, within)
    projected_means = m.mean @ v
    logits = x @ v @ projected_means.T
    logits = logits - 0.5 * np.sum(projected_means**2, axis=1) + np.log(m.share)
    log_p: Matrix = scipy.special.log_softmax(logits, axis=1)
    return log_p


def sfda_stage1(
    features: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    shrinkage: float | None = None,
    target: str = "trace",
) -> tuple[Matrix, Matrix, Labels, float]:
    """Rows, log-probabilities of every class, index of the true class, and the shrinkage used."""
    x, y = repeat_rows(features, labels, weights)
    m = moments(x, y)
    if shrinkage is None:
        shrinkage = sfda_shrinkage(np.einsum("c,cij->ij", m.share, m.covariance))
    true = np.searchsorted(np.unique(y), y)
    return x, fisher_log_probabilities(x, m, shrinkage, target), true, shrinkage


def sfda(
    features: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    variant: str = "released",
    shrinkage: float | None = None,
    shrink_target: str = "trace",
    double_softmax: bool | None = None,
    log_score: bool | None = None,
) -> float:
    """Classify, mix rows toward the other classes' mean, classify again with the same shrinkage."""
    double = variant == "released" if double_softmax is None else double_softmax
    log = variant == "paper" if log_score is None else log_score
    x, log_p, true, a = sfda_stage1(
        features, labels, weights, shrinkage=shrinkage, target=shrink_target
    )
    confidence = scipy.special.softmax(np.exp(log_p), axis=1) if double else np.exp(log_p)
    means = moments(x, true).mean
    mixed = np.empty_like(x)
    for i, c in enumerate(true):
        other = np.mean([means[k] for k in range(len(means)) if k != c], axis=0)
        mixed[i] = confidence[i, c] * x[i] + (1 - confidence[i, c]) * other
    second = fisher_log_probabilities(mixed, moments(mixed, true), a, shrink_target)
    chosen = second[np.arange(len(x)), true]
    return float(np.mean(chosen if log else np.exp(chosen)))


# ---------------------------------------------------------------- FaCe


def variance_collapse(m: Moments) -> float:
    """-tr(S_W S_B^+)/C with every class weighing 1/C and S_B about the mean of the class means."""
    classes = len(m.mean)
    within = m.covariance.mean(axis=0)
    centred = m.mean - m.mean.mean(axis=0)
    between = centred.T @ centred / classes
    return float(-np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / classes)


def bhattacharyya_distance(m: Moments, i: int, j: int, covariance: str, floor: float) -> float:
    """Bhattacharyya distance of two Gaussian classes.

    The floor lifts small variances; full covariances get it added to their diagonal.
    """
    difference = m.mean[i] - m.mean[j]
    d = len(difference)
    if covariance == "spherical":
        a, b = (max(float(np.mean(np.diag(m.covariance[c]))), floor) for c in (i, j))
        v = (a + b) / 2
        return float(difference @ difference / (8 * v) + d / 2 * np.log(v / np.sqrt(a * b)))
    if covariance == "diagonal":
        va, vb = (np.maximum(np.diag(m.covariance[c]), floor) for c in (i, j))
        pooled = (va + vb) / 2
        logs = np.log(pooled / np.sqrt(va * vb))
        return float(np.sum(difference**2 / (8 * pooled)) + 0.5 * np.sum(logs))
    sa, sb = (m.covariance[c] + floor * np.eye(d) for c in (i, j))
    mean = (sa + sb) / 2
    logdets = [np.linalg.slogdet(s)[1] for s in (mean, sa, sb)]
    mahalanobis = difference @ np.linalg.solve(mean, difference)
    return float(mahalanobis / 8 + 0.5 * (logdets[0] - 0.5 * (logdets[1] + logdets[2])))


def class_fairness(m: Moments, temperature: float, covariance: str, floor: float) -> float:
    """Mean entropy, over classes, of the softmax of its overlaps with the other classes."""
    entropies = []
    for i in range(len(m.mean)):
        overlaps = [
            np.exp(-bhattacharyya_distance(m, i, j, covariance, floor))
            for j in range(len(m.mean))
            if j != i
        ]
        p = scipy.special.softmax(np.array(overlaps) / temperature)
        entropies.append(-np.sum(p * np.log(p)))
    return float(np.mean(entropies))


def face_terms(
    features: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    temperature: float = 0.05,
    covariance: str = "spherical",
    variance_floor: float = 1e-4,
) -> tuple[float, float]:
    """(variance collapse, class fairness); their sum is FaCe."""
    m = moments(*repeat_rows(features, labels, weights))
    return variance_collapse(m), class_fairness(m, temperature, covariance, variance_floor)


def face(
    features: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, **options: Any
) -> float:
    """Sum of the two terms."""
    return sum(face_terms(features, labels, weights, **options))
