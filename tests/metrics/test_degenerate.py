"""Inputs at the edge: outside jit a finite score or an InputError, inside jit finite or NaN."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PLAIN_CASES, Case, Problem, blobs, compiled, score

from jaxte import InputError
from jaxte.metrics import face_terms, logme, logme_fit, sfda

DEFAULTS = {"logme-paper", "sfda-released", "face"}
BASE = blobs(24, 6, classes=3)
COLLAPSED = np.eye(3, 6)[BASE.targets]


class Edge(NamedTuple):
    """Features and labels, what raises outside jit, and metrics that have no value there."""

    features: np.ndarray
    labels: np.ndarray
    error: str | None = None
    undefined: frozenset[str] = frozenset()


def with_entry(value: float) -> np.ndarray:
    x = BASE.features.copy()
    x[5, 2] = value
    return x


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
    "one-class": Edge(BASE.features, np.zeros(24, np.int32), "two classes", EVERY),
    "two-classes": Edge(BASE.features, np.minimum(BASE.targets, 1)),
    "singleton-class": Edge(BASE.features, replaced({0: 3})),
    "absent-class": Edge(BASE.features, BASE.targets + (BASE.targets > 0).astype(np.int32)),
    "constant-column": Edge(np.where(np.arange(6) == 2, 3.0, BASE.features), BASE.targets),
    "zero-column": Edge(np.where(np.arange(6) == 2, 0.0, BASE.features), BASE.targets),
    "one-column-left": Edge(np.where(np.arange(6) == 2, BASE.features, 0.0), BASE.targets),
    "rank-one": Edge(RAMP, BASE.targets),
    "large-offset": Edge(BASE.features + 1000, BASE.targets),
    "duplicate-rows": Edge(np.repeat(BASE.features[:6], 4, axis=0), BASE.targets),
    "exact-collapse": Edge(COLLAPSED, BASE.targets, None, frozenset({"sfda"})),
    "all-zero": Edge(np.zeros((24, 6)), BASE.targets, None, CLASSLESS),
    "equal-rows": Edge(np.ones((24, 6)), BASE.targets, None, CLASSLESS),
    "equal-means": Edge(
        np.repeat([[1.0], [-1.0]] * 12, 6, axis=1), np.arange(24) // 8, None, EVERY
    ),
    "nan-row": Edge(with_entry(np.nan), BASE.targets, "row 5", EVERY),
    "infinite-row": Edge(with_entry(np.inf), BASE.targets, "row 5", EVERY),
}
# Shapes of their own: fewer rows than columns, as many classes as rows, the smallest of all.
THIN = {
    "d-far-above-n": Edge(blobs(24, 200, classes=3).features, BASE.targets),
    "every-row-its-class": Edge(
        blobs(5, 9, classes=5).features, np.arange(5, dtype=np.int32), None, frozenset({"sfda"})
    ),
    "two-rows": Edge(BASE.features[:2], np.array([0, 1], np.int32), None, frozenset({"sfda"})),
    "one-column": Edge(BASE.features[:, :1], BASE.targets),
}
each_edge = pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES.keys())
each_case = pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda c: c.label)


def accept(value: float, edge: Edge, case: Case) -> None:
    """Finite where the score exists, never infinite anywhere.

    The released fixed point has alpha = 0 for features of zero, whose logarithm it then takes.
    """
    assert not np.isinf(value)
    blank = case.options.get("variant") == "released" and not edge.features.any()
    assert case.metric in edge.undefined or blank or np.isfinite(value)


@each_edge
@each_case
def test_outside_jit(edge: Edge, case: Case) -> None:
    if edge.error:
        with pytest.raises(InputError, match=edge.error):
            case.function(edge.features, edge.labels, num_classes=5)
    else:
        value = float(case.function(edge.features.astype(np.float32), edge.labels, num_classes=5))
        accept(value, edge, case)


@each_edge
@each_case
def test_inside_jit(edge: Edge, case: Case, precision: str) -> None:
    value = score(case, Problem(edge.features, edge.labels.astype(np.int32)), classes=5)
    accept(value, edge, case)
    if edge.error:
        assert np.isnan(value)


@pytest.mark.parametrize("edge", THIN.values(), ids=THIN.keys())
@pytest.mark.parametrize(
    "case",
    [c if c.label in DEFAULTS else pytest.param(c, marks=pytest.mark.slow) for c in PLAIN_CASES],
    ids=lambda c: c.label,
)
def test_thin_shapes(edge: Edge, case: Case, precision: str) -> None:
    value = float(case.function(edge.features.astype(precision), edge.labels))
    accept(value, edge, case)


@each_case
def test_a_label_out_of_range_is_nan_under_jit(case: Case) -> None:
    """It cannot raise there, and a class left out silently would be a plausible wrong score."""
    assert np.isnan(score(case, Problem(BASE.features, replaced({4: 5})), classes=5))
    assert np.isnan(score(case, Problem(BASE.features, replaced({4: -1})), classes=5))


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


@each_case
def test_a_failed_model_leaves_its_batch_alone(case: Case) -> None:
    good = jnp.asarray(BASE.features, jnp.float32)
    stack = jnp.stack([good, good.at[3, 1].set(jnp.nan), 2 * good])
    w, d, y = jnp.ones(24, jnp.float32), jnp.asarray(6), jnp.asarray(BASE.targets)
    call = compiled(case, 5)
    scores = jax.jit(jax.vmap(call, in_axes=(0, None, None, None)))(stack, y, w, d)
    assert np.isnan(scores[1])
    np.testing.assert_allclose(scores[0], call(good, y, w, d), rtol=1e-5)
    np.testing.assert_allclose(scores[2], call(2 * good, y, w, d), rtol=1e-5)
