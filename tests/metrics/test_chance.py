"""What each metric says about features that know nothing of the labels."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Problem

from jaxte.metrics import face_terms, logme, sfda

pytestmark = pytest.mark.usefixtures("x64")
CLASSES = 4


def noise(seed: int, n: int = 400, d: int = 4) -> Problem:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n, dtype=np.int32) % CLASSES)
    return Problem(rng.normal(size=(n, d)) / np.sqrt(d), labels)


def test_logme_of_noise_is_the_null_model() -> None:
    """Centred features carry no intercept: the best they can do is N(0, p_c), plus overfitting."""
    null = -0.5 * (np.log(2 * np.pi / CLASSES) + 1)
    for seed in range(5):
        x, y = map(jnp.asarray, noise(seed))
        assert null - 1e-9 <= float(logme(x, y)) < null + 0.01


def test_sfda_of_noise_is_the_probability_of_a_guess() -> None:
    guesses = [float(sfda(*map(jnp.asarray, noise(seed)))) for seed in range(5)]
    assert np.mean(guesses) == pytest.approx(1 / CLASSES, abs=0.02)


def test_sfda_saturates_on_noise_once_there_are_more_columns_than_rows() -> None:
    """A known weakness of the score, stated in its documentation; this is why rankings note it."""
    x, y = noise(0, n=60, d=200)
    # unit variance: the released shrinkage fades with the scale, and with it all that held back
    assert float(sfda(jnp.asarray(x / x.std()), jnp.asarray(y))) > 0.999


def test_face_of_noise_is_far_from_collapse_and_fair() -> None:
    """Class means of noise differ by about 1/sqrt(n_c) of the spread, each as much as any other."""
    for seed in range(5):
        terms = face_terms(*map(jnp.asarray, noise(seed)))
        assert float(terms.variance_collapse) < -5
        assert (
            0.9 * np.log(CLASSES - 1) < float(terms.class_fairness) <= np.log(CLASSES - 1) + 1e-12
        )
