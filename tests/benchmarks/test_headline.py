"""The seeds' claims, compared from what ships; and on tables that are known."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import headline, headline_collect


def test_what_ships_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    headline.add_arguments(parser)
    assert headline.run(parser.parse_args(["--out", str(tmp_path / "tables.md")])) == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "tables.md").read_text() in shown
    for part in ("SFDA over NLEEP", "22.5 times", "28.84 %", "linear_probe", "logme + ped"):
        assert part in shown
    for dataset in (headline_collect.PIXELS, headline_collect.TEXTS):
        assert dataset in shown


def test_taus_and_gains_of_known_tables() -> None:
    right, wrong = {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 2.0, "c": 3.0}
    failed = {"a": 3.0, "b": 2.0, "c": float("nan")}
    truth = {name: {"a": 0.9, "b": 0.8, "c": 0.1} for name in ("x", "y")}
    scores: headline.Table = {
        "x": {"sfda": right, "nleep": wrong, "logme": failed},
        "y": {"sfda": right, "nleep": right, "logme": right},
    }
    taus = headline._taus(scores, truth)
    assert taus["sfda"] == pytest.approx({"x": 1, "y": 1})
    assert taus["nleep"] == pytest.approx({"x": -1, "y": 1})
    assert taus["logme"] == pytest.approx({"x": 1, "y": 1})  # what has no score is the last
    gain = headline._gain({"sfda": taus["sfda"], "nleep": {"x": -1.0, "y": 1.0}}, "sfda", "nleep")
    assert gain.text == "+1.00 ± 1.00"  # over a mean of 0 there is no share
    assert headline._gain(taus, "nleep", "sfda").text == "-100.0 %, -1.00 ± 1.00"
    assert headline._gain(taus, "nleep", "sfda").seen(0.5) == "no"


def test_a_claim_is_seen_in_part_on_its_own_side_of_no_difference() -> None:
    assert [headline._seen(times, 22.5) for times in (30, 3, 0.5)] == ["yes", "in part", "no"]
    assert [headline._seen(gain, 0.6, 0) for gain in (0.7, 0.1, -0.1)] == ["yes", "in part", "no"]


def test_scores_are_kept_and_timed(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    models = {name: np.random.default_rng(i).normal(size=(40, 4)) for i, name in enumerate("ab")}
    path = tmp_path / headline_collect.SCORES
    ways = (headline_collect.Way("face", "face"), headline_collect.Way("nc1", "nc1", None, {}, 0))
    for _ in range(2):  # the second time there is nothing left to do
        headline_collect._score("set", models, y, path, ways)
    rows = headline_collect.read(path)
    assert [(row["model"], row["metric"]) for row in rows] == [
        *(("a", "face"), ("b", "face")),
        *(("a", "nc1"), ("b", "nc1")),
    ]
    assert float(rows[0]["seconds"]) > 0
    assert rows[2]["seconds"] == "nan"
