"""One suite for every registered metric, every variant, and every metric behind every perturbation.

All problems are padded to two shapes (rows of weight 0 full of garbage, zero columns), so a case
compiles once per shape and precision.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    PERTURBED_CASES,
    PLAIN_CASES,
    Case,
    Problem,
    blobs,
    compiled,
    regression,
    score,
)

from jaxte.metrics import REGISTRY, get_metric

PROBLEMS = {
    "tall": (blobs(36, 10, separation=1.0), 48, 16),
    "wide": (blobs(12, 24, classes=3, separation=1.0), 18, 30),
    "regression": (regression(36, 10, outputs=2), 48, 16),
}
CASES = [
    *((c, "tall") for c in PLAIN_CASES + PERTURBED_CASES),
    *((c, "wide") for c in PLAIN_CASES),
    *((c, "regression") for c in PLAIN_CASES if "regression" in REGISTRY[c.metric].tasks),
]
each_case = pytest.mark.parametrize(
    ("case", "kind"), CASES, ids=[f"{c.label}-{kind}" for c, kind in CASES]
)
plain_tall = pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda c: c.label)
pytestmark = pytest.mark.usefixtures("x64")


def close(a: Any, b: Any, rel: float = 1e-8) -> None:
    """Equal to rounding; both finite."""
    assert np.all(np.isfinite(a))
    np.testing.assert_allclose(a, b, rtol=rel, atol=1e-9)


def padded(case: Case, problem: Problem, kind: str, **options: Any) -> float:
    """Score at the one shape that this kind of problem is compiled for."""
    _, rows, width = PROBLEMS[kind]
    classes = PROBLEMS[kind][0].num_classes
    return score(case, problem, rows=rows, width=width, classes=classes, **options)


@each_case
def test_padding_changes_nothing(case: Case, kind: str) -> None:
    problem = PROBLEMS[kind][0]
    close(padded(case, problem, kind), score(case, problem))


@each_case
def test_order_of_samples(case: Case, kind: str) -> None:
    problem = PROBLEMS[kind][0]
    order = np.random.default_rng(1).permutation(len(problem.features))
    shuffled = Problem(problem.features[order], problem.targets[order])
    close(padded(case, shuffled, kind), padded(case, problem, kind))


@each_case
def test_names_of_classes_or_order_of_targets(case: Case, kind: str) -> None:
    problem = PROBLEMS[kind][0]
    if problem.num_classes is None:
        renamed = problem.targets[:, ::-1]
    else:
        renamed = np.roll(np.arange(problem.num_classes, dtype=np.int32), 1)[problem.targets]
    close(padded(case, Problem(problem.features, renamed), kind), padded(case, problem, kind))


@each_case
@pytest.mark.parametrize("how", ["rotation", "shift", "scale"])
def test_claimed_invariances(case: Case, kind: str, how: str) -> None:
    x, y = PROBLEMS[kind][0]
    d = x.shape[1]
    changed = {
        "rotation": x @ np.linalg.qr(np.random.default_rng(2).normal(size=(d, d)))[0],
        "shift": x + np.linspace(-0.5, 1.0, d),
        "scale": 1.7 * x,
    }[how]
    if case.invariant(how):
        before = padded(case, Problem(x, y), kind)
        close(padded(case, Problem(changed, y), kind), before, rel=1e-6)


@each_case
def test_zero_weights_are_a_subset(case: Case, kind: str) -> None:
    x, y = PROBLEMS[kind][0]
    kept = np.arange(len(x)) % 5 != 3
    spoiled = np.where(kept[:, None], x, np.inf)
    close(
        padded(case, Problem(spoiled, y), kind, weights=kept),
        padded(case, Problem(x[kept], y[kept]), kind),
    )


@each_case
def test_integer_weights_repeat_rows(case: Case, kind: str) -> None:
    x, y = PROBLEMS[kind][0]
    counts = np.where(np.arange(len(x)) % 3 == 0, 2, np.where(np.arange(len(x)) % 7 == 1, 0, 1))
    repeated = Problem(np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0))
    close(padded(case, Problem(x, y), kind, weights=counts), padded(case, repeated, kind), rel=1e-7)


@each_case
def test_eager_is_jit(case: Case, kind: str) -> None:
    """Without jit the classes are read off the labels, and rows of weight 0 may hold anything."""
    x, y = PROBLEMS[kind][0]
    _, rows, width = PROBLEMS[kind]
    n, d = x.shape
    features = np.full((rows, width), np.nan)
    features[:n] = np.pad(x, ((0, 0), (0, width - d)))
    filler = -1 if y.dtype.kind == "i" else np.nan
    targets = np.concatenate([y, np.full((rows - n, *y.shape[1:]), filler, y.dtype)])
    eager = case.function(features, targets, weights=np.arange(rows) < n, num_features=d)
    assert eager.shape == ()
    close(float(eager), padded(case, Problem(x, y), kind))


@each_case
def test_single_precision_is_near_double(case: Case, kind: str) -> None:
    problem = PROBLEMS[kind][0]
    double = padded(case, problem, kind)
    with jax.enable_x64(False):
        single = padded(case, problem, kind)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-4)


@each_case
def test_range(case: Case, kind: str) -> None:
    """The registered range is that of the default variant."""
    metric = REGISTRY[case.metric]
    if case.options.get("variant", metric.default_variant) == metric.default_variant:
        low, high = metric.range
        assert low <= padded(case, PROBLEMS[kind][0], kind) <= high


@plain_tall
def test_huge_garbage_in_rows_of_weight_zero(case: Case, precision: str) -> None:
    """The square of such an entry overflows, and infinity times weight 0 is not 0."""
    problem, rows, width = PROBLEMS["tall"]
    x = np.concatenate([problem.features, np.full((6, problem.features.shape[1]), 1e30)])
    y = np.concatenate([problem.targets, np.zeros(6, np.int32)])
    weights = np.arange(len(x)) < len(problem.features)
    huge = score(case, Problem(x, y), weights=weights, rows=rows, width=width, classes=4)
    clean = score(case, problem, rows=rows, width=width, classes=4)
    np.testing.assert_allclose(huge, clean, rtol=1e-8 if precision == "float64" else 1e-5)


@plain_tall
def test_vmap_is_a_loop(case: Case) -> None:
    _, rows, width = PROBLEMS["tall"]
    x = np.stack([blobs(rows, width, separation=s).features for s in np.linspace(0.2, 4, 20)])
    y = np.stack([blobs(rows, width, separation=s).targets for s in np.linspace(0.2, 4, 20)])
    w = np.random.default_rng(3).integers(0, 3, size=(20, rows)).astype(float)
    d = np.full(20, width)
    call = compiled(case, 4)
    batched = jax.jit(jax.vmap(call))(*map(jnp.asarray, (x, y, w, d)))
    assert batched.shape == (20,)
    loop = [float(call(*map(jnp.asarray, one))) for one in zip(x, y, w, d, strict=True)]
    close(batched, loop)
    assert len(set(np.round(loop, 6))) == 20


@plain_tall
def test_a_class_that_does_not_occur_contributes_nothing(case: Case) -> None:
    problem = PROBLEMS["tall"][0]
    expected = padded(case, problem, "tall")
    gap = Problem(problem.features, problem.targets + (problem.targets > 1).astype(np.int32))
    assert gap.num_classes == 5
    close(score(case, gap, rows=48, width=16, classes=6), expected)
    close(score(case, problem, rows=48, width=16, classes=6), expected)


@plain_tall
def test_a_class_whose_rows_all_weigh_nothing_is_absent(case: Case) -> None:
    x, y = PROBLEMS["tall"][0]
    kept = y != 1
    close(
        padded(case, Problem(x, y), "tall", weights=kept),
        padded(case, Problem(x[kept], y[kept]), "tall"),
    )


@plain_tall
def test_scaling_of_a_uniform_weight(case: Case) -> None:
    """Every row twice: class shares, means and covariances stay, so all but the evidence do too."""
    problem = PROBLEMS["tall"][0]
    doubled = padded(case, problem, "tall", weights=np.full(36, 2.0))
    if case.metric == "logme":
        assert doubled != pytest.approx(padded(case, problem, "tall"), rel=1e-3)
    else:
        close(doubled, padded(case, problem, "tall"))


@plain_tall
def test_better_separated_classes_score_higher(case: Case) -> None:
    """Orthogonal means keep all pairs alike, so only the distance changes."""
    rng = np.random.default_rng(5)
    y = np.repeat(np.arange(4, dtype=np.int32), 12)
    noise = rng.normal(size=(48, 16)) / 4
    scores = [
        score(case, Problem(noise + s * np.eye(4, 16)[y], y)) for s in (0.0, 0.3, 0.6, 1.0, 1.5)
    ]
    assert np.all(np.diff(scores) > 0), scores


@pytest.mark.parametrize("metric", REGISTRY.values(), ids=REGISTRY.keys())
def test_registry_entries_are_complete(metric: Any) -> None:
    assert get_metric(metric.name) is metric
    assert callable(metric.function)
    assert metric.paper
    assert metric.cost
    assert metric.tasks
    assert set(metric.tasks) <= {"classification", "regression"}
    assert metric.invariances <= {"rotation", "shift", "scale"}
    assert metric.range[0] < metric.range[1]
    assert metric.default_variant in metric.variants or not metric.variants
    assert metric.function.__doc__


def test_the_three_metrics_are_registered() -> None:
    assert {"logme", "sfda", "face"} <= set(REGISTRY)


def test_terms_add_up() -> None:
    x, y = PROBLEMS["tall"][0]
    for metric in REGISTRY.values():
        if metric.terms is not None:
            terms = metric.terms(jnp.asarray(x), jnp.asarray(y))
            total = sum(float(t) for t in terms)
            assert total == pytest.approx(float(metric.function(jnp.asarray(x), jnp.asarray(y))))
