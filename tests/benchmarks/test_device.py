"""``device``: that all steps run, what is written when, and what counts as not right."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cli, device, device_report, oracles, problems, torch_rivals
from benchmarks.device_run import FULL, LINES, QUICK, Row, Run, Step
from jaxte.metrics import get_metric

ROOT = Path(__file__).resolve().parents[2]


STACKED = """
import warnings
import jax, jaxte
from benchmarks import problems
from benchmarks.device_right import as_accelerator

warnings.simplefilter("error")
METRICS = ("logme", "sfda", "face", "hscore", "gbc", "ridge_probe", "lda", "vci", "rankme")
for n, widths in ((260, (200, 210)), (200, (230, 260))):
    y = problems.labels(n, 3, 0)
    models = {str(d): problems.features(y, d, 3, seed=d) for d in widths}
    expected = jaxte.rank(models, y, metrics=METRICS)
    with as_accelerator():
        stacked = jaxte.rank(models, y, metrics=METRICS)
    for name in models:
        for metric in METRICS:
            one, other = stacked.score(name, metric), expected.score(name, metric)
            assert abs(one - other) <= 1e-8 * max(1, abs(other)), (n, name, metric, one, other)
"""


@pytest.mark.slow
def test_models_above_the_thresholds_are_stacked() -> None:
    """None is scored alone, which would warn; in a process whose factorisations take no threads.

    On a CPU batches of them can wait for each other's for ever.
    """
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", STACKED],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **flags},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_quick_run_takes_every_step(tmp_path: Path) -> None:
    """On a CPU by the routes of an accelerator, and right by them."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "device", "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / LINES).read_text().splitlines()]
    taken = {row["step"] for row in rows if "took" in row}
    assert taken == {step.name for step in device.STEPS}
    text = (tmp_path / device.TABLES).read_text()
    assert all(f"## {name}: " in text for name in taken)
    assert "All right so far." in text
    checked = {(r["metric"], r["dtype"]) for r in rows if r.get("what") == "pool against the CPU"}
    assert {("logme", "float64"), ("logme", "float32"), ("rankme", "float64")} <= checked
    pool = next(row for row in rows if row["step"] == "pool of the goal" and "models" in row)
    assert pool["seconds"] > 0
    assert pool["floor"] > 0


def run_of(folder: Path, seconds: float = 60.0) -> Run:
    return Run(folder, False, time.monotonic() + seconds, FULL)


def with_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *steps: Step, minutes: str = "1"
) -> tuple[int, list[Row], str]:
    monkeypatch.setattr(device, "STEPS", steps)
    status = cli.main(["device", "--out", str(tmp_path), "--minutes", minutes])
    lines = (tmp_path / LINES).read_text().splitlines()
    return status, [json.loads(line) for line in lines], (tmp_path / device.TABLES).read_text()


def good(_: Run) -> Iterator[Row]:
    yield {"what": "first", "seconds": 0.25, "rate": 2e9, "none": float("inf")}
    yield {"what": "second", "seconds": 2.0}


def broken(_: Run) -> Iterator[Row]:
    yield {"what": "before", "seconds": 1.0}
    raise ValueError("no such kernel\nsecond line")


def off(_: Run) -> Iterator[Row]:
    yield {"what": "golden values", "error": 1.0, "wrong": True}


def test_what_fails_is_a_line_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = Step("a", 1, broken, "breaks"), Step("b", 1, good, "is fine")
    status, rows, text = with_steps(monkeypatch, tmp_path, *steps)
    assert status == 1
    said = [{k: v for k, v in row.items() if k != "took"} for row in rows]
    assert said == [
        {"step": "a", "what": "before", "seconds": 1.0},
        {"step": "a", "failed": "ValueError: no such kernel"},
        {"step": "a"},
        {"step": "b", "what": "first", "seconds": 0.25, "rate": 2e9, "none": None},
        {"step": "b", "what": "second", "seconds": 2.0},
        {"step": "b"},
    ]
    assert "**Not right or failed: 1**" in text
    assert "- failed: ValueError: no such kernel" in text
    assert "| first | 250 ms | 2 G/s |" in text


def test_a_step_is_not_begun_without_its_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = Step("long", 90, good, "takes long"), Step("short", 30, good, "does not")
    status, rows, _ = with_steps(monkeypatch, tmp_path, *steps)
    assert status == 0
    assert rows[0] == {"step": "long", "skipped": "60 s left, it takes 90"}
    assert [row["step"] for row in rows[1:]] == ["short"] * 3


def test_wrong_values_are_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, _, text = with_steps(monkeypatch, tmp_path, Step("a", 1, off, "is off"))
    assert status == 1
    assert "**Not right or failed: 1**" in text


def test_lines_are_there_before_the_step_ends(tmp_path: Path) -> None:
    one = run_of(tmp_path)
    for row in good(one):
        one.write("a", row)
        last = (tmp_path / LINES).read_text().splitlines()[-1]
        assert json.loads(last)["what"] == row["what"]
    assert device_report.markdown(one.rows, [Step("a", 1, good, "is fine")]).count("| ") > 3


def test_unknown_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["device", "--out", str(tmp_path), "--only", "nothing"]) == 2
    assert "--only takes of machine, goal metrics" in capsys.readouterr().err


def test_sizes_are_as_the_goals_say() -> None:
    assert FULL.goal == (33, 10_000, 2048, 100)
    assert FULL.case == FULL.goal[1:]
    assert [models for models, *_ in FULL.pools] == [16, 33, 200]
    assert set(QUICK.metrics) <= set(FULL.metrics)


def test_fine_tuning_without_a_pool_is_skipped(tmp_path: Path) -> None:
    assert "no --zoo" in next(device.tuned(run_of(tmp_path)))["skipped"]


def test_fine_tuning_is_ended_in_time_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that adds a line and would go on for ever."""
    code = (
        "import sys, time; "
        "file = open(sys.argv[sys.argv.index('--resume') + 1], 'a'); "
        "file.write('{}\\n'); file.close(); print('one pair', flush=True); time.sleep(600)"
    )
    plain = subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        return plain([sys.executable, "-c", code, *command[3:]], **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    one = Run(tmp_path, False, time.monotonic() + 18, FULL, zoo=tmp_path)
    row = next(device.tuned(one))
    assert row["pairs"] == 1
    assert row["said"] == "one pair"
    assert row["status"] != 0


@pytest.mark.parametrize("rival", torch_rivals.RIVALS, ids=lambda rival: rival.metric)
def test_formulas_in_torch_give_the_scores(rival: torch_rivals.TorchRival, x64: None) -> None:
    pytest.importorskip("torch")
    x, y = problems.problem(90, 12, 4, seed=0, dtype="float64")
    result = torch_rivals.ready(rival, x, y, 4)()
    if rival.metric == "sfda":
        expected = oracles.sfda(x, y)
    else:
        expected = float(get_metric(rival.metric).function(x, y, **rival.options))
    np.testing.assert_allclose(result, expected, rival.close)
