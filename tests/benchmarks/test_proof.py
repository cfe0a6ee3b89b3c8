"""The comparison of scores with measured fine-tuning, from what ships."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import proof, proof_curve


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    proof.add_arguments(parser)
    return parser.parse_args(arguments)


def test_what_ships_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four of what `proof.HEADLINE` names, which lets chance deal every metric anew many times."""
    picture, few = tmp_path / "curve.png", ("logme", "sfda", proof.JOINED, proof.CHOSEN_RULE)
    assert proof.run(options("--curve", str(picture), "--metrics", *few)) == 0
    shown = capsys.readouterr().out
    for metric in (*few, "static ranking", "noise ceiling"):
        assert metric in shown
    assert proof.PUBLISHED[-1] not in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_choice_for_a_target_never_sees_it() -> None:
    """On each of three targets another score is right; on the others it is wrong."""
    models = dict.fromkeys("abcde", 0.0)
    accuracies = {t: {m: np.array([i / 10, i / 10]) for i, m in enumerate(models)} for t in "xyz"}
    right, wrong = ({m: float(s * i) for i, m in enumerate(models)} for s in (1, -1))
    scores: proof.Table = {
        t: {"logme": right if t == "x" else wrong, "sfda": wrong if t == "x" else right}
        for t in "xyz"
    }
    name = proof.CHOSEN
    proof._add_choice(scores, accuracies, ["logme", "sfda"], name)
    assert scores["x"][name] == scores["x"]["sfda"] == wrong  # sfda is right on y and z
    assert scores["y"][name] in (scores["y"]["logme"], scores["y"]["sfda"])


def test_targets_that_are_left_out_are_nowhere() -> None:
    """Not compared, and no part of a history, which is then another; what is shown is there."""
    whole, _ = proof.tables(proof.POOLS["zoo"], "finetune", 10)
    assert set(options().metrics) <= {metric for metrics in whole.values() for metric in metrics}
    scores, accuracies = proof.tables(proof.POOLS["zoo"], "finetune", 10, ["digits", "textile"])
    assert set(whole) - set(scores) == {"digits", "textile"}
    assert set(accuracies) == set(scores)
    rule = proof.JOINED + proof.HISTORY
    assert scores["mnist-100"][proof.JOINED] == whole["mnist-100"][proof.JOINED]
    assert scores["mnist-100"][rule] != whole["mnist-100"][rule]


@pytest.mark.parametrize(("stage", "number"), [("finetune", 3), ("probe", 15)])
def test_encoders_that_ship_are_scored_wherever_they_were_measured(stage: str, number: int) -> None:
    pool = proof.POOLS["encoders"]
    scores, accuracies = proof.tables(pool, stage, pool.least)
    assert len(accuracies) == number
    for target, models in accuracies.items():
        assert len(models) == 8
        assert set(scores[target]["ridge_probe"]) == set(models)


def test_points_of_the_curve(tmp_path: Path) -> None:
    """Costs and regrets of a table that is known; races are taken of its targets alone."""
    target = "mnist-100"
    accuracies = {target: {"a": np.array([0.9, 0.9]), "b": np.array([0.7, 0.7])}}
    scores: proof.Table = {target: {"logme": {"a": 1.0, "b": 2.0}, "width": {"a": 2.0, "b": 1.0}}}
    races = tmp_path / "races.jsonl"
    lines = [
        ("mnist-100", 1.5, 2),
        ("mnist-100", 0.5, 2),
        ("mnist-100", 8.0, 1),
        ("digits", 9.0, 2),
    ]
    races.write_text(
        "".join(
            json.dumps(
                {
                    "key": str(i),
                    "target": t,
                    "prior": "none",
                    "budget": 0.05,
                    "regret": r,
                    "models": n,
                }
            )
            + "\n"
            for i, (t, r, n) in enumerate(lines)
        )
    )
    made, count = proof_curve.points(scores, accuracies, races)
    assert count == 1
    assert made["logme"].regret == pytest.approx(20)
    assert made["width"][:2] == (0.0, 0.0)
    assert made["at random"].regret == pytest.approx(10)
    assert made["fine-tuning all, one seed each"][:2] == (1.0, 0.0)
    assert made["race, 5 %"][:2] == (0.05, 1.0)
    assert 0 < made["logme"].cost < 0.05
