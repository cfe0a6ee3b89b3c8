"""Metrics of the outputs of a model's own head, against NumPy written from the formulas."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import GOLDEN, Array, golden_set
from scipy.special import logsumexp, softmax
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

import jaxte
from jaxte import InputError
from jaxte.metrics import (
    atc,
    energy,
    leep,
    msp,
    nce,
    nll,
    norm_entropy,
    pactran_dirichlet,
    pactran_gamma,
)
from jaxte.statistics import tiles
from jaxte.statistics.rows import first_largest

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
X = RNG.normal(size=(60, 4))
LOGITS = 2 * RNG.normal(size=(60, 7)) + 2 * np.eye(7)[Y]
SPARSE = np.where(LOGITS > 0.5, np.exp(LOGITS), np.where(LOGITS > 0, -0.0, 0.0))
SPARSE[:, [2, 5]] = [0.0, -0.0]  # classes without any mass
SPARSE[SPARSE.sum(axis=1) == 0, 0] = 1
SPARSE /= SPARSE.sum(axis=1, keepdims=True)
ROW_12 = (np.arange(60) == 12)[:, None]
LABEL_FREE = ("msp", "nll", "norm_entropy", "atc", "energy")
OF_HEADS = (leep, nce, pactran_dirichlet, pactran_gamma, msp, nll, norm_entropy, atc)


def leep_of(q: Array, y: Array, w: Array) -> tuple[float, float]:
    """LEEP and the mean probability, sample by sample."""
    joint = np.array([(w[y == c, None] * q[y == c]).sum(axis=0) for c in range(y.max() + 1)])
    mass = joint.sum(axis=0)
    own = joint[:, mass > 0] / mass[mass > 0]
    p = np.array([own[c] @ row[mass > 0] for c, row in zip(y, q, strict=True)])
    return float(w @ np.log(p) / w.sum()), float(w @ p / w.sum())


def nce_of(q: Array, y: Array, w: Array) -> float:
    z, total = q.argmax(axis=1), 0.0
    for c in set(y):
        for one in set(z[y == c]):
            both = w[(y == c) & (z == one)].sum()
            total += both * np.log(both / w[z == one].sum())
    return float(total / w.sum())


def test_leep_and_nce_take_probabilities_of_zero(x64: None) -> None:
    w = RNG.uniform(0.5, 2, size=60)
    expected = leep_of(SPARSE, Y, w)
    assert float(leep(SPARSE, Y, weights=w)) == pytest.approx(expected[0], rel=1e-12)
    mean = leep(X, Y, probabilities=SPARSE, weights=w, mean_probability=True)
    assert float(mean) == pytest.approx(expected[1], rel=1e-12)
    assert float(nce(SPARSE, Y, weights=w)) == pytest.approx(nce_of(SPARSE, Y, w), rel=1e-12)
    for metric in (leep, norm_entropy, pactran_gamma):
        slope = jax.grad(lambda p, m=metric: m(p, Y, num_classes=3))(SPARSE)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_of_rows_are_all_rows(
    weighted: bool, x64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "_BLOCK", 70)  # ten rows of seven, the last block begins early
    n = 43 if weighted else 44  # shapes that no other test compiles
    q, y, logits = SPARSE[:n], Y[:n], LOGITS[:n]
    w = RNG.uniform(0.5, 2, size=n) if weighted else np.ones(n)
    argument = w if weighted else None
    assert float(leep(q, y, weights=argument)) == pytest.approx(leep_of(q, y, w)[0], rel=1e-12)
    of_logits = softmax(logits, axis=1)
    for metric, expected in ((leep, leep_of(of_logits, y, w)[0]), (nce, nce_of(of_logits, y, w))):
        score = float(metric(None, y, logits=logits, weights=argument))
        assert score == pytest.approx(expected, rel=1e-12)
    bad = np.where(np.arange(n)[:, None] == n - 2, 2, q)
    inside = jax.jit(lambda q: leep(q, y, num_classes=3, weights=argument))
    assert np.isnan(float(inside(bad)))


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_that_cannot_be_are_no_score_inside_jit(weighted: bool, x64: None) -> None:
    q = RNG.dirichlet(np.ones(70), size=40)  # as wide as reductions of their own kind take
    w = RNG.uniform(0.5, 2, size=40) if weighted else None
    for metric in (leep, nce, msp, nll, norm_entropy, atc):
        inside = jax.jit(lambda q, m=metric: m(q, Y[:40], num_classes=3, weights=w))
        assert np.isfinite(float(inside(q)))
        for wrong in (np.nan, 2.0, -0.5):
            bad = q.copy()
            bad[38, 3] = wrong
            assert np.isnan(float(inside(bad)))


@pytest.mark.parametrize("width", [1, 31, 32, 33, 40, 64, 300, 1000])
def test_the_first_of_the_largest(width: int, precision: str) -> None:
    values = RNG.integers(0, 4, size=(50, width)).astype(precision)
    assert (jax.jit(first_largest)(values) == values.argmax(axis=1)).all()


def test_many_source_classes_of_which_few_occur(precision: str) -> None:
    q = RNG.dirichlet(np.full(21_000, 0.001), size=60).astype(precision)
    expected = leep_of(q.astype(float), Y, np.ones(60))[0]
    assert float(leep(q, Y)) == pytest.approx(expected, rel=1e-5)


def test_logits_are_those_of_their_softmax(x64: None) -> None:
    for metric in OF_HEADS:
        of_logits = float(metric(None, Y, logits=LOGITS + 100))
        assert of_logits == pytest.approx(float(metric(softmax(LOGITS, axis=1), Y)), rel=1e-10)


def test_probabilities_are_taken_as_they_are_stored(x64: None) -> None:
    q = softmax(3 * LOGITS, axis=1).astype(np.float16)
    w = np.ones(60)
    expected = leep_of(q.astype(float), Y, w)[0]
    normalised = q.astype(float) / q.astype(float).sum(axis=1, keepdims=True)
    assert abs(expected - leep_of(normalised, Y, w)[0]) > 1e-6
    assert float(leep(q.astype(float), Y)) == pytest.approx(expected, rel=1e-12)
    model = {"features": X, "probabilities": q}
    ranking = jaxte.rank({"a": model}, Y, metrics="leep", precision="float64")
    assert ranking.score("a", "leep") == pytest.approx(expected, rel=1e-12)


# --- PACTran --------------------------------------------------------------------------------------


@cache
def responsibilities(name: str) -> Array:
    """Of the mixture of `nleep_deterministic`, which starts from the classes."""
    x, y = golden_set(name)
    z = PCA(0.8, svd_solver="full").fit_transform(x.astype(float))
    means = np.array([z[y == c].mean(axis=0) for c in range(y.max() + 1)])
    within = (z - means[y]).T @ (z - means[y]) / len(z)
    precision = np.linalg.inv(within + 1e-6 * np.eye(len(within)))
    mixture = GaussianMixture(
        len(means),
        weights_init=np.bincount(y) / len(y),
        means_init=means,
        precisions_init=np.broadcast_to(precision, (len(means), *precision.shape)),
    )
    result: Array = mixture.fit(z).predict_proba(z)
    return result


@pytest.mark.parametrize("name", ["breast_cancer_raw", "synthetic_longtail", "wine_standardised"])
def test_pactran_of_a_mixture_is_what_the_released_code_gives(name: str, precision: str) -> None:
    q, y = responsibilities(name).astype(precision), golden_set(name).targets
    tolerance = 1e-6 if precision == "float64" else 1e-3
    for metric in (pactran_dirichlet, pactran_gamma):
        expected = -GOLDEN[name][metric.__name__]
        assert float(metric(q, y)) == pytest.approx(expected, rel=tolerance)


# --- confidence -----------------------------------------------------------------------------------


def test_confidence_is_that_of_the_formulas(x64: None) -> None:
    q = softmax(LOGITS, axis=1)
    entropy = -(q * np.log(q)).sum(axis=1)
    assert float(msp(q)) == pytest.approx(q.max(axis=1).mean())
    assert float(nll(q)) == pytest.approx(np.log(q.max(axis=1)).mean())
    assert float(norm_entropy(q)) == pytest.approx(-entropy.mean() / np.log(7))
    padded = np.pad(q, ((0, 0), (0, 3)))
    assert float(norm_entropy(padded, num_features=7)) == pytest.approx(float(norm_entropy(q)))
    assert np.isnan(norm_entropy(np.ones((5, 1))))


def test_atc_is_the_share_above_the_threshold_of_the_source(x64: None) -> None:
    source = RNG.normal(size=(50, 7))
    q, p = softmax(LOGITS, axis=1), softmax(source, axis=1)
    scores = {
        "maximum": (q.max(axis=1), p.max(axis=1)),
        "entropy": ((q * np.log(q)).sum(axis=1), (p * np.log(p)).sum(axis=1)),
    }
    for confidence, (target, own) in scores.items():
        threshold = np.sort(own)[20]  # 60 % of the source are not below
        options: dict[str, Any] = {"source_logits": source, "source_accuracy": 0.6}
        options["confidence"] = confidence
        expected = (target >= threshold).mean()
        assert float(atc(q, **options)) == pytest.approx(expected)
        models = {"memory": X, "stream": [X[:20], X[20:]]}
        pool = {name: {"features": own, "logits": LOGITS} for name, own in models.items()}
        ranking = jaxte.rank(pool, metrics="atc", options={"atc": options})
        assert [ranking.score(name, "atc") for name in pool] == pytest.approx([expected] * 2)
    assert float(atc(q)) == float(msp(q))
    assert float(atc(q, source_logits=source, source_accuracy=0)) == 0
    with pytest.raises(InputError, match="both, or neither"):
        atc(q, source_accuracy=0.5)
    with pytest.raises(InputError, match="outside"):
        atc(q, source_logits=source, source_accuracy=60)


@pytest.mark.parametrize("tail", ["bot", "top"])
def test_energy_of_a_tail_counts_a_row_of_weight_2_twice(tail: str, x64: None) -> None:
    counts = np.arange(60) % 3
    values = np.sort(logsumexp(np.repeat(X, counts, axis=0), axis=1))
    size = len(values) * 3 // 10
    expected = values[:size].mean() if tail == "bot" else values[-size:].mean()
    score = energy(X, weights=counts, fraction=0.3, tail=tail)
    assert float(score) == pytest.approx(expected)
    assert float(energy(None, logits=LOGITS)) == pytest.approx(logsumexp(LOGITS, axis=1).mean())
    assert float(energy(X, fraction=0.001)) == pytest.approx(logsumexp(X, axis=1).min())


def test_energy_of_logits_in_a_pool() -> None:
    pool = {
        "logits": {"features": X, "logits": LOGITS},
        "stream": {"features": [X[:20], X[20:]], "logits": LOGITS},
        "probabilities": {"features": X, "probabilities": softmax(LOGITS, axis=1)},
    }
    ranking = jaxte.rank(pool, metrics="energy", options={"energy": {"of": "logits"}})
    expected = logsumexp(LOGITS, axis=1).mean()
    for name in ("logits", "stream"):
        assert ranking.score(name, "energy") == pytest.approx(expected, rel=1e-6)
    assert "give logits" in ranking.status("probabilities", "energy")


# --- ranking --------------------------------------------------------------------------------------


def test_models_without_labels_are_ranked_by_what_reads_none(tmp_path: Path) -> None:
    pool: dict[str, Any] = {
        "memory": {"features": X, "logits": LOGITS},
        "narrow": {"features": X[:, :2], "logits": LOGITS[:, :5]},
        "stream": {"features": [X[:20], X[20:]], "logits": LOGITS},
        "labelled": {"features": [(X[:20], Y[:20]), (X[20:], Y[20:])], "logits": LOGITS},
    }
    without = jaxte.rank(pool, metrics=LABEL_FREE, precision="float64")
    labelled = pool.pop("labelled")
    with_labels = jaxte.rank(pool, Y, metrics=[*LABEL_FREE, "leep"], precision="float64")
    for metric in LABEL_FREE:
        assert without.status("labelled", metric) == "ok"
        for name in pool:
            expected = with_labels.score(name, metric)
            assert without.score(name, metric) == pytest.approx(expected, rel=1e-12)
    mixed = jaxte.rank({**pool, "labelled": labelled}, metrics=["leep", "msp"])
    assert mixed.status("labelled", "leep") == "ok"
    assert "no labels, and leep cannot do without" in mixed.status("memory", "leep")
    with pytest.raises(InputError, match=r"no labels, and logme, leep cannot do without"):
        jaxte.rank(pool, metrics=["logme", "leep", "msp"])


def test_a_bad_row_is_named_where_samples_are_streamed_too() -> None:
    bad = softmax(LOGITS, axis=1)
    bad[33] *= 2
    for features in (X, [X[:20], X[20:]]):
        pool = {"a": {"features": features, "probabilities": bad}}
        ranking = jaxte.rank(pool, Y, metrics=["leep", "hscore"])
        assert "row 33 sum to 2" in ranking.status("a", "leep")
        assert ranking.status("a", "hscore") == "ok"
        weights = np.arange(60) != 33
        ranking = jaxte.rank(pool, Y, metrics="leep", weights=weights, precision="float64")
        expected = leep_of(bad[weights], Y[weights], np.ones(59))[0]
        assert ranking.score("a", "leep") == pytest.approx(expected, rel=1e-12)
    short = {"a": {"features": lambda: iter([(X, Y)]), "probabilities": bad[:30]}}
    with pytest.raises(InputError, match="end after 60 rows, but probabilities have 30"):
        jaxte.rank(short, metrics="nce")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": X}, "row 0: .*reads its first argument as them, or probabilities= or"),
        ({"features": 1 + X**2}, "row 0 sum to .*reads its first argument as them"),
        ({"features": None}, "no outputs of the model's own head: leep reads"),
        ({"features": X[:9], "logits": LOGITS}, r"\(60, 7\), but features have shape \(9, 4\)"),
        ({"features": None, "logits": LOGITS, "probabilities": SPARSE}, "not both"),
        ({"features": None, "probabilities": SPARSE - ROW_12}, "in row 12: they must lie"),
        ({"features": None, "logits": np.where(ROW_12, np.inf, LOGITS)}, "first in row 12"),
    ],
)
def test_what_cannot_be_outputs_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        leep(labels=Y, **arguments)
