"""Made-up pools: the right model, never too dear, whatever fails, and told how it was."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError
from jaxte.race import Race
from jaxte.race.engine import Rung, Track
from jaxte.race.posterior import Observation, Prior, observed

from .pools import Pool

RUNGS = (1 / 16, 1 / 4, 1.0)


def run(pool: Pool, **options: Any) -> Race:
    arguments = {"budget": 0.3, "rungs": RUNGS, **options}
    return jaxte.race(pool.names, trial=pool.trial, **arguments)


def test_best_model_wins_as_often_as_promised() -> None:
    races = [(pool, run(pool, budget=0.4)) for pool in (Pool(8, seed) for seed in range(60))]
    won = np.mean([race.best == pool.best for pool, race in races])
    promised = np.mean([race.p_best[race.best] for _, race in races])
    assert won > 0.6
    assert abs(won - promised) < 0.15  # four standard errors of 60 races would be 0.2
    among = np.mean([pool.best in race.apart() for pool, race in races])
    assert among > 0.85


def test_paired_examples_tell_apart_what_means_alone_do_not() -> None:
    pool = Pool(2, 0, drift=0.0)
    pool.final = {"m0": 0.70, "m1": 0.75}  # examples differ by 0.4, so that a mean is +-0.023
    pool.own = dict.fromkeys(pool.names, np.zeros(300))
    race = run(pool, rungs=(1.0,), budget=1.0)
    assert race.p_best["m1"] > 0.97
    assert race.sd["m0"] < 0.012


@pytest.mark.parametrize(("times", "plus"), [(1, 1000), (1e-9, 0), (1e6, -1e9)])
def test_chances_depend_neither_on_the_unit_nor_on_the_zero(times: float, plus: float) -> None:
    pool, plain = Pool(5, 1), run(Pool(5, 1))

    def trial(*arguments: Any) -> Any:
        return times * np.asarray(pool.trial(*arguments)) + plus

    moved = jaxte.race(pool.names, trial=trial, budget=0.3, rungs=RUNGS)
    assert list(moved.p_best) == list(plain.p_best)
    np.testing.assert_allclose([*moved.p_best.values()], [*plain.p_best.values()], atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"rungs": ["a"]}, "rungs are"),
        ({"rungs": 0.5}, "rungs are 0.5"),
        ({"rungs": [math.nan, 1]}, "rungs are"),
        ({"costs": 5}, "costs is 5"),
        ({"costs": {"m0": "x", "m1": 1}}, "costs has no positive number for m0"),
        ({"budget": "all"}, "budget is 'all'"),
        ({"confidence": 1.0}, "confidence is 1.0"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(Pool(2, 0), **options)
    for models, said in ((None, "models are None"), ("ab", "a race of 1 models")):
        with pytest.raises(InputError, match=said):
            jaxte.race(models, trial=lambda *_: [1.0])  # type: ignore[arg-type]


def test_shares_of_numpy_are_numbers() -> None:
    assert run(Pool(2, 0), budget=np.float32(0.5)).cost <= 0.5


@pytest.mark.parametrize("budget", [0.07, 0.1, 0.25, 0.6, 1.0])
def test_budget_is_never_exceeded(budget: float) -> None:
    pool = Pool(6, 3)
    costs = {name: 1.0 + i for i, name in enumerate(pool.names)}
    race = run(pool, budget=budget, costs=costs, confidence=0.999)
    spent = sum(share * costs[model] for model, share, _ in pool.calls) / sum(costs.values())
    assert race.cost == pytest.approx(spent)
    assert spent <= budget * (1 + 1e-9)


def test_every_model_has_one_stop_and_chances_sum_to_one() -> None:
    pool = Pool(9, 4)
    race = run(pool)
    assert sorted(stop.model for stop in race.stops) == sorted(pool.names)
    assert sum(race.p_best.values()) == pytest.approx(1)
    assert {stop.reason for stop in race.stops} <= {"behind", "budget", "decided", "finished"}
    for stop in race.stops:
        assert 0 <= stop.p_best <= 1
        assert stop.spent <= race.cost
        assert stop.trained == max(share for model, share, _ in pool.calls if model == stop.model)
    behind = [stop for stop in race.stops if stop.reason == "behind"]
    assert all(stop.p_best < 0.1 / 18 for stop in behind)
    assert sum(race.p_best[name] for name in race.apart()) >= race.confidence
    assert race.order()[0] == race.best


def test_race_ends_when_the_leader_is_sure() -> None:
    pool = Pool(4, 5, drift=0.001)
    pool.final = {"m0": 0.9, "m1": 0.5, "m2": 0.4, "m3": 0.3}
    pool.own = dict.fromkeys(pool.names, np.zeros(300))
    race = run(pool, budget=1.0)
    assert race.p_best["m0"] >= race.confidence
    assert race.cost < 0.5
    soon = run(pool, budget=1.0, confidence=0.3)
    assert soon.stop("m0").reason == "decided"
    assert soon.cost == pytest.approx(1 / 16)
    assert soon.apart() == ["m0"]


def test_models_that_fail_or_diverge_stop_nobody() -> None:
    pool = Pool(6, 6)
    good = pool.trial

    def trial(model: str, budget: float, seed: int) -> object:
        scores = good(model, budget, seed)
        if model == "m1":
            raise RuntimeError("out of\nmemory")
        if model == "m2":
            return np.full(300, np.nan)
        return scores[:7] if model == "m3" else scores

    race = jaxte.race(pool.names, trial=trial, budget=0.4, rungs=RUNGS)
    assert race.status["m1"] == "RuntimeError: out of memory"
    assert "not finite" in race.status["m2"]
    assert "(7,)" in race.status["m3"]
    assert all(race.p_best[name] == 0 for name in ("m1", "m2", "m3"))
    assert race.best not in ("m1", "m2", "m3")
    assert {stop.model for stop in race.stops if stop.reason == "failed"} == {"m1", "m2", "m3"}
    assert "out of memory" in repr(race)
    assert set(race.order()).isdisjoint({"m1", "m2", "m3"})


def test_a_model_that_fails_late_loses_its_chance() -> None:
    pool = Pool(3, 7, drift=0.0)
    good = pool.trial

    def trial(model: str, budget: float, seed: int) -> object:
        if model == pool.best and budget > RUNGS[0]:
            raise FloatingPointError("diverged")
        return good(model, budget, seed)

    race = jaxte.race(pool.names, trial=trial, budget=1.0, rungs=RUNGS, confidence=0.9999)
    assert race.p_best[pool.best] == 0
    assert race.best != pool.best
    assert sum(race.p_best.values()) == pytest.approx(1)


def test_a_model_that_is_left_alone_is_not_called_the_best() -> None:
    pool = Pool(2, 0)

    def trial(model: str, budget: float, seed: int) -> object:
        if model == "m0":
            raise ValueError("no GPU")
        return pool.trial(model, budget, seed)

    race = jaxte.race(pool.names, trial=trial, budget=0.3, rungs=RUNGS)
    assert race.sentence().startswith("Only m1 could be trained: nothing was compared. The race")
    assert "100" not in repr(race)
    assert race.to_records()[0]["p_best"] is None


def test_no_model_left_is_an_error() -> None:
    def trial(model: str, budget: float, seed: int) -> object:
        raise ValueError("no GPU")

    with pytest.raises(InputError, match="no model finished a trial: a: ValueError: no GPU"):
        jaxte.race(["a", "b"], trial=trial)


def test_equal_models_share_the_chance() -> None:
    pool = Pool(4, 8)
    scores = pool.trial("m0", 1.0, 0)
    race = jaxte.race(pool.names, trial=lambda *_: scores, rungs=RUNGS, budget=0.2)
    assert all(0.1 < chance < 0.4 for chance in race.p_best.values())
    assert len(race.apart()) == 4
    assert race.sentence().count(", ") >= 2


def test_constant_scores_are_no_division_by_zero() -> None:
    race = jaxte.race(["a", "b"], trial=lambda *_: np.zeros(20), rungs=RUNGS, budget=0.5)
    assert all(math.isfinite(value) for value in race.mean.values())


def test_scores_of_any_unit_give_the_same_race() -> None:
    pool = Pool(6, 9)
    race = run(pool)
    scaled = jaxte.race(
        pool.names, trial=lambda *one: 1000 * pool.trial(*one) - 5e3, budget=0.3, rungs=RUNGS
    )
    assert scaled.order() == race.order()
    assert scaled.p_best == pytest.approx(race.p_best, abs=0.02)


def test_same_seed_same_race_and_json(tmp_path: Path) -> None:
    one, two = run(Pool(7, 10)), run(Pool(7, 10))
    records = one.to_records()
    assert records == two.to_records()
    assert [record["model"] for record in records] == one.order()
    content = json.loads(one.to_json(tmp_path / "race.json"))
    assert content == json.loads((tmp_path / "race.json").read_text())
    assert content["best"] == one.best
    assert content["cost"] == one.cost


def test_picture_and_page_show_every_model(tmp_path: Path) -> None:
    race = run(Pool(5, 11))
    figure = race.plot(tmp_path / "race.png")
    assert (tmp_path / "race.png").stat().st_size > 5000
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == race.order()
    assert all(name in race._repr_html_() for name in race.models)


def test_bar_gets_to_the_end() -> None:
    seen: list[tuple[int, int | None, str]] = []
    run(Pool(3, 12), progress=lambda *told: seen.append(told))
    assert seen[-1][:2] == (1000, 1000)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget is 0"),
        ({"confidence": 1.0}, "confidence is 1.0: give a share above 0 and below 1"),
        ({"rungs": (0.5, 0.25)}, "rising shares"),
        ({"rungs": ()}, "rising shares"),
        ({"costs": {"m0": 1.0}}, "costs has no positive number for m1"),
        ({"data": ([0], [0])}, "one of them"),
        ({"prior": {"m0": (0.5, 0.1)}}, r"no \(mean, sd\) of m1"),
        ({"prior": {"m0": "high"}}, "prior must be"),
        ({"history": "no-such.csv"}, "no-such.csv does not exist"),
        ({"history": [{"model": "m0"}]}, "no column accuracy"),
        ({"budget": 0.001}, "budget is too small"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(Pool(2, 0), **options)


def test_models_need_names() -> None:
    pool = Pool(2, 0)
    with pytest.raises(InputError, match="at least two"):
        jaxte.race(["m0"], trial=pool.trial)
    with pytest.raises(InputError, match="twice"):
        jaxte.race(["m0", "m0"], trial=pool.trial)
    with pytest.raises(InputError, match="names of their own"):
        jaxte.race([object(), object()], (np.zeros(4), np.zeros(4)))
    with pytest.raises(InputError, match="no model 'x'"):
        run(pool).stop("x")
    with pytest.raises(InputError, match="holds no weights"):
        run(pool).start("m0")


def test_scores_of_different_stages_have_a_note() -> None:
    races = [run(Pool(6, 0), budget=budget) for budget in (0.07, 0.3)]
    assert len({stop.trained for stop in races[0].stops}) == 1
    assert ["not compared by it" in " ".join(race.table().notes) for race in races] == [False, True]


def test_frozen_features_are_believed_less_than_the_start_of_training() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    rows, flat = np.arange(200), Prior(np.zeros(4), np.ones(4), True)
    trials = [
        Observation(m, 0, 5.0, rows, 0.1 * m + hard + rng.normal(0, 0.1, 200)) for m in range(4)
    ]
    costs = np.ones(4)
    chances = []
    for budget in (1 / 32, 0.0):
        track = Track(("a", "b", "c", "d"), (Rung(budget, 0.1),), costs, 200, flat, 1.0, 0.9, 0)
        chances.append(observed(trials, flat, 200, walks=track.walks).p_best[3])
    assert 0.25 < chances[1] < chances[0] - 0.2
