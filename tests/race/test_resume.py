"""Journals: a race killed anywhere goes on to the same end, and refuses what is another race's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import jaxte
from jaxte.errors import InputError
from jaxte.race import Race
from jaxte.race.memo import JOURNAL

from .pools import Pool

RUNGS = (1 / 16, 1 / 4, 1.0)
KILLED = """
import os, sys, jaxte
from tests.race.pools import Pool
pool, left = Pool(6, 2), int(sys.argv[2])
def trial(model, budget, seed):
    if len(pool.calls) == left:
        os.kill(os.getpid(), 9)
    return pool.trial(model, budget, seed)
jaxte.race(pool.names, trial=trial, budget=0.4, rungs=(1/16, 1/4, 1.0), resume=sys.argv[1])
"""


def run(pool: Pool, resume: Path, **options: Any) -> Race:
    arguments = {"budget": 0.4, "rungs": RUNGS, "resume": resume, **options}
    return jaxte.race(pool.names, trial=pool.trial, **arguments)


@pytest.mark.parametrize("left", [0, 3, 8])
def test_killed_race_goes_on_to_the_same_end(tmp_path: Path, left: int) -> None:
    whole, part = Pool(6, 2), Pool(6, 2)
    expected = run(whole, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "part"), str(left)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, check=False).returncode == -9
    with (tmp_path / "part" / JOURNAL).open("a") as journal:
        journal.write('{"key": "torn')  # as a write that the kill cut short
    race = run(part, tmp_path / "part")
    assert race.to_records() == expected.to_records()
    assert race.cost == expected.cost
    assert len(part.calls) == len(whole.calls) - left
    assert race.meta["replayed"] == left


def test_finished_race_costs_nothing_again_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    pool = Pool(6, 2)
    run(pool, tmp_path)
    made = len(pool.calls)
    run(pool, tmp_path)
    assert len(pool.calls) == made
    run(pool, tmp_path, budget=1.0, confidence=0.9999)
    assert len(set(pool.calls)) == len(pool.calls) > made


def test_failures_are_kept(tmp_path: Path) -> None:
    pool, calls = Pool(4, 2), []

    def trial(model: str, budget: float, seed: int) -> object:
        calls.append(model)
        if model == "m0":
            raise MemoryError("too large")
        return pool.trial(model, budget, seed)

    for _ in range(2):
        race = jaxte.race(pool.names, trial=trial, rungs=RUNGS, budget=0.2, resume=tmp_path)
        assert race.status["m0"] == "MemoryError: too large"
    assert calls.count("m0") == 1


def test_an_interruption_is_no_failure(tmp_path: Path) -> None:
    pool = Pool(4, 2)

    def trial(model: str, budget: float, seed: int) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxte.race(pool.names, trial=trial, rungs=RUNGS, resume=tmp_path)
    assert len(run(pool, tmp_path).order()) == 4


def test_another_race_is_refused(tmp_path: Path) -> None:
    pool = Pool(4, 2)
    run(pool, tmp_path)
    with pytest.raises(InputError, match="a race of other seed"):
        run(pool, tmp_path, seed=1)
    with pytest.raises(InputError, match="a race of other rungs"):
        jaxte.race(pool.names, trial=pool.trial, rungs=(0.5, 1), resume=tmp_path)
    (tmp_path / JOURNAL).write_text(json.dumps({"key": "x"}) + "\n")
    with pytest.raises(InputError, match="no journal of a race"):
        run(pool, tmp_path)
    (tmp_path / JOURNAL).write_text("nonsense\n")
    with pytest.raises(InputError, match="line 1, is no JSON"):
        run(pool, tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another race runs in"):
        run(pool, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: name a directory"):
        run(pool, tmp_path / "file")
