"""The oracles themselves: dense definitions, and the values of the released implementations."""

import numpy as np
import oracles
import oracles_perturb
import pytest
from helpers import CLASSIFICATION, GOLDEN, blobs, golden_set, regression


@pytest.mark.parametrize(("n", "d"), [(20, 6), (9, 15)])
def test_evidence_profile_is_the_dense_evidence(n: int, d: int) -> None:
    x, y = regression(n, d)
    for log_t in (-6.0, 0.0, 2.5, 9.0):
        value, beta = oracles.evidence_profile(x, y)(log_t)
        dense = oracles.log_evidence(x, y, beta * np.exp(log_t), beta) / n
        assert value == pytest.approx(dense, rel=1e-9)
        for factor in (0.9, 1.1):
            other = oracles.log_evidence(x, y, factor * beta * np.exp(log_t), factor * beta) / n
            assert other < dense


@pytest.mark.parametrize("name", GOLDEN)
def test_logme_fixed_point_matches_the_released_one(name: str) -> None:
    expected = GOLDEN[name]["logme_fixed_point"]
    columns = oracles.logme_columns(*golden_set(name), variant="released")
    np.testing.assert_allclose([c.value for c in columns], expected["evidences"], rtol=1e-8)
    np.testing.assert_allclose([c.alpha for c in columns], expected["alphas"], rtol=1e-8)
    np.testing.assert_allclose([c.beta for c in columns], expected["betas"], rtol=1e-8)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_fisher_classifier_matches_the_released_one(name: str) -> None:
    golden, (x, y) = GOLDEN[name], golden_set(name)
    rows, log_p, true, shrinkage = oracles.sfda_stage1(x, y)
    chosen = log_p[np.arange(len(rows)), true]
    assert shrinkage == pytest.approx(golden["sfda_shrinkage"], rel=1e-10)
    assert np.exp(chosen).mean() == pytest.approx(golden["sfda_stage1_mean_prob"], rel=1e-9)
    assert chosen.mean() == pytest.approx(golden["lda_true_mean_log_prob"], rel=1e-8, abs=1e-12)
    assert oracles.sfda(x, y) == pytest.approx(golden["sfda"], rel=1e-9)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_gate_value(name: str) -> None:
    gate = GOLDEN[name]["spread_attract"]["gate"]
    value = oracles_perturb.gate_value(golden_set(name).features)
    assert value == pytest.approx(gate["top2_eig_mean"], rel=1e-10)
    assert (value > oracles_perturb.GATE) == gate["check_sa"]


def test_full_covariance_of_isotropic_classes_is_the_spherical_one() -> None:
    rng = np.random.default_rng(0)
    m = oracles.Moments(
        np.full(3, 1 / 3),
        rng.normal(size=(3, 5)),
        np.stack([v * np.eye(5) for v in (0.5, 1.0, 2.0)]),
    )
    distances = {
        kind: oracles.bhattacharyya_distance(m, 0, 2, kind, 0.0)
        for kind in ("spherical", "diagonal", "full")
    }
    assert distances["full"] == pytest.approx(distances["spherical"], rel=1e-12)
    assert distances["diagonal"] == pytest.approx(distances["spherical"], rel=1e-12)


def test_integer_weights_repeat_rows() -> None:
    x, y = blobs(6, 3, classes=2)
    rows, labels = oracles.repeat_rows(x, y, [2, 0, 1, 1, 0, 3])
    np.testing.assert_array_equal(rows, x[[0, 0, 2, 3, 5, 5, 5]])
    np.testing.assert_array_equal(labels, y[[0, 0, 2, 3, 5, 5, 5]])
