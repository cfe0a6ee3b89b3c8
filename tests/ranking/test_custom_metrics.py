"""Metrics that are functions or records, and models that bring the outputs of their own heads."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte import InputError, Ranking
from jaxte.metrics import REGISTRY, Metric, Pass, get_metric, installed, register, registry
from jaxte.report import to_csv, to_json
from jaxte.runtime import programs

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
Z = RNG.normal(size=(60, 5)) + 2 * np.eye(5)[Y]
POOL = {f"m{d}": RNG.normal(size=(60, d)) + np.eye(3, d)[Y] for d in (4, 7)}


def largest(features: Any, labels: Any) -> Any:
    return jnp.abs(features).max()


def from_numpy(features: Any, labels: Any, weights: Any = None) -> Any:
    """What JAX cannot trace."""
    return float(np.sort(np.asarray(features)[np.asarray(labels) == 0].ravel())[-1])


def confidence(features: Any, labels: Any, *, probabilities: Any, power: float = 1.0) -> Any:
    return (jnp.max(probabilities, axis=1) ** power).mean()


def logits_mean(features: Any, labels: Any, *, logits: Any) -> Any:
    return logits.mean()


def test_functions_records_and_names_stand_side_by_side() -> None:
    ranking = jaxte.rank(POOL, Y, metrics=[largest, get_metric("hscore"), "face", from_numpy])
    assert ranking.metrics == ("largest", "hscore", "face", "from_numpy")
    for name, x in POOL.items():
        assert ranking.score(name, "largest") == pytest.approx(np.abs(x).max())
        assert ranking.score(name, "from_numpy") == pytest.approx(x[Y == 0].max())
        assert ranking.score(name, "hscore") == pytest.approx(
            float(jaxte.metrics.hscore(x, Y)), rel=1e-4
        )


def test_a_function_of_this_package_is_its_metric() -> None:
    ranking = jaxte.rank(POOL, Y, metrics=jaxte.metrics.logme)
    assert ranking.metrics == ("logme",)
    assert get_metric(jaxte.metrics.logme) is REGISTRY["logme"]


def test_a_registered_name_is_known_everywhere() -> None:
    metric = register(largest, "peak")
    assert isinstance(metric, Metric)
    assert REGISTRY["peak"] is metric
    assert jaxte.rank(POOL, Y, metrics="peak").score("m4", "peak") > 0
    with pytest.raises(InputError, match="there is a metric 'peak' already"):
        register(from_numpy, "peak")
    assert register(largest, "peak") is metric
    with pytest.raises(InputError, match="there is a metric 'peak' already"):
        register(from_numpy, "Peak")
    assert register(from_numpy, "Peak", replace=True).name == "Peak"
    assert "peak" not in REGISTRY


def test_names_of_columns_are_refused_or_told_apart() -> None:
    def history(features: Any, labels: Any) -> float:
        return 0.0

    def n(features: Any, labels: Any) -> float:
        return float(len(features))

    with pytest.raises(InputError, match="a metric cannot be called 'history'"):
        jaxte.rank(POOL, Y, metrics=[history, "logme"])
    ranking = jaxte.rank(POOL, Y, metrics=["logme", n])
    assert Ranking.from_json(to_json(ranking)) == ranking
    both = ranking.combine({"logme": 1.0, "n": 1.0}, name="both")
    assert both.to_records()[-1]["term n"] == 60
    for read in (Ranking.from_json(to_json(both)), Ranking.from_csv(to_csv(both))):
        assert read == both
        assert read.terms("m4", "both") == both.terms("m4", "both")
    for name in ("", "logme", "history", 3):
        with pytest.raises(InputError, match="that no column has already"):
            ranking.combine({"logme": 1.0}, name=name)  # type: ignore[arg-type]


def test_entry_points_of_other_packages_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ImportError("no such module")

    points = [
        SimpleNamespace(name="peak", load=lambda: largest),
        SimpleNamespace(name="broken", load=broken),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry._others.cache_clear()
    try:
        assert jaxte.rank(POOL, Y, metrics="peak").score("m4", "peak") > 0
        with pytest.raises(InputError, match="'broken' of another package cannot be loaded"):
            get_metric("broken")
        with pytest.raises(InputError, match="'peaks': did you mean 'peak'"):
            get_metric("peaks")
        every = installed()
        assert every["peak"] is get_metric("peak")
        assert isinstance(every["broken"], InputError)
    finally:
        registry._others.cache_clear()


@pytest.mark.parametrize("metrics", [lambda x: x, 3, [largest, lambda x, y: 0.0, lambda x, y: 1.0]])
def test_what_is_no_metric_is_refused(metrics: Any) -> None:
    with pytest.raises(InputError):
        jaxte.rank(POOL, Y, metrics=metrics)


def test_one_that_fails_does_not_stop_the_others() -> None:
    def vector(features: Any, labels: Any) -> Any:
        return features[0]

    def fails(features: Any, labels: Any) -> Any:
        raise RuntimeError("of its own")

    ranking = jaxte.rank(POOL, Y, metrics=[vector, fails, "hscore"])
    assert "not one number" in ranking.status("m4", "vector")
    assert ranking.status("m4", "fails") == "RuntimeError: of its own"
    assert ranking.status("m4", "hscore") == "ok"


def test_what_a_function_gets_is_as_it_was_handed_in() -> None:
    """No padding, no cast labels, and nothing kept from an earlier call."""

    class Scaled:
        by = 1.0

        def __call__(self, features: Any, labels: Any, **anything: Any) -> Any:
            assert not anything
            return self.by * features.mean()

    scaled = Scaled()
    pool = {"narrow": POOL["m4"], "wide": POOL["m7"]}
    for by in (1.0, 100.0):
        scaled.by = by
        ranking = jaxte.rank(pool, Y, metrics=[scaled, "hscore"])
        for name, x in pool.items():
            assert ranking.score(name, "Scaled") == pytest.approx(by * x.mean())


def test_weights_reach_a_function_or_a_note_says_that_they_do_not() -> None:
    weights = np.r_[0.0, np.ones(59)]
    x = POOL["m4"].copy()
    x[0] = np.nan

    def weighted(features: Any, labels: Any, *, weights: Any) -> Any:
        return (weights[:, None] * features).sum()

    ranking = jaxte.rank({"m": x}, Y, metrics=[weighted, largest], weights=weights)
    assert ranking.score("m", "weighted") == pytest.approx(x[1:].sum())
    assert any("largest: it takes no weights" in note for note in ranking.notes)
    assert not any(note.startswith("weighted") for note in ranking.notes)


@pytest.mark.parametrize("returned", [1j, None, "1", [1.0, 2.0], (1.0, None)])
def test_what_is_no_number_is_a_reason_for_that_metric_alone(returned: Any) -> None:
    def wrong(features: Any, labels: Any) -> Any:
        return returned

    for pool in (POOL, {"m4": POOL["m4"]}):
        ranking = jaxte.rank(pool, Y, metrics=[wrong, "hscore"])
        assert "not one number" in ranking.status("m4", "wrong") or "Error" in ranking.status(
            "m4", "wrong"
        )
        assert ranking.status("m4", "hscore") == "ok"


def test_records_that_do_not_keep_to_the_contract_stop_no_other() -> None:
    def function(features: Any, labels: Any, *, num_classes: Any = None) -> Any:
        return jnp.zeros(())

    def record(name: str, score: Any, **facts: Any) -> Metric:
        return Metric(name=name, function=function, score=score, **facts)

    metrics = [
        record("bare", lambda s, _: s.counts.sum()),
        record("unnamed", lambda s, _: {"value": s.counts.sum()}),
        record("vector", lambda s, _: {"score": s.counts}),
        record("raises", lambda s, _: 1 / 0),
        record("undeclared", lambda s, _: {"score": s.scatter.sum()}),
        "hscore",
    ]
    batches = {"s": [POOL["m4"][:30], POOL["m4"][30:]], "m": POOL["m4"]}
    ranking = jaxte.rank(batches, Y, metrics=metrics)
    for name in batches:
        assert ranking.status(name, "hscore") == "ok"
        for metric in ("bare", "unnamed", "vector", "raises"):
            assert ranking.status(name, metric) != "ok"
    assert "name what it reads in `needs`" in ranking.status("m", "undeclared")
    with pytest.raises(InputError, match="needs"):
        record("misspelt", lambda s, _: {}, needs={"scater"})
    with pytest.raises(InputError, match="without blanks"):
        record("a,b", lambda s, _: {})


def test_passes_of_a_user_agree_in_memory_and_streamed() -> None:
    def function(features: Any, labels: Any, *, num_classes: Any = None) -> Any:
        return jnp.zeros(())

    double = Pass(lambda s, c: (), lambda _, batch: 2 * batch.residuals, transform=True)
    squares = Pass(
        lambda s, c: (), lambda _, batch: batch.weights @ jnp.sum(batch.residuals**2, axis=1)
    )
    metric = Metric(
        name="four_times", function=function, score=lambda s, c: {"score": c[1].result},
        passes=(double, squares),
    )  # fmt: skip
    x = POOL["m4"]
    means = np.array([x[c == Y].mean(axis=0) for c in range(3)])
    expected = 4 * ((x - means[Y]) ** 2).sum()
    ranking = jaxte.rank({"memory": x, "stream": [x[:30], x[30:]]}, Y, metrics=metric)
    for name in ranking.models:
        assert ranking.score(name, "four_times") == pytest.approx(expected, rel=1e-6)


# --- outputs of the models' own heads -------------------------------------------------------------


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def test_models_may_bring_logits_or_probabilities() -> None:
    pool = {
        "both": {"features": POOL["m4"], "logits": Z},
        "normalised": {"features": POOL["m4"], "probabilities": softmax(Z)},
        "wider": {"features": POOL["m7"], "logits": np.c_[Z, Z]},
        "none": POOL["m4"],
    }
    options = {"confidence": {"power": 2.0}}
    ranking = jaxte.rank(pool, Y, metrics=[confidence, "hscore"], options=options)
    expected = (softmax(Z).max(axis=1) ** 2).mean()
    for name in ("both", "normalised"):
        assert ranking.score(name, "confidence") == pytest.approx(expected, rel=1e-6)
    assert ranking.status("wider", "confidence") == "ok"
    assert "reads the outputs of the model's own head" in ranking.status("none", "confidence")
    assert ranking.status("none", "hscore") == "ok"
    bad = {"bad": {"features": POOL["m4"], "logits": Z[:9]}, "good": pool["both"]}
    ranking = jaxte.rank(bad, Y, metrics=[confidence, "hscore"])
    assert "logits have shape" in ranking.status("bad", "confidence")
    assert ranking.status("bad", "hscore") == "ok"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"logits": Z[:9]}, "logits have shape"),
        ({"logits": np.where(Z > 2, np.nan, Z)}, "logits contain NaN"),
        ({"probabilities": Z}, "sum to 1"),
        ({"logits": Z, "probabilities": softmax(Z)}, "not both"),
        ({"logit": Z}, "features are a dict of features, logit"),
    ],
)
def test_bad_outputs_are_named(part: dict[str, Any], message: str) -> None:
    pool = {"bad": {"features": POOL["m4"], **part}, "good": {"features": POOL["m4"], "logits": Z}}
    ranking = jaxte.rank(pool, Y, metrics=[logits_mean])
    assert message in ranking.status("bad", "logits_mean")
    assert ranking.score("good", "logits_mean") == pytest.approx(Z.mean(), rel=1e-6)


def test_stores_bring_their_logits(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", features=POOL["m4"], labels=Y, logits=Z)
    jaxte.store.import_features(tmp_path / "m.npz", out=tmp_path / "m")
    for model in (tmp_path / "m", jaxte.store.FeatureStore.open(tmp_path / "m")):
        ranking = jaxte.rank({"m": model}, metrics=[logits_mean])
        assert ranking.score("m", "logits_mean") == pytest.approx(Z.mean(), rel=1e-5)


def test_what_needs_all_rows_is_refused_by_name_where_they_are_not() -> None:
    batches = {"m": [POOL["m4"][:30], POOL["m4"][30:]]}
    ranking = jaxte.rank(batches, Y, metrics=[largest, "hscore"])
    assert "largest needs all samples at once" in ranking.status("m", "largest")
    assert ranking.status("m", "hscore") == "ok"
    mesh = jax.make_mesh((1,), ("models",))
    on_mesh = jaxte.rank(POOL, Y, metrics=[largest], mesh=mesh)
    assert on_mesh.score("m4", "largest") == pytest.approx(np.abs(POOL["m4"]).max())


# --- programs -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_compiled")
def test_one_more_metric_compiles_its_own_program_and_nothing_else() -> None:
    jaxte.rank(POOL, Y, metrics=["logme", "sfda"])
    before = len(programs._made)
    jaxte.rank(POOL, Y, metrics=["logme", "sfda", "hscore"])
    assert len(programs._made) == before + 2  # and the statistic that it is the first to read
    jaxte.rank(POOL, Y, metrics=["logme", "sfda", "hscore", "vci"])
    assert len(programs._made) == before + 3
    shapes = {f"n{n}": RNG.normal(size=(n, 4)) for n in (40, 50)}
    labels = {name: Y[: len(x)] for name, x in shapes.items()}
    jaxte.rank(shapes, labels, metrics="hscore")
    assert len(programs._made) == before + 3 + 4  # of each shape its moments and scatter
