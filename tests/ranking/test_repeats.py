"""Chance and intervals where rows go by, and where only some models can be scored again."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError

RNG = np.random.default_rng(0)
LABELS = np.arange(90) % 3
X = RNG.normal(size=(90, 6)) + 0.7 * np.eye(6)[LABELS]
NOISE = {name: RNG.normal(size=(90, 6)) for name in "ab"}
Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def rank(models: dict[str, Any], targets: Any = LABELS, **options: Any) -> jaxte.Ranking:
    return jaxte.rank(models, targets, **{"metrics": "logme", "precision": "float64", **options})


@pytest.mark.parametrize("metric", ["face", "nc1"])
@pytest.mark.parametrize("what", [{"permutations": 19}, {"intervals": True}])
def test_groups_and_permutations_ask_for_passes_of_their_own(metric: str, what: Any) -> None:
    """Even classes save a pass, so that of uneven ones some groups ask for it and others not."""
    y = np.repeat([0, 1], [31, 30])
    w = np.ones(61)
    w[[0, 1, 31, 32]] = 2
    for weights in (None, w):
        one = rank({"a": [X[:61]]}, y, metrics=metric, weights=weights, **what)
        whole = rank({"a": X[:61], "b": [X[:61]]}, y, metrics=metric, weights=weights, **what)
        assert one.status("a", metric) == "ok"
        if "permutations" in what:
            assert one.chance("a", metric) == pytest.approx(whole.chance("a", metric))
        else:  # of a pool with streams, arrays are scored by the same groups
            interval = whole.interval("a", metric)
            assert interval is not None
            assert one.interval("a", metric) == pytest.approx(interval._replace(p_best=1.0))


def test_scores_survive_what_fails_when_they_are_repeated() -> None:
    passes = []

    def read() -> Batches:
        passes.append(1)
        if len(passes) > 2:
            raise OSError("disk gone")
        yield X, LABELS

    ranking = rank({"a": read, "b": [X]}, {"b": LABELS}, permutations=19, intervals=True)
    assert ranking.score("a", "logme") == ranking.score("b", "logme")
    assert ranking.chance("a", "logme") is None
    assert ranking.interval("a", "logme") is None
    assert ranking.chance("b", "logme") is not None
    assert any("chance is not known of a: batch 0 could not be read" in n for n in ranking.notes)
    assert any("disk gone" in note for note in ranking.notes if note.startswith("intervals"))


@pytest.mark.parametrize("intervals", [True, "auto"])
def test_without_an_interval_of_every_model_nobody_is_said_to_lead(intervals: Any) -> None:
    best = iter([X]) if intervals is True else [X]
    metric = "logme" if intervals is True else "ridge_probe"
    ranking = rank({**NOISE, "best": best}, metrics=metric, intervals=intervals)
    assert ranking.best() == "best"
    assert ranking.interval("a", metric) is not None
    assert ranking.p_best() == {}
    assert "chance of" not in ranking.verdict()
    assert "%" not in str(ranking).split("notes")[0]
    assert any("best has no interval" in note for note in ranking.notes)
    with pytest.raises(InputError, match="not all models have intervals"):
        ranking.credible_set()
    ranking.plot()


def test_streams_and_arrays_of_a_pool_share_rows() -> None:
    """Models that differ little tell their order only where their rows are known to be the same."""
    near = X + 0.02 * RNG.normal(size=X.shape)
    mixed = rank({"a": X, "b": [near]}, intervals=True)
    streams = rank({"a": [X], "b": [near]}, intervals=True)
    assert mixed.p_best() == pytest.approx(streams.p_best(), abs=0.01)
    for model in "ab":
        assert mixed.interval(model, "logme") == pytest.approx(
            streams.interval(model, "logme"), abs=0.01
        )


def test_the_best_layer_of_permuted_targets_may_be_any() -> None:
    once = {"layers": {"e": X[:, :2], "p": iter([X])}}
    ranking = rank({"a": once}, layers="best", permutations=19)
    assert ranking.status("a", "logme") == "ok"
    assert ranking.chance("a", "logme") is None
    mixed = {"layers": {"e": [X[:, :2]], "p": X}}
    for layers in ("best", "mean"):
        ranking = rank({"a": mixed, "b": X}, layers=layers, permutations=19, intervals=True)
        assert ranking.chance("a", "logme") is not None
        assert ranking.interval("a", "logme") is not None


def test_intervals_stay_in_the_range_of_the_metric() -> None:
    metrics = ["nearest_centroid_accuracy", "lda", "sfda", "ridge_probe"]
    x = RNG.normal(size=(30, 4)) + 2 * np.eye(4)[LABELS[:30]]
    ranking = rank({"a": x}, LABELS[:30], metrics=metrics, intervals=True)
    for metric in metrics:
        low, high = jaxte.metrics.get_metric(metric).range
        one = ranking.interval("a", metric)
        assert one is not None
        assert low <= one.lo <= ranking.score("a", metric) <= one.hi <= high


def test_the_same_head_twice_is_as_likely_to_lead() -> None:
    logits = RNG.normal(size=(90, 5))
    ways = {
        "logits": {"features": X, "logits": logits},
        "probabilities": {"features": X, "probabilities": np.asarray(jax.nn.softmax(logits))},
    }
    ranking = rank(ways, metrics="pactran_dirichlet", intervals=True, precision="float32")
    assert list(ranking.p_best().values()) == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_mesh_of_explicit_axes_permutes() -> None:
    """As `jax.make_mesh` makes it."""
    mesh = jax.make_mesh((1,), ("samples",))
    alone, on_mesh = (rank({"a": X}, mesh=m, permutations=5) for m in (None, mesh))
    assert on_mesh.chance("a", "logme") == pytest.approx(alone.chance("a", "logme"))


def test_what_has_no_spread_is_read_back_as_it_was(tmp_path: Any) -> None:
    ranking = rank({"a": X, "b": iter([X])}, permutations=1, intervals=True)
    for write, read in (("to_json", "from_json"), ("to_csv", "from_csv")):
        file = tmp_path / write
        getattr(ranking, write)(file)
        again = getattr(jaxte.Ranking, read)(file)
        assert again.chance("a", "logme") == ranking.chance("a", "logme")
        assert str(again.interval("a", "logme")) == str(ranking.interval("a", "logme"))


def test_the_last_does_not_lead_by_scores_that_cannot_be() -> None:
    """Far below the ceiling a normal as wide as the score is long reaches beyond it."""
    y, rng, models = np.arange(1200) % 4, np.random.default_rng(0), {}
    for step in range(5):
        x = rng.normal(size=(1200, 8))
        x[:, 0] += 0.2 * step * y
        x[:, 1] += 0.2 * step * (y == 1)
        models[f"m{step}"] = x
    ranking = jaxte.rank(models, y, metrics=["face", "nc1"], intervals=True)
    for metric in ranking.metrics:
        first, *_, last = ranking.order(metric)
        chances = ranking.p_best(metric)
        assert chances[last] == min(chances.values()) < 0.15
        assert chances[first] > 1.5 * chances[last]
        assert sum(chances.values()) == pytest.approx(1)
