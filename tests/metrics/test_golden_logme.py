"""LogME against the values of its released implementations and against the true maximum."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import GOLDEN, golden_arrays, golden_pairs, golden_set, regression

import jaxte
from jaxte.metrics import LogMEFit, logme, logme_fit

# The evidence is a difference of terms of order one per sample, so zero is no special value:
# float32 is held to 1e-3 of the value or 1e-4 nats per sample, whichever is larger.
TOLERANCE: dict[str, dict[str, Any]] = {
    "float32": {"rtol": 1e-3, "atol": 1e-4},
    "float64": {"rtol": 1e-6, "atol": 0},
}
each_pair = pytest.mark.parametrize(("name", "dtype"), golden_pairs(GOLDEN))


@cache
def oracle_columns(name: str) -> list[oracles.Evidence]:
    return oracles.logme_columns(*golden_set(name))


@partial(jax.jit, static_argnames=("num_classes", "variant"))
def fit_of(x: Any, y: Any, weights: Any, width: Any, *, num_classes: Any, variant: str) -> LogMEFit:
    return logme_fit(
        x, y, weights=weights, num_features=width, num_classes=num_classes, variant=variant
    )


@cache
def fitted(name: str, dtype: str, variant: str) -> LogMEFit:
    """The fit in one of few shapes, and of it the columns of the classes that there are."""
    with jax.enable_x64(dtype == "float64"):
        arguments, num_classes = golden_arrays(name)
        fit = fit_of(*arguments, num_classes=num_classes, variant=variant)
        assert fit.score.dtype == dtype
        present = golden_set(name).num_classes or 1
        return LogMEFit(*(part[..., :present] if part.ndim else part for part in fit))


@each_pair
def test_released_columns(name: str, dtype: str) -> None:
    expected = GOLDEN[name]["logme_fixed_point"]
    fit = fitted(name, dtype, "released")
    np.testing.assert_allclose(fit.score, expected["score"], **TOLERANCE[dtype])
    np.testing.assert_allclose(fit.evidence, expected["evidences"], **TOLERANCE[dtype])
    assert np.all((np.asarray(fit.steps) >= 1) & (np.asarray(fit.steps) <= 11))


@each_pair
def test_released_precisions(name: str, dtype: str) -> None:
    """Condition number 1.5e6: rounding the features to float32 alone moves that alpha by 0.5 %."""
    expected = GOLDEN[name]["logme_fixed_point"]
    fit = fitted(name, dtype, "released")
    tolerance = dict(TOLERANCE[dtype])
    if (name, dtype) == ("breast_cancer_raw", "float32"):
        tolerance["rtol"] = 1e-2
    np.testing.assert_allclose(fit.alpha, expected["alphas"], **tolerance)
    np.testing.assert_allclose(fit.beta, expected["betas"], **tolerance)


@pytest.mark.parametrize(
    ("name", "dtype"),
    golden_pairs(GOLDEN, only={"breast_cancer_raw", "diabetes_regression", "synthetic_wide"}),
)
def test_released_through_rank(name: str, dtype: str) -> None:
    x, y = golden_set(name)
    ranking = jaxte.rank(
        {name: x},
        y,
        metrics=("logme",),
        precision=dtype,
        options={"logme": {"variant": "released"}},
    )
    assert ranking.status(name, "logme") == "ok"
    expected = GOLDEN[name]["logme_fixed_point"]["score"]
    np.testing.assert_allclose(ranking.score(name, "logme"), expected, **TOLERANCE[dtype])


@each_pair
def test_paper_is_the_true_maximum(name: str, dtype: str) -> None:
    expected = np.array([e.value for e in oracle_columns(name)])
    fit = fitted(name, dtype, "paper")
    tolerance: dict[str, Any] = (
        {"rtol": 1e-8, "atol": 0} if dtype == "float64" else TOLERANCE[dtype]
    )
    np.testing.assert_allclose(fit.evidence, expected, **tolerance)
    np.testing.assert_allclose(fit.score, expected.mean(), **tolerance)
    assert np.all(np.asarray(fit.converged))


@pytest.mark.parametrize(("name", "dtype"), [p for p in golden_pairs(GOLDEN) if "64" in p.id])
def test_paper_is_at_least_the_unconstrained_fixed_point(name: str, dtype: str) -> None:
    """That implementation has the full log-determinant and no constants in its denominators.

    It stops once alpha/beta moves by less than 1e-2 of itself, so it is short of the maximum by the
    square of such a step: never above, and below by less than 1e-4.
    """
    golden = GOLDEN[name]["logme_tllib"]
    score = golden["score"] if "score" in golden else golden["targets_2d"]
    gain = float(fitted(name, dtype, "paper").score) - score
    assert -1e-9 < gain < 1e-4


def test_variants_part_where_the_released_one_forgets_the_null_space() -> None:
    """On d > n the released score has (d - n)/(2n) ln(alpha) too much; without it, both agree."""
    paper = float(fitted("synthetic_wide", "float64", "paper").score)
    released = fitted("synthetic_wide", "float64", "released")
    n, d = golden_set("synthetic_wide").features.shape
    excess = (d - n) / (2 * n) * np.log(np.asarray(released.alpha))
    corrected = float(np.mean(np.asarray(released.evidence) - excess))
    assert float(released.score) > paper + 5
    golden = GOLDEN["synthetic_wide"]["logme_fixed_point"]["rank_corrected_score"]
    assert corrected == pytest.approx(golden, rel=1e-6)
    assert corrected == pytest.approx(paper, abs=1e-3)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("n", "d"), [(60, 8), (20, 33)])
@pytest.mark.usefixtures("x64")
def test_multi_output_regression(variant: str, n: int, d: int) -> None:
    x, y = regression(n, d, outputs=3)
    expected = oracles.logme_columns(x, y, variant=variant)
    fit = logme_fit(jnp.asarray(x), jnp.asarray(y), variant=variant)
    np.testing.assert_allclose(fit.evidence, [e.value for e in expected], rtol=1e-8)
    assert fit.mean.shape == (d, 3)
    singles = [float(logme(jnp.asarray(x), jnp.asarray(c), variant=variant)) for c in y.T]
    assert float(fit.score) == pytest.approx(np.mean(singles), rel=1e-10)
    for k in range(3):
        t = float(fit.alpha[k] / fit.beta[k])
        assert t == pytest.approx(expected[k].alpha / expected[k].beta, rel=1e-3, abs=1e-9)
        # in the smaller space, where t may be tiny: the exact fit is at the edge of the search
        small = x.T @ x if n >= d else x @ x.T
        inverse = np.linalg.inv(small + t * np.eye(len(small)))
        ridge = inverse @ x.T @ y[:, k] if n >= d else x.T @ inverse @ y[:, k]
        np.testing.assert_allclose(fit.mean[:, k], ridge, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_a_hand_worked_evidence() -> None:
    """A column of ones and y = (3, 2, 2, 1): X^T X = 4, X^T y = 8, y^T y = 18.

    With t = alpha/beta and q = 18 - 64/(4 + t) the evidence is
    -1/2 ln(1 + 4/t) - 2 ln(q/4) - 2 ln(2 pi) - 2, largest between the grid points.
    """
    t = np.exp(np.linspace(-8, 12, 400_001))
    profile = -0.5 * np.log1p(4 / t) - 2 * np.log((18 - 64 / (4 + t)) / 4)
    score = float(logme(jnp.ones((4, 1)), jnp.array([3.0, 2.0, 2.0, 1.0])))
    expected = (profile.max() - 2 * np.log(2 * np.pi) - 2) / 4
    assert score == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("x64")
def test_features_that_explain_nothing_leave_the_null_model() -> None:
    """y = (2, 0.5, 0.5, -1) has more noise than mean, so alpha -> infinity: N(y; 0, 5.5/4)."""
    score = float(logme(jnp.ones((4, 1)), jnp.array([2.0, 0.5, 0.5, -1.0])))
    assert score == pytest.approx(-0.5 * (np.log(2 * np.pi * 5.5 / 4) + 1), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("separation", [0.0, 0.3, 3.0])
@pytest.mark.usefixtures("x64")
def test_more_features_than_samples_agree_with_the_svd(seed: int, separation: float) -> None:
    """150 x 400, from no signal at all to an all but exact fit."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, 150)
    x = rng.normal(size=(150, 400)) + separation * rng.normal(size=(5, 400))[y] + 0.5
    expected = np.mean([column.value for column in oracles.logme_columns(x, y)])
    assert float(logme(jnp.asarray(x), jnp.asarray(y))) == pytest.approx(expected, abs=1e-8)
