"""The command line as a process: what it imports, what it prints where, how it is stopped."""

import os
import subprocess
import sys
from pathlib import Path

import jaxte


def process(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jaxte", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_help_and_version_load_neither_jax_nor_rich() -> None:
    code = (
        "import sys; from jaxte.cli import app\n"
        "for line in sys.argv[1:]:\n"
        "    app(line.split(), standalone_mode=False); print('=====')\n"
        "heavy = {'jax', 'numpy', 'rich', 'flax', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    lines = ["--help", "rank --help", "demo -h", "zoo -h", "--version"]
    command = [sys.executable, "-c", code, *lines]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    printed = result.stdout.split("=====\n")
    assert len(printed) == len(lines) + 1
    assert all(text.strip() for text in printed[:-1])


def test_version_and_help_text() -> None:
    assert process("--version").stdout == f"jaxte {jaxte.__version__}\n"
    text = process("--help").stdout
    for command in ("demo", "rank", "evaluate", "metrics", "zoo"):
        assert f"\n  {command} " in text
    assert process().stdout == text or process().stderr == text


def test_an_unknown_command_is_an_error_without_a_traceback() -> None:
    for arguments in (["rnak"], ["rank", "--colour"], ["rank"]):
        result = process(*arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_user_errors_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = process("rank", tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"jaxte: {tmp_path / 'nowhere'} does not exist: name a directory with <model>.npz or "
        ".npy files"
    ]


def test_a_piped_table_has_no_control_codes_and_survives_a_narrow_encoding(stored: Path) -> None:
    result = process("rank", stored, "--metrics", "logme", PYTHONIOENCODING="latin-1", TERM="xterm")
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stdout + result.stderr
    assert result.stdout.isascii()


def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    script = (
        "import os, signal, jaxte.store, jaxte.cli;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a background job ignores it
        "jaxte.store.read_features = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT);"
        "jaxte.cli.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "rank", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode not in (0, 1, 2)
    assert "Traceback" not in result.stderr
