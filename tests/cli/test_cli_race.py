"""`jaxte race`: a race of two models of the zoo in every form, resumed, and wrong calls."""

import csv
import io
import json
from pathlib import Path

import pytest

from jaxte.race.memo import JOURNAL

from .conftest import Run

RACE = (
    *("race", "--data", "zoo:digits/train?subset=80"),
    *("--model", "mlp-mnist,plain-cnn-mnist", "--budget", "0.008"),  # frozen features alone
)


def test_table_sentence_plot_and_resume(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    first = run(*RACE, "--resume", kept, "--plot", tmp_path / "race.png")
    assert first.exit_code == 0, first.stderr
    assert "mlp-mnist" in first.stdout
    assert "Fine-tune " in first.stdout
    assert " of fine-tuning all 2 models. 2 trials" in " ".join(first.stdout.split()).replace(
        "- ", "-"
    )
    assert (tmp_path / "race.png").is_file()
    lines = (kept / JOURNAL).read_text().splitlines()
    assert len(lines) == 3
    as_json = run(*RACE, "--resume", kept, "--format", "json")
    content = json.loads(as_json.stdout)
    assert content["meta"]["replayed"] == 2
    as_csv = run(*RACE, "--resume", kept, "--out", tmp_path / "race.csv")
    assert as_csv.exit_code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "race.csv").read_text())))
    assert [row["model"] for row in rows] == [one["model"] for one in content["records"]]
    markdown = run(*RACE, "--resume", kept, "--format", "markdown").stdout
    assert markdown.startswith("| model |")
    assert "Fine-tune " in markdown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--target NAME of the zoo, or --data SPEC"),
        (("--target", "digits", "--data", "folder:x"), "--target NAME of the zoo, or --data SPEC"),
        (("--target", "digits,digits"), "--target NAME of the zoo, or --data SPEC"),
        (("--target", "no"), "no zoo target named 'no'"),
        (("--target", "digits", "--budget", "0"), "budget is 0"),
        (("--target", "digits", "--budget", "5"), "--budget is 5"),
        (("--target", "digits", "--model", "mlp-mnist"), "at least two"),
        (("--target", "digits", "--model", "mlp-mnst"), "did you mean 'mlp-mnist'"),
        (("--target", "digits", "--model", "mlp-mnist,resnet-cifr"), "did you mean 'resnet-cifar'"),
        (("--target", "digits", "--history", "no.csv"), "no.csv does not exist"),
        (("--target", "digits", "--plot", "race.txt"), "end the name in .png"),
    ],
)
def test_wrong_calls_are_answered_in_one_line(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    result = run("race", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_model_that_is_left_alone_won_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "untraced_model.py").write_text(
        "import numpy as np\n\ndef first(x):\n    return np.asarray(x)[:, 0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    models = ("--model", "mlp-mnist,python:untraced_model:first", "--budget", "0.008")
    result = run("race", "--data", "zoo:digits/train?subset=80", *models)
    assert result.exit_code == 1
    assert "Only mlp-mnist could be trained: nothing was compared." in " ".join(
        result.stdout.split()
    )
