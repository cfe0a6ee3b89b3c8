"""rank(): ragged pools, failed models, precision, memory, compilations."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import Case, Problem, blobs, compiled, counted_compilations, padded_to, regression

import jaxte
from jaxte import perturb
from jaxte.metrics import face, logme, sfda

N = 40
Y = blobs(N, 5).targets
METRICS = ("logme", "sfda", "face")


def features(d: int, separation: float = 1.0) -> np.ndarray:
    """All of one labelling, better the larger the separation."""
    rng = np.random.default_rng(d)
    means = separation * rng.normal(size=(4, d)) / np.sqrt(d)
    noise: np.ndarray = 0.6 * rng.normal(size=(N, d)) / np.sqrt(d)
    return 0.3 + means[Y] + noise


class Wrapped:
    """Any object that NumPy can read, as a PyTorch tensor is."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


POOL: dict[str, Any] = {
    "half": features(9, 0.5).astype(np.float16),
    "brain": features(17, 0.8).astype(ml_dtypes.bfloat16),
    "single": features(30, 1.1).astype(np.float32),
    "double": features(7, 1.4),
    "jax": jnp.asarray(features(61, 1.7), jnp.float32),
    "wrapped": Wrapped(features(70, 2.0)),
    "list": features(5, 2.3).tolist(),
}


def alone(metric: str, model: str) -> float:
    """What the kernel says of this model."""
    return kernel(metric, np.asarray(POOL[model]).astype("float64"))


def kernel(metric: str, x: np.ndarray, y: np.ndarray = Y) -> float:
    """What the kernel says, in one shape for all, which `rank` does not take."""
    return float(compiled(Case(metric), 4)(*padded_to((N + 1, 75), Problem(x, y))))


@pytest.fixture(scope="module")
def ranking() -> jaxte.Ranking:
    return jaxte.rank(POOL, Y, metrics=METRICS, precision="float64")


@pytest.mark.parametrize("model", POOL)
def test_scores_are_those_of_each_kernel_alone(ranking: jaxte.Ranking, model: str) -> None:
    with jax.enable_x64(True):
        for metric in METRICS:
            assert ranking.status(model, metric) == "ok"
            assert ranking.score(model, metric) == pytest.approx(alone(metric, model), rel=1e-9)


def test_single_precision(ranking: jaxte.Ranking) -> None:
    single = jaxte.rank(POOL, Y, metrics=METRICS, precision="float32")
    assert single.meta["precision"] == "float32"
    for metric in METRICS:
        for model in POOL:
            expected = ranking.score(model, metric)
            assert single.score(model, metric) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_auto_is_double_on_the_cpu_and_flips_no_flag(ranking: jaxte.Ranking) -> None:
    assert jnp.result_type(float) == jnp.float32
    auto = jaxte.rank(POOL, Y, metrics=METRICS)
    assert jnp.result_type(float) == jnp.float32
    if jax.default_backend() == "cpu":
        for model in POOL:
            for metric in METRICS:
                assert auto.score(model, metric) == ranking.score(model, metric)


def test_models_and_metrics_keep_their_order(ranking: jaxte.Ranking) -> None:
    assert ranking.models == tuple(POOL)
    assert ranking.metrics == METRICS


def test_order_is_best_first(ranking: jaxte.Ranking) -> None:
    for metric in METRICS:
        order = ranking.order(metric)
        scores = [ranking.score(m, metric) for m in order]
        assert sorted(order) == sorted(POOL)
        assert scores == sorted(scores, reverse=True)
        assert ranking.best(metric) == order[0]


def test_better_features_come_first() -> None:
    pool = {f"s{s}": features(12, s) for s in (1.0, 3.0, 0.1)}
    result = jaxte.rank(pool, Y, metrics=METRICS)
    for metric in METRICS:
        assert result.order(metric) == ["s3.0", "s1.0", "s0.1"]


def test_failed_models_do_not_stop_the_others(ranking: jaxte.Ranking) -> None:
    broken = features(9)
    broken[11, 2] = np.nan
    pool = {"nan": broken, **POOL, "infinite": np.full((N, 61), np.inf), "flat": np.ones(N)}
    pool |= {"short": features(9)[:-1], "text": np.full((N, 3), "x")}
    result = jaxte.rank(pool, Y, metrics=METRICS, precision="float64")
    for metric in METRICS:
        assert "row 11" in result.status("nan", metric)
        assert "NaN" in result.status("nan", metric)
        assert "infinity" in result.status("infinite", metric)
        assert "[n, d]" in result.status("flat", metric)
        assert "39" in result.status("short", metric)
        assert result.status("text", metric) != "ok"
        for model in ("nan", "infinite", "flat", "short", "text"):
            assert np.isnan(result.score(model, metric))
            assert model not in result.order(metric)
        for model in POOL:
            assert result.score(model, metric) == pytest.approx(
                ranking.score(model, metric), rel=1e-9
            )
        assert result.best(metric) == ranking.best(metric)


def test_targets_of_each_model_its_own() -> None:
    few = np.zeros(N, np.int32)
    reordered = np.random.default_rng(0).permutation(N)
    x = features(12)
    result = jaxte.rank(
        {"plain": x, "reordered": x[reordered], "one-class": x},
        {"plain": Y, "reordered": Y[reordered], "one-class": few},
        metrics=METRICS,
    )
    for metric in METRICS:
        assert "two classes" in result.status("one-class", metric)
        assert result.score("reordered", metric) == pytest.approx(result.score("plain", metric))


def test_a_model_without_targets_has_a_status() -> None:
    result = jaxte.rank({"a": features(9), "b": features(9)}, {"a": Y}, metrics=("face",))
    assert result.status("a", "face") == "ok"
    assert "targets" in result.status("b", "face")


def test_regression() -> None:
    x, y = regression(30, 6)
    result = jaxte.rank({"a": x, "b": x[:, :4]}, y, metrics="logme", precision="float64")
    with jax.enable_x64(True):
        assert result.score("a", "logme") == pytest.approx(float(logme(x, y)), rel=1e-9)
    assert result.order("logme") == ["a", "b"]
    with pytest.raises(jaxte.InputError, match=r"regression.*sfda.*classes"):
        jaxte.rank({"a": x}, y, metrics=("logme", "sfda"))
    assert jaxte.rank({"a": x}, y, intervals=True).metrics == ("ridge_probe", "logme")


@pytest.mark.parametrize("weighting", ["subset", "counts"])
def test_weights(weighting: str) -> None:
    weights = np.arange(N) % 3 if weighting == "counts" else (np.arange(N) % 3 > 0).astype(int)
    rows = np.repeat(np.arange(N), weights)
    pool = {"a": features(9), "b": features(50)}
    weighted = jaxte.rank(pool, Y, metrics=METRICS, weights=weights, precision="float64")
    for metric in METRICS:
        for model, x in pool.items():
            with jax.enable_x64(True):
                repeated = kernel(metric, x[rows], Y[rows])
            assert weighted.score(model, metric) == pytest.approx(repeated, rel=1e-7)


def test_little_memory_gives_the_same_scores(ranking: jaxte.Ranking) -> None:
    sliced = jaxte.rank(POOL, Y, metrics=METRICS, precision="float64", memory_limit=100_000)
    for metric in METRICS:
        for model in POOL:
            expected = ranking.score(model, metric)
            assert sliced.score(model, metric) == pytest.approx(expected, rel=1e-10)


def test_options_reach_their_metric() -> None:
    x = features(9)
    result = jaxte.rank(
        {"a": x},
        Y,
        metrics=METRICS,
        precision="float32",
        options={
            "logme": {"variant": "released"},
            "sfda": {"shrinkage": 0.2},
            "face": {"covariance": "diagonal"},
        },
    )
    single = x.astype(np.float32)
    expected = {
        "logme": logme(single, Y, variant="released"),
        "sfda": sfda(single, Y, shrinkage=0.2),
        "face": face(single, Y, covariance="diagonal"),
    }
    for metric, value in expected.items():
        assert result.score("a", metric) == pytest.approx(float(value), rel=1e-4)


@pytest.mark.parametrize("how", ["spread", "attract", "pca", "spread_attract"])
def test_perturbation_by_name_and_by_callable(how: str) -> None:
    pool = {"a": features(9), "b": features(50)}
    function = getattr(perturb, how)
    named = jaxte.rank(pool, Y, metrics=METRICS, perturb=how, precision="float32")
    called = jaxte.rank(pool, Y, metrics=METRICS, perturb=function, precision="float32")
    for model, x in pool.items():
        moved = function(jnp.asarray(x, jnp.float32), jnp.asarray(Y))
        for metric in METRICS:
            expected = kernel(metric, moved)
            assert named.score(model, metric) == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert called.score(model, metric) == named.score(model, metric)


def test_progress_reports_every_step() -> None:
    seen: list[tuple[int, int, str]] = []
    jaxte.rank(POOL, Y, metrics=METRICS, progress=lambda *step: seen.append(step))
    dones, totals, labels = zip(*seen, strict=True)
    assert list(dones) == sorted(dones)
    assert dones[-1] == totals[-1]
    assert len(set(totals)) == 1
    assert all(isinstance(label, str) and label for label in labels)


def test_progress_bar_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    jaxte.rank({"a": features(9)}, Y, metrics=("face",), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err != ""


def test_quiet_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    jaxte.rank({"a": features(9)}, Y, metrics=("face",))
    assert capsys.readouterr() == ("", "")


def test_a_saturated_metric_is_noted() -> None:
    """With more columns than rows every label fits, so SFDA is 1 for all and orders nothing."""
    pool = {f"m{d}": 5 * features(d, 3.0) for d in (118, 119, 120)}
    result = jaxte.rank(pool, Y, metrics=METRICS)
    assert all(result.score(model, "sfda") == 1 for model in pool)
    assert any("sfda" in note and "tie" in note.lower() for note in result.notes), result.notes
    narrow = jaxte.rank({f"m{d}": features(d, 0.5) for d in (5, 7, 9)}, Y, metrics=("sfda",))
    assert not any("tie" in note.lower() for note in narrow.notes), narrow.notes


def compilations(count: int, n: int, metrics: tuple[str, ...]) -> list[str]:
    """What a fresh pool of this many models, all different in width but of one bucket, compiles."""
    labels = (np.arange(n) % 4).astype(np.int32)
    rng = np.random.default_rng(0)
    pool = {f"m{i}": rng.normal(size=(n, 64 - i)) for i in range(count)}
    with counted_compilations() as names:
        result = jaxte.rank(pool, labels, metrics=metrics)
    assert all(result.status(m, k) == "ok" for m in pool for k in metrics)
    return names


@pytest.mark.parametrize("metric", METRICS)
def test_a_pool_compiles_once_per_bucket_not_once_per_model(metric: str) -> None:
    few, many = compilations(2, 41, (metric,)), compilations(7, 42, (metric,))
    assert len(many) > 0
    assert len(many) <= len(few) + 1, many
    assert compilations(7, 42, (metric,)) == []


def test_other_widths_of_a_bucket_compile_nothing() -> None:
    y = (np.arange(43) % 4).astype(np.int32)
    rng = np.random.default_rng(0)
    jaxte.rank({c: rng.normal(size=(43, d)) for c, d in (("a", 64), ("b", 60))}, y, metrics=METRICS)
    with counted_compilations() as names:
        pool = {c: rng.normal(size=(43, d)) for c, d in (("a", 63), ("b", 58))}
        jaxte.rank(pool, y, metrics=METRICS)
    assert names == []
