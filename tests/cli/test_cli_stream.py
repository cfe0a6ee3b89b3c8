"""`jaxte rank DIR` of features that are read in batches."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte.ranking import inputs

from .conftest import Run

RANDOM = np.random.default_rng(0)
Y = np.arange(200) % 3
X = (RANDOM.normal(size=(200, 8)) + np.eye(3, 8)[Y]).astype(np.float32)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """One model in shards, one in one file, one whose last shard is cut short."""
    folder = tmp_path / "stored"
    for name in ("sharded", "cut"):
        (folder / name).mkdir(parents=True)
        for index in range(4):
            rows = slice(50 * index, 50 * index + 50)
            np.save(folder / name / f"features-{index}.npy", X[rows])
    last = folder / "cut" / "features-3.npy"
    last.write_bytes(last.read_bytes()[:-4])
    np.save(folder / "single.npy", X[:, :5])
    np.save(folder / "labels.npy", Y)
    return folder


def scores(text: str) -> dict[tuple[str, str], str]:
    return {(r["model"], r["metric"]): r["score"] for r in csv.DictReader(io.StringIO(text))}


def test_shards_and_long_files_are_streamed(
    run: Run, shards: Path, streamed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores(run("rank", shards, "--format", "csv").stdout)
    assert streamed == []  # small enough to be read as a whole
    monkeypatch.setattr(inputs, "should_stream", lambda *size: True)
    result = run("rank", shards, "--format", "csv")
    assert streamed == ["sharded", "single"]
    assert "features-3.npy is truncated" in result.stderr
    actual = scores(result.stdout)
    ranking = jaxte.rank({"sharded": X, "single": X[:, :5]}, Y)
    for model in ranking.models:
        for metric in ranking.metrics:
            expected = pytest.approx(ranking.score(model, metric), rel=1e-9)
            assert float(actual[model, metric]) == expected
            assert float(whole[model, metric]) == expected
        assert actual["cut", "sfda"] == ""


def test_a_bar_shows_the_rows_of_each_pass(
    run: Run, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxte import _progress

    seen: list[tuple[int, int | None, str]] = []
    bar = _progress.bar

    class Recorder:
        def __enter__(self) -> Any:
            self.inner = bar("scoring", unit="")
            update = self.inner.__enter__()

            def both(done: int, total: int | None, label: str) -> None:
                seen.append((done, total, label))
                update(done, total, label)

            return both

        def __exit__(self, *error: Any) -> None:
            self.inner.__exit__(*error)

    monkeypatch.setattr(_progress, "bar", lambda title, **options: Recorder())
    monkeypatch.setattr(inputs, "should_stream", lambda *size: True)
    assert run("rank", shards, "--metrics", "sfda").exit_code == 0
    assert [step for step in seen if step[2].startswith("sharded")] == [
        (200, 200, f"sharded: pass {number}") for number in (1, 2, 3)
    ]
