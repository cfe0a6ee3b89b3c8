"""Metrics of pairs of samples against plain NumPy, SciPy and scikit-learn."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
from helpers import Array, blobs, regression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from jaxte import InputError
from jaxte.metrics import concept_variance, int_score, knn, parc, tmi
from jaxte.statistics import pairs as engine
from jaxte.statistics.pairs import Block, Pairs, nearest

pytestmark = pytest.mark.usefixtures("x64")
TALL, WIDE = blobs(60, 7, separation=1.0), blobs(25, 40, classes=3)
each_problem = pytest.mark.parametrize(("x", "y"), [TALL, WIDE], ids=["tall", "wide"])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several blocks, the last one filled up, where one would do."""
    monkeypatch.setattr(engine, "_ELEMENTS", 512)
    monkeypatch.setattr(sys.modules["jaxte.metrics.tmi"], "_TILE", 16)
    # that size is no part of what a program is kept by, but this is: so they are of their own
    with jax.numpy_rank_promotion("warn"):
        yield


# --- the engine -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_blocks")
def test_blocks_are_rows_of_the_matrix_of_distances() -> None:
    x = TALL.features - TALL.features.mean(axis=0)
    weights = np.arange(60) % 3 + 0.5
    pairs = Pairs.of(jax.numpy.asarray(x), jax.numpy.asarray(weights))
    assert pairs.blocks > 1
    assert len(pairs.weights) > 60
    squares = pairs.map(lambda block: block.squares)[:, :60]
    expected = scipy.spatial.distance.cdist(x, x, "sqeuclidean")
    np.testing.assert_allclose(squares, expected, rtol=1e-12, atol=1e-13)
    others = weights[None] - (weights.clip(max=1) * np.eye(60))
    np.testing.assert_allclose(pairs.map(lambda block: block.others)[:, :60], others)
    total = pairs.sum(lambda block: block.weights @ block.squares @ pairs.weights)
    assert float(total) == pytest.approx(weights @ expected @ weights)
    labels = pairs.filled(jax.numpy.arange(60.0))

    def products(block: Block) -> jax.Array:  # of labels, so that a pair is known by its rows
        both = labels[block.rows][:, None] * labels[block.columns][None]
        return block.weights @ (block.others * (both + block.squares)).sum(axis=1)

    each = pairs.sum(products, once=True)
    np.testing.assert_allclose(each, pairs.sum(products))


def test_rows_that_are_alike_are_at_distance_0_and_share_places() -> None:
    """Far from each other's mean their products alone would leave a distance of 1e-8."""
    rng = np.random.default_rng(0)
    x = np.repeat(1e4 + rng.normal(size=(4, 9)) * 1e4, 3, axis=0)
    x -= x.mean(axis=0)
    pairs = Pairs.of(jax.numpy.asarray(x), jax.numpy.ones(12))
    squares = np.asarray(pairs.map(lambda block: block.squares))
    alike = np.arange(12)[:, None] // 3 == np.arange(12)[None] // 3
    assert (squares[alike] == 0).all()
    assert (squares[~alike] > 0).all()
    shares = np.asarray(pairs.map(lambda block: nearest(block, 1)))
    np.testing.assert_allclose(shares, 0.5 * (alike & ~np.eye(12, dtype=bool)))


def test_fewer_others_than_places_all_take_part() -> None:
    pairs = Pairs.of(jax.numpy.asarray(TALL.features[:4]), jax.numpy.ones(4))
    shares = pairs.map(lambda block: nearest(block, 9))
    np.testing.assert_allclose(shares, 1 - np.eye(4))


# --- k nearest neighbours -------------------------------------------------------------------------


def left_out(model: Any, x: Array, y: Array) -> Array:
    return np.array(
        [
            model.fit(np.delete(x, i, axis=0), np.delete(y, i, axis=0)).predict(x[i : i + 1])[0]
            for i in range(len(x))
        ]
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("distance", ["euclidean", "cosine", "correlation"])
def test_knn_is_that_of_scikit_learn(distance: str) -> None:
    x, y = TALL
    plain = KNeighborsClassifier(3, algorithm="brute", metric=distance)
    expected = (left_out(plain, x, y) == y).mean()
    assert 0.3 < expected < 0.99
    assert float(knn(x, y, k=3, distance=distance)) == pytest.approx(expected)
    x, targets = regression(60, 7, outputs=2)
    predicted = left_out(KNeighborsRegressor(3, algorithm="brute", metric=distance), x, targets)
    r2 = 1 - ((targets - predicted) ** 2).sum(axis=0) / len(x) / targets.var(axis=0)
    assert float(knn(x, targets, k=3, distance=distance)) == pytest.approx(r2.mean())
    both = [np.corrcoef(*columns)[0, 1] for columns in zip(targets.T, predicted.T, strict=True)]
    result = knn(x, targets, k=3, distance=distance, measure="pearson")
    assert float(result) == pytest.approx(np.mean(both))


def test_a_tie_of_votes_goes_to_the_smallest_label_and_one_of_distances_to_nobody() -> None:
    """On a line every row between two others has both as nearest neighbours."""
    x, y = np.arange(6.0)[:, None], np.array([0, 1, 1, 0, 0, 1])
    # neighbours by row: 1 | 0, 1 | 1, 0 | 1, 0 | 0, 1 | 0
    assert float(knn(x, y, k=1)) == pytest.approx(2 / 6)
    assert float(knn(x + 1e6, y, k=2)) == pytest.approx(2 / 6)


def test_rows_without_a_direction_and_a_target_that_never_varies() -> None:
    x, y = TALL.features.copy(), TALL.targets
    x[:3] = 0
    assert np.isfinite(knn(x, y, distance="cosine"))
    constant = np.full((60, 1), 0.1)
    assert np.isnan(knn(x, constant))
    both = np.concatenate([constant, x[:, :1]], axis=1)
    assert float(knn(x, both)) == pytest.approx(float(knn(x, x[:, 0])))


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": 2.5}, {"distance": "cityblock"}, {"measure": "accuracy"}], ids=str
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        knn(*TALL, **options)


# --- PARC -----------------------------------------------------------------------------------------


def spearman_of_pairs(x: Array, y: Array) -> float:
    x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 1e-12, x.std(axis=0), 1)
    upper = np.triu_indices(len(x), 1)
    distance = (1 - np.corrcoef(x))[upper]
    order = np.argsort(distance)  # what differs by rounding is a tie
    distance[order] = np.cumsum(np.append(0, np.diff(distance[order]) > 1e-13))
    return 100 * float(scipy.stats.spearmanr(distance, (y[:, None] != y[None])[upper])[0])


@each_problem
def test_parc_is_the_spearman_correlation(x: Array, y: Array) -> None:
    assert float(parc(x, y, num_components=None)) == pytest.approx(spearman_of_pairs(x, y))
    odd = np.append(x[:-2], x[:1], axis=0)  # an odd number of rows, and ties
    expected = spearman_of_pairs(odd, y[:-1])
    assert float(parc(odd, y[:-1], num_components=None)) == pytest.approx(expected)


def test_parc_of_many_rows_counts_the_same_pairs(request: pytest.FixtureRequest) -> None:
    weights = np.arange(60) % 3
    expected = float(parc(*TALL, weights=weights))
    request.getfixturevalue("small_blocks")
    assert float(parc(*TALL, weights=weights)) == pytest.approx(expected, rel=1e-5)


def test_parc_with_no_more_directions_than_there_are() -> None:
    """Ten rows have nine principal components, however many are asked for."""
    x, y = WIDE.features[:10], WIDE.targets[:10]
    assert float(parc(x, y)) == pytest.approx(float(parc(x, y, num_components=9)))
    assert np.isnan(parc(x, np.arange(10)))


def test_parc_of_principal_components_of_very_different_size() -> None:
    """Standardised, the least of them counts as much: it must not drown in a product of rows."""
    x, y = TALL.features * np.logspace(-4, 4, TALL.features.shape[1]), TALL.targets
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    peaks = axes[np.arange(len(axes)), abs(axes).argmax(axis=1)]
    parts = (x - x.mean(axis=0)) @ (axes * np.sign(peaks)[:, None]).T
    assert float(parc(x, y)) == pytest.approx(spearman_of_pairs(parts, y), rel=1e-9)


# --- TMI, INT, concept variance -------------------------------------------------------------------


def entropy_given_class(x: Array, y: Array, k: int, least: float) -> tuple[float, int]:
    total, number = 0.0, 0
    for c in np.unique(y):
        own = x[y == c]
        number += len(own) > k or len(own) == 1
        if len(own) > k:
            distances = scipy.spatial.distance.cdist(own, own, "chebyshev")
            radius = np.maximum(np.sort(distances, axis=1)[:, k], least)
            digammas = scipy.special.digamma(len(own)) - scipy.special.digamma(k)
            total += len(own) / len(x) * (digammas + x.shape[1] * np.log(2 * radius).mean())
    return total, number


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 3])
@each_problem
def test_tmi_is_the_sum_of_the_entropies(x: Array, y: Array, k: int) -> None:
    y = np.append(np.maximum(y[:-3], 1), [0, 9, 9])  # a class of one sample, one of two
    x = np.append(x[:-2], x[-3:-1], axis=0)  # and two samples that are alike
    expected, number = entropy_given_class(x, y, k, 0.3)
    assert float(tmi(x, y, k=k, least_distance=0.3)) == pytest.approx(expected)
    result = tmi(x, y, k=k, least_distance=0.3, variant="released")
    assert float(result) == pytest.approx(expected / number)


def test_tmi_where_no_class_has_an_estimate() -> None:
    assert np.isnan(tmi(TALL.features[:9], np.arange(9) // 3))
    with pytest.raises(InputError, match="least_distance"):
        tmi(*TALL, least_distance=0.0)


def mean_distance_between_classes(x: Array, y: Array) -> float:
    apart = scipy.spatial.distance.cdist
    classes = np.unique(y)
    means = [apart(x[y == a], x[y == b]).mean() for a in classes for b in classes if a < b]
    return float(np.mean(means))


def mixed_neighbourhoods(x: Array, y: Array) -> float:
    extent = np.ptp(x, axis=0)
    x = (x - x.min(axis=0)) / np.where(extent > 0, extent, 1)
    distance = scipy.spatial.distance.cdist(x, x)
    closeness = 2 ** (-2 * distance / np.maximum(np.sqrt(x.shape[1]) - distance, 1e-9))
    np.fill_diagonal(closeness, 0)
    return -float(np.mean((closeness * (y[:, None] != y)).sum(axis=1) / closeness.sum(axis=1)))


@pytest.mark.parametrize(
    ("metric", "replica"),
    [(int_score, mean_distance_between_classes), (concept_variance, mixed_neighbourhoods)],
)
@pytest.mark.usefixtures("small_blocks")
@each_problem
def test_distances_between_classes_and_mixed_neighbourhoods(
    x: Array,
    y: Array,
    metric: Callable[..., Any],
    replica: Callable[..., float],
) -> None:
    x = np.append(x, np.full((len(x), 1), 0.1), axis=1)  # a column that says nothing
    x[1] = x[0]
    assert float(metric(x + 50, y)) == pytest.approx(replica(x, y))


def test_neighbours_so_far_that_their_closeness_underflows() -> None:
    """Two samples in opposite corners of the cube are as far as can be."""
    x = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    assert float(concept_variance(x, np.array([0, 1, 0, 1]))) == 0
    assert float(concept_variance(x[:2], np.array([0, 1]))) == -1
