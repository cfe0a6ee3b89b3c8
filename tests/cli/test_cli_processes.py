"""`jaxte rank --devices` and `--processes`: the scores of one device, from many."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxte.cli import processes
from jaxte.cli.processes import Processes
from jaxte.store import read_features

from .conftest import Run


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaxte", "rank", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"},
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


PARTS = {"features": "good", "labels": "labels", "logits": "good"}


def assert_equal(actual: str, expected: str) -> None:
    found_scores, wanted = scores(actual), scores(expected)
    assert found_scores.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found_scores[key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


def test_devices_of_one_process(run: Run, sharded: Path) -> None:
    options = ("--format", "csv", "--metrics", "logme,leep")
    arrays = {part: np.load(sharded / f"{name}.npy") for part, name in PARTS.items()}
    np.savez(sharded / "head.npz", **arrays)
    actual = command(sharded, *options, "--devices", "3")
    assert actual.returncode == 0, actual.stderr
    assert_equal(actual.stdout, run("rank", sharded, *options).stdout)


@pytest.mark.slow
def test_processes_started_by_one_command(run: Run, sharded: Path) -> None:
    options = ("--format", "csv", "--set", "face.covariance=diagonal")
    actual = command(sharded, *options, "--processes", "2", "--devices", "2")
    assert actual.returncode == 0, actual.stderr
    assert_equal(actual.stdout, run("rank", sharded, *options).stdout)
    assert "holed: in the rows of process 1, features contain NaN" in actual.stderr
    assert "Gloo" not in actual.stdout + actual.stderr


@pytest.mark.slow
def test_a_failure_ends_all_processes(sharded: Path) -> None:
    actual = command(sharded, "--processes", "2", "--dataset", "absent")
    assert actual.returncode == 2
    assert actual.stdout == ""
    assert actual.stderr.startswith("jaxte: ")
    assert len(actual.stderr.splitlines()) == 1
    assert "_absent_feature.npy" in actual.stderr


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
    groups = [Processes(None, count, "host:1", index) for index in range(count)]
    parts = [processes.share(whole, group) for group in groups]
    for name in whole.features:
        original: Any = np.load(sharded / "good.npy") if name == "shards" else whole.features[name]
        joined = np.concatenate([part.features[name] for part in parts])
        np.testing.assert_array_equal(joined, original)
        labels = np.concatenate([part.labels[name] for part in parts])
        np.testing.assert_array_equal(labels, whole.labels[name])
    assert max(len(p.labels["good"]) for p in parts) - min(len(p.labels["good"]) for p in parts) < 2


def test_shares_have_their_rows_of_logits(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(9, 4))
    np.savez(tmp_path / "m.npz", features=x, labels=np.arange(9) % 2, logits=3 * x)
    files = read_features(tmp_path)
    groups = [Processes(None, 2, "host:1", index) for index in range(2)]
    shares: list[Any] = [processes.share(files, one, outputs=True).features["m"] for one in groups]
    for part, whole in (("features", x), ("logits", 3 * x)):
        np.testing.assert_array_equal(np.concatenate([share[part] for share in shares]), whole)
    without = processes.share(files, groups[0]).features["m"]
    np.testing.assert_array_equal(without, x[:4])


def children(process: int) -> list[int]:
    """The processes that this one has started (Linux)."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def is_alive(process: int) -> bool:
    """Whether a process runs, and is not only remembered."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def waited_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the children")
@pytest.mark.parametrize(
    ("number", "delay"),
    [
        (signal.SIGTERM, 0.0),
        pytest.param(signal.SIGKILL, 3.0, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 3.0, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_processes_end_with_the_command_that_started_them(
    stored: Path, tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    np.save(stored / "large.npy", np.random.default_rng(0).normal(size=(60, 3000)))
    command = [sys.executable, "-m", "jaxte", "rank", str(stored), "--processes", "2"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TMPDIR": str(folder)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        assert waited_for(lambda: len(children(process.pid)) == 2, 60)
        started = children(process.pid)
        time.sleep(delay)
        process.send_signal(number)
        process.communicate()
    assert waited_for(lambda: not any(map(is_alive, started)), 60), "they outlive it"
    if number != signal.SIGKILL:  # after which nothing can be tidied up
        assert list(folder.iterdir()) == []
