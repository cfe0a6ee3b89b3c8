"""The best layer, or the mean of all, as the score of a model."""

from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError

RNG = np.random.default_rng(5)
LABELS = np.arange(90) % 3
NOISE = RNG.normal(size=(4, 90, 6))
POOL: dict[str, Any] = {
    "a": {"layers": {"early": NOISE[0] + np.eye(6)[LABELS], "late": NOISE[1]}},
    "b": {"layers": {f"layer {i}": own for i, own in enumerate(NOISE)}},
    "c": NOISE[2] + 3 * np.eye(6)[LABELS],
}
EACH = {f"{m}@{k}": x for m in "ab" for k, x in POOL[m]["layers"].items()} | {"c": POOL["c"]}
TRUST: dict[str, Any] = {"metrics": "logme", "permutations": 30, "intervals": True}


@pytest.fixture(scope="module")
def each() -> jaxte.Ranking:
    return jaxte.rank(EACH, LABELS, **TRUST)


def scores(ranking: jaxte.Ranking, model: str) -> list[float]:
    layers = [name for name in ranking.models if name.partition("@")[0] == model]
    return [ranking.score(name, "logme") for name in layers]


@pytest.mark.parametrize(("how", "joins"), [("best", np.max), ("mean", np.mean)])
def test_a_model_has_the_best_or_the_mean_of_its_layers(
    how: str, joins: Any, each: jaxte.Ranking
) -> None:
    ranking = jaxte.rank(POOL, LABELS, layers=how, **TRUST)
    assert ranking == jaxte.rank(EACH, LABELS, layers=how, **TRUST)  # as stores name them
    assert ranking.models == ("a", "b", "c")
    for model in ranking.models:
        assert ranking.score(model, "logme") == pytest.approx(joins(scores(each, model)), rel=1e-9)
    assert any("a at early" in note for note in ranking.notes) == (how == "best")
    assert sum(ranking.p_best().values()) == pytest.approx(1)


def test_models_with_an_at_in_their_names_stay_apart_and_have_their_history() -> None:
    pool = {f"net@v{i}": POOL[m] for i, m in enumerate("ab")}
    history = [{"model": m, "dataset": k, "accuracy": i} for i, m in enumerate(pool) for k in "uv"]
    ranking = jaxte.rank(pool, LABELS, metrics="logme", layers="best", history=history)
    assert ranking.models == tuple(pool)
    assert [ranking.score(m, "history") for m in pool] == [0.0, 1.0]


def test_many_layers_to_choose_from_are_no_advantage_over_chance(each: jaxte.Ranking) -> None:
    best = jaxte.rank(POOL, LABELS, layers="best", **TRUST).chance("b", "logme")
    assert best is not None
    alone = [each.chance(f"b@layer {i}", "logme") for i in range(4)]
    assert best.null_mean > max(one.null_mean for one in alone if one)
    assert best.p_value >= min(one.p_value for one in alone if one)


def test_the_error_of_a_mean_is_that_of_what_its_layers_share() -> None:
    x, other = NOISE[0] + np.eye(6)[LABELS], NOISE[3] + np.eye(6)[LABELS]
    pool = {"twins": {"layers": {"one": x, "two": x}}, "others": {"layers": {"x": x, "y": other}}}
    ranking = jaxte.rank(pool, LABELS, layers="mean", metrics="hscore", intervals=True)
    single = jaxte.rank({"x": x, "y": other}, LABELS, metrics="hscore", intervals=True)
    errors = [
        one.standard_error
        for made, names in ((ranking, ("twins", "others")), (single, "xy"))
        for one in (made.interval(name, "hscore") for name in names)
        if one is not None
    ]
    assert errors[0] == pytest.approx(errors[2], rel=1e-6)
    assert errors[1] < 0.9 * max(errors[2:])


def test_a_layer_that_fails_is_named_and_a_model_of_none_has_its_reason() -> None:
    bad = np.full((90, 6), np.nan)
    pool = {
        "half": {"layers": {"bad": bad, "good": NOISE[0]}},
        "none": {"layers": {"bad": bad, "worse": bad}},
    }
    ranking = jaxte.rank(pool, LABELS, layers="best", metrics="logme")
    assert ranking.status("half", "logme") == "ok"
    assert "NaN" in ranking.status("none", "logme")
    assert any(note.startswith("half goes without half@bad: ") for note in ranking.notes)


def test_each_layer_is_a_candidate_as_the_layers_of_stores_are(each: jaxte.Ranking) -> None:
    pool = {**POOL, "a": {**POOL["a"], "features": NOISE[2]}, "d": {"layers": {"only": NOISE[3]}}}
    targets = dict.fromkeys(pool, LABELS)
    ranking = jaxte.rank(pool, targets, layers="each", metrics="logme")
    assert ranking.models == (*each.models, "d")
    for name in each.models:
        assert ranking.score(name, "logme") == pytest.approx(each.score(name, "logme"))
    assert jaxte.rank(pool, LABELS, metrics="ridge_probe").models == tuple(pool)  # joined
    with pytest.raises(InputError, match="models are dropped as a whole: leave it out"):
        jaxte.shortlist(POOL, LABELS, layers="each")
    many = {name: np.tile(x, (9, 1)) for name, x in EACH.items()}
    with pytest.raises(InputError, match="a is made of several of the models"):
        jaxte.shortlist(many, np.tile(LABELS, 9), metric="logme", layers="best")


@pytest.mark.parametrize("how", ["joined", "best", "mean"])
def test_layers_by_name_alone_are_named(how: Any) -> None:
    note = "Layers by their names: a (a@early, a@late), b (b@layer 0"
    assert any(one.startswith(note) for one in jaxte.rank(EACH, LABELS, layers=how).notes)
    for notes in (jaxte.rank(POOL, LABELS, layers=how).notes, jaxte.rank(EACH, LABELS).notes):
        assert not any("by their names" in one for one in notes)
    for names in (("a", "a@early"), ("a@early", "a")):
        with pytest.raises(InputError, match="a@early is by its name a layer of a: rename"):
            jaxte.rank(dict(zip(names, NOISE, strict=False)), LABELS, layers=how)


def test_layers_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(InputError, match="two models are called a@early"):
        jaxte.rank({**POOL, "a@early": NOISE[0]}, LABELS, layers="each")
    with pytest.raises(InputError, match=r"layers 'top'.*'joined', 'best', 'mean'"):
        jaxte.rank(POOL, LABELS, layers="top")
