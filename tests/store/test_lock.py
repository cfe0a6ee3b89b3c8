"""Two writers of one store: exactly one writes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxte import InputError
from jaxte.store import FeatureStore, Writer

from . import worker
from .data import WHAT, assert_whole, begun, go_on

WORKER = Path(__file__).with_name("worker.py")


def started(directory: Path) -> subprocess.Popen[str]:
    """A writer that holds on to the store after one batch."""
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(directory), "hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(child: subprocess.Popen[str]) -> int:
    child.communicate(timeout=60)
    return child.returncode


def test_a_second_writer_is_told_who_has_the_store(tmp_path: Path) -> None:
    with Writer(tmp_path, **WHAT) as writer:
        go_on(writer, 3)
        with pytest.raises(InputError, match=rf"being written by process {os.getpid()} on"):
            Writer(tmp_path, **WHAT)
        assert_whole(go_on(writer).finish())


def test_closing_and_failing_release_the_store(tmp_path: Path) -> None:
    begun(tmp_path, 2)
    with pytest.raises(RuntimeError), Writer(tmp_path, **WHAT):
        raise RuntimeError
    writer = Writer(tmp_path, **WHAT)
    thread = threading.Thread(target=writer.close)  # as a thread that writes behind
    thread.start()
    thread.join()
    with Writer(tmp_path, **WHAT) as writer:
        assert len(writer.batches) == 2


@pytest.mark.slow
def test_of_two_processes_that_start_at_once_one_writes(tmp_path: Path) -> None:
    for attempt in range(3):
        directory = tmp_path / str(attempt)
        children = [started(directory) for _ in range(2)]
        # the one that is refused ends by itself; the other waits for its input to end
        lines: list[str] = []
        for child in children:
            assert child.stdout is not None
            lines.append(child.stdout.readline())
        refused = [index for index, text in enumerate(lines) if text.startswith("refused")]
        assert len(refused) == 1
        loser, winner = children[refused[0]], children[1 - refused[0]]
        assert ended(loser) == 3
        assert winner.poll() is None
        assert f"being written by process {winner.pid}" in lines[refused[0]]
        assert lines[1 - refused[0]] == "0\n"
        assert ended(winner) == 0
        assert FeatureStore.open(directory, partial=True).rows == 8
        with pytest.raises(InputError, match="8 rows in 1 batches"):
            FeatureStore.open(directory)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    with started(tmp_path) as child:
        assert child.stdout is not None
        assert [child.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
        with pytest.raises(InputError, match=f"being written by process {child.pid}"):
            Writer(tmp_path, **worker.WHAT)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert (tmp_path / ".writer").exists()  # nobody was left to take it away
    with started(tmp_path) as again:
        assert again.stdout is not None
        assert again.stdout.readline() == "1\n"
        assert ended(again) == 0


def test_a_reader_needs_no_lock(tmp_path: Path) -> None:
    with Writer(tmp_path, **WHAT) as writer:
        go_on(writer, 5)
        before = FeatureStore.open(tmp_path, partial=True)
        go_on(writer)
        after = FeatureStore.open(tmp_path, partial=True)
        finished = writer.finish()
        assert (before.rows, after.rows, finished.rows) == (21, 60, 60)
        assert_whole(after)  # its shards have got other names meanwhile
        (first, _), *_ = before["head"].source().read(1000)
        assert len(first) == 20
    assert sorted(f.name for f in tmp_path.iterdir() if f.name.startswith(".")) == [".lock"]
