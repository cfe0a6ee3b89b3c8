"""Measures of agreement against SciPy and by hand, on the host and inside jit."""

import warnings
from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxte import InputError
from jaxte.evaluate import (
    MEASURES,
    best_in_top_k,
    gap_fidelity,
    kendall_tau,
    pearson,
    recall_at_k,
    rel_at_k,
    spearman,
    top1_regret,
    weighted_pearson,
    weighted_tau,
)

MOST = 9
SCIPY = {
    "weighted_tau": scipy.stats.weightedtau,
    "kendall_tau": scipy.stats.kendalltau,
    "pearson": scipy.stats.pearsonr,
    "spearman": scipy.stats.spearmanr,
}
# Values of which many tie, of any size, and constant vectors; two models at least.
numbers = st.one_of(st.integers(0, 3), st.integers(-(10**6), 10**6)).map(lambda i: i / 8)
pools = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=MOST)


@jax.jit
def traced(scores: Any, accuracies: Any, where: Any) -> Any:
    return {k: m.function(scores, accuracies, where=where) for k, m in MEASURES.items()}


def padded(pairs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A pool among models that failed, at the front and at the back."""
    keep = np.zeros(MOST + 2, bool)
    keep[1 : 1 + len(pairs)] = True
    values = np.full((2, MOST + 2), np.nan)
    values[:, keep] = np.array(pairs, float).T
    return values[0], values[1], keep


@given(pools)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_host_and_jit_are_scipys_with_any_ties(pairs: list[tuple[float, float]]) -> None:
    scores, accuracies = np.array(pairs, float).T
    with jax.enable_x64(True):
        inside = {name: float(value) for name, value in traced(*padded(pairs)).items()}
    for name, measure in MEASURES.items():
        host = measure.function(scores, accuracies)
        assert isinstance(host, float)
        np.testing.assert_allclose(inside[name], host, rtol=1e-12, atol=1e-12, err_msg=name)
        if name in SCIPY:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of constant input
                expected = SCIPY[name](scores, accuracies).statistic
            np.testing.assert_allclose(host, expected, rtol=1e-12, atol=1e-12, err_msg=name)


@given(pools, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_order_of_the_models_does_not_matter(
    pairs: list[tuple[float, float]], rng: Any
) -> None:
    turned = rng.sample(pairs, len(pairs))
    for name, measure in MEASURES.items():
        one, other = (measure.function(*np.array(p, float).T) for p in (pairs, turned))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=name)


def test_weighted_tau_by_hand() -> None:
    """Three models, the best two swapped: pair weights 3/2, 4/3, 5/6; one pair disagrees."""
    expected = (-3 / 2 + 4 / 3 + 5 / 6) / (3 / 2 + 4 / 3 + 5 / 6)
    assert weighted_tau([2.0, 3.0, 1.0], [90.0, 80.0, 70.0]) == pytest.approx(expected, rel=1e-12)


def test_extremes() -> None:
    rising, falling = [0.9, 0.1, 0.4], [0.1, 0.9, 0.4]
    for measure in (weighted_tau, kendall_tau, spearman):
        assert measure([3.0, 1.0, 2.0], rising) == pytest.approx(1)
        assert measure([np.inf, -np.inf, 2.0], rising) == pytest.approx(1)
        assert np.isnan(measure([1.0, 1.0, 1.0], falling))
        assert np.isnan(measure([1.0], [1.0]))
    assert weighted_tau([3.0, 1.0, 2.0], falling) == pytest.approx(-1)
    assert np.isnan(pearson([np.inf, 1.0, 2.0], rising))
    assert all(np.isnan(measure.function([], [])) for measure in MEASURES.values())


def test_weighted_pearson_and_gap_fidelity_by_hand() -> None:
    scores, accuracies = np.array([0.2, 0.9, 0.5, 0.4]), np.array([70.0, 80.0, 85.0, 60.0])
    covariance = np.cov(scores, accuracies, aweights=[1, 4, 3, 2])
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert weighted_pearson(scores, accuracies) == pytest.approx(expected, rel=1e-12)
    pairs = [(i, j) for i in range(4) for j in range(4) if accuracies[i] > accuracies[j]]
    gaps = np.array([(scores[i] - scores[j], accuracies[i] - accuracies[j]) for i, j in pairs])
    assert gap_fidelity(scores, accuracies) == pytest.approx(np.corrcoef(gaps.T)[0, 1], rel=1e-12)
    assert gap_fidelity(-accuracies, accuracies) == pytest.approx(-1)
    assert np.isnan(gap_fidelity([1, 2], [1, 2]))


def test_of_equal_scores_the_less_accurate_is_chosen() -> None:
    scores, accuracies = [5, 5, 1, 0], [70, 90, 95, 60]
    assert top1_regret(scores, accuracies) == 25
    assert rel_at_k(scores, accuracies) == pytest.approx(70 / 95)
    assert rel_at_k(scores, accuracies, 2) == pytest.approx(90 / 95)
    assert [recall_at_k(scores, accuracies, k) for k in (1, 2, 3)] == [0, 0, 1]
    assert [best_in_top_k(scores, accuracies, k) for k in (1, 2, 3)] == [0, 0, 1]
    assert recall_at_k([2, 1], [90, 90], 1) == 1  # none is more accurate
    assert np.isnan(rel_at_k([1, 2], [-0.5, -0.1]))  # R2 of regressions may all be negative


def test_inside_jit_nan_stays_nan_and_vmap_serves_ragged_pools() -> None:
    scores = np.array([[3, 1, 2, 0], [3, 1, 2, np.nan], [3, 1, np.nan, 2]])
    keep = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]], bool)
    truth = np.tile([0.9, 0.1, 0.4, 0.0], (3, 1))
    taus = jax.vmap(lambda s, g, w: kendall_tau(s, g, where=w))(scores, truth, keep)
    np.testing.assert_allclose(taus, [1, 1, np.nan], atol=1e-6)
    assert kendall_tau(scores[1], truth[1], where=keep[1]) == pytest.approx(1)


@pytest.mark.parametrize("measure", MEASURES)
def test_one_check_serves_all(measure: str) -> None:
    function = MEASURES[measure].function
    for scores, accuracies, where, said in (
        ([1.0, 2.0, 3.0], [1.0, 2.0], None, r"\(3,\).*\(2,\)"),
        ([[1.0]], [[1.0]], None, "vectors"),
        ([1.0, np.nan], [1.0, 2.0], None, "NaN: leave"),
        ([1.0, 2.0], [1.0, None], None, "NaN: leave"),
        ([1.0, 2.0], ["a", "b"], None, "numbers"),
        ([1.0, 2.0], [1.0, 2.0], [True], "where"),
    ):
        with pytest.raises(InputError, match=said):
            function(scores, accuracies, where=where)
    for wrong in (0, 1.5, "3"):
        with pytest.raises(InputError, match="k is"):
            recall_at_k([1, 2], [1, 2], wrong)  # type: ignore[arg-type]
