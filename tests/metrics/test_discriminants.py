"""LDA, nearest class mean, H-score, NCTI, ETran and TVT against plain NumPy, and on other rows."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.linalg
import scipy.special
from helpers import Array, blobs, regression

import jaxte
from jaxte import InputError, metrics
from jaxte.metrics import REGISTRY
from jaxte.statistics.folds import fold_numbers

pytestmark = pytest.mark.usefixtures("x64")
FOLDED = ("lda", "sfda", "nearest_class_mean", "hscore")


def noise(seed: int, n: int = 60, d: int = 80, classes: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.permutation(np.arange(n) % classes)


def mean_score(name: str, **options: Any) -> float:
    score = getattr(metrics, name)
    return float(np.mean([score(*noise(seed), **options) for seed in range(6)]))


# --- on rows that nothing was fitted to -----------------------------------------------------------


@pytest.mark.parametrize("name", FOLDED)
def test_noise_is_at_chance_only_where_it_is_left_out(name: str) -> None:
    chance, best = (0.0, 2.0) if name == "hscore" else (1 / 3, 1.0)
    assert mean_score(name) > 0.8 * best
    assert mean_score(name, folds=5) == pytest.approx(chance, abs=0.08)


def test_leaving_one_row_out_is_at_chance_on_noise() -> None:
    assert mean_score("nearest_class_mean", leave_one_out=True) == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize("name", FOLDED)
def test_training_rows_without_spread_say_nothing_of_the_class_left_out(name: str) -> None:
    """Of two rows a class, one is left: certain of itself, not of the other."""
    scores = [
        float(getattr(metrics, name)(*noise(seed, n=24, d=40, classes=12), folds=2))
        for seed in range(6)
    ]
    assert abs(np.mean(scores) - (0 if name == "hscore" else 1 / 12)) < (
        1.5 if name == "hscore" else 0.1
    )


def in_folds(x: Array, y: Array, folds: int, judge: Callable[..., Array]) -> Array:
    """What ``judge(training rows, their targets, rows left out)`` makes of each row."""
    numbers = np.asarray(
        fold_numbers(y if y.dtype.kind == "i" else np.zeros(len(y), int), None, folds)
    )
    made = None
    for fold in range(folds):
        left = numbers == fold
        own = judge(x[~left], y[~left], x[left], y[left])
        made = np.zeros((len(x), *own.shape[1:])) if made is None else made
        made[left] = own
    assert made is not None
    return made


def own(p: Array, y: Array) -> float:
    return float(np.mean(p[np.arange(len(y)), y]))


@pytest.mark.parametrize(("n", "d"), [(60, 9), (20, 30)])
def test_lda_in_folds(n: int, d: int) -> None:
    x, y = blobs(n, d, separation=1.0)
    keep = np.bincount(y)[y] > 1
    x, y = x[keep], y[keep]

    def judge(train: Array, labels: Array, rest: Array, _: Array) -> Array:
        m = oracles.moments(train, labels)
        a = oracles.sfda_shrinkage(np.einsum("c,cij->ij", m.share, m.covariance))
        return oracles.fisher_log_probabilities(rest, m, a, "trace")

    log_p = in_folds(x, y, 4, judge)
    assert metrics.lda(x, y, folds=4) == pytest.approx(own(np.exp(log_p), y), rel=1e-7)
    assert metrics.lda(x, y, folds=4, log_score=True) == pytest.approx(own(log_p, y), rel=1e-7)


def test_sfda_in_folds() -> None:
    x, y = blobs(60, 9, separation=1.0)

    def judge(train: Array, labels: Array, rest: Array, _: Array) -> Array:
        m = oracles.moments(train, labels)
        a = oracles.sfda_shrinkage(np.einsum("c,cij->ij", m.share, m.covariance))
        others = (m.mean.sum(axis=0) - m.mean) / (len(m.mean) - 1)

        def sure(rows: Array) -> tuple[Array, Array]:
            p = np.exp(oracles.fisher_log_probabilities(rows, m, a, "trace"))
            return p, scipy.special.softmax(p, axis=1)

        mine = sure(train)[1][np.arange(len(train)), labels][:, None]
        mixed = mine * train + (1 - mine) * others[labels]
        p, q = sure(rest)
        moved = np.sum(p * q, axis=1)[:, None] * rest + (p * (1 - q)) @ others
        second = oracles.moments(mixed, labels)
        return np.exp(oracles.fisher_log_probabilities(moved, second, a, "trace"))

    expected = own(in_folds(x, y, 5, judge), y)
    assert metrics.sfda(x, y, folds=5) == pytest.approx(expected, rel=1e-7)


def nearest(x: Array, means: Array, shares: Array) -> Array:
    square = ((x[:, None] - means[None]) ** 2).sum(axis=2)
    return scipy.special.softmax(-0.5 * square + np.log(shares), axis=1)


def test_nearest_class_mean_in_folds_and_leave_one_out() -> None:
    x, y = blobs(40, 5, separation=3.0)

    def judge(train: Array, labels: Array, rest: Array, _: Array) -> Array:
        m = oracles.moments(train, labels)
        return nearest(rest, m.mean, m.share)

    score = metrics.nearest_class_mean
    assert score(x, y, folds=5) == pytest.approx(own(in_folds(x, y, 5, judge), y), rel=1e-9)
    alone = []
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        alone.append(judge(x[rest], y[rest], x[i : i + 1], y)[0, y[i]])
    assert score(x, y, leave_one_out=True) == pytest.approx(np.mean(alone), rel=1e-9)
    with pytest.raises(InputError, match="give one of them"):
        score(x, y, leave_one_out=True, folds=5)


def variates(x: Array, y: Array) -> tuple[Array, Array]:
    """Canonical directions of centred columns, by two QR factorisations."""
    (q, r), (p, s) = np.linalg.qr(x), np.linalg.qr(y)
    u, _, v = np.linalg.svd(q.T @ p)
    k = min(len(r), len(s))
    return np.linalg.solve(r, u[:, :k]), np.linalg.solve(s, v[:k].T)


@pytest.mark.parametrize("classes", [True, False])
def test_hscore_in_folds(classes: bool) -> None:
    x, y = blobs(60, 9, separation=1.5) if classes else regression(60, 9, outputs=3, noise=2.0)
    columns = np.eye(4)[y][:, :3] if classes else y

    def judge(train: Array, targets: Array, rest: Array, other: Array) -> Array:
        t = np.eye(4)[targets][:, :3] if classes else targets
        o = np.eye(4)[other][:, :3] if classes else other
        a, b = variates(train - train.mean(axis=0), t - t.mean(axis=0))
        u, v = (rest - train.mean(axis=0)) @ a, (o - t.mean(axis=0)) @ b
        n = len(train)
        return n * np.stack([u * v, u**2, v**2], axis=1)

    both, one, other = in_folds(x, y, 4, judge).sum(axis=0)
    r = both / np.sqrt(one * other)
    assert len(r) == columns.shape[1]
    assert metrics.hscore(x, y, folds=4) == pytest.approx(np.sum(r * abs(r)), rel=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_folds_through_rank(precision: str) -> None:
    """In memory as the function has it, of few rows too; a stream is refused by name."""
    x, y = blobs(60, 30, separation=1.5)
    pool = {"all": x, "few": x[:, :9], "stream": np.split(x, [20])}
    options: dict[str, Any] = {name: {"folds": 5} for name in FOLDED}
    ranking = jaxte.rank(pool, y, metrics=FOLDED, options=options, precision=precision)
    for name in FOLDED:
        for model in ("all", "few"):
            expected = float(getattr(metrics, name)(pool[model], y, folds=5))
            assert ranking.score(model, name) == pytest.approx(expected, rel=2e-4)
        assert "all samples at once" in ranking.status("stream", name)


def test_folds_that_cannot_be_are_named() -> None:
    x, y = noise(0)
    for folds in (1, 0, 2.5):
        with pytest.raises(InputError, match="folds is"):
            metrics.lda(x, y, folds=folds)  # type: ignore[arg-type]


# --- H-score of targets ---------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "k"), [(40, 6, 3), (40, 6, 1), (15, 30, 2)])
def test_hscore_of_targets(n: int, d: int, k: int) -> None:
    """The squared cosines between the two column spaces; of dependent targets too."""
    x, y = regression(n, d, outputs=k, noise=1.0)
    bases = [scipy.linalg.orth(part - part.mean(axis=0), rcond=1e-10) for part in (x, y)]
    expected = np.sum((bases[0].T @ bases[1]) ** 2)
    assert metrics.hscore(x, y) == pytest.approx(expected, rel=1e-8)
    twice = np.concatenate([y, y[:, :1] + 50, np.full((n, 1), 3.0)], axis=1)
    assert metrics.hscore(x, twice) == pytest.approx(expected, rel=1e-6)


def test_hscore_shrinkage_rises_with_the_distance_of_the_classes() -> None:
    """Of noise that is not alike in all directions, which the common property needs not be."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 12)
    spread = rng.normal(size=(48, 8)) * np.linspace(1, 0.1, 8)
    scores = [float(metrics.hscore_shrinkage(spread + s * np.eye(4, 8)[y], y)) for s in (0, 0.3, 1)]
    assert np.all(np.diff(scores) > 0)
    paper = metrics.hscore_shrinkage(spread, y, variant="paper")
    assert scores[0] == pytest.approx(float(paper) * 48 / 47)


# --- scores of pools ------------------------------------------------------------------------------


def outputs(name: str, x: Array, y: Array, **options: Any) -> dict[str, float]:
    made = REGISTRY[name].outputs(x, y, None, None, None, **options)
    return {key: float(value) for key, value in made.items()}


@pytest.mark.parametrize("tail", ["bot", "top"])
def test_etran_of_classes(tail: str) -> None:
    x, y = blobs(200, 6)
    energies = np.sort(scipy.special.logsumexp(x, axis=1))
    m = oracles.moments(x, y)
    result = outputs("etran", x, y, fraction=0.1, tail=tail)
    expected = energies[:20].mean() if tail == "bot" else energies[-20:].mean()
    assert result["energy"] == pytest.approx(expected, rel=1e-10)
    assert result["fit"] == pytest.approx(own(nearest(x, m.mean, m.share), y), rel=1e-9)
    assert result["score"] == pytest.approx(0.15 * result["energy"] + 0.85 * result["fit"])
    one_row = outputs("etran", x[:30], y[:30])
    assert one_row["energy"] == pytest.approx(scipy.special.logsumexp(x[:30], axis=1).min())


@pytest.mark.parametrize(("n", "d"), [(50, 7), (12, 20)])
def test_etran_of_targets(n: int, d: int) -> None:
    x, y = regression(n, d, outputs=2, noise=1.0)
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert outputs("etran", x, y)["fit"] == pytest.approx(-np.mean(rest**2), rel=1e-8, abs=1e-12)


def ledoit_wolf(rows: Array) -> Array:
    r = rows - rows.mean(axis=0)
    n, d = r.shape
    s = r.T @ r / n
    mu = np.trace(s) / d
    delta = np.sum((s - mu * np.eye(d)) ** 2)
    beta = sum(np.sum((np.outer(one, one) - s) ** 2) for one in r) / n**2
    a = min(beta, delta) / delta
    return np.asarray((1 - a) * s + a * mu * np.eye(d))


@pytest.mark.parametrize("d", [8, 70])
def test_tvt(d: int) -> None:
    x, y = blobs(150, d, separation=1.0)
    z, c = x, int(y.max()) + 1
    if d > 64:
        centred = x - x.mean(axis=0)
        z = centred @ np.linalg.svd(centred)[2][:64].T
    local = []
    for i in range(len(z)):
        rest = np.arange(len(z)) != i
        square = ((z[rest] - z[i]) ** 2).sum(axis=1)
        same = y[rest] == y[i]
        p = scipy.special.softmax(-square / square[same].mean())
        local.append(np.log(p[same].sum()))
    counts = np.bincount(y)
    pooled = sum((counts[k] - 1) * ledoit_wolf(z[y == k]) for k in range(c)) / (counts - 1).sum()
    means = np.stack([z[y == k].mean(axis=0) for k in range(c)])
    gap = z[:, None] - means[None]
    logits = -0.5 * np.einsum("ncd,de,nce->nc", gap, np.linalg.inv(pooled), gap)
    probability = own(scipy.special.softmax(logits, axis=1), y)
    result = outputs("tvt", x, y)
    assert result["local"] == pytest.approx(np.mean(local), rel=1e-8)
    assert result["separation"] == pytest.approx(probability, rel=1e-8)
    assert result["variability"] == pytest.approx(np.linalg.norm(z, "nuc"), rel=1e-8)


def test_ncti_of_one_model_is_the_plain_sum_of_its_terms() -> None:
    x, y = blobs(60, 9)
    terms = metrics.ncti_terms(x, y)
    plain = terms.feature_nuc + terms.cls_conf - terms.log_class_pred_nuc
    assert metrics.ncti(x, y) == pytest.approx(float(plain))


def test_ncti_without_shrinkage() -> None:
    """Features of large variance: the closed form of the eigenvalues of S_W^-1 S_B."""
    x, y = blobs(80, 6, separation=3.0)
    x = 40 * x
    m = oracles.moments(x, y)
    within = np.einsum("c,cij->ij", m.share, m.covariance)
    centred = m.mean - m.share @ m.mean
    between = np.einsum("c,ci,cj->ij", m.share, centred, centred)
    values = scipy.linalg.eigh(between, within, eigvals_only=True)[::-1][:3]
    terms = metrics.ncti_terms(x, y)
    assert terms.feature_nuc == pytest.approx(np.sqrt(80) * np.sqrt(1 + values).sum(), rel=1e-9)
    p = np.exp(oracles.fisher_log_probabilities(x, m, 0.0, "trace"))
    assert terms.cls_conf == pytest.approx(own(p, y), rel=1e-9)
    norms = [np.linalg.norm(p[y == c], "nuc") for c in range(4)]
    assert terms.log_class_pred_nuc == pytest.approx(np.log(sum(norms)), rel=1e-6)


def test_class_grams_leave_other_labels_out() -> None:
    from jaxte.statistics.class_grams import class_grams

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(300, 5)), rng.uniform(0, 2, 300)
    y = rng.choice([-3, 0, 1, 3, 4], 300, p=[0.1, 0.6, 0.1, 0.1, 0.1])
    result = class_grams(jnp.asarray(x), jnp.asarray(w), jnp.asarray(y), 4)
    for c in range(4):
        rows = x[y == c]
        np.testing.assert_allclose(result[c], rows.T @ (w[y == c, None] * rows), atol=1e-12)
