"""The benchmark harness itself: its arithmetic, its tables, its oracles, and that it runs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    child,
    cli,
    clones,
    grid,
    growth,
    growth_job,
    machine,
    metrics,
    oracles,
    pool,
    problems,
    report,
    rivals,
    stats,
    store,
    timing,
    together,
)
from benchmarks.contestants import GRAM, own_name
from benchmarks.settings import Settings
from jaxte.metrics import get_metric

ROOT = Path(__file__).resolve().parents[2]


def test_slope_of_a_power_law() -> None:
    x = [10.0, 30.0, 100.0, 1000.0]
    assert stats.slope(x, [3 * v**1.7 for v in x]) == pytest.approx(1.7)
    assert math.isnan(stats.slope([5.0, 5.0], [1.0, 2.0]))
    assert math.isnan(stats.slope([1.0, 2.0], [0.0, 2.0]))


def test_upper_half_forgets_the_constant() -> None:
    x = [2.0**i for i in range(12)]
    actual = stats.exponents(x[::-1], [1000 + v**2 for v in x][::-1])  # in any order
    assert 1 < actual.overall < 1.2 < 1.9 < actual.upper < 2
    assert stats.exponents([1.0, 10.0], [1.0, 100.0]) == pytest.approx((2.0, 2.0))


def test_median_and_spread() -> None:
    assert stats.summary([5.0, 1.0, 3.0]) == (3.0, 1.0, 5.0)
    assert report.spread([0.002, 0.001, 0.004]) == "2 [1..4] ms"
    assert report.spread([]) == "–"
    assert report.ratio(3.0, 2.0) == "1.5×"
    assert report.ratio(1.0, 0.0) == "–"
    with pytest.raises(ValueError, match="no runs"):
        stats.summary([])


def test_runs_take_turns_until_patience_ends() -> None:
    calls: list[str] = []
    runs = {name: lambda name=name: calls.append(name) for name in ("a", "b", "slow")}
    first = {"a": 1.0, "b": 1.0, "slow": 100.0}  # long enough for one call per timed run
    actual = timing.interleaved(runs, first, repeats=3, patience=60)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert [len(actual[name]) for name in runs] == [3, 3, 1]
    assert actual["slow"] == [100.0]


@pytest.mark.parametrize("metric", ["logme", "sfda", "face"])
@pytest.mark.parametrize("d", [12, 70])
@pytest.mark.parametrize("kind", problems.KINDS)
def test_oracles_agree_with_jaxte(metric: str, d: int, kind: str, x64: None) -> None:
    x, y = problems.problem(60, d, 4, seed=1, dtype="float64", kind=kind)
    own = float(get_metric(metric).function(x, y))
    assert getattr(oracles, metric)(x, y) == pytest.approx(own, abs=1e-8)


def test_inputs_are_seeded_and_hold_every_class() -> None:
    first, again = (problems.problem(40, 9, 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(np.bincount(first.labels), [8] * 5)
    assert first.features.dtype == np.float32
    assert problems.pool_widths(16)[13:] == [2048, 192, 256]
    with pytest.raises(ValueError, match="too few"):
        problems.labels(5, 3, 0)


@pytest.mark.parametrize("n", [7, 10, 95])
def test_streams_repeat_and_hold_every_class(n: int) -> None:
    spec = {"n": n, "d": 4, "classes": 3, "batch": 10, "seed": 0, "kind": "structured"}
    stream = growth_job._stream(spec, 0)
    for _ in range(2):  # metrics may look twice
        x, y = (np.concatenate(list(part())) for part in (stream.features, stream.labels))
        assert x.shape == (n, 4)
        assert len(y) == n
        assert set(y) == {0, 1, 2}
    np.testing.assert_array_equal(x[40:60], x[:20] if n > 60 else x[40:60])


@pytest.mark.parametrize(("metric", "d"), [("logme", 8), ("logme", 80), ("sfda", 80)])
def test_metric_job_of_the_other_metrics(metric: str, d: int) -> None:
    """What the quick run leaves out."""
    spec = {"metric": metric, "n": 60, "d": d, "classes": 3, "dtype": "float64", "seed": 0}
    spec |= {"kind": "structured", "clones": {}, "rivals": ["oracle", "scikit"]}
    actual = metrics.measure(spec | {"repeats": 1, "patience": 9.0})
    rows = {row["name"]: row for row in actual["rows"]}
    assert {own_name(options) for options in rivals.references(metric)} <= set(rows)
    for row in rows.values():
        assert abs(row["difference"] or 0) < 1e-8
        assert not row["note"].startswith("failed")


def test_metric_job_compares_with_rivals() -> None:
    spec = {"metric": "sfda", "n": 60, "d": 8, "classes": 3, "dtype": "float64", "seed": 0}
    spec |= {"kind": "structured", "clones": {}, "rivals": None, "repeats": 1, "patience": 9.0}
    actual = metrics.measure(spec)
    rows = {row["name"]: row for row in actual["rows"]}
    assert abs(rows["numpy oracle"]["difference"]) < 1e-9
    assert abs(rows["scikit-learn LDA, twice"]["difference"]) < 1e-9
    assert rows[GRAM]["score"] is None
    assert rows["jaxte, released"]["compile"] > 0
    assert all(len(row["run"]) == 1 for row in rows.values())
    assert jnp.zeros(()).dtype == jnp.float32  # the context is left behind
    line = next(line for line in actual["skipped"] if line.startswith("TencentARC/SFDA"))
    assert "--clone sfda=PATH" in line


def test_modes_of_growth_agree() -> None:
    """What the quick run leaves out."""
    spec = {"n": 60, "d": 8, "classes": 3, "models": 1, "batch": 32, "metric": "face", "seed": 0}
    spec |= {"kind": "structured", "repeats": 1, "patience": 9.0}
    actual = [growth_job.measure(spec | {"mode": mode}) for mode in growth.MODES]
    assert [len(one["warm"]) for one in actual] == [1, 1, 1]
    assert [one["score"] for one in actual] == pytest.approx([actual[0]["score"]] * 3, rel=1e-5)


def test_pool_agreement() -> None:
    own = {"logme": {"a": 1.0, "b": 2.0, "c": 3.0}, "face": {"a": 1.0}}
    other = {"logme": {"a": 1.0, "b": 4.0, "c": 3.0}}
    assert pool.agreement(own, other) == {"logme": {"difference": 2.0, "swapped": 1, "models": 3}}


def test_every_reference_is_measured() -> None:
    for rival in rivals.RIVALS:
        assert rival.reference is None or rival.reference in rivals.references(rival.metric)
    names = [contestant.name for contestant in pool.CONTESTANTS]
    assert all(c.reference is None or c.reference in names for c in pool.CONTESTANTS)


@pytest.mark.parametrize("source", ["unknown=here", "logme", "logme="])
def test_unknown_clone(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["metrics", "--clone", source]) == 2
    assert "NAME among logme (thuml/LogME), sfda" in capsys.readouterr().err


def test_clone_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(clones.MissingError, match=r"has no metrics\.py; it must be a clone of"):
        clones.parse([f"sfda={tmp_path}"])


def test_clone_is_loaded_with_its_own_helper_only(tmp_path: Path) -> None:
    helper = (
        "import no_such_package\n\ndef iterative_A(A, max_iterations=3):\n    return np.sum(A)\n"
    )
    (tmp_path / "utils.py").write_text(helper)
    code = "from utils import iterative_A\nimport numpy\ndef SFDA_Score(X, y):\n"
    (tmp_path / "metrics.py").write_text(code + "    X += 1\n    return iterative_A(X)\n")
    rival = next(r for r in rivals.RIVALS if r.name == "TencentARC/SFDA")
    x = np.zeros((2, 2))
    assert rival.load(clones.parse([f"sfda={tmp_path}"]))(x, np.arange(2)) == 4.0
    assert not x.any()  # released code overwrites its input
    assert "utils" not in sys.modules


def test_missing_rival_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    rival = next(r for r in rivals.RIVALS if r.name == "transformer-ranker")
    with pytest.raises(clones.MissingError, match="torch is not installed: pip install"):
        rival.load({})


def test_child_that_fails_says_why() -> None:
    with pytest.raises(child.FailedError, match="KeyError"):
        child.run("metric", {})
    trailer = "Traceback\n  x()\njax.errors.Some_Error: why\n-----\nFor simplicity, JAX"
    assert child._reason(trailer) == "jax.errors.Some_Error: why"
    assert child._reason("") == "no message"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Results of two commands as they are stored, numbers made up."""
    here = {"cpu": "a cpu", "cores": 2, "ram": 2**30, "platform": "cpu", "device": "a cpu"}
    here |= {"os": "an os", "versions": {"jax": "1"}, "threads": {}, "commit": "abc"}
    here |= {"changed": True, "clones": {"sfda": "def"}}
    section = {
        "machine": here,
        "settings": {"repeats": 2, "kind": "structured", "seed": 0},
        "started": "now",
        "skipped": ["tllib skipped: no clone"],
    }
    base = {"metric": "face", "n": 60, "d": 8, "classes": 3, "dtype": "float64", "note": ""}
    memory = {"peak": 3 * 2**20, "rise": 2**20, "device": None}
    rows = []
    for name, role, reference, score, run in (
        (own_name({}), "jaxte", None, 0.5, [1e-3, 3e-3]),
        ("numpy oracle", "rival", "jaxte", 0.5, [4e-3, 4e-3]),
        (GRAM, "limit", None, None, [1e-3, 1e-3]),
    ):
        row = {"name": name, "role": role, "reference": reference, "score": score, "run": run}
        row |= {"difference": 0.0 if reference else None, "trace": None, "compile": None}
        rows.append({**base, **row, "memory": memory})
    store.save(tmp_path, "metrics", {**section, "rows": rows})
    grown: list[dict[str, Any]] = [
        {"axis": "n", "metric": "face", "mode": "array", "n": n, "d": 8, "classes": 3}
        | {"models": 1, "first": 1.0, "warm": [n * 1e-3], "memory": memory, "score": 0.1}
        for n in (10, 100)
    ]
    fit = {"axis": "n", "metric": "face", "mode": "array", "points": 2}
    fit |= {"seconds": {"overall": 1.0, "upper": 1.0}}
    fit |= {"memory": {"overall": math.nan, "upper": 0.0}}
    store.save(tmp_path, "growth", {**section, "rows": grown, "fits": [fit]})
    return tmp_path


def test_report_from_stored_results(stored: Path) -> None:
    assert cli.main(["report", str(stored)]) == 0
    text = (stored / "results.md").read_text()
    row = "| numpy oracle | 60 | 8 | 3 | jaxte | 0.500000 | 0.0e+00 |  | 4 [4..4] ms | 2× | 4× |"
    assert row in text
    assert "| n | face | array | 2 | 1.00 | 1.00 | – | 0.00 |" in text
    assert "- tllib skipped: no clone" in text
    assert text.count("a cpu") == 1  # one machine, described once
    assert {path.name for path in stored.glob("*.png")} == {"metrics.png", "growth.png"}
    assert store.check(stored, ["metrics", "growth"]) == 0


def test_check_finds_scores_that_differ(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = store.load(stored)
    whole["metrics"]["rows"][1]["difference"] = 1e-3
    whole["metrics"]["rows"][0]["score"] = math.nan
    store.save(stored, "metrics", whole["metrics"])
    store.render(stored)
    assert store.check(stored, ["metrics", "pool"]) == 1
    said = capsys.readouterr().err
    assert "numpy oracle : scores differ by 0.001" in said
    assert "metrics, face jaxte: no finite score" in said
    assert "no table of pool" in said


def test_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "holds no readable results.json" in capsys.readouterr().err


def test_folder_name() -> None:
    assert machine.slug("AMD EPYC 7B13 (x2)") == "amd-epyc-7b13-x2"


def test_the_grid_goes_on_linearly_from_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second a thousand rows beside a fixed one; a data set takes the next number of classes."""

    def of_child(job: str, spec: dict[str, Any]) -> dict[str, Any]:
        rows = [
            {"metric": metric, "n": n, "classes": spec["classes"], "cpu": [1 + n / 1000, 99.0]}
            for metric in ("sfda", "ncti")
            for n in spec["ns"]
        ]
        return {"rows": rows}

    monkeypatch.setattr(child, "run", of_child)
    actual = grid.run(Settings(), [2500, 5000], [8])
    rows = {(row["metric"], row["name"]): row for row in actual["rows"]}
    assert len(rows) == 22
    assert rows["sfda", "food"]["cpu"] == pytest.approx(102)
    assert rows["sfda", "food"]["as"] == 102
    assert rows["ncti", "aircraft"]["cpu"] == pytest.approx(11)
    assert "### ncti; TE-Bench: 242.4 s" in "\n".join(report._grid(actual))


@pytest.mark.slow
def test_metrics_together_are_measured_beside_logme(tmp_path: Path) -> None:
    assert cli.main(["together", "--quick", "--out", str(tmp_path)]) == 0
    whole = json.loads((tmp_path / "results.json").read_text())
    names = [row["name"] for row in whole["together"]["rows"]]
    assert names == [*together.of_one_pass(), together.ALL]
    assert {"logme", "hscore", "rankme", "gbc"} <= set(names)


@pytest.mark.slow
def test_quick_run_writes_every_table(tmp_path: Path) -> None:
    """By one metric, width and mode: each measurement is a process, and the others' own are tested
    above.
    """
    command = [sys.executable, "-m", "benchmarks", "all", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--metrics", "face", "--rivals", "oracle", "--d", "12", "--modes", "array"],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole = json.loads((tmp_path / "results.json").read_text())
    assert set(whole) == {"metrics", "pool", "growth", "extraction", "memory"}
    assert {"results.md", "metrics.png", "pool.png", "growth.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
