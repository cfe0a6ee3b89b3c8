"""Who is best, and how surely, of noisy scores."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxte.evaluate.posterior import Prior, best_chances, conditioned, credible, of_scores


def test_one_normal_prior_has_the_posterior_of_the_textbook() -> None:
    mean, var, noise, y = 1.0, 4.0, 1.0, 3.0
    one = (np.array([mean]), np.array([[var]]))
    posterior = conditioned(np.array([y]), np.array([[noise]]), [Prior(*one, *one, one[1])])
    assert posterior.mean[0] == pytest.approx((y * var + mean * noise) / (var + noise))
    assert posterior.cov[0, 0] == pytest.approx(var * noise / (var + noise))
    assert posterior.draws(0).std() == pytest.approx(np.sqrt(0.8), rel=0.05)


def test_chances_of_two_scores_lie_between_even_and_those_of_no_prior() -> None:
    scores, error = np.array([0.0, 1.0]), 0.6
    chance = best_chances(of_scores(scores, error**2 * np.eye(2)).draws(0))[1]
    assert 0.5 < chance < norm.cdf(1 / (error * np.sqrt(2)))


def test_noise_that_all_share_decides_nothing() -> None:
    scores, apart = np.array([0.0, 1.0, 0.2]), 0.01 * np.eye(3)
    alone = best_chances(of_scores(scores, apart).draws(0))
    shared = best_chances(of_scores(scores, apart + 100.0).draws(0))
    assert shared == pytest.approx(alone, abs=0.02)
    assert alone[1] > 0.99


def test_scores_that_tie_with_the_same_noise_are_as_likely() -> None:
    chances = best_chances(of_scores(np.full(2, -1.3), np.full((2, 2), 4e-4)).draws(0))
    assert chances == pytest.approx([0.5, 0.5], abs=0.03)


def test_noise_along_the_order_changes_no_order() -> None:
    """Rows that favour all good models at once: their scores move, their places do not."""
    scores = np.array([0.0, 1.0, 2.0, 3.0, 3.1])
    along = 0.02 * np.outer(scores, scores) + 1e-4 * np.eye(5)
    posterior = of_scores(scores, along)
    assert np.diff(posterior.mean).min() > 0.01
    assert best_chances(posterior.draws(0))[4] > 0.95


def test_scores_that_are_known_exactly_or_not_at_all() -> None:
    scores = np.array([0.3, 0.1, 0.2])
    assert best_chances(of_scores(scores, np.zeros((3, 3))).draws(0)) == pytest.approx([1, 0, 0])
    assert best_chances(of_scores(scores, 1e4 * np.eye(3)).draws(0)) == pytest.approx(
        [1 / 3] * 3, abs=0.03
    )


def test_what_is_not_known_is_never_the_best() -> None:
    assert best_chances(np.array([[np.nan, 1.0], [-np.inf, -3.0]])).tolist() == [0, 1]


def test_the_credible_set_begins_with_the_best_and_ends_with_the_confidence() -> None:
    chances = {"a": 0.2, "b": 0.5, "c": 0.25, "d": 0.05}
    assert credible(chances, 0.9, first="b") == ["b", "c", "a"]
    assert credible(chances, 0.7, first="a") == ["a", "b"]
