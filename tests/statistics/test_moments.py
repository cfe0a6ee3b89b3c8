"""Moments: any split, any order and any batches come to the moments of the whole."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Problem, blobs, regression
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxte import InputError, moments
from jaxte.metrics import REGISTRY, face, face_from_moments, logme_from_moments
from jaxte.moments import Moments

OFFSET = 1e4
N, D, C, K = 24, 5, 4, 2
KINDS = ("classes", "balanced", "regression")
FROM_MOMENTS = [name for name, metric in REGISTRY.items() if metric.from_moments]


def data(kind: str, n: int = N, d: int = D, offset: float = OFFSET) -> Problem:
    if kind == "regression":
        x, y = regression(n, d, outputs=K)
        return Problem(x + offset, y + offset / 10)
    x, y = blobs(n, d, classes=C)
    return Problem(x + offset, y)


DATA = {kind: data(kind) for kind in KINDS}


def empty(kind: str, problem: Problem, weights: Any = None) -> Moments:
    d = problem.features.shape[1]
    if kind == "regression":
        return moments.init(d, num_targets=K)
    counts = None
    if kind == "balanced":
        counts = np.bincount(problem.targets, weights, minlength=C)
    return moments.init(d, num_classes=C, class_counts=counts)


def of(kind: str, problem: Problem, weights: Any = None, final: Any = None) -> Moments:
    """Moments of one batch; ``final`` are the weights of the whole, for the balance."""
    state = empty(kind, problem, weights if final is None else final)
    return moments.update(state, *problem, None if weights is None else jnp.asarray(weights))


def two_pass(kind: str, problem: Problem, weights: Any = None) -> dict[str, Any]:
    """What the moments must be, relative to the offset, which NumPy takes off without rounding."""
    x, y = problem
    x = np.asarray(x, np.float64) - OFFSET
    w = np.ones(len(x)) if weights is None else np.asarray(weights)
    x = np.where(w[:, None] > 0, x, 0)
    groups = [np.ones(len(x))] if kind == "regression" else [y == c for c in range(C)]
    total = [(w * g).sum() for g in groups]
    means = np.stack([(w * g) @ x / (t or 1) for g, t in zip(groups, total, strict=True)])
    gaps = [(x - m) * np.sqrt(w * g)[:, None] for m, g in zip(means, groups, strict=True)]
    result: dict[str, Any] = {
        "samples": (w > 0).sum(),
        "counts": np.array(total),
        "means": means,
        "squares": np.stack([(gap**2).sum(axis=0) for gap in gaps]),
        "scatter": sum(gap.T @ gap for gap in gaps),
    }
    if kind == "balanced":
        result["balance"] = sum(gap.T @ gap / (t or 1) for gap, t in zip(gaps, total, strict=True))
    if kind == "regression":
        y = np.where(w[:, None] > 0, y - OFFSET / 10, 0)
        result["y_mean"] = w @ y / w.sum()
        gap = (y - result["y_mean"]) * np.sqrt(w)[:, None]
        result["y_square"], result["cross"] = (gap**2).sum(axis=0), gaps[0].T @ gap
    return result


def read(state: Moments) -> dict[str, Any]:
    present = np.asarray(state.counts)[:, None] > 0
    origin = np.asarray(state.origin, np.float64) - OFFSET
    result: dict[str, Any] = {
        "samples": state.samples,
        "counts": state.counts,
        "means": np.where(present, np.asarray(state.means, np.float64) + origin, 0),
        "squares": state.squares,
        "scatter": state.scatter,
    }
    if state.balance is not None:
        result["balance"] = state.balance.scatter
    if state.targets is not None:
        t = state.targets
        origin = np.asarray(t.origin, np.float64) - OFFSET / 10
        result |= {"y_mean": np.asarray(t.mean, np.float64) + origin, "y_square": t.square}
        result["cross"] = t.cross
    return {name: np.asarray(value, np.float64) for name, value in result.items()}


def assert_close(state: Moments, expected: dict[str, Any], tolerance: float = 1e-12) -> None:
    """Each entry to a share of its natural scale: the spread of the data, never the offset."""
    assert bool(state.valid)
    result = read(state)
    assert result.keys() == expected.keys()
    scales = {name: np.abs(value).max(initial=0) for name, value in expected.items()}
    spread = np.sqrt(np.trace(expected["scatter"]) / max(expected["counts"].sum(), 1))
    scales["means"] = max(spread, np.abs(np.ptp(expected["means"], axis=0)).max())
    if "cross" in scales:
        scales["cross"] = np.sqrt(scales["scatter"] * scales["y_square"])
        scales["y_mean"] = np.sqrt(scales["y_square"] / expected["counts"].sum())
    for name, value in expected.items():
        error = np.abs(result[name] - value).max()
        # one row alone has no spread of its own
        assert error <= tolerance * max(scales[name], 1e-3), (name, error / scales[name])


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_is_the_two_pass_formula(kind: str, precision: str) -> None:
    problem = DATA[kind]
    if precision == "float32":  # the rounding of the features is not the kernel's
        single = [np.asarray(part, np.float32).astype(np.float64) for part in problem]
        y = single[1] if kind == "regression" else problem.targets
        problem = Problem(single[0], y)
    expected = two_pass(kind, problem)
    assert_close(of(kind, problem), expected, 1e-12 if precision == "float64" else 1e-4)


def test_total_scatter_is_within_plus_between(x64: None) -> None:
    x, _ = problem = DATA["classes"]
    state = of("classes", problem)
    x = x - OFFSET
    x = x - x.mean(axis=0)
    np.testing.assert_allclose(state.total_scatter, x.T @ x, rtol=1e-12, atol=1e-11)
    relative = np.asarray(state.origin - OFFSET + state.relative_mean)
    np.testing.assert_allclose(relative, (problem.features - OFFSET).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(state.counts @ state.deviations, np.zeros(D), atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    owner=st.lists(st.integers(0, 2), min_size=N, max_size=N),
    weight=st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0, 7.5]), min_size=N, max_size=N),
    order=st.permutations(range(3)),
)
def test_any_split_in_any_order_merges_to_the_whole(
    kind: str, owner: Sequence[int], weight: Sequence[float], order: Sequence[int]
) -> None:
    """Parts may be empty or of one row, and lack whole classes; rows of other parts are NaN."""
    weight = [*weight[:-1], 1.0]  # at least one row counts
    with jax.enable_x64(True):
        x, y = DATA[kind]
        w, part = np.array(weight), np.array(owner)
        states = []
        for index in order:
            own = np.where(part == index, w, 0)
            state = empty(kind, DATA[kind], w)
            if own.any():
                rows = np.where(own[:, None] > 0, x, np.nan)
                state = moments.update(state, rows, y, own)
            states.append(state)
        a, b, c = states
        expected = two_pass(kind, DATA[kind], w)
        assert_close(moments.merge(moments.merge(a, b), c), expected)
        assert_close(moments.merge(a, moments.merge(b, c)), expected)
        assert_close(moments.merge(c, moments.merge(b, a)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 8])
def test_batches_and_single_rows_are_the_whole(kind: str, size: int, x64: None) -> None:
    x, y = DATA[kind]
    state = empty(kind, DATA[kind])
    for start in range(0, N, size):
        state = moments.update(state, x[start : start + size], y[start : start + size])
    assert_close(state, two_pass(kind, DATA[kind]))


def test_a_class_that_only_one_part_holds(x64: None) -> None:
    x, y = DATA["classes"]
    order = np.argsort(y, kind="stable")
    parts = [of("classes", Problem(x[rows], y[rows])) for rows in np.split(order, [8, 16])]
    assert {int((part.counts == 0).sum()) for part in parts} - {0}
    whole = moments.merge(parts[2], moments.merge(parts[0], parts[1]))
    assert_close(whole, two_pass("classes", DATA["classes"]))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_absence_and_repetition(kind: str, x64: None) -> None:
    x, y = (part.copy() for part in DATA[kind])
    w = np.arange(N) % 3.0
    repeated = Problem(*(np.repeat(part, w.astype(int), axis=0) for part in (x, y)))
    expected = two_pass(kind, repeated) | {"samples": (w > 0).sum()}
    state = empty(kind, DATA[kind], w)
    x[w == 0] = np.nan
    y[w == 0] = np.nan if kind == "regression" else -7
    assert_close(moments.update(state, x, y, w), expected)


def test_moments_of_nothing_change_nothing(x64: None) -> None:
    state = of("classes", DATA["classes"])
    nothing = empty("classes", DATA["classes"])
    assert float(nothing.total) == 0.0
    for merged in (moments.merge(state, nothing), moments.merge(nothing, state)):
        jax.tree.map(np.testing.assert_array_equal, merged, state)
    x, y = DATA["classes"]
    absent = moments.update(state, x, y, np.zeros(len(x)))
    jax.tree.map(np.testing.assert_array_equal, absent, state)


# --- under transformations ---------------------------------------------------------------------


def test_scan_over_batches_and_vmap_over_models(x64: None) -> None:
    """As a loop over accelerator batches is written, three models at once."""
    x, y = DATA["classes"]
    pool = np.stack([x, 2 * (x - OFFSET) + OFFSET, 2 * OFFSET - x[::-1]])

    def one(features: jax.Array, labels: jax.Array) -> Moments:
        def step(state: Moments, batch: Any) -> tuple[Moments, None]:
            return moments.update(state, *batch), None

        batches = (features.reshape(3, 8, D), labels.reshape(3, 8))
        return jax.lax.scan(step, moments.init(D, num_classes=C), batches)[0]

    result = jax.jit(jax.vmap(one, in_axes=(0, None)))(jnp.asarray(pool), jnp.asarray(y))
    merged = jax.vmap(moments.merge)(result, result)
    for index, features in enumerate(pool):
        expected = two_pass("classes", Problem(features, y))
        state = jax.tree.map(lambda leaf, i=index: leaf[i], result)
        assert_close(state, expected)
        twice = jax.tree.map(lambda leaf, i=index: leaf[i], merged)
        np.testing.assert_allclose(twice.scatter, 2 * expected["scatter"], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("fault", [C, -1, np.nan, np.inf])
def test_inside_jit_faults_poison_the_scores(fault: float, x64: None) -> None:
    """Two good batches around a bad one do not hide it; a row of weight 0 is none."""
    x, y = DATA["balanced"]
    counts = 3 * np.bincount(y)

    @jax.jit
    def scores(x: jax.Array, y: jax.Array, w: jax.Array) -> tuple[jax.Array, ...]:
        good = moments.init(D, num_classes=C, class_counts=counts)
        good = moments.update(good, DATA["balanced"].features, DATA["balanced"].targets)
        state = moments.merge(moments.update(good, x, y, w), good)
        return state.valid, logme_from_moments(state), face_from_moments(state)

    bad_x, bad_y, w = x.copy(), y.copy(), np.ones(N)
    if fault in (C, -1):
        bad_y[3] = fault
    else:
        bad_x[3, 1] = fault
    valid, *result = scores(bad_x, bad_y, w)
    assert not valid
    assert np.isnan(result).all()
    w[3] = 0
    valid, *result = scores(bad_x, bad_y, w)
    assert valid
    assert np.isfinite(result).all()


# --- scores ------------------------------------------------------------------------------------

SETS = {
    "wide": blobs(12, 20, classes=C, separation=1.0),
    "far": data("classes"),
    "regression": regression(40, D, outputs=K),
    "wide regression": regression(10, 16),
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "logme": [{"variant": "paper"}, {"variant": "released"}],
    "face": [{}, {"covariance": "diagonal", "temperature": 0.2, "variance_floor": 1e-3}],
}


def state_of(problem: Problem, dtype: Any = None) -> Moments:
    """Moments merged from every second row and the others, with counts of classes, if any."""
    x, y = problem
    known: dict[str, Any] = {"num_targets": y[0].size}
    if problem.num_classes is not None:
        known = {"num_classes": problem.num_classes, "class_counts": np.bincount(y)}
    empty = moments.init(x.shape[1], dtype=dtype, **known)
    state = empty
    for part in range(2):
        state = moments.merge(moments.update(empty, x[part::2], y[part::2]), state)
    return state


SLOW = {"regression": pytest.mark.slow}  # the wide one takes the same routes from moments


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=SLOW.get(kind, ())) for kind in SETS])
@pytest.mark.parametrize("name", FROM_MOMENTS)
def test_moments_score_as_the_samples_do(name: str, kind: str, x64: None) -> None:
    metric, problem = REGISTRY[name], SETS[kind]
    if problem.num_classes is None and "regression" not in metric.tasks:
        pytest.skip("the metric needs classes")
    for options in OPTIONS.get(name, [{}]):
        if options.get("variant") == "released" and kind == "far":
            continue  # what it returns at such an offset is rounding, in either way
        assert metric.from_moments is not None
        result = float(metric.from_moments(state_of(problem), **options))
        expected = float(metric.function(*problem, **options))
        assert result == pytest.approx(expected, rel=1e-10), options


@pytest.mark.parametrize("name", FROM_MOMENTS)
def test_single_precision_moments(name: str) -> None:
    metric, problem = REGISTRY[name], blobs(N, D, classes=C)
    assert metric.from_moments is not None
    with jax.enable_x64(True):
        expected = float(metric.function(*problem))
    result = float(metric.from_moments(state_of(problem, jnp.float32)))
    assert result == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_even_classes_need_no_counts(x64: None) -> None:
    x, _ = DATA["classes"]
    y = np.arange(N) % C
    state = moments.update(moments.init(D, num_classes=C), x, y)
    assert float(face_from_moments(state)) == pytest.approx(float(face(x, y)), rel=1e-10)


# --- errors ------------------------------------------------------------------------------------


def test_what_face_cannot_be_made_of(x64: None) -> None:
    with pytest.raises(InputError, match="class_counts"):
        face_from_moments(of("classes", DATA["classes"]))
    with pytest.raises(InputError, match="full"):
        face_from_moments(of("balanced", DATA["balanced"]), covariance="full")
    with pytest.raises(InputError, match="float targets"):
        face_from_moments(of("regression", DATA["regression"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "num_classes, for integer labels, or num_targets"),
        ({"num_classes": 3, "num_targets": 1}, "num_classes, for integer labels, or num_targets"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"num_targets": -1}, "num_targets is -1"),
        ({"num_targets": 0}, "num_targets is 0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 3, "num_features": 0}, "num_features is 0"),
        ({"num_classes": 3, "num_features": 2.5}, "num_features is 2.5"),
        ({"num_classes": 3, "dtype": int}, "moments need a float type"),
        ({"num_classes": 3, "class_counts": [1, -1, 1]}, "no numbers >= 0"),
        ({"num_classes": 3, "class_counts": [1, 2]}, "each of the 3 classes"),
        ({"num_targets": 3, "class_counts": [1, 2, 3]}, "class_counts"),
    ],
)
def test_what_init_refuses(arguments: dict[str, Any], message: str) -> None:
    arguments = {"num_features": D} | arguments
    with pytest.raises(InputError, match=message):
        moments.init(arguments.pop("num_features"), **arguments)


def test_class_counts_of_other_samples_are_not_used(x64: None) -> None:
    x, y = DATA["balanced"]
    counts = np.bincount(y, minlength=C)
    cases = [(counts + 1, 0), (counts / counts.sum(), 0), (counts, 1)]  # and a row that is left out
    for known, first in cases:
        empty = moments.init(D, num_classes=C, class_counts=known)
        with pytest.raises(InputError, match="the weight of each class in the samples"):
            face_from_moments(moments.update(empty, x[first:], y[first:]))


def test_what_update_refuses() -> None:
    x, y = DATA["classes"]
    targets = DATA["regression"].targets
    labelled, real = empty("classes", DATA["classes"]), empty("regression", DATA["regression"])
    holed = x.copy()
    holed[7, 1] = np.nan
    for state, features, given_targets, message in [
        (labelled, x[:, :-1], y, "4 columns, but the state has 5"),
        (labelled, x, targets, "integer labels"),
        (real, x, y, "float targets"),
        (real, x, targets[:, 0], r"the state has \(24, 2\)"),
        (labelled, x, y - 1, "labels contain -1"),
        (labelled, x, y + 1, "labels contain 4, but num_classes is 4"),
        (labelled, x, y[:-1], "24 rows"),
        (labelled, holed, y, "first in row 7"),
        (real, x, np.where(np.arange(N)[:, None] == 9, np.nan, targets), "first in row 9"),
    ]:
        with pytest.raises(InputError, match=message):
            moments.update(state, features, given_targets)


def test_what_merge_refuses() -> None:
    labelled = empty("classes", DATA["classes"])
    others: list[Moments] = [
        moments.init(D + 1, num_classes=C),
        moments.init(D, num_classes=C + 1),
        empty("regression", DATA["regression"]),
        empty("balanced", DATA["balanced"]),
    ]
    for other in others:
        for pair in ((labelled, other), (other, labelled)):
            with pytest.raises(InputError, match="do not merge"):
                moments.merge(*pair)
