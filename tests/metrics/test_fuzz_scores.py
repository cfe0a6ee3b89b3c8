"""Random searches: each score is the oracle's, or says why it has none."""

from functools import cache, partial
from typing import Any

import jax
import numpy as np
import oracles
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
from helpers import Array, Case, blobs, compiled
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxte.metrics import face_terms, logme_fit, sfda

KINDS = (
    *("gaussian", "rectified", "integer", "repeated rows", "repeated columns", "low rank"),
    *("near collapse", "offset", "tiny", "huge", "mixed columns", "sparse", "constant columns"),
    *("one-hot", "softmax", "quantised", "exponential", "shuffled labels"),
)
SHAPES = ((60, 9), (24, 40))
CLASSES = 4


def features(kind: str, n: int, d: int, seed: int) -> tuple[Array, Array]:
    """Features and classes of one kind, float64."""
    rng = np.random.default_rng([seed, KINDS.index(kind), n])
    y = rng.choice(CLASSES, n, p=[0.4, 0.3, 0.2, 0.1])
    y[: 2 * CLASSES] = np.arange(2 * CLASSES) % CLASSES
    x = rng.normal(size=(n, d)) + rng.choice([0.1, 1, 3]) * rng.normal(size=(CLASSES, d))[y]
    if kind == "rectified":
        x = np.maximum(x - 0.5, 0)
    elif kind == "integer":
        x = np.round(2 * x)
    elif kind == "repeated rows":
        x = x[rng.integers(0, n // 4, n)]
    elif kind == "repeated columns":
        x = x[:, rng.integers(0, d // 3, d)]
    elif kind == "low rank":
        rank = rng.integers(1, 5)
        x = x @ rng.normal(size=(d, rank)) @ rng.normal(size=(rank, d))
        x = x.astype(rng.choice(["float32", "float64"])).astype(float)
    elif kind == "near collapse":
        x = rng.normal(size=(CLASSES, d))[y] + 10.0 ** -rng.integers(2, 6) * x
    elif kind == "offset":
        x = x + 10.0 ** rng.uniform(0, 6, d)
    elif kind in ("tiny", "huge"):
        x = x * (1e-8 if kind == "tiny" else 1e8)
    elif kind == "mixed columns":
        x = x * 10.0 ** rng.uniform(-5, 5, d)
    elif kind == "sparse":
        x = x * (rng.random(x.shape) < 0.1)
    elif kind == "constant columns":
        x[:, rng.random(d) < 0.5] = 10 * rng.normal()
    elif kind == "one-hot":
        x = np.eye(d)[rng.integers(0, d, n)]
    elif kind == "softmax":
        x = scipy.special.softmax(x, axis=1)
    elif kind == "quantised":
        x = np.round(16 * x) / 16 + 256
    elif kind == "exponential":
        x = np.exp(rng.choice([1, 2]) * x)
    elif kind == "shuffled labels":
        rng.shuffle(y)
    return x, y.astype(np.int32)


def centred(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Shares, class means from the mean of all, and rows from the mean of their class."""
    x = x - x.mean(axis=0)
    x = x - x.mean(axis=0)
    means = np.stack([x[y == c].mean(axis=0) for c in range(CLASSES)])
    rest = x - means[y]
    more = np.stack([rest[y == c].mean(axis=0) for c in range(CLASSES)])
    return np.bincount(y) / len(y), means + more, rest - more[y]


def fisher(x: Array, y: Array, shrinkage: float | None) -> tuple[Array, Array, float]:
    """Probabilities, class means and shrinkage, by an SVD of the rows."""
    share, means, rest = centred(x, y)
    _, s, v = scipy.linalg.svd(rest / np.sqrt(len(x)), full_matrices=False)
    if shrinkage is None:
        within = partial(lambda u: v.T @ (s**2 * (v @ u)))
        start = within(np.ones(x.shape[1]))
        if np.linalg.norm(start) <= 1e-13 * (s**2).sum():
            start = (rest**2).mean(axis=0)
        for _ in range(6):
            before, start = start, within(start) / np.linalg.norm(within(start))
        shrinkage = max(np.exp(-5 * (start @ within(before))), 1e-10)
    ridge = shrinkage * (s**2).sum() / x.shape[1]
    values = (1 - shrinkage) * s**2 + ridge
    inside = means @ v.T
    solved = (inside / values) @ v
    if len(v) < x.shape[1]:
        outside = means - inside @ v
        solved += (outside - outside @ v.T @ v) / ridge
    logits = (rest + means[y]) @ solved.T - 0.5 * (means * solved).sum(axis=1) + np.log(share)
    return scipy.special.softmax(logits, axis=1), means, shrinkage


def sfda_by_svd(x: Array, y: Array) -> float:
    p, means, shrinkage = fisher(x, y, None)
    own = scipy.special.softmax(p, axis=1)[np.arange(len(y)), y][:, None]
    others = (means.sum(axis=0) - means) / (CLASSES - 1)
    x = x - x.mean(axis=0)
    mixed = own * (x - x.mean(axis=0)) + (1 - own) * others[y]
    return float(fisher(mixed, y, shrinkage)[0][np.arange(len(y)), y].mean())


def evidence(x: Array, column: Array) -> float:
    """The oracle's maximum, from a coarser grid than its own."""
    profile = oracles.evidence_profile(x, column)
    grid = np.log((x**2).sum() or 1) + np.linspace(-50, 15, 261)
    values = profile(grid)[0]
    best = int(np.clip(np.argmax(values), 1, len(grid) - 2))
    result = scipy.optimize.minimize_scalar(
        lambda u: -profile(u)[0],
        bounds=(grid[best - 1], grid[best + 1]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return max(values.max(), -float(result.fun))


@cache
def kernels() -> dict[str, Any]:
    return {
        "logme": jax.jit(partial(logme_fit, num_classes=CLASSES)),
        "sfda": jax.jit(partial(sfda, num_classes=CLASSES)),
        "face": jax.jit(partial(face_terms, num_classes=CLASSES)),
    }


def faults(kind: str, shape: tuple[int, int], seed: int) -> list[str]:
    """What differs from the oracles."""
    x, y = features(kind, *shape, seed)
    where, result = f"{kind} {shape} seed {seed}", []
    fit = kernels()["logme"](x, y)
    expected = [evidence(x, column) for column in oracles.target_columns(y).T]
    for column, (own, right) in enumerate(zip(np.asarray(fit.evidence), expected, strict=True)):
        close = abs(own - right) <= 1e-6 * (1 + abs(right))
        if not (close or (fit.bounded[column] and np.isfinite(own))):
            result.append(f"{where}: logme column {column} {own} for {right}")
    own, right = float(kernels()["sfda"](x, y)), sfda_by_svd(x, y)
    if not abs(own - right) <= 1e-5:  # of the oracle, where its ridge is all but rounding error
        result.append(f"{where}: sfda {own} for {right}")
    terms = kernels()["face"](x, y)
    for name, right in zip(terms._fields, oracles.face_terms(x, y), strict=True):
        own = float(getattr(terms, name))
        if not abs(own - right) <= 1e-6 * (1 + abs(right)):
            result.append(f"{where}: face {name} {own} for {right}")
    return result


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "seeds",
    [range(1), pytest.param(range(1, 40), marks=[pytest.mark.slow, pytest.mark.long])],
    ids=["short", "long"],
)
def test_scores_of_random_features(shape: tuple[int, int], seeds: range, x64: None) -> None:
    wrong = [fault for kind in KINDS for seed in seeds for fault in faults(kind, shape, seed)]
    assert not wrong, "\n".join(wrong)


# --- weights and values, at one fixed shape so that nothing recompiles ----------------------------

X, Y = blobs(14, 5, classes=3, separation=0.8)
counts = st.lists(st.integers(0, 3), min_size=14, max_size=14)
search = settings(max_examples=40, deadline=None, derandomize=True)


def score(case: Case, x: Array, weights: Array | None = None) -> float:
    with jax.enable_x64(True):
        return float(compiled(case, 3)(x, Y, np.ones(14) if weights is None else weights, 5))


@pytest.mark.parametrize(
    ("case", "oracle"),
    [
        (Case("logme", {"variant": "paper"}), oracles.logme),
        (Case("logme", {"variant": "released"}), oracles.logme),
        (Case("sfda", {"shrinkage": 0.1, "shrink_target": "identity"}), oracles.sfda),
        (Case("face", {"covariance": "diagonal"}), oracles.face),
    ],
    ids=["logme-paper", "logme-released", "sfda", "face"],
)
@given(weights=counts)
@search
def test_any_integer_weights_are_repeated_rows(case: Case, oracle: Any, weights: list[int]) -> None:
    """The oracle repeats the rows; two classes and some spread within them remain."""
    present = np.unique(np.repeat(Y, weights))
    assume(len(present) >= 2 and sum(w > 0 for w in weights) > len(present) + 1)
    expected = oracle(X, Y, weights, **case.options)
    assume(np.isfinite(expected) and abs(expected) < 10)
    result = score(case, X, np.array(weights, float))
    assert result == pytest.approx(expected, rel=1e-6, abs=1e-8)


@given(values=st.lists(st.floats(-3, 3, width=32), min_size=70, max_size=70))
@search
def test_no_evidence_is_above_logme(values: list[float]) -> None:
    """The score is a maximum, so no (alpha, beta) of a coarse dense grid may beat it."""
    x = np.array(values).reshape(14, 5)
    assume(np.linalg.matrix_rank(x) == 5)
    result = score(Case("logme", {"variant": "paper"}), x)
    columns = oracles.target_columns(Y).T
    for alpha in (0.1, 1.0, 10.0):
        for beta in (1.0, 4.0, 20.0):
            here = np.mean([oracles.log_evidence(x, c, alpha, beta) for c in columns]) / 14
            assert here <= result + 1e-9
