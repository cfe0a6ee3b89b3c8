"""A directory of stored features, good and bad ones, and a way to call the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from jaxte.cli import app
from jaxte.ranking import options

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the user's cache directory."""
    monkeypatch.setenv("JAXTE_CACHE", "off")


@pytest.fixture(autouse=True)
def nothing_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals only where a test asks for them: they compile longer than all the rest."""
    monkeypatch.setattr(options, "CHEAP", 0.0)


@pytest.fixture
def run() -> Run:
    """Call `jaxte` with these arguments in this process; the result has separate streams."""

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """60 rows of 3 classes: a good model, a worse one, noise; one with NaN, one cut short."""
    directory = tmp_path / "stored"
    directory.mkdir()
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    noise = random.normal(size=(60, 8)).astype(np.float32)
    signal = 3 * np.eye(3, 8, dtype=np.float32)[labels]
    np.save(directory / "labels.npy", labels)
    np.save(directory / "good.npy", noise + signal)
    np.save(directory / "worse.npy", (noise + 0.3 * signal)[:, :6].astype(np.float16))
    np.savez(directory / "noise.npz", features=noise, labels=labels)
    holed = noise.copy()
    holed[17, 2] = np.nan
    np.save(directory / "holed.npy", holed)
    np.save(directory / "short.npy", noise)
    content = (directory / "short.npy").read_bytes()
    (directory / "short.npy").write_bytes(content[:200])
    return directory
