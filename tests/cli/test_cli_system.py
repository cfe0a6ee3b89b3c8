"""What the system refuses (no space, no permission, a directory where a file belongs): one line."""

import errno
import json
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import Run

Spoil = Callable[[Path], object]


@pytest.fixture
def call(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`jaxte extract` of a model that takes a moment, to a directory."""
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.savez(tmp_path / "rows.npz", inputs=x, labels=np.arange(60) % 3)
    (tmp_path / "same_rows.py").write_text("def same(x):\n    return x.astype('float32')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def extract(out: Path, command: str = "extract") -> Any:
        model = ("--model", "python:same_rows:same", "--batch-size", "16")
        return run(command, *model, "--data", f"npz:{tmp_path / 'rows.npz'}", "--out", out)

    return extract


def assert_one_line(result: Any, *said: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("jaxte: ")
    for text in said:
        assert text in result.stderr


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def a_link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("nothing"))


SPOILS = [a_directory, a_link_to_nothing, *([a_pipe] if hasattr(os, "mkfifo") else [])]


def unfinished(call: Callable[..., Any], out: Path) -> None:
    """A store of which the last line of the manifest was not written yet."""
    assert call(out).exit_code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {"state": "unfinished"}))


@pytest.mark.parametrize("name", ["journal.jsonl", "manifest.json"])
@pytest.mark.parametrize("spoil", SPOILS)
def test_files_of_a_store_that_are_something_else(
    call: Callable[..., Any], run: Run, tmp_path: Path, name: str, spoil: Spoil
) -> None:
    root = tmp_path / "all"
    unfinished(call, root / "net")
    spoil(root / "net" / name)
    assert_one_line(call(root / "net"), name)
    assert_one_line(run("rank", root), name)
    np.savez(root / "good.npz", features=np.eye(60, 4), labels=np.arange(60) % 3)
    result = run("rank", root, "--metrics", "face", "--format", "csv")
    assert result.exit_code == 0, result.output
    assert name in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["extract", "run"])
def test_a_file_where_a_directory_is_needed(
    call: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("here")
    assert_one_line(call(tmp_path / "file", command), "file")
    result = call(tmp_path / "file" / "below", command)
    assert_one_line(result, "file")
    assert "[Errno" not in result.stderr


@pytest.mark.parametrize("command", ["extract", "run"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_directories_that_cannot_be_made(
    call: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: int,
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = call(tmp_path / "made", command)
    assert_one_line(result, f"made: {os.strerror(number)}")


def test_a_full_disk_under_a_store(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FileIO):
        def write(self, content: Any) -> int:
            if self.tell() > 300:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    monkeypatch.setattr("jaxte.store.writer.FileIO", Full)
    assert_one_line(call(tmp_path / "net"), os.strerror(errno.ENOSPC))
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    assert call(tmp_path / "net").exit_code == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("command", ["rank", "metrics"])
def test_a_full_disk_under_the_output(run: Run, stored: Path, command: str) -> None:
    where = [stored] if command == "rank" else []
    result = run(command, *where, "--out", "/dev/full")
    assert_one_line(result, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_places_that_may_not_be_written_are_known_before_any_work(
    run: Run, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr("jaxte.store.read_features", pytest.fail)
    assert_one_line(run("rank", stored, option, tmp_path / "r.png.csv"), "may not be written")


def test_a_full_disk_under_a_report_leaves_the_one_before(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(tmp_path / "r", "run").exit_code == 0
    before = {file: file.read_bytes() for file in (tmp_path / "r").glob("ranking.*")}

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    result = call(tmp_path / "r", "run")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"jaxte: {os.strerror(errno.ENOSPC)}"
    for file, content in before.items():
        assert file.read_bytes() == content


def test_names_that_are_no_text(run: Run, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    try:
        np.savez(tmp_path / f"{name}.npz", features=np.eye(60, 4), labels=np.arange(60) % 3)
    except OSError:
        pytest.skip("the system has no such names")
    for ending in ("csv", "json", "md", "html", "txt"):
        out = tmp_path / f"r.{ending}"
        result = run("rank", tmp_path, "--metrics", "face", "--out", out)
        assert result.exit_code == 0, result.output
        assert "caf" in out.read_text(encoding="utf-8")
