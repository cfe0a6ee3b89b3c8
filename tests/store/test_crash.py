"""Stores whose writer ends at any moment: killed, out of space, between any two operations."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxte import InputError
from jaxte.store import FeatureStore, Writer
from jaxte.store import writer as module
from jaxte.store.journal import JOURNAL

from .data import SIZES, WHAT, X, Y, assert_whole, begun, content, go_on, stored

WORKER = Path(__file__).with_name("worker.py")


class CrashError(BaseException):
    """The end of a process, as far as files are concerned."""


class Crash:
    """Lets a number of file operations pass; the next one is half done, or not at all."""

    def __init__(self, patch: pytest.MonkeyPatch, passes: int) -> None:
        self.left = passes
        for owner, name in (
            *((os, n) for n in ("replace", "fsync", "truncate")),
            *((Path, n) for n in ("mkdir", "unlink")),
        ):
            patch.setattr(owner, name, self._stopped(getattr(owner, name)))
        patch.setattr(module, "_write", self._write(module._write))

    def _take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise CrashError

    def _stopped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._take()
            return function(*arguments, **options)

        return call

    def _write(self, write: Callable[..., None]) -> Callable[..., None]:
        def call(file: Any, at: int, source: Any) -> None:
            view = memoryview(source)
            try:
                self._take()
            except CrashError:
                write(file, at, view[: len(view) // 2])
                raise
            write(file, at, source)

        return call


def crashes(directory: Path, passes: int) -> int | None:
    """Write a store that ends at an operation: rows that were reported stored; None if it did not.

    Its lock is released, as that of a process that has ended.
    """
    rows = 0
    with pytest.MonkeyPatch.context() as patch:
        Crash(patch, passes)
        try:
            with Writer(directory, **WHAT) as writer:
                for index in range(len(writer.batches), len(SIZES)):
                    go_on(writer, index + 1)
                    rows = writer.rows
                writer.finish()
        except CrashError:
            return rows
    return None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("whole")
    assert_whole(stored(directory))
    return content(directory)


def assert_finished(directory: Path, whole: dict[str, bytes]) -> None:
    with Writer(directory, **WHAT) as writer:
        go_on(writer).finish().verify()
    assert content(directory) == whole


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a power loss could show is left out, because it takes long."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_sync")
def test_any_operation_may_be_the_last_one(tmp_path: Path, whole: dict[str, bytes]) -> None:
    passes, seen = 0, 0
    while (reported := crashes(tmp_path / f"{passes}", passes)) is not None:
        directory = tmp_path / f"{passes}"
        if (directory / "manifest.json").exists():
            with Writer(directory, **WHAT) as writer:  # what was reported stored is stored
                assert writer.rows >= reported
                seen = max(seen, writer.rows)
        assert_finished(directory, whole)
        shutil.rmtree(directory)
        passes += 1
    assert passes > 100
    assert seen == len(X)


@pytest.mark.slow
@pytest.mark.usefixtures("no_sync")
def test_a_resumed_writer_may_end_anywhere_too(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """From an awkward state: a shard half closed, bytes that no line vouches for, a torn line."""
    start = tmp_path / "start"
    begun(start, 8)
    for name in ("layer-head", "logits"):
        (part,) = (start / name).glob("*.npy.part")
        part.write_bytes(part.read_bytes() + b"surplus")
    manifest = json.loads((start / "manifest.json").read_text())
    assert len(manifest["shards"]) == 2
    manifest["shards"].pop()
    (start / "manifest.json").write_text(json.dumps(manifest))
    last = start / "labels" / "labels-000001.npy"
    last.rename(last.with_name(last.name + ".part"))
    with (start / JOURNAL).open("ab") as stream:
        stream.write(b'{"rows": 8, "exam')
    passes = 0
    while True:
        directory = tmp_path / f"{passes}"
        shutil.copytree(start, directory)
        done = crashes(directory, passes) is None
        assert_finished(directory, whole)
        shutil.rmtree(directory)
        passes += 1
        if done:
            break
    assert passes > 60


@pytest.mark.parametrize("room", [0, 500, 1500, 3000, 4500])
def test_a_full_disk_closes_the_writer_and_loses_nothing(
    room: int, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = module._write, [room]

    def full(file: Any, at: int, source: Any) -> None:
        taken = memoryview(source)[: max(left[0], 0)]
        left[0] -= len(source)
        write(file, at, taken)
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with Writer(tmp_path, **WHAT) as writer, pytest.raises(OSError, match="No space"):
        go_on(writer)
    kept = len(writer.batches)
    assert (kept > 0) == (room >= 1500)
    with pytest.raises(InputError, match="closed"):
        go_on(writer)
    monkeypatch.undo()
    with Writer(tmp_path, **WHAT) as writer:
        assert len(writer.batches) == kept
    assert_finished(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.usefixtures("no_sync")
def test_a_journal_cut_anywhere_is_read_up_to_there(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """At every byte of two lines, and beside the ends of the others, which are like them."""
    start = begun(tmp_path / "start", len(SIZES))
    journal = (start / JOURNAL).read_bytes()
    lines = journal.splitlines(keepends=True)
    assert len(lines) == len(SIZES)
    ends = np.cumsum([len(one) for one in lines])
    offsets = {
        *range(ends[1]),
        *(end - step for end in ends for step in range(3)),
        *(ends[:-1] + 1),
    }
    for offset in sorted(map(int, offsets)):
        directory = tmp_path / "cut"
        shutil.copytree(start, directory)
        (directory / JOURNAL).write_bytes(journal[:offset])
        kept = int((ends <= offset).sum())
        rows = sum(SIZES[:kept])
        if rows:
            partial = FeatureStore.open(directory, partial=True)
            np.testing.assert_array_equal(np.asarray(partial["blocks/1"]), X[:rows])
            np.testing.assert_array_equal(partial.labels, Y[:rows])
        with Writer(directory, **WHAT) as writer:
            assert len(writer.batches) == kept
            assert writer.rows == rows
            if offset % 29 == 0:
                go_on(writer).finish()
        if offset % 29 == 0:
            assert content(directory) == whole
        shutil.rmtree(directory)


def test_a_journal_with_a_changed_byte_is_read_up_to_there(tmp_path: Path) -> None:
    start = begun(tmp_path / "start", len(SIZES))
    journal = (start / JOURNAL).read_bytes()
    ends = np.cumsum([len(one) for one in journal.splitlines(keepends=True)])
    for offset in range(3, len(journal), 61):
        directory = tmp_path / "changed"
        shutil.copytree(start, directory)
        damaged = bytearray(journal)
        damaged[offset] ^= 1
        (directory / JOURNAL).write_bytes(damaged)
        with Writer(directory, **WHAT) as writer:
            assert len(writer.batches) == int((ends <= offset).sum())
        shutil.rmtree(directory)


def test_bytes_that_a_power_loss_took_are_stored_again(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """The line got to the disk before the bytes that it vouches for."""
    for damage in ("zeros", "shorter", "gone"):
        directory = begun(tmp_path / damage, 8)
        part = directory / "layer-head" / "features-000002.npy.part"
        before = part.read_bytes()
        assert len(before) == 128 + 8 * 12
        if damage == "zeros":
            part.write_bytes(before[:140] + bytes(len(before) - 140))
        elif damage == "shorter":
            part.write_bytes(before[:-5])
        else:
            part.unlink()
        with Writer(directory, **WHAT) as writer:
            assert len(writer.batches) == 7
        assert_finished(directory, whole)


def test_an_unfinished_store_without_its_journal_is_refused(tmp_path: Path) -> None:
    begun(tmp_path, 4)
    (tmp_path / JOURNAL).unlink()
    with pytest.raises(InputError, match=r"unfinished store without its journal.jsonl"):
        Writer(tmp_path, **WHAT)
    with pytest.raises(InputError, match=r"unfinished store without its journal.jsonl"):
        FeatureStore.open(tmp_path, partial=True)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.slow
def test_kills_cost_at_most_the_batch_in_flight_each(tmp_path: Path) -> None:
    def start(directory: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path / directory)],
            stdout=subprocess.PIPE,
            text=True,
        )

    with start("whole") as child:
        assert child.wait() == 0
        assert child.stdout is not None
        assert child.stdout.read().split()[-1] == "complete"
    random_ = random.Random(0)
    kills, reported, appended = 0, 0, 0
    while kills < 5:
        with start("killed") as child:
            assert child.stdout is not None
            first = int(child.stdout.readline())
            # what was stored is there again; at most one batch more, whose report was cut off
            assert reported <= first <= reported + 1
            time.sleep(random_.uniform(0, 0.03))
            child.send_signal(signal.SIGKILL)
            child.wait()
            said = child.stdout.read().split()
        assert "complete" not in said, "the store is too small for five kills"
        numbers = [int(word) for word in said]
        reported = numbers[-1] if numbers else first
        appended += reported - first
        kills += 1
    assert appended > 5
    with start("killed") as child:
        assert child.wait() == 0
    killed, whole = content(tmp_path / "killed"), content(tmp_path / "whole")
    assert killed == whole
    FeatureStore.open(tmp_path / "killed").verify()
