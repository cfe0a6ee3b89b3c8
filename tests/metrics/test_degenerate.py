"""Inputs at the edge: a finite score, or NaN where there is none, outside jit and inside."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CASES, Case, blobs, compiled

from jaxte.metrics import face_terms, logme, logme_fit, sfda

DEFAULTS = {"logme-paper", "sfda-released", "face"}
BASE = blobs(24, 6, classes=3)
COLLAPSED = np.eye(3, 6)[BASE.targets]


class Edge(NamedTuple):
    """Features and labels, and metrics that have no value there."""

    features: np.ndarray
    labels: np.ndarray
    undefined: frozenset[str] = frozenset()


def replaced(labels: dict[int, int]) -> np.ndarray:
    y = BASE.targets.copy()
    for row, label in labels.items():
        y[row] = label
    return y


EVERY = frozenset({"logme", "sfda", "face"})
CLASSLESS = frozenset({"sfda", "face"})
RAMP = np.outer(np.arange(24.0) - 3, np.arange(1.0, 7.0))
# No spread within classes leaves SFDA nothing to divide by, coinciding class means leave FaCe's
# between-class scatter without an inverse. All have 24 rows and 6 columns, labels below 5: one
# compilation per metric and precision.
EDGES = {
    "two-classes": Edge(BASE.features, np.minimum(BASE.targets, 1)),
    "singleton-class": Edge(BASE.features, replaced({0: 3})),
    "absent-class": Edge(BASE.features, BASE.targets + (BASE.targets > 0).astype(np.int32)),
    "constant-column": Edge(np.where(np.arange(6) == 2, 3.0, BASE.features), BASE.targets),
    "zero-column": Edge(np.where(np.arange(6) == 2, 0.0, BASE.features), BASE.targets),
    "one-column-left": Edge(np.where(np.arange(6) == 2, BASE.features, 0.0), BASE.targets),
    "rank-one": Edge(RAMP, BASE.targets),
    "large-offset": Edge(BASE.features + 1000, BASE.targets),
    "duplicate-rows": Edge(np.repeat(BASE.features[:6], 4, axis=0), BASE.targets),
    "exact-collapse": Edge(COLLAPSED, BASE.targets, frozenset({"sfda"})),
    "all-zero": Edge(np.zeros((24, 6)), BASE.targets, CLASSLESS),
    "equal-rows": Edge(np.ones((24, 6)), BASE.targets, CLASSLESS),
    "equal-means": Edge(np.repeat([[1.0], [-1.0]] * 12, 6, axis=1), np.arange(24) // 8, EVERY),
}
# Shapes of their own: fewer rows than columns, as many classes as rows, the smallest of all.
ALONE = frozenset({"sfda", "tvt", "nearest_class_mean"})  # some leave a row out of its class
THIN = {
    "d-far-above-n": Edge(blobs(24, 200, classes=3).features, BASE.targets),
    "every-row-its-class": Edge(
        blobs(5, 9, classes=5).features, np.arange(5, dtype=np.int32), ALONE
    ),
    "two-rows": Edge(BASE.features[:2], np.array([0, 1], np.int32), ALONE),
    "one-column": Edge(BASE.features[:, :1], BASE.targets),
}


def accept(value: float, edge: Edge, case: Case) -> None:
    """Finite where the score exists, never infinite anywhere.

    The released fixed point has alpha = 0 for features of zero, whose logarithm it then takes.
    """
    assert not np.isinf(value)
    blank = case.options.get("variant") == "released" and not edge.features.any()
    assert case.metric in edge.undefined or blank or np.isfinite(value)


@pytest.mark.parametrize(
    ("case", "edge"),
    [pytest.param(c, edge, id=f"{c.label}-{name}") for c in CASES for name, edge in EDGES.items()],
)
def test_edges(case: Case, edge: Edge, precision: str) -> None:
    """Outside jit and inside."""
    x, y = edge.features.astype(precision), edge.labels.astype(np.int32)
    accept(float(case.function(x, y, num_classes=5)), edge, case)
    accept(float(compiled(case, 5)(x, y, np.ones(24, precision), 6)), edge, case)


@pytest.mark.parametrize("edge", THIN.values(), ids=THIN.keys())
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(
            case,
            dtype,
            id=f"{dtype}-{case.label}",
            marks=() if case.label in DEFAULTS else pytest.mark.slow,
        )
        for case in CASES
        for dtype in ("float32", "float64")
        if dtype == "float32" or case.default
    ],
)
def test_thin_shapes(edge: Edge, case: Case, dtype: str) -> None:
    """Options that are no default in float32 alone, which has less room."""
    with jax.enable_x64(dtype == "float64"):
        value = float(case.function(edge.features.astype(dtype), edge.labels))
    accept(value, edge, case)


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
