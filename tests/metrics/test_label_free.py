"""Scores that read no labels against plain NumPy, and the spectrum that they share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Array, blobs, counted_compilations

import jaxte
from jaxte import InputError, metrics, moments
from jaxte.metrics import REGISTRY
from jaxte.statistics import Sample, Statistics, spectrum

PROBLEMS = {"tall": blobs(60, 9, offset=3.0, seed=1), "wide": blobs(24, 40, seed=2)}
each_problem = pytest.mark.parametrize("kind", PROBLEMS)
LABEL_FREE = ("rankme", "effective_rank", "stable_rank", "alpha_req")


@pytest.mark.parametrize("name", LABEL_FREE)
def test_labels_are_of_no_effect(name: str, x64: None) -> None:
    x, y = PROBLEMS["tall"]
    function = getattr(metrics, name)
    assert REGISTRY[name].label_free
    assert float(function(x)) == pytest.approx(float(function(x, y)), rel=1e-12)
    ranked = jaxte.rank({"m": x}, y, metrics=name).score("m", name)
    assert ranked == pytest.approx(float(function(x)), rel=1e-9)


def alpha(x: Array, first: int, last: int) -> float:
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    values = values[values > 1e-12 * values[0]]
    ranks = np.arange(first, min(last, len(values)) + 1)
    slope, _ = np.polyfit(np.log(ranks), np.log(values[ranks - 1]), 1, w=1 / np.sqrt(ranks))
    return -float(slope)


@each_problem
def test_alpha_req(kind: str, x64: None) -> None:
    x = PROBLEMS[kind].features
    first = 1 if kind == "tall" else 6  # nine eigenvalues are too few to leave out five
    expected = -abs(alpha(x, first, 100) - 1)
    assert float(metrics.alpha_req(x)) == pytest.approx(expected, rel=1e-9)
    expected = -abs(alpha(x, 2, 7) - 1)
    assert float(metrics.alpha_req(x, ranks=(2, 7))) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(InputError, match="first and the last"):
        metrics.alpha_req(x, ranks=(7, 2))


def lidar(x: Array, y: Array, delta: float) -> float:
    number = y.max() + 1
    means = np.stack([x[y == c].mean(0) for c in range(number)])
    rest = x - means[y]
    within = rest.T @ rest / (len(x) - number) + delta * np.eye(x.shape[1])
    values, vectors = np.linalg.eigh(within)
    root = vectors / np.sqrt(values) @ vectors.T
    values = np.linalg.eigvalsh(root @ np.cov(means.T) @ root)
    p = values[values > 1e-10 * values[-1]]
    p = p / p.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


@pytest.mark.parametrize(("images", "width"), [(20, 8), (6, 30)])
def test_lidar(images: int, width: int, precision: str) -> None:
    """More images than features, and fewer rows than features."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(images), 4)
    x = rng.normal(size=(images, width))[image] + 0.3 * rng.normal(size=(len(image), width))
    score = metrics.lidar(jnp.asarray(x, precision), image, delta=1e-2)
    expected = lidar(x, image, 1e-2)
    assert float(score) == pytest.approx(expected, rel=1e-9 if precision == "float64" else 1e-4)
    single = np.arange(len(x))
    assert np.isnan(metrics.lidar(x, single))  # one view of each leaves nothing to compare with


# --- the spectrum ---------------------------------------------------------------------------------


NAMES = ("eigenvalues", "gram_eigenvalues")


def both(statistics: Statistics) -> tuple[Any, ...]:
    return tuple(getattr(statistics, name) * statistics.unit**2 for name in NAMES)


def spectra(x: Array, y: Array | None = None) -> dict[str, Array]:
    classes = None if y is None else int(y.max()) + 1
    targets = np.ones(len(x)) if y is None else y
    statistics = Statistics(Sample(x, targets), num_classes=classes)
    return dict(zip(NAMES, map(np.asarray, jax.jit(both)(statistics)), strict=True))


@each_problem
def test_eigenvalues_from_rows_and_from_moments(kind: str, precision: str) -> None:
    """With labels and without, from the smaller side where rows are at hand."""
    x, y = PROBLEMS[kind]
    x = x.astype(precision)
    size = min(x.shape)
    tolerance: Any = {"rtol": 1e-9, "atol": 1e-10} if precision == "float64" else {"rtol": 1e-3}
    state = moments.update(moments.init(x.shape[1], num_classes=4), x, y)
    streamed = dict(
        zip(NAMES, jax.jit(both)(Statistics.of_moments(state, x.shape[1])), strict=True)
    )
    unlabelled, labelled = spectra(x), spectra(x, y)
    for name, rows in (("eigenvalues", x - x.mean(0)), ("gram_eigenvalues", x)):
        expected = np.linalg.svd(rows.astype(float), compute_uv=False) ** 2
        rank = size - (kind == "wide" and name == "eigenvalues")
        expected[rank:] = 0
        for result in (unlabelled[name], labelled[name]):
            assert result.shape == (size,)
            assert np.all(result[rank:] == 0)
            np.testing.assert_allclose(result, expected, **tolerance)
        result = np.asarray(streamed[name])
        scale = 1e-9 if precision == "float64" else 1e-4
        np.testing.assert_allclose(result[:size], expected, atol=scale * expected[0])


def test_large_matrices_by_bisection(x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated eigenvalues and none, as of small ones."""
    monkeypatch.setattr(spectrum, "_REDUCED", 8)
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(21, 21)))[0]
    for values in (np.arange(21.0), np.repeat([5.0, 2.0, 0.0], 7), np.zeros(21)):
        a = jnp.asarray(basis * values @ basis.T)
        result = spectrum.eigenvalues_of_gram(a, jnp.asarray(30.0))
        np.testing.assert_allclose(result, np.sort(values)[::-1], atol=1e-12)
        assert np.count_nonzero(result) == np.count_nonzero(values)


def test_float32_keeps_small_singular_values() -> None:
    """Products of the rows would know none below 3e-4 of the largest."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(80, 12)))[0] * 10.0 ** -np.linspace(0, 4.5, 12)
    x = (x @ np.linalg.qr(rng.normal(size=(12, 12)))[0]).astype("float32")
    expected = np.linalg.svd(x.astype(float), compute_uv=False)
    result = np.sqrt(spectra(x)["gram_eigenvalues"])
    np.testing.assert_allclose(result, expected, rtol=2e-2)


def test_derivative_at_repeated_and_zero_eigenvalues(x64: None) -> None:
    """Of their sum of squares it is 4 X X' X, and eigenvectors would have none here."""
    for shape in ((12, 4), (4, 12)):
        x = jnp.eye(*shape)

        def squares(x: Any) -> Any:
            statistics = Statistics(Sample(x, jnp.ones(len(x))), num_classes=None)
            return jnp.sum(statistics.gram_eigenvalues**2)

        slope = jax.jit(jax.grad(squares))(x)
        np.testing.assert_allclose(slope, 4 * x @ x.T @ x, atol=1e-12)
        slope = jax.jit(jax.grad(metrics.rankme))(x.at[-1].set(0))
        assert np.all(np.isfinite(slope))


def test_metrics_of_one_spectrum_make_it_once() -> None:
    rng = np.random.default_rng(0)
    models, y = {"m": rng.normal(size=(71, 6))}, np.arange(71) % 3
    names = ["effective_rank", "stable_rank", "alpha_req"]
    jaxte.rank(models, y, metrics=names[:1])
    with counted_compilations() as more:
        jaxte.rank(models, y, metrics=names)
    assert len(more) <= 2  # stage 2 of the other two, and nothing else
