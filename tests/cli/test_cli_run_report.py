"""The report of `jaxte run`: nothing that an earlier one says is lost without a word."""

import json
from pathlib import Path

import pytest

from .conftest import Run
from .test_cli_run import DATA, statuses


def scored(directory: Path) -> set[str]:
    records = json.loads((directory / "ranking.json").read_text())["records"]
    return {record["model"] for record in records if record["score"] is not None}


def test_a_report_is_of_all_that_lies_in_its_directory(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "r"
    base = ("--metrics", "logme", *DATA, "--out", out)
    first = run("run", "--model", "zoo:mlp-mnist", *base)
    assert first.exit_code == 0, first.stderr
    assert first.stderr.splitlines()[-1] == f"jaxte: wrote {out}"
    second = run("run", "--model", "zoo:vgg-cifar", *base)
    assert second.exit_code == 0, second.stderr
    assert second.stderr.splitlines()[-1] == f"jaxte: wrote {out}, in place of an earlier report"
    assert statuses(second.stdout) == {"vgg-cifar": "extracted", "mlp-mnist": "stored"}
    assert scored(out) == {"mlp-mnist", "vgg-cifar"}
    page = (out / "ranking.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "mlp-mnist" in page
    assert "vgg-cifar" in page

    before = {file: file.read_bytes() for file in out.glob("ranking.*")}
    other = run("run", "--model", "zoo:mlp-mnist", "--data", "zoo:digits/test?subset=50",
                "--out", out)  # fmt: skip
    assert other.exit_code == 2
    assert len(other.stderr.splitlines()) == 1
    assert "has a report on zoo:digits/test?subset=60&seed=0, not on" in other.stderr
    assert {file: file.read_bytes() for file in out.glob("ranking.*")} == before


def test_scores_that_are_not_stored_are_not_lost(run: Run, tmp_path: Path) -> None:
    base = ("--metrics", "logme", *DATA, "--out", tmp_path / "r", "--no-store")
    assert run("run", "--model", "zoo:mlp-mnist", *base).exit_code == 0
    result = run("run", "--model", "zoo:vgg-cifar", *base)
    assert result.exit_code == 2
    assert "has a report with scores of mlp-mnist, which are not stored and would be lost" in (
        result.stderr
    )
    assert scored(tmp_path / "r") == {"mlp-mnist"}
    both = run("run", "--model", "zoo:vgg-cifar", "--model", "zoo:mlp-mnist", *base)
    assert both.exit_code == 0, both.stderr
    assert scored(tmp_path / "r") == {"mlp-mnist", "vgg-cifar"}


def test_what_lies_there_and_cannot_be_read_is_named(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "r"
    base = ("--metrics", "logme", *DATA, "--out", out)
    assert run("run", "--model", "zoo:mlp-mnist", *base).exit_code == 0
    (file,) = (out / "features" / "mlp-mnist").rglob("features-000000.npy")
    content = bytearray(file.read_bytes())
    content[-5] ^= 4
    file.write_bytes(content)
    result = run("run", "--model", "zoo:vgg-cifar", *base)
    assert result.exit_code == 0, result.stderr
    records = json.loads((out / "ranking.json").read_text())["records"]
    (lost,) = (record for record in records if record["model"] == "mlp-mnist")
    assert lost["score"] is None
    assert "features-000000.npy: damaged" in lost["status"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"meta": {}}', "[" * 50_000, None])
def test_a_report_of_nobody_knows_what_is_not_overwritten(
    run: Run, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ranking.json"
    if content is None:
        file.mkdir()
    else:
        file.write_text(content)
    result = run("run", "--model", "zoo:mlp-mnist", *DATA, "--out", tmp_path)
    assert result.exit_code == 2
    assert "ranking.json is not known as a report on" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert content is None or file.read_text() == content


def test_why_a_model_failed_is_said_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text_model.py").write_text(
        "from jaxte.errors import InputError\nfrom jaxte.extraction import as_model\n\n"
        "def refuse(examples):\n    raise InputError('example 0 is an image')\n\n"
        "net = as_model(lambda x: x, prepare=refuse)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = ("--data", "zoo:digits/test?subset=60", "--out", tmp_path / "r")
    result = run("run", "--model", "python:text_model:net", *data)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == (
        "jaxte: python:text_model:net: example 0 is an image (while preparing rows 0 to 59 of "
        "zoo:digits/test?subset=60&seed=0; while reading the first batch)"
    )
    assert "example 0" not in result.stdout
