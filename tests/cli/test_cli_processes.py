"""`jaxte rank --devices` and `--processes`: the scores of one device, from many."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxte.cli import processes
from jaxte.cli.processes import Team
from jaxte.store import read_features

from .conftest import Run


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-m", "jaxte", "rank", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment | {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"},
        timeout=240,
        check=False,
    )


def scores(text: str) -> dict[tuple[str, str], float]:
    rows = csv.DictReader(io.StringIO(text))
    return {(r["model"], r["metric"]): float(r["score"] or "nan") for r in rows}


@pytest.fixture
def sharded(stored: Path) -> Path:
    """The stored models, one of them cut into three shards that no share of rows fits."""
    features = np.load(stored / "good.npy")
    holed = features.copy()
    holed[50, 2] = np.nan
    np.save(stored / "holed.npy", holed)
    (stored / "shards").mkdir()
    for index, piece in enumerate(np.split(features, [7, 41])):
        np.save(stored / "shards" / f"features-{index}.npy", piece)
    return stored


def assert_equal(found: str, expected: str) -> None:
    found_scores, wanted = scores(found), scores(expected)
    assert found_scores.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found_scores[key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


def test_devices_of_one_process(run: Run, sharded: Path) -> None:
    options = ("--format", "csv", "--metrics", "logme")
    found = command(sharded, *options, "--devices", "3")
    assert found.returncode == 0, found.stderr
    assert_equal(found.stdout, run("rank", sharded, *options).stdout)


@pytest.mark.slow
def test_processes_started_by_one_command(run: Run, sharded: Path) -> None:
    options = ("--format", "csv", "--set", "face.covariance=diagonal")
    found = command(sharded, *options, "--processes", "2", "--devices", "2")
    assert found.returncode == 0, found.stderr
    assert_equal(found.stdout, run("rank", sharded, *options).stdout)
    assert "holed: in the rows of process 1, features contain NaN" in found.stderr
    assert "Gloo" not in found.stdout + found.stderr


@pytest.mark.slow
def test_a_failure_ends_all_processes(sharded: Path) -> None:
    found = command(sharded, "--processes", "2", "--dataset", "absent")
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("jaxte: ")
    assert len(found.stderr.splitlines()) == 1
    assert "_absent_feature.npy" in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--process-id", "0"], "belong together"),
        (["--coordinator", "localhost:1", "--processes", "2"], "belong together"),
        (["--coordinator", "localhost:1", "--process-id", "0"], "needs --processes"),
        (
            ["--coordinator", "localhost", "--process-id", "0", "--processes", "2"],
            "write HOST:PORT",
        ),
        (
            ["--coordinator", "localhost:1", "--process-id", "2", "--processes", "2"],
            "--process-id 2 is outside 0..1",
        ),
        (["--processes", "0"], "--processes 0"),
        (["--devices", "-1"], "--devices -1"),
        (["--processes", "2", "--perturb", "spread"], "all rows of a model on one device"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, stored: Path, options: list[str], message: str
) -> None:
    result = run("rank", stored, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("count", [2, 7])
def test_shares_are_all_the_rows_in_order(sharded: Path, count: int) -> None:
    whole = read_features(sharded)
    parts = [processes.share(whole, Team(None, count, "host:1", index)) for index in range(count)]
    for name in whole.features:
        original: Any = np.load(sharded / "good.npy") if name == "shards" else whole.features[name]
        joined = np.concatenate([part.features[name] for part in parts])
        np.testing.assert_array_equal(joined, original)
        labels = np.concatenate([part.labels[name] for part in parts])
        np.testing.assert_array_equal(labels, whole.labels[name])
    assert max(len(p.labels["good"]) for p in parts) - min(len(p.labels["good"]) for p in parts) < 2
