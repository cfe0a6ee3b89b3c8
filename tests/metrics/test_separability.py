"""Separability scores against plain NumPy, straight from the formulas."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from helpers import Array, blobs, regression
from scipy.special import log_softmax

import jaxte
from jaxte import InputError, metrics, moments
from jaxte.metrics import neural_collapse

PROBLEMS = {"tall": blobs(60, 9, offset=3.0, seed=1), "wide": blobs(24, 40, seed=2)}
each_problem = pytest.mark.parametrize("kind", PROBLEMS)


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def by_class(x: Array, y: Array) -> list[Array]:
    return [x[y == c] for c in np.unique(y)]


def gbc(x: Array, y: Array, covariance: str, floor: float) -> float:
    """Of full matrices, whatever the covariance."""
    d = x.shape[1]
    means = [rows.mean(0) for rows in by_class(x, y)]
    full = [np.cov(rows.T, bias=True).reshape(d, d) for rows in by_class(x, y)]
    if covariance == "spherical":
        full = [max(np.trace(s) / d, floor) * np.eye(d) for s in full]
    elif covariance == "diagonal":
        full = [np.diag(np.maximum(np.diag(s), floor)) for s in full]
    else:
        full = [s + floor * np.eye(d) for s in full]
    score = 0.0
    for i in range(len(means)):
        for j in range(len(means)):
            if i != j:
                mean, gap = (full[i] + full[j]) / 2, means[i] - means[j]
                logs = [np.linalg.slogdet(s)[1] for s in (mean, full[i], full[j])]
                distance = gap @ np.linalg.solve(mean, gap) / 8
                score -= np.exp(-distance - (logs[0] - (logs[1] + logs[2]) / 2) / 2)
    return score


@each_problem
@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "full"])
def test_gbc(kind: str, covariance: str) -> None:
    x, y = PROBLEMS[kind]
    x = x - 0.9 * np.stack([x[y == c].mean(0) for c in range(4)])[y]  # so that classes overlap
    expected = gbc(x, y, covariance, 1e-2)
    score = metrics.gbc(x, y, covariance=covariance, variance_floor=1e-2)
    assert float(score) == pytest.approx(expected, rel=1e-9)


def vci(x: Array, y: Array) -> float:
    x = x - x.mean(0)
    means = np.stack([x[y == c].mean(0) for c in np.unique(y)])[np.searchsorted(np.unique(y), y)]
    between = means.T @ means
    trace = np.trace(np.linalg.pinv(x.T @ x, rcond=1e-10) @ between)
    return trace / np.linalg.matrix_rank(between) - 1


@each_problem
def test_vci(kind: str) -> None:
    x, y = PROBLEMS[kind]
    assert float(metrics.vci(x, y)) == pytest.approx(vci(x, y), abs=1e-9)


def test_vci_of_class_means_on_a_line_divides_by_their_rank() -> None:
    x, y = PROBLEMS["tall"]
    rows = x - np.stack([x[y == c].mean(0) for c in range(4)])[y]
    rows[:, 0] += y
    assert float(metrics.vci(rows, y)) == pytest.approx(vci(rows, y), abs=1e-9)


def lfc(x: Array, targets: Array) -> float:
    k = x @ x.T
    if targets.dtype.kind == "i":
        t = np.where(targets[:, None] == targets, 1.0, -1.0)
    else:
        targets = targets - targets.mean()
        t = np.outer(targets, targets)
    k, t = k - k.mean(), t - t.mean()
    return float(np.sum(k * t) / np.linalg.norm(k) / np.linalg.norm(t))


@each_problem
def test_lfc(kind: str) -> None:
    x, y = PROBLEMS[kind]
    assert float(metrics.lfc(x, y)) == pytest.approx(lfc(x, y), rel=1e-9)
    centred = float(metrics.lfc(x, y, centred=True))
    assert centred == pytest.approx(lfc(x - x.mean(0), y), rel=1e-9)


def test_lfc_of_regression_is_the_mean_over_targets() -> None:
    x, y = regression(40, 7, outputs=2)
    expected = np.mean([lfc(x, y[:, k]) for k in range(2)])
    assert float(metrics.lfc(x, y)) == pytest.approx(expected, rel=1e-9)
    constant = np.column_stack([y, np.full(40, 2.0)])
    assert float(metrics.lfc(x, constant)) == pytest.approx(expected, rel=1e-9)


def test_lfc_keeps_its_digits_beside_an_offset() -> None:
    x, y = PROBLEMS["tall"]
    shifted = float(metrics.lfc(x + 1e6, y, centred=True))
    assert shifted == pytest.approx(lfc(x - x.mean(0), y), rel=1e-8)


def disco(x: Array, y: Array, components: int) -> float:
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    s = np.where(s > 1e-10 * s[0], s, 0)[:components]
    score = 0.0
    for k in range(len(s)):
        parts = by_class(u[:, k] * s[k], y)
        within = np.mean([part.var() + 1e-8 for part in parts])
        score += s[k] / s.sum() * np.var([part.mean() for part in parts]) / within
    return score


@each_problem
def test_disco(kind: str) -> None:
    x, y = PROBLEMS[kind]
    for components in (64, 3):
        score = float(metrics.disco(x, y, num_components=components))
        assert score == pytest.approx(disco(x, y, components), rel=1e-8)


def lead(x: Array, y: Array) -> float:
    z = x - x.mean(0)
    z = z / np.linalg.norm(z, axis=1).mean()
    one_hot = np.eye(y.max() + 1)[y]
    fit = z @ np.linalg.solve(z.T @ z + 1e-3 * np.eye(z.shape[1]), z.T @ one_hot)
    decay = np.exp(-10 / np.minimum(np.bincount(y), 8))[y][:, None]
    logits = (1 - decay) * one_hot + decay * fit
    return float(log_softmax(logits, axis=1)[np.arange(len(y)), y].mean())


@each_problem
def test_lead(kind: str) -> None:
    x, y = PROBLEMS[kind]
    assert float(metrics.lead(x, y)) == pytest.approx(lead(x, y), rel=1e-9)


# --- EMMS -----------------------------------------------------------------------------------------


def simplex(v: Array) -> Array:
    """By bisection for what has to be taken off."""
    low, high = v.min() - 1, v.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(v - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(v - low, 0)


def emms(x: Array, y: Array, embeddings: Array, variant: str) -> float:
    x, t = ((a - a.mean(0)) / (a.std(0) + 1e-8) for a in (x, embeddings[y]))
    n, width, number = t.shape
    share = np.full(number, 1 / number)
    for _ in range(1 if variant == "released" else 50):
        fit = x @ np.linalg.lstsq(x, t @ share, rcond=1e-10)[0]
        share = simplex(np.linalg.lstsq(t.reshape(-1, number), fit.ravel(), rcond=None)[0])
    if variant == "released":
        return float(-np.sum((fit - t @ share) ** 2) / n * width)
    fit = x @ np.linalg.lstsq(x, t @ share, rcond=1e-10)[0]
    return float(-np.sum((fit - t @ share) ** 2) / n / width)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_emms(variant: str) -> None:
    x, y = PROBLEMS["tall"]
    for seed in range(3):
        embeddings = np.random.default_rng(seed).normal(size=(4, 5, 3))
        expected = emms(x, y, embeddings, variant)
        score = metrics.emms(x, y, label_embeddings=embeddings, variant=variant)
        assert float(score) == pytest.approx(expected, rel=1e-6)
    ranking = jaxte.rank(
        {"m": x},
        y,
        metrics="emms",
        options={"emms": {"label_embeddings": embeddings, "variant": variant}},
    )
    assert ranking.score("m", "emms") == pytest.approx(expected, rel=1e-6)


def test_emms_without_embeddings_is_the_explained_variance_of_the_classes() -> None:
    x, y = PROBLEMS["tall"]
    expected = emms(x, y, np.eye(4)[:, :, None], "paper")
    assert float(metrics.emms(x, y)) == pytest.approx(expected, rel=1e-6)


def test_emms_of_embeddings_that_do_not_fit() -> None:
    x, y = PROBLEMS["tall"]
    with pytest.raises(InputError, match="3 classes, but 4 occur"):
        metrics.emms(x, y, label_embeddings=np.ones((3, 5, 1)))
    with pytest.raises(InputError, match=r"\[C, D2, K\]"):
        metrics.emms(x, y, label_embeddings=np.ones((4, 5)))


# --- neural collapse ------------------------------------------------------------------------------


def test_neural_collapse() -> None:
    x, y = PROBLEMS["tall"]
    rng = np.random.default_rng(0)
    head, bias = rng.normal(size=(4, 9)), rng.normal(size=4)
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    m = means - means.mean(0)
    lengths = np.linalg.norm(m, axis=1)
    cosines = (m @ m.T / np.outer(lengths, lengths))[~np.eye(4, dtype=bool)]
    k = m @ m.T
    nearest = np.argmin(((x[:, None] - means) ** 2).sum(2), axis=1)
    result = neural_collapse(x, y, classifier=head, bias=bias)
    expected = {
        "nc1": float(metrics.nc1(x, y)),
        "nc2_norms": -lengths.std() / lengths.mean(),
        "nc2_angles": -np.abs(cosines + 1 / 3).mean(),
        "nc2_frame": -np.linalg.norm(k / np.linalg.norm(k) - (np.eye(4) - 1 / 4) / np.sqrt(3)),
        "nc3": -np.linalg.norm(head / np.linalg.norm(head) - m / np.linalg.norm(m)),
        "nc4": np.mean(np.argmax(x @ head.T + bias, axis=1) == nearest),
    }
    for name, value in expected.items():
        assert float(getattr(result, name)) == pytest.approx(value, rel=1e-9), name
    alone = neural_collapse(x, np.where(y == 2, 7, y))
    assert float(alone.nc2_angles) == pytest.approx(expected["nc2_angles"], rel=1e-9)
    assert np.isnan(alone.nc3)
    with pytest.raises(InputError, match="one bias each"):
        neural_collapse(x, y, classifier=head[:3])


def test_collapsed_classes_have_collapsed() -> None:
    y = np.arange(30) % 3
    result = neural_collapse(np.eye(3)[y] + 4, y, classifier=np.eye(3))
    np.testing.assert_allclose(result[:3], 0, atol=1e-9)
    assert float(result.nc4) == 1


def test_nc1_of_moments_needs_class_counts_only_where_classes_weigh_the_same() -> None:
    x, y = PROBLEMS["tall"]
    state = moments.update(moments.init(9, num_classes=4), x, y)
    with pytest.raises(InputError, match="class_counts"):
        metrics.nc1_from_moments(state)
    weighted = metrics.nc1_from_moments(state, weighting="sample_weighted")
    assert np.isfinite(weighted)


# --- what is degenerate ---------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [metrics.cdnv, metrics.nc1])
def test_two_classes_of_one_mean(metric: Callable[..., Any]) -> None:
    """The third is apart: one pair is enough for CDNV to have no value, not for NC1."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(10, 5))
    x = np.concatenate([half, -half, half, -half, half + 3, half + 2])
    score = float(metric(x, np.repeat(np.arange(3), 20)))
    assert np.isnan(score) if metric is metrics.cdnv else np.isfinite(score)


def test_transrate_of_classes_of_all_sizes() -> None:
    """Above and below the width, one of a single row, and where the largest takes all rows."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), [150, 70, 29, 1])
    x = rng.normal(size=(250, 40)) + rng.normal(size=(4, 40))[y]

    def rate(z: Array) -> float:
        return float(np.linalg.slogdet(np.eye(40) + z.T @ z / len(z) / 1e-4)[1] / 2)

    z = x - x.mean(0)
    expected = rate(z) - np.mean([rate(part) for part in by_class(z, y)])
    order = rng.permutation(250)
    assert float(metrics.transrate(x[order], y[order])) == pytest.approx(expected, rel=1e-10)
