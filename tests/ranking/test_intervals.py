"""How far scores differ on other samples, and which model leads there."""

import json
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import report
from jaxte.errors import InputError
from jaxte.ranking.intervals import Interval
from jaxte.ranking.jackknife import jackknife

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3
NOISE = RNG.normal(size=(120, 6))
POOL = {f"at {s}": NOISE + s * np.eye(6)[LABELS] for s in (0.0, 0.7, 2.0)}


@pytest.fixture(scope="module")
def ranking() -> jaxte.Ranking:
    return jaxte.rank(POOL, LABELS, metrics=["logme", "ncti"], resamples=40, seed=3)


def known(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


def test_all_rows_are_left_out_equally_often_class_by_class() -> None:
    weights = np.where(np.arange(120) < 20, 0, 1.5)
    plan = jackknife(LABELS, weights, 40, seed=1)
    kept = np.stack([np.bincount(rows, minlength=120) for rows in plan.kept])
    assert kept[:, :20].sum() == 0
    assert np.all(kept[:, 20:].sum(0) == 38)
    of_class = np.stack([np.bincount(LABELS[rows], minlength=3) for rows in plan.kept])
    assert np.all(np.bincount(LABELS[20:]) - of_class <= 2)
    assert plan.factor == 19
    assert plan.degrees == 38
    assert not np.array_equal(plan.kept[0], plan.kept[20])


def test_fewer_rows_than_groups_are_left_out_one_by_one() -> None:
    plan = jackknife(np.linspace(0, 1, 7), None, 7, seed=0)
    assert plan.kept.shape == (7, 6)
    assert np.all(np.bincount(plan.kept.ravel()) == 6)
    assert (plan.factor, plan.degrees) == (6, 6)


def test_the_standard_error_of_a_mean_and_the_drift_of_a_variance() -> None:
    """Both in closed form: s / sqrt(n), and the variance over n that a biased variance lacks."""

    def mean(features: Any, labels: Any) -> float:
        return float(np.mean(np.asarray(features)[:, 0]))

    def variance(features: Any, labels: Any) -> float:
        return float(np.var(np.asarray(features)[:, 0]))

    x = RNG.normal(size=(400, 2))
    ranking = jaxte.rank({"a": x}, np.arange(400) % 2, metrics=[mean, variance], resamples=400)
    s = x[:, 0].std(ddof=1)
    one = known(ranking.interval("a", "mean"))
    assert one.standard_error == pytest.approx(s / 20, rel=0.1)
    assert one.lo == pytest.approx(x[:, 0].mean() - 1.65 * one.standard_error, rel=0.02, abs=0.01)
    assert one.drift == pytest.approx(0, abs=1e-9)
    two = known(ranking.interval("a", "variance"))
    assert two.drift == pytest.approx(s**2 / 400, rel=0.2)


def test_a_clear_winner_leads_and_twins_share_the_chance(ranking: jaxte.Ranking) -> None:
    assert ranking.p_best("logme")["at 2.0"] > 0.99
    assert ranking.credible_set("logme") == ["at 2.0"]
    twins = {"one": POOL["at 2.0"], "other": POOL["at 2.0"][:, ::-1], "blind": POOL["at 0.0"]}
    equal = jaxte.rank(twins, LABELS, metrics="logme", resamples=20)
    assert equal.p_best()["one"] == pytest.approx(0.5, abs=0.1)
    assert sorted(equal.credible_set()) == ["one", "other"]
    assert equal.verdict() == (
        "Fine-tune one or other (they tie), by logme, first on other samples too with a chance of "
        "100%."
    )
    close = {"one": POOL["at 0.7"], "near": POOL["at 0.7"] + 0.2 * RNG.normal(size=(120, 6))}
    assert "; with " in jaxte.rank(close, LABELS, metrics="logme", resamples=20).verdict()


def test_a_score_over_the_pool_is_made_anew_of_every_resample(ranking: jaxte.Ranking) -> None:
    best = known(ranking.interval("at 2.0", "ncti"))
    assert best.lo <= ranking.score("at 2.0", "ncti") <= best.hi
    assert sum(ranking.p_best("ncti").values()) == pytest.approx(1)


def test_it_is_kept_in_files_and_shown(ranking: jaxte.Ranking) -> None:
    for again in (
        jaxte.Ranking.from_json(report.to_json(ranking)),
        jaxte.Ranking.from_csv(report.to_csv(ranking)),
    ):
        assert again.interval("at 0.7", "logme") == ranking.interval("at 0.7", "logme")
        assert again.p_best("ncti") == ranking.p_best("ncti")
    content = json.loads(report.to_json(ranking))
    assert content["meta"]["resamples"] == 40
    shown = report.table(ranking)
    assert shown.columns == ("model", "logme", "±", "#", "best", "ncti", "±", "#", "best")
    assert shown.rows[0][4].text == "100%"


def test_a_history_has_its_part_in_who_leads() -> None:
    history = [
        {"model": model, "dataset": "elsewhere", "accuracy": accuracy}
        for model, accuracy in zip(POOL, (0.9, 0.5, 0.1), strict=True)
    ]
    pool = {
        name: NOISE + 0.3 * np.eye(6)[LABELS] + 0.1 * RNG.normal(size=(120, 6)) for name in POOL
    }
    ranking = jaxte.rank(pool, LABELS, metrics="logme", resamples=20, history=history)
    assert ranking.p_best()["at 0.0"] > ranking.p_best("logme")["at 0.0"]
    again = jaxte.Ranking.from_json(report.to_json(ranking))
    assert again.p_best() == ranking.p_best()
    assert "and history" in ranking.verdict()


def test_where_a_score_is_lost_without_some_rows_a_note_says_so() -> None:
    def fragile(features: Any, labels: Any) -> float:
        return 1.0 if len(features) == 120 else float("nan")

    ranking = jaxte.rank(POOL, LABELS, metrics=[fragile], resamples=10)
    assert ranking.interval("at 0.7", "fragile") is None
    assert any("has no interval for" in note for note in ranking.notes)
    with pytest.raises(InputError, match="resamples=20"):
        ranking.credible_set()


@pytest.mark.parametrize("resamples", [5, -1, 2.5, "many"])
def test_what_makes_no_sense_is_refused(resamples: Any) -> None:
    with pytest.raises(InputError, match="resamples is"):
        jaxte.rank(POOL, LABELS, metrics="logme", resamples=resamples)
