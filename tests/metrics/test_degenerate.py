"""Inputs at the edge: none is an error, and what is known of some of their scores."""

import jax.numpy as jnp
import numpy as np
import pytest
from edges import BASE, COLLAPSED, EDGES
from helpers import Problem

from jaxte.intake.checks import check_arguments
from jaxte.metrics import face_terms, logme, logme_fit, sfda


@pytest.mark.parametrize(
    "edge", [pytest.param(one, id=name) for kind in EDGES.values() for name, one in kind.items()]
)
def test_no_edge_is_an_error(edge: Problem) -> None:
    """Outside jit; what the metrics say of them is a property."""
    clean = check_arguments(*edge, 6, None, None)
    assert clean.num_classes == len(set(edge.targets))


def test_zero_features_leave_logme_the_null_model(precision: str) -> None:
    shares = np.bincount(BASE.targets) / 24
    null = np.mean(-0.5 * (np.log(2 * np.pi * shares) + 1))
    score = logme(jnp.zeros((24, 6), precision), jnp.asarray(BASE.targets))
    np.testing.assert_allclose(score, null, rtol=1e-5 if precision == "float32" else 1e-9)


def test_face_of_exact_collapse_is_its_largest_value(precision: str) -> None:
    terms = face_terms(jnp.asarray(COLLAPSED, precision), jnp.asarray(BASE.targets))
    assert float(terms.variance_collapse) == pytest.approx(0, abs=1e-6)
    assert float(terms.class_fairness) == pytest.approx(np.log(2), rel=1e-6)


def test_two_classes_are_always_fair(precision: str) -> None:
    y = np.minimum(BASE.targets, 1)
    terms = face_terms(jnp.asarray(BASE.features, precision), jnp.asarray(y))
    assert float(terms.class_fairness) == pytest.approx(0, abs=1e-6)


def test_sfda_of_exact_collapse_is_certain(precision: str) -> None:
    """Almost collapsed classes, so that the within-class scatter is not exactly zero."""
    rng = np.random.default_rng(0)
    x = COLLAPSED + 1e-2 * rng.normal(size=COLLAPSED.shape)
    score = float(sfda(jnp.asarray(x, precision), jnp.asarray(BASE.targets)))
    assert score == pytest.approx(1, abs=1e-3)


def interpolations() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Small integers, so that the targets are exact in float32 as well."""
    x = np.random.default_rng(0).integers(-8, 9, size=(24, 6)).astype(float)
    constant = np.where(np.arange(6) == 5, 1.0, x)
    return {
        "exact-line": (x, x @ np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.0])),
        "one-column-is-the-target": (x, x[:, 0]),
        "constant-target": (constant, np.full(24, 2.0)),
        "collapsed-classes": (COLLAPSED, BASE.targets),
    }


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", interpolations())
def test_noise_free_interpolation_is_finite(name: str, variant: str, precision: str) -> None:
    x, y = interpolations()[name]
    y = y if y.dtype.kind == "i" else y.astype(precision)
    fit = logme_fit(jnp.asarray(x, precision), jnp.asarray(y), variant=variant)
    for field in (fit.score, fit.evidence, fit.alpha, fit.beta, fit.mean):
        assert np.all(np.isfinite(field))
    assert float(fit.score) > 1


@pytest.mark.parametrize("name", interpolations())
def test_an_evidence_without_a_maximum_is_reported(name: str, precision: str) -> None:
    """beta -> infinity: whatever is returned is a bound, and `bounded` says so."""
    x, y = interpolations()[name]
    y = y if y.dtype.kind == "i" else y.astype(precision)
    fit = logme_fit(jnp.asarray(x, precision), jnp.asarray(y))
    assert np.all(np.asarray(fit.bounded))


def test_an_ordinary_evidence_is_not_bounded(precision: str) -> None:
    fit = logme_fit(jnp.asarray(BASE.features, precision), jnp.asarray(BASE.targets))
    assert not np.any(np.asarray(fit.bounded))


def test_bounded_columns_do_not_touch_the_others(precision: str) -> None:
    x, _ = interpolations()["exact-line"]
    y = np.column_stack([x[:, 0], x[:, 1] + np.random.default_rng(1).normal(size=24)])
    both = logme_fit(jnp.asarray(x, precision), jnp.asarray(y, precision))
    np.testing.assert_array_equal(both.bounded, [True, False])
    alone = logme_fit(jnp.asarray(x, precision), jnp.asarray(y[:, 1], precision))
    np.testing.assert_allclose(both.evidence[1], alone.evidence[0], rtol=1e-5)
