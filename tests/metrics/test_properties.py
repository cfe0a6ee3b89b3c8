"""One list of properties, which every metric of the registry has, in both precisions.

No metric is named: what differs is read from the records. All problems of one kind, those at the
edge too, are padded to one shape (rows of weight 0 full of garbage, zero columns, absent classes),
and the properties of a metric follow each other, so that it compiles once for each kind and
precision: for long problems in float64 a batch of five under vmap, else a single problem.
What needs one more program is asked where it can tell something new, in float64 mostly: calls
outside jit, derivatives (in float32 for long problems and the default options), `rank`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edges import EDGES
from helpers import (
    CASES,
    EXEMPT,
    SHAPES,
    UNDEFINED,
    Array,
    Problem,
    as_kind,
    compiled,
    padded_arrays,
)
from properties import (
    LANES,
    PROPERTIES,
    STEP,
    TOLERANCE,
    Setting,
    claimed,
    each,
    float64,
    float64_not_wide,
    has_slopes,
    not_wide,
    of_classes,
    tall,
)

import jaxte
from jaxte import InputError, moments
from jaxte.metrics import REGISTRY, get_metric

# --- one number -----------------------------------------------------------------------------------


@each()
def a_finite_scalar_of_the_registered_range(setting: Setting) -> None:
    arguments = padded_arrays(setting.problem, setting.kind)
    score = jax.eval_shape(compiled(setting.case, SHAPES[setting.kind][2]), *arguments)
    assert score.shape == ()
    assert score.dtype == setting.dtype
    low, high = setting.case.range
    assert low <= setting.score() <= high


@each(lambda setting: float64(setting) and not not_wide(setting))
def the_same_outside_jit_without_padding(setting: Setting) -> None:
    """Absent rows, columns and classes change nothing; of long problems batches tell."""
    setting.assert_score(setting.filled_up(*setting.problem))


@each(lambda setting: setting.dtype == "float32")
def near_the_score_in_double_precision(setting: Setting) -> None:
    with jax.enable_x64(True):
        double = setting._replace(dtype="float64").score()
    setting.assert_score(double)


@each(not_wide)
def larger_for_better_features(setting: Setting) -> None:
    """Classes ever further apart (orthogonal means, so that only the distance changes), and
    features with ever less noise on them.
    """
    rng = np.random.default_rng(5)
    if setting.classes:
        y = np.repeat(np.arange(4, dtype=np.int32), 12)
        noise, signal = rng.normal(size=(48, 8)) / 3, np.eye(4, 8)[y]
        copies = [(noise + s * signal, y) for s in (0, 0.3, 0.6, 1, 1.4)]
        if setting.kind == "source":
            copies = [(as_kind(setting.kind, np.exp(3 * x)), y) for x, y in copies]
    else:
        x, y = setting.problem
        noise = rng.normal(size=x.shape)
        copies = [(x + s * noise, y) for s in (3, 1, 0.3, 0)]
    scores = [setting.score(*copy) for copy in copies]
    assert np.all(np.diff(scores) > 0), scores


@each(float64_not_wide)
def the_same_from_memory_from_a_stream_and_from_moments(setting: Setting) -> None:
    """`rank` of an array and of batches; a stream may be refused, but not silently."""
    (x, y), case = setting.problem, setting.case
    expected = setting.score()
    options: dict[str, Any] = {"metrics": case.metric, "precision": setting.dtype}
    options["options"] = {case.metric: case.options}
    models: dict[str, Any] = {"memory": x, "stream": np.split(x, [1, 18, 21])}
    if setting.kind == "source":
        models = {name: {"features": own, "probabilities": x} for name, own in models.items()}
    ranking = jaxte.rank(models, y, **options)
    metric = REGISTRY[case.metric]

    def score(model: str) -> float:
        """Of the model alone: over a pool its terms may be normalised."""
        terms = ranking.terms(model, case.metric)
        assert set(terms) == set(metric.terms)
        if metric.terms:
            return float(sum(weight * terms[name] for name, weight in metric.terms.items()))
        return ranking.score(model, case.metric)

    setting.assert_equal(score("memory"), expected)
    if ranking.status("stream", case.metric) != "ok":
        assert "all samples" in ranking.status("stream", case.metric)
        return
    setting.assert_equal(score("stream"), expected)
    setting.assert_equal(ranking.score("stream", case.metric), ranking.score("memory", case.metric))
    of_moments = metric.from_moments
    if of_moments is not None:
        kind: dict[str, Any] = {"num_targets": 2}
        if setting.classes:
            kind = {"num_classes": 6, "class_counts": np.bincount(y, minlength=6)}
        empty = moments.init(x.shape[1], **kind)
        states = [moments.update(empty, x[part::2], y[part::2]) for part in range(2)]
        setting.assert_equal(float(of_moments(moments.merge(*states), **case.options)), expected)


# --- weights and padding --------------------------------------------------------------------------


@each()
def weight_0_is_an_absent_row(setting: Setting) -> None:
    x, y = setting.problem
    kept = np.arange(len(x)) % 5 != 3
    spoiled = np.where(kept[:, None], x, np.inf)
    setting.assert_equal(setting.score(spoiled, weights=kept), setting.score(x[kept], y[kept]))


@each()
def weight_2_is_a_row_written_twice(setting: Setting) -> None:
    x, y = setting.problem
    counts = np.where(np.arange(len(x)) % 3 == 0, 2, np.where(np.arange(len(x)) % 7 == 1, 0, 1))
    repeated = setting.score(np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0))
    setting.assert_equal(setting.score(weights=counts), repeated, rtol=1e-7)


@each(tall)
def huge_garbage_of_weight_0_says_nothing(setting: Setting) -> None:
    """The square of such an entry overflows, and infinity times weight 0 is not 0."""
    x, y = setting.problem
    huge = np.concatenate([x, np.full((6, x.shape[1]), 1e30)])
    labels = np.concatenate([y, np.zeros(6, np.int32)])
    setting.assert_score(setting.score(huge, labels, np.arange(len(huge)) < len(x)))


@each(of_classes)
def a_class_whose_rows_all_weigh_nothing_is_absent(setting: Setting) -> None:
    x, y = setting.problem
    setting.assert_equal(setting.score(weights=y != 1), setting.score(x[y != 1], y[y != 1]))


@each(lambda setting: float64(setting) and setting.kind == "wide")
def trailing_zero_columns_say_nothing(setting: Setting) -> None:
    """Also outside jit, where rows of weight 0 may hold anything in them, and as labels."""
    x, y = setting.problem
    part = x[:-2, :-3], y[:-2]
    setting.assert_equal(setting.filled_up(*part), setting.score(*part))


# --- what a score does not depend on --------------------------------------------------------------


@each()
def order_of_rows(setting: Setting) -> None:
    x, y = setting.problem
    order = np.random.default_rng(1).permutation(len(x))
    setting.assert_score(setting.score(x[order], y[order]))


@each()
def numbering_of_classes_or_order_of_targets(setting: Setting) -> None:
    """Any injection of the numbers does, also one with gaps."""
    y = setting.problem.targets
    numbers = np.array([3, 0, 5, 2, 1, 4], np.int32)
    setting.assert_score(setting.score(targets=numbers[y] if setting.classes else y[:, ::-1]))


@each(claimed("rotation"))
def rotation_of_the_features(setting: Setting) -> None:
    x = setting.problem.features
    random = np.random.default_rng(2).normal(size=(x.shape[1], x.shape[1]))
    setting.assert_score(setting.score(x @ np.linalg.qr(random)[0]), rtol=1e-6)


@each(claimed("shift"))
def shift_of_the_features(setting: Setting) -> None:
    x = setting.problem.features
    size = 100 if float64(setting) else 1  # what rounds the features moves the score
    setting.assert_score(setting.score(x + size * np.linspace(-0.5, 1, x.shape[1])), rtol=1e-6)


@each(claimed("scale"))
def scale_of_the_features(setting: Setting) -> None:
    for factor in (1e-4, -1.7, 1e4):
        setting.assert_score(setting.score(factor * setting.problem.features), rtol=1e-6)


# --- under transformations ------------------------------------------------------------------------


@each(float64_not_wide)
def vmap_is_a_loop_and_a_failed_model_stays_alone(setting: Setting) -> None:
    """A loop outside jit, without padding, so that absent rows, columns and classes say nothing."""
    x, y = setting.problem
    n, pool = len(x), [x, np.exp(x), x.copy(), np.sqrt(np.abs(x)), x**3]
    if setting.kind == "source":  # of other labels: what is largest in a row stays where it is
        pool = [as_kind(setting.kind, np.roll(one, k, axis=0)) for k, one in enumerate(pool)]
    pool[2][3, 1] = np.nan
    weights = np.random.default_rng(3).uniform(0.5, 2, size=n) * (np.arange(n) % 9 > 0)
    assert len(pool) == LANES
    together = setting.scores(
        [padded_arrays(Problem(one, y), setting.kind, weights) for one in pool]
    )
    assert np.isnan(together[2])
    scores = np.delete(together, 2)
    loop = [float(setting.case.function(one, y, weights=weights)) for one in np.delete(pool, 2, 0)]
    setting.assert_equal(scores, loop)
    assert len(set(np.round(scores, 9))) == 4


@cache
def value_and_slopes(label: str, kind: str) -> Callable[..., Any]:
    """Of one problem, under jit."""
    case = next(case for case in CASES if case.label == label)
    return jax.jit(jax.value_and_grad(compiled(case, SHAPES[kind][2]), argnums=(0, 2)))


def weighted(setting: Setting) -> tuple[jax.Array, ...]:
    """The padded problem with weights that differ.

    In the wide case they stay below 1: there the features reach every target exactly, and a row
    that counts more than once makes the evidence unbounded, so that it has no derivative. None is
    1, from where on a row is its own neighbour.
    """
    most = 0.95 if setting.kind == "wide" else 1.6
    weights = np.linspace(0.56, most, len(setting.problem.features))
    return padded_arrays(setting.problem, setting.kind, weights)


@each(has_slopes)
def slopes_are_finite(setting: Setting) -> None:
    """And 0 where rows are padding."""
    n = len(setting.problem.features)
    value, (by_features, by_weights) = value_and_slopes(setting.case.label, setting.kind)(
        *weighted(setting)
    )
    setting.assert_equal(value, *setting.scores([weighted(setting)]))
    assert np.all(np.isfinite(by_features))
    assert np.all(np.isfinite(by_weights[:n]))
    assert np.all(np.asarray(by_features[n:]) == 0)


@each(lambda setting: float64(setting) and has_slopes(setting))
def slopes_are_central_differences(setting: Setting) -> None:
    x, y, w, d = weighted(setting)
    n = len(setting.problem.features)
    _, slopes = value_and_slopes(setting.case.label, setting.kind)(x, y, w, d)
    by_features, by_weights = slopes
    rng = np.random.default_rng(0)
    for _ in range(3):
        v, u = np.zeros(x.shape), np.zeros(len(w))
        v[:n, : int(d)] = rng.normal(size=(n, int(d)))
        u[:n] = rng.normal(size=n)
        v, u = v / np.linalg.norm(v), u / np.linalg.norm(u)
        features = [(x + s * v, y, w, d) for s in (STEP, -STEP)]
        weights = [(x, y, w + s * u, d) for s in (STEP, -STEP)]
        scores = np.array(setting.scores([*features, *weights]))
        along_v, along_u = (scores[::2] - scores[1::2]) / (2 * STEP)
        assert float(jnp.sum(by_features * v)) == pytest.approx(along_v, rel=1e-5, abs=1e-7)
        assert float(jnp.sum((by_weights * u)[:n])) == pytest.approx(along_u, rel=1e-5, abs=1e-7)


@each(lambda setting: tall(setting) and has_slopes(setting))
def slopes_of_dependent_features_are_finite(setting: Setting) -> None:
    """Repeated singular values: eigenvectors have no derivative there, the scores have."""
    x, y, w, d = weighted(setting)
    n = len(setting.problem.features)
    x = x.at[:, 3].set(x[:, 2]).at[:n, 4].set(0.0)
    value, slopes = value_and_slopes(setting.case.label, setting.kind)(x, y, w, d)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slopes[0]))
    assert np.all(np.isfinite(slopes[1][:n]))


# --- edges and bad input --------------------------------------------------------------------------


@each(of_classes)
def edges_have_a_finite_score_or_none(setting: Setting) -> None:
    """None only where the metric is known to have none there, and never an infinite one."""
    case = setting.case
    none = {*UNDEFINED.get(case.metric, ()), *UNDEFINED.get(case.label, ())}
    for name, edge in EDGES[setting.kind].items():
        score = setting.score(*edge)
        assert np.isfinite(score) or (name in none and np.isnan(score)), (name, score)


def entry(x: Array, value: float) -> Array:
    """The features with this in row 5."""
    changed = x.copy()
    changed[5, 2] = value
    return changed


@each()
def bad_input_is_an_error_outside_jit_and_nan_inside(setting: Setting) -> None:
    """A class left out silently would be a plausible wrong score."""
    x, y = setting.problem
    faults: list[tuple[Array, Array, str]] = [
        (entry(x, np.nan), y, "row 5"),
        (entry(x, np.inf), y, "row 5"),
    ]
    if setting.kind == "source":
        faults += [(1.1 * x, y, "row 0 sum to 1.1"), (entry(x, -0.1), y, "row 5")]
    if REGISTRY[setting.case.metric].label_free:
        pass  # whatever the labels are
    elif setting.classes:
        first = np.arange(len(y)) == 4
        faults += [
            (x, np.where(first, 6, y), "labels contain 6"),
            (x, np.where(first, -1, y), "labels contain -1"),
            (x, np.zeros_like(y), "two classes"),
        ]
    else:
        faults += [(x, np.where(np.arange(len(y))[:, None] == 5, np.nan, y), "row 5")]
    for features, targets, message in faults:
        with pytest.raises(InputError, match=message):
            setting.case.function(features, targets, num_classes=6 if setting.classes else None)
        assert np.isnan(setting.score(features, targets))


# --- the list, run --------------------------------------------------------------------------------

SETTINGS = [
    Setting(case, kind, dtype)
    for case in CASES
    for kind in SHAPES
    for dtype in TOLERANCE
    if case.does(kind)
]


@pytest.mark.parametrize(
    ("setting", "check"),
    [
        pytest.param(s, check, id=f"{s.case.label}-{s.kind}-{s.dtype}-{check.__name__}")
        for s in SETTINGS
        for check, where in PROPERTIES.items()
        if where(s) and check.__name__ not in EXEMPT.get(s.case.metric, ())
    ],
)
def test_property(setting: Setting, check: Callable[[Setting], None]) -> None:
    with jax.enable_x64(setting.dtype == "float64"):
        check(setting)


@pytest.mark.parametrize("metric", REGISTRY.values(), ids=REGISTRY.keys())
def test_records_are_complete(metric: Any) -> None:
    assert get_metric(metric.name) is metric
    assert callable(metric.function)
    assert metric.function.__doc__
    assert metric.paper
    assert metric.cost
    assert set(metric.tasks) <= {"classification", "regression"}
    assert metric.tasks
    assert metric.invariances <= {"rotation", "shift", "scale"}
    assert metric.range[0] < metric.range[1]
    assert metric.moments == (metric.from_moments is not None)


def test_exemptions_name_properties_and_edges_that_exist() -> None:
    names = {check.__name__ for check in PROPERTIES}
    assert set(EXEMPT) <= set(REGISTRY)
    edges = {name for kind in EDGES.values() for name in kind}
    assert set(UNDEFINED) <= {*REGISTRY, *(case.label for case in CASES)}
    assert all(set(reasons) <= edges for reasons in UNDEFINED.values())
    assert all(set(reasons) <= names for reasons in EXEMPT.values())


def test_the_three_metrics_are_registered() -> None:
    assert {"logme", "sfda", "face"} <= set(REGISTRY)
