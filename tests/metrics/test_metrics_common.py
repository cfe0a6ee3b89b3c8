"""One suite for every registered metric, every variant, and every metric behind every perturbation.

All problems are padded to one shape per kind (rows of weight 0 full of garbage, zero columns, two
classes more than occur), so a case compiles once per kind and precision, whatever is asked of it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PERTURBED_CASES, PLAIN_CASES, Case, Problem, blobs, compiled, padded, problem_of

from jaxte.metrics import REGISTRY, get_metric
from jaxte.metrics._look import Look

REGRESSION = [c for c in PLAIN_CASES if "regression" in REGISTRY[c.metric].tasks]
PLAIN = [
    *((c, "tall") for c in PLAIN_CASES),
    *((c, "wide") for c in PLAIN_CASES),
    *((c, "regression") for c in REGRESSION),
]


def each(cases: list[tuple[Case, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("case", "kind"), cases, ids=[f"{c.label}-{kind}" for c, kind in cases]
    )


each_case = each(PLAIN + [(c, "tall") for c in PERTURBED_CASES])
each_plain = each(PLAIN)
plain_tall = pytest.mark.parametrize("case", PLAIN_CASES, ids=lambda c: c.label)
pytestmark = pytest.mark.usefixtures("x64")


def close(a: Any, b: Any, rel: float = 1e-8) -> None:
    """Equal to rounding; both finite."""
    assert np.all(np.isfinite(a))
    np.testing.assert_allclose(a, b, rtol=rel, atol=1e-9)


@each_plain
def test_eager_on_bare_arrays_is_jit_on_padded_ones(case: Case, kind: str) -> None:
    """Padding rows, padding columns, absent classes and jit change nothing."""
    x, y = problem_of(kind)
    eager = case.function(x, y)
    assert eager.shape == ()
    assert eager.dtype == jnp.float64
    close(padded(case, problem_of(kind), kind), float(eager))


@each_plain
def test_eager_takes_padding_too(case: Case, kind: str) -> None:
    """Rows of weight 0 may hold anything, in their padding columns and as labels as well."""
    x, y = problem_of(kind)
    n, d = x.shape
    features = np.full((n + 2, d + 3), np.nan)
    features[:n] = np.pad(x, ((0, 0), (0, 3)))
    filler = -1 if y.dtype.kind == "i" else np.nan
    targets = np.concatenate([y, np.full((2, *y.shape[1:]), filler, y.dtype)])
    eager = case.function(features, targets, weights=np.arange(n + 2) < n, num_features=d)
    close(float(eager), padded(case, problem_of(kind), kind))


@each_case
def test_order_of_samples(case: Case, kind: str) -> None:
    problem = problem_of(kind)
    order = np.random.default_rng(1).permutation(len(problem.features))
    shuffled = Problem(problem.features[order], problem.targets[order])
    close(padded(case, shuffled, kind), padded(case, problem, kind))


@each_case
def test_names_of_classes_or_order_of_targets(case: Case, kind: str) -> None:
    """Any injection of the names does, also one with gaps."""
    problem = problem_of(kind)
    names = np.array([3, 0, 5, 2, 1, 4], np.int32)
    renamed = names[problem.targets] if problem.num_classes else problem.targets[:, ::-1]
    close(padded(case, Problem(problem.features, renamed), kind), padded(case, problem, kind))


@each_case
@pytest.mark.parametrize("how", ["rotation", "shift", "scale"])
def test_claimed_invariances(case: Case, kind: str, how: str) -> None:
    x, y = problem_of(kind)
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
    x, y = problem_of(kind)
    kept = np.arange(len(x)) % 5 != 3
    spoiled = np.where(kept[:, None], x, np.inf)
    close(
        padded(case, Problem(spoiled, y), kind, weights=kept),
        padded(case, Problem(x[kept], y[kept]), kind),
    )


@each_case
def test_integer_weights_repeat_rows(case: Case, kind: str) -> None:
    x, y = problem_of(kind)
    counts = np.where(np.arange(len(x)) % 3 == 0, 2, np.where(np.arange(len(x)) % 7 == 1, 0, 1))
    repeated = Problem(np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0))
    close(padded(case, Problem(x, y), kind, weights=counts), padded(case, repeated, kind), rel=1e-7)


@each_plain
def test_single_precision_is_near_double(case: Case, kind: str) -> None:
    problem = problem_of(kind)
    double = padded(case, problem, kind)
    with jax.enable_x64(False):
        single = padded(case, problem, kind)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-4)


@each_plain
def test_range(case: Case, kind: str) -> None:
    """The registered range is that of the default variant."""
    metric = REGISTRY[case.metric]
    if case.options.get("variant", metric.default_variant) == metric.default_variant:
        low, high = metric.range
        assert low <= padded(case, problem_of(kind), kind) <= high


@plain_tall
def test_huge_garbage_in_rows_of_weight_zero(case: Case, precision: str) -> None:
    """The square of such an entry overflows, and infinity times weight 0 is not 0."""
    x, y = problem_of("tall")
    features = np.concatenate([x, np.full((6, x.shape[1]), 1e30)])
    labels = np.concatenate([y, np.zeros(6, np.int32)])
    weights = np.arange(len(features)) < len(x)
    huge = padded(case, Problem(features, labels), "tall", weights=weights)
    clean = padded(case, Problem(x, y), "tall")
    np.testing.assert_allclose(huge, clean, rtol=1e-8 if precision == "float64" else 1e-5)


@plain_tall
def test_vmap_is_a_loop(case: Case) -> None:
    problems = [blobs(48, 16, separation=s) for s in np.linspace(0.05, 0.5, 20)]
    x = np.stack([p.features for p in problems])
    y = np.stack([p.targets for p in problems])
    w = np.random.default_rng(3).uniform(0.5, 2, size=(20, 48)) * (np.arange(48) % 9 > 0)
    d = np.full(20, 16)
    call = compiled(case, 6)
    batched = jax.jit(jax.vmap(call))(*map(jnp.asarray, (x, y, w, d)))
    assert batched.shape == (20,)
    loop = [float(call(*map(jnp.asarray, one))) for one in zip(x, y, w, d, strict=True)]
    close(batched, loop)
    assert len(set(np.round(loop, 9))) == 20


@plain_tall
def test_a_class_whose_rows_all_weigh_nothing_is_absent(case: Case) -> None:
    x, y = problem_of("tall")
    kept = y != 1
    close(
        padded(case, Problem(x, y), "tall", weights=kept),
        padded(case, Problem(x[kept], y[kept]), "tall"),
    )


@plain_tall
def test_every_row_twice(case: Case) -> None:
    """Class shares, means and covariances stay, so every score does but the evidence."""
    problem = problem_of("tall")
    once = padded(case, problem, "tall")
    twice = padded(case, problem, "tall", weights=np.full(len(problem.features), 2.0))
    if case.metric == "logme":
        assert twice != pytest.approx(once, rel=1e-3)
    else:
        close(twice, once)


@plain_tall
def test_better_separated_classes_score_higher(case: Case) -> None:
    """Orthogonal means keep all pairs alike, so only the distance changes; 0 is pure noise."""
    rng = np.random.default_rng(5)
    y = np.repeat(np.arange(4, dtype=np.int32), 12)
    noise = rng.normal(size=(48, 8)) / 3
    scores = [
        padded(case, Problem(noise + s * np.eye(4, 8)[y], y), "tall") for s in (0, 0.3, 0.6, 1, 1.4)
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
    x, y = problem_of("tall")
    for metric in REGISTRY.values():
        parts = jax.jit(lambda x, y, m=metric: m.parts(Look(x, y, num_classes=4)))(x, y)
        assert float(parts["score"]) == pytest.approx(float(metric.function(x, y)))
        if metric.terms:
            total = sum(float(parts[term]) for term in metric.terms)
            assert total == pytest.approx(float(parts["score"]))
