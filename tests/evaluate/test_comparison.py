"""`evaluate`: tables of every form, what does not match, intervals, the forms of the result."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxte
from jaxte import InputError
from jaxte.evaluate import MEASURES, STATIC, Evaluation, evaluate, noise_ceiling, weighted_tau
from jaxte.report import plots

RANDOM = np.random.default_rng(3)
MODELS = [f"m{i}" for i in range(6)]
DATASETS = ("pets", "food", "cars", "dtd")
SEEDS = {d: {m: list(i + RANDOM.normal(size=3)) for i, m in enumerate(MODELS)} for d in DATASETS}
MEANS = {d: {m: float(np.mean(v)) for m, v in table.items()} for d, table in SEEDS.items()}
SCORES = {
    d: {
        "good": {m: MEANS[d][m] + 0.1 * float(RANDOM.normal()) for m in MODELS},
        "blind": {m: float(RANDOM.normal()) for m in MODELS},
    }
    for d in DATASETS
}
TIDY = [
    {"model": m, "dataset": d, "metric": k, "score": v}
    for d, metrics in SCORES.items()
    for k, table in metrics.items()
    for m, v in table.items()
]
TRUTH = [
    {"model": m, "dataset": d, "accuracy": v}
    for d, table in MEANS.items()
    for m, v in table.items()
]


def compare(scores: Any, accuracies: Any, **options: Any) -> Evaluation:
    return evaluate(scores, accuracies, draws=40, **options)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return compare(SCORES, SEEDS)


def same(one: Evaluation, other: Evaluation) -> None:
    assert one.to_json() == other.to_json()


def test_values_are_those_of_the_measures(result: Evaluation) -> None:
    for record in result.to_records():
        assert record["metric"] in ("good", "blind", STATIC)
        if record["metric"] == STATIC or record["dataset"] == "mean":
            continue
        scores = SCORES[record["dataset"]][record["metric"]]
        values = list(scores.values()), [MEANS[record["dataset"]][m] for m in scores]
        expected = MEASURES[record["measure"]].function(*values)
        np.testing.assert_allclose(record["value"], expected, rtol=1e-9, atol=1e-12)
        without = [
            MEASURES[record["measure"]].function(*(np.delete(v, i) for v in values))
            for i in range(len(MODELS))
        ]
        np.testing.assert_allclose(record["without_one_low"], np.nanmin(without), atol=1e-9)
        np.testing.assert_allclose(record["without_one_high"], np.nanmax(without), atol=1e-9)
    for metric in result.metrics:
        taus = [result.value(metric, "weighted_tau", d) for d in DATASETS]
        assert result.value(metric) == pytest.approx(np.mean(taus))


def test_what_it_is_compared_with(result: Evaluation) -> None:
    ceilings = [noise_ceiling(list(SEEDS[d].values())) for d in DATASETS]
    mean = result.record("good", "weighted_tau")
    assert mean["ceiling"] == pytest.approx(np.mean(ceilings))
    assert mean["datasets"] == 4
    assert mean["p_value"] == pytest.approx(1 / 41)  # none of 40 random orders is as good
    assert result.record("blind", "weighted_tau")["p_value"] > 0.05
    assert mean["minus_static"] == pytest.approx(result.value("good") - result.value(STATIC))
    assert mean["minus_static_low"] <= mean["minus_static"] <= mean["minus_static_high"]
    assert result.order()[-1] == "blind"
    assert result.order("top1_regret")[-1] == "blind"
    same(result, compare(SCORES, SEEDS))
    assert compare(SCORES, SEEDS, seed=1).to_json() != result.to_json()


def test_chance_moves_models_and_not_data_sets() -> None:
    """Of data sets that are all alike the mean is no surer than one of them."""
    scores = {m: float(i) for i, m in enumerate(MODELS)}
    truth = {d: {m: -float(i) for i, m in enumerate(MODELS)} for d in DATASETS}
    alike = evaluate({d: scores for d in DATASETS}, truth, draws=400)
    one = alike.record("score", "weighted_tau", "pets")
    mean = alike.record("score", "weighted_tau")
    assert mean["chance"] == pytest.approx(one["chance"]) == pytest.approx(0.7, abs=0.15)
    assert mean["p_value"] == 1


def test_tables_of_every_form(tmp_path: Path) -> None:
    expected = compare(SCORES, MEANS)
    pd.DataFrame(TIDY).to_csv(tmp_path / "scores.csv", index=False)
    pd.DataFrame(TRUTH).to_csv(tmp_path / "truth.csv", index=False)
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    renamed = [
        {"transf_metric": r["metric"], "target": r["dataset"], "model": r["model"],
         "transf_score": str(r["score"])}
        for r in TIDY
    ]  # fmt: skip
    for scores in (TIDY, pd.DataFrame(TIDY), str(tmp_path / "scores.csv"), renamed):
        same(compare(scores, TRUTH), expected)
    for truth in (pd.DataFrame(TRUTH), tmp_path / "truth.csv", tmp_path / "truth.json"):
        same(compare(tmp_path / "scores.json", truth), expected)


def test_seeds_as_rows_are_seeds_in_a_list(result: Evaluation) -> None:
    rows = [
        {"model": m, "dataset": d, "seed": s, "accuracy": v}
        for d, table in SEEDS.items()
        for m, values in table.items()
        for s, v in enumerate(values)
    ]
    same(compare(SCORES, rows), result)
    with pytest.raises(InputError, match=r"m0, pets has two values.*column `seed`"):
        compare(SCORES, [{k: v for k, v in row.items() if k != "seed"} for row in rows])


def test_directories_of_the_sfda_family(tmp_path: Path) -> None:
    """<metric>/<data set>_metrics.json; a time among the models is no model and is said."""
    for d, metrics in SCORES.items():
        for k, table in metrics.items():
            (tmp_path / k).mkdir(exist_ok=True)
            path = tmp_path / k / f"{d}_metrics.json"
            path.write_text(json.dumps({**table, "duration": 3.2}))
    actual = compare(tmp_path, MEANS)
    assert actual.value("good") == pytest.approx(compare(SCORES, MEANS).value("good"))
    assert "all data sets: no accuracy of duration, which are left out" in actual.notes


def test_rankings_and_their_files(tmp_path: Path) -> None:
    labels = np.arange(30) % 3
    features = {
        m: RANDOM.normal(size=(30, 4)) + i * np.eye(3, 4)[labels] for i, m in enumerate(MODELS)
    }
    features["m3"][0, 0] = np.nan
    ranking = jaxte.rank(features, labels, metrics="logme")
    expected = compare(ranking, MEANS["pets"])
    assert expected.datasets == ("data",)
    assert any("no score of m3" in note for note in expected.notes)
    ranking.to_csv(tmp_path / "r.csv")
    ranking.to_json(tmp_path / "r.json")
    for source in (tmp_path / "r.csv", tmp_path / "r.json"):
        assert compare(source, MEANS["pets"]).value("logme") == expected.value("logme")
    named = compare(ranking, MEANS, dataset="pets")
    assert named.value("logme", "weighted_tau", "pets") == expected.value("logme")
    reports = tmp_path / "reports"
    for d in DATASETS:  # as `jaxte run` leaves them
        (reports / d).mkdir(parents=True)
        ranking.to_json(reports / d / "ranking.json")
        ranking.to_csv(reports / d / "ranking.csv")
    of_all = compare({d: ranking for d in sorted(DATASETS)}, MEANS)
    same(compare(reports, MEANS), of_all)
    with pytest.raises(InputError, match=r"do not say of which data set.*pets, food"):
        compare(ranking, MEANS)


def test_what_is_missing_is_said_and_never_dropped() -> None:
    scores = [dict(r) for r in TIDY if (r["dataset"], r["metric"]) != ("dtd", "blind")]
    for r in scores:
        if (r["dataset"], r["model"], r["metric"]) == ("pets", "m1", "good"):
            r |= {"score": None, "status": "too few rows"}
        if (r["dataset"], r["model"], r["metric"]) == ("food", "m1", "good"):
            r["score"] = float("inf")
    scores.append({"model": "new", "dataset": "pets", "metric": "good", "score": 1.0})
    scores.append({"model": "m0", "dataset": "birds", "metric": "good", "score": 1.0})
    truth = [r for r in TRUTH if r["dataset"] != "cars" or r["model"] in ("m0", "m1")]
    truth.append({"model": "old", "dataset": "pets", "accuracy": 1.0})
    truth.append({"model": "m0", "dataset": "planes", "accuracy": 1.0})
    actual = compare(scores, truth)
    text = "\n".join(actual.notes)
    for said in (
        "no accuracies on birds",
        "no scores on planes",
        "pets: no accuracy of new",
        "pets: no score of old",
        "pets: good has no score of m1 (too few rows)",
        "food: good has no score of m1 (infinite)",
        "dtd: blind has no scores",
        "cars: good, blind, static ranking: 2 models have both score and accuracy, fewer than 3",
    ):
        assert said in text
    assert "too few rows" in repr(actual)
    assert actual.record("good", "pearson", "pets")["models"] == 5
    assert actual.record("good", "pearson")["datasets"] == 3
    assert actual.record("blind", "pearson")["datasets"] == 2
    assert np.isnan(actual.record("blind", "pearson")["low"])  # no interval of two data sets
    with pytest.raises(InputError, match="no pearson of good on cars was evaluated"):
        actual.record("good", "pearson", "cars")


def test_the_static_ranking_is_compared_on_the_same_models() -> None:
    truth = {"x": dict(zip("abcde", (5, 4, 3, 2, 1), strict=True)),
             "z": dict(zip("abcde", (5, 4, 3, 1, 2), strict=True))}  # fmt: skip
    nan = float("nan")
    failing = dict(zip("abcde", (3, 2, 1, nan, nan), strict=True))
    result = evaluate({d: {"some": failing, "all": own} for d, own in truth.items()}, truth)
    assert result.value(STATIC) < 1
    assert result.record("some", "weighted_tau")["minus_static"] == pytest.approx(0)
    above = result.value("all") - result.value(STATIC)
    assert result.record("all", "weighted_tau")["minus_static"] == pytest.approx(above)


def test_a_chosen_data_set_keeps_the_static_ranking() -> None:
    whole, one = compare(SCORES, MEANS), compare(SCORES, MEANS, dataset="pets")
    assert one.evaluated() == ["pets"]
    assert one.value(STATIC) == whole.value(STATIC, "weighted_tau", "pets")
    assert not any("no scores on" in note or "static" in note for note in one.notes)
    pets = [r for r in TIDY if r["dataset"] == "pets"]
    unnamed = compare([{**r, "dataset": None} for r in pets], MEANS, dataset="pets")
    assert unnamed.value(STATIC) == one.value(STATIC)
    with pytest.raises(InputError, match="no data set 'birds'"):
        compare(SCORES, MEANS, dataset="birds")


def test_seeds_are_paired_by_name() -> None:
    rows = [
        {"model": m, "dataset": d, "seed": str(s), "accuracy": value}
        for d in DATASETS
        for m, own in SEEDS[d].items()
        for s, value in enumerate(own)
    ]
    backwards = [r for r in reversed(rows) if r["model"] in MODELS[::2]]
    mixed = [*(r for r in rows if r["model"] not in MODELS[::2]), *backwards]
    named = [r | {"seed": f"{r['model']}-{r['seed']}"} for r in rows]  # each model its own
    expected, *others = (
        compare(SCORES, one).record("good", "weighted_tau")["ceiling"]
        for one in (rows, mixed, named)
    )
    assert others == pytest.approx([expected, expected])


def test_one_data_set_has_its_interval_over_models() -> None:
    actual = compare(SCORES["pets"]["blind"], MEANS["pets"])
    assert actual.metrics == ("score",)
    one = actual.record("score", "weighted_tau", "data")
    assert one["low"] < one["value"] == actual.value("score") <= one["high"]
    assert np.isnan(actual.record("score", "top1_regret", "data")["low"])
    assert any("static ranking: none" in note for note in actual.notes)
    assert "over models" in repr(actual)
    assert "*" not in repr(actual)  # no winner of one


@pytest.mark.parametrize(
    ("scores", "accuracies", "said"),
    [
        ([], MEANS, "scores: the table is empty"),
        ({}, MEANS, "scores: the table is empty"),
        (3, MEANS, "scores: 3 is no table"),
        ([1, 2], MEANS, "record 1 is 1"),
        ([{"name": "a", "score": 1}], MEANS, "no column model among name, score"),
        ([{"model": "a", "loss": 1}], MEANS, "no column score .* model, dataset, metric, score"),
        ([{"model": "", "score": 1}], MEANS, "names no model"),
        ([{"model": "a", "score": "x"}], MEANS, "score of a is 'x', not a number"),
        ([{"model": "a", "score": True}], MEANS, "score of a is True"),
        ([*TIDY, TIDY[0]], MEANS, "m0, pets, good has two values.*one score each"),
        ([*TIDY, {"model": "a", "score": 1}], MEANS, "in some rows only"),
        ({"pets": {"a": {"x": 1}, "b": 1}}, MEANS, "pets holds mappings and values"),
        ({"birds": SCORES["pets"]}, MEANS, "birds.*none of those.*pets, food"),
        (SCORES, MEANS["pets"], "accuracies do not say of which data set"),
        (SCORES, {"pets": {"m0": "high"}}, "accuracy of m0, pets is 'high'"),
        ({"pets": {"m0": 1, "m1": 2}}, MEANS, "no data set has 3 models"),
        ("nowhere.csv", MEANS, "nowhere.csv does not exist"),
        ({"mean": SCORES["pets"]}, {"mean": MEANS["pets"]}, "a data set is called 'mean'"),
    ],
)
def test_what_cannot_be_read_is_one_line(scores: Any, accuracies: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        compare(scores, accuracies)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, text, said in (
        ("a.json", "{", "no JSON"), ("b.csv", 'model,score\n"a', "no CSV"),
        ("c.csv", "", "empty"), ("d.csv", "x;y\n1;2\n", "separated by ';'"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=said):
            compare(tmp_path / name, MEANS)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"no \.json, \.csv, \.parquet, \.xlsx with scores"):
        compare(tmp_path / "none", MEANS)
    with pytest.raises(InputError, match="draws is 0"):
        evaluate(SCORES, MEANS, draws=0)
    with pytest.raises(InputError, match="no data set 'birds'"):
        compare(SCORES, MEANS, dataset="birds")


def test_forms(result: Evaluation, tmp_path: Path) -> None:
    text = result.to_csv(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text("utf-8") == text
    records = list(csv.DictReader(io.StringIO(text)))
    assert len(records) == 3 * len(MEASURES) * (len(DATASETS) + 1)
    content = json.loads(result.to_json(tmp_path / "r.json"))
    assert content["metrics"] == ["good", "blind", STATIC]
    assert len(result.to_pandas()) == len(records) == len(content["records"])
    assert result.to_markdown().startswith("| metric | weighted tau |")
    assert "<table>" in result._repr_html_()
    lines = repr(result).splitlines()
    assert lines[0].split()[:3] == ["metric", "weighted", "tau"]
    assert lines[2].startswith(result.order()[0])
    assert any(line.startswith("noise ceiling") for line in lines)
    assert any(line.split()[:1] == ["dtd"] for line in lines)
    with pytest.raises(InputError, match="no measure 'tau'"):
        result.order("tau")
    with pytest.raises(InputError, match="no data set 'birds'"):
        result.accuracies("birds")


def test_pictures(result: Evaluation, tmp_path: Path) -> None:
    figure = result.plot(tmp_path / "measures.png")
    assert isinstance(figure, plots.Chart)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == result.order()
    points = {float(np.asarray(line.get_xdata())[0]) for line in figure.axes[0].lines}
    assert {result.value(metric) for metric in result.metrics} <= points
    scores = result.plot_scores(tmp_path / "scores.svg")
    assert len(scores.axes) == len(DATASETS) * 3
    assert len(scores.axes[0].containers) == 1  # bars over seeds
    tau = weighted_tau(list(SCORES["pets"]["good"].values()), list(MEANS["pets"].values()))
    title = f"{result.datasets[0]}: good\nweighted tau {tau:.2f}"
    assert scores.axes[0].get_title("left") == title
    assert (tmp_path / "scores.svg").read_text("utf-8").startswith("<?xml")


def test_percents_beside_fractions_have_a_note() -> None:
    scores = {"d": {"m": {"a": 1.0, "b": 2.0, "c": 3.0}}}
    for last, notes in ((70, 1), (0.7, 0)):
        result = jaxte.evaluate.evaluate(scores, {"d": {"a": 0.5, "b": 0.6, "c": last}}, draws=9)
        assert sum("are they in percent" in note for note in result.notes) == notes
