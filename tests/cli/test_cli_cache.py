"""The compilation cache of the command line: where it is, when it is off, what it saves."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxte.cli import _cache

from .conftest import Run
from .test_cli_process import process


def entries(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*-cache")}


@pytest.fixture(autouse=True)
def no_cache_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of JAX's own would go before that of the command line."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(40, 6))
    np.savez(folder / "m.npz", features=x, labels=np.arange(40) % 3)
    return folder


def test_a_second_run_compiles_nothing_anew(features: Path, tmp_path: Path) -> None:
    """Once all of it is kept, and not only what takes long, as by default."""
    cache, kept = tmp_path / "cache", list[set[str]]()
    all_of_it = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    for flags, own in (((), {}), ((), all_of_it), (("--cache",), all_of_it)):
        arguments = (*flags, "rank", features, "--metrics", "hscore")
        done = process(*arguments, JAXTE_CACHE=str(cache), **own)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        kept.append(entries(cache))
    long, whole, again = kept
    assert long
    assert long < whole == again


def test_a_directory_that_cannot_be_written_is_one_warning(features: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "cache")
    done = process("rank", features, "--metrics", "hscore", JAXTE_CACHE=place)
    assert done.returncode == 0
    assert done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "compiled code is not kept" in done.stderr
    assert "JAXTE_CACHE" in done.stderr


@pytest.mark.parametrize("how", ["variable", "flag", "user's own"])
def test_it_can_be_off_or_elsewhere(features: Path, tmp_path: Path, how: str) -> None:
    home, own = tmp_path / "home", tmp_path / "own"
    surroundings = {"XDG_CACHE_HOME": str(home), "HOME": str(home), "LOCALAPPDATA": str(home)}
    surroundings["JAXTE_CACHE"] = "off" if how == "variable" else ""
    if how == "user's own":
        surroundings |= {
            "JAX_COMPILATION_CACHE_DIR": str(own),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    flags = ("--no-cache",) if how == "flag" else ()
    done = process(*flags, "rank", features, "--metrics", "hscore", **surroundings)
    assert done.returncode == 0, done.stderr
    assert not home.exists()
    assert bool(entries(own)) == (how == "user's own")


def test_the_directory_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home, xdg, local, own = (tmp_path / name for name in ("home", "xdg", "local", "own"))
    monkeypatch.setattr(_cache, "_enabled", None)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setenv("LOCALAPPDATA", str(local))
    monkeypatch.setenv("XDG_CACHE_HOME", str(xdg))
    monkeypatch.delenv("JAXTE_CACHE")
    for system, expected in (
        ("linux", xdg / "jaxte"),
        ("darwin", home / "Library" / "Caches" / "jaxte"),
        ("win32", local / "jaxte"),
    ):
        monkeypatch.setattr(sys, "platform", system)
        result = _cache.directory()
        assert result is not None
        assert result.parent == expected
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert str(_cache.directory()).startswith(str(home / ".cache" / "jaxte"))
    monkeypatch.setenv("JAXTE_CACHE", str(own))
    assert str(_cache.directory()).startswith(str(own))
    for off in ("off", "OFF", "0", "no"):
        monkeypatch.setenv("JAXTE_CACHE", off)
        assert _cache.directory() is None
    _cache.choose(True)
    assert _cache.directory() is not None
    _cache.choose(False)
    assert _cache.directory() is None


def test_processors_do_not_share_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTE_CACHE", "cache")
    monkeypatch.setattr(_cache, "_enabled", None)
    here = _cache.directory()
    assert here == _cache.directory()
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert _cache.directory() != here


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for age in range(5):
        file = tmp_path / f"{age}-cache"
        file.write_bytes(bytes(100))
        os.utime(file, (1e9 - age, 1e9 - age))
    (tmp_path / "kernels").mkdir()
    monkeypatch.setattr(_cache, "_MOST_BYTES", 250)
    _cache._prune(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"0-cache", "1-cache", "kernels"}


def test_the_flag_is_not_kept_for_the_next_command(run: Run, features: Path) -> None:
    run("--no-cache", "metrics")
    assert _cache._enabled is False
    run("metrics")
    assert _cache._enabled is None
