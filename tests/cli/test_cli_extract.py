"""`jaxte extract`: one model, one data set, one store."""

import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import jaxte
from jaxte import data, zoo
from jaxte._progress import bar, reporter
from jaxte.store import FeatureStore

from .conftest import Run
from .test_cli_process import process

MODULE = """
import jax.numpy as jnp
import numpy as np

def flat(images):
    return images.reshape(len(images), -1) / 255

def layered(images):
    x = images.reshape(len(images), -1) / 255
    return {"low": x[:, :5], "high": x[:, 5:] ** 2, "logits": x[:, :3]}

calls = []

def fails_once(images):
    calls.append(1)
    if len(calls) == 5:  # two of them to find out that JAX cannot trace it
        raise RuntimeError("out of memory")
    return np.asarray(images).reshape(len(images), -1) / 255
"""
BASE = ("extract", "--data", "zoo:digits/test?subset=60", "--model")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_models", raising=False)


def images() -> tuple[np.ndarray, np.ndarray]:
    whole = data.load("zoo:digits/test?subset=60")
    labels = whole.labels()
    assert labels is not None
    return np.stack([whole[row][0] for row in range(60)]), labels


def test_a_store_that_rank_reads(run: Run, tmp_path: Path) -> None:
    result = run(*BASE, "zoo:mlp-mnist", "--out", tmp_path / "s")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[2].split()[:4] == ["mlp-mnist", "extracted", "60", "256"]
    store = FeatureStore.open(tmp_path / "s")
    x, y = images()
    np.testing.assert_allclose(np.asarray(store), zoo.load("mlp-mnist").features(x), 1e-5, 1e-5)
    np.testing.assert_array_equal(store.labels, y)
    assert store.meta["data"]["name"] == "zoo:digits/test?subset=60&seed=0"
    ranked = run("rank", tmp_path / "s", "--metrics", "logme", "--format", "csv")
    assert ranked.stdout.splitlines()[1].startswith("mlp-mnist,logme,")
    again = run(*BASE, "zoo:mlp-mnist", "--out", tmp_path / "s")
    assert again.stdout.splitlines()[2].split()[:4] == ["mlp-mnist", "cached", "60", "256"]


@pytest.mark.usefixtures("models")
def test_what_was_interrupted_goes_on(run: Run, tmp_path: Path) -> None:
    arguments = (*BASE, "python:own_models:fails_once", "--batch-size", "16", "--out")
    first = run(*arguments, tmp_path / "s")
    assert first.exit_code == 2
    assert first.stdout == ""
    assert first.stderr.splitlines() == [
        "jaxte: fails_once: RuntimeError: out of memory (32 examples are stored: extract again to "
        "go on after them) [own_models.py, line 17]"
    ]
    planned = run(*arguments, tmp_path / "s", "--dry-run")
    assert planned.stdout.splitlines()[2].split()[:5] == ["fails_once", "resume", "28", "60", "64"]
    second = run(*arguments, tmp_path / "s")
    assert second.exit_code == 0, second.stderr
    assert second.stdout.splitlines()[2].split()[:4] == ["fails_once", "resumed", "60", "64"]
    x, _ = images()
    actual = np.asarray(FeatureStore.open(tmp_path / "s"))
    np.testing.assert_allclose(actual, x.reshape(60, -1) / 255, 1e-6)


@pytest.mark.usefixtures("models")
def test_options(run: Run, tmp_path: Path) -> None:
    options = ("--layers", "low,high", "--dtype", "float16", "--no-logits", "--name", "mine")
    draw = ("--subset", "40", "--seed", "3", "--limit", "30", "--workers", "2")
    result = run(
        "extract", "--data", "zoo:digits/test", "--model", "python:own_models:layered",
        *options, *draw, "--out", tmp_path / "s",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    store = FeatureStore.open(tmp_path / "s")
    assert (store.name, store.layers, store.rows) == ("mine", ("low", "high"), 30)
    assert store.dtype == np.float16
    assert store.logits is None
    part = data.load("zoo:digits/test").subset(40, seed=3)
    labels = part.labels()
    assert labels is not None
    np.testing.assert_array_equal(store.labels, labels[:30])
    wanted = np.stack([part[row][0] for row in range(30)]).reshape(30, -1)[:, :5] / 255
    np.testing.assert_allclose(np.asarray(store["low"]), wanted, 1e-3)
    assert store.meta["data"]["card"]["first"] == 30


def test_arithmetic_in_half_precision(run: Run, tmp_path: Path) -> None:
    for name, options in (("full", ()), ("half", ("--compute-dtype", "bfloat16"))):
        result = run(*BASE, "zoo:resnet-cifar", *options, "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    full, half = (np.asarray(FeatureStore.open(tmp_path / name)) for name in ("full", "half"))
    assert 0 < np.abs(full - half).max() < 0.1 * np.abs(full).max()


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    result = run(*BASE, "zoo:mlp-mnist", "--out", tmp_path / "s", "--dry-run")
    assert result.exit_code == 0, result.stderr
    line = result.stdout.splitlines()[2].split()
    assert line == ["mlp-mnist", "extract", "60", "60", "256", "60.0", "KiB"]
    assert list(tmp_path.iterdir()) == []
    run(*BASE, "zoo:mlp-mnist", "--out", tmp_path / "s")
    result = run(*BASE, "zoo:mlp-mnist", "--out", tmp_path / "s", "--dry-run")
    assert result.stdout.splitlines()[2].split()[:3] == ["mlp-mnist", "cached", "0"]
    result = run(*BASE, "zoo:resnet-cifar", "--out", tmp_path / "s", "--dry-run")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[2].split()[:2] == ["resnet-cifar", "refused"]
    assert 'model.name was "mlp-mnist", now it is "resnet-cifar"' in result.stdout


def test_without_a_store_there_are_scores(run: Run, tmp_path: Path) -> None:
    result = run(*BASE, "zoo:mlp-mnist", "--no-store")
    assert result.exit_code == 0, result.stderr
    x, y = images()
    ranking = jaxte.rank({"m": zoo.load("mlp-mnist").features(x)}, y)
    line = next(one for one in result.stdout.splitlines() if "*" in one).split()
    assert line[0] == "mlp-mnist"
    for metric, text in (("logme", line[2]), ("face", line[5])):
        assert float(text.strip("*")) == pytest.approx(ranking.score("m", metric), abs=2e-4)
    assert "mlp-mnist (sfda): sfda looks at the samples more than once" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*BASE, "zoo:mlp-mnist"), "say where to store the features: --out DIR (or --no-store)"),
        ((*BASE, "zoo:mlp-mnist", "--no-store", "--out", "s"), "--no-store keeps nothing"),
        ((*BASE, "zoo:nothing", "--out", "s"), "zoo:nothing: no zoo model named 'nothing'"),
        ((*BASE, "mlp-mnist", "--out", "s"), "'mlp-mnist' is no model: the forms are zoo:NAME"),
        ((*BASE, "python:nowhere:f", "--out", "s"), "there is no module nowhere"),
        ((*BASE, "zoo:mlp-mnist", "--layers", "x", "--out", "s"), "there is no layer 'x'"),
        ((*BASE, "zoo:mlp-mnist", "--limit", "99", "--out", "s"), "--limit 99: zoo:digits/test"),
        ((*BASE, "zoo:mlp-mnist", "--dtype", "int8", "--out", "s"), "int8 cannot be stored"),
        ((*BASE, "zoo:mlp-mnist", "--devices", "0", "--out", "s"), "--devices 0"),
        ((*BASE, "zoo:a,zoo:b", "--out", "s"), "--model names 2 models: name one"),
        ((*BASE, "zoo:a", "--model", "zoo:b", "--out", "s"), "--model names 2 models: name one"),
        (("extract", "--data", "nix", "--model", "zoo:x", "--out", "s"), "'nix' is no data set"),
        (("extract", "--data", "csv:no.csv", "--model", "zoo:x", "--out", "s"), "no.csv"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("jaxte: ")
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []  # what fails at once leaves nothing behind


def test_a_traceback_on_demand(run: Run, tmp_path: Path) -> None:
    result = run(*BASE, "zoo:nothing", "--out", tmp_path / "s", "--traceback")
    assert "Traceback (most recent call last)" in result.stderr


def test_speed_and_time_left_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    clock = itertools.count()
    console = Console(
        file=screen, force_terminal=True, width=120, get_time=lambda: float(next(clock))
    )
    monkeypatch.setattr("rich.console.Console", lambda **options: console)
    with bar("extracting") as update:
        for done in (40, 50, 60, 70):  # resumed after 40, which does not count as speed
            update(done, 100, "net")
    last = re.findall(
        r"net .*? (\S+/100).*?([\d,]+) examples/s.*?(\d:\d\d:\d\d)", screen.getvalue()
    )
    assert last[-1][0] == "70/100"
    assert 1 <= float(last[-1][1]) <= 10  # one examination of the clock is a second
    assert last[-1][2] != "0:00:00"


def test_progress_that_nobody_asked_for_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(False, "net") as report:
        report(1, 2, "net")
    with reporter(True, "net") as report:  # no terminal here
        report(1, None, "net")
    assert capsys.readouterr() == ("", "")


def test_help_loads_neither_jax_nor_numpy() -> None:
    code = (
        "import sys; from jaxte.cli import app; app([{command!r}, '--help'], standalone_mode=False)"
        "; heavy = {{'jax', 'numpy', 'rich', 'flax'}} & set(sys.modules); assert not heavy, heavy"
    )
    for command in ("extract", "run"):
        actual = subprocess.run(
            [sys.executable, "-c", code.format(command=command)], capture_output=True, check=False
        )
        assert actual.returncode == 0, actual.stderr


def test_a_process_of_its_own_shares_batches_between_devices(tmp_path: Path) -> None:
    actual = {}
    for name, options in (("one", []), ("two", ["--devices", "2"])):
        out = ("--batch-size", "16", "--out", tmp_path / name)
        done = process(*BASE, "zoo:mlp-mnist", *options, *out, TERM="xterm")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        actual[name] = np.asarray(FeatureStore.open(tmp_path / name))
    np.testing.assert_allclose(actual["two"], actual["one"], 1e-5, 1e-5)
    assert jax.device_count() >= 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images in two classes, of which the sixth is cut short."""
    root = tmp_path / "pictures"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(np.full((8, 8, 3), 20 * number + 1, np.uint8))
            image.save(root / name / f"{number}.png")
    file = root / "b" / "1.png"
    file.write_bytes(file.read_bytes()[:50])
    return root


@pytest.mark.usefixtures("models")
def test_damaged_examples_are_listed_and_left_out(run: Run, folder: Path, tmp_path: Path) -> None:
    source = ("extract", "--data", f"folder:{folder}", "--model", "python:own_models:flat")
    checked = run(*source, "--check", "--workers", "2")
    assert checked.exit_code == 2
    assert "b/1.png" in checked.stdout.replace("\n", "")
    said = f"1 of 8 examples of folder:{folder} cannot be read"  # the path may be cut anywhere
    assert said.replace(" ", "") in "".join(checked.stdout.split())
    failed = run(*source, "--out", tmp_path / "s")
    assert failed.exit_code == 2
    assert "--skip-damaged" in failed.stderr
    for store in (("--out", tmp_path / "s"), ("--no-store",)):
        done = run(*source, *store, "--skip-damaged")
        assert done.exit_code == 0, done.stderr
        text = " ".join(done.stdout.split())
        assert "1 examples could not be read and are left out: row 5 (" in text
        assert "flat: preprocessing: none, values 0 to 255" in text
    assert FeatureStore.open(tmp_path / "s").rows == 7
    (folder / "b" / "1.png").write_bytes(b"")
    assert run(*source, "--check").exit_code == 2
    assert run(*source, "--skip-damaged", "--out", tmp_path / "t").exit_code == 0
    assert FeatureStore.open(tmp_path / "t").rows == 7
    (folder / "b" / "1.png").unlink()
    checked = run(*source, "--check")
    assert checked.exit_code == 0
    assert checked.stdout.startswith("All 7 examples of folder:")


@pytest.mark.usefixtures("models")
def test_layouts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own_models.py").write_text(
        MODULE
        + """
def maps(images): return np.asarray(images) / 255
"""
    )
    failed = run(*BASE, "python:own_models:maps", "--out", tmp_path / "s")
    assert "say layout='NHWC'" in failed.stderr
    done = run(*BASE, "python:own_models:maps", "--out", tmp_path / "s", "--layout", "NHWC")
    assert done.exit_code == 0, done.stderr
    x, _ = images()
    actual = np.asarray(FeatureStore.open(tmp_path / "s"))
    np.testing.assert_allclose(actual, x.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_all_layers_by_one_word(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "s"
    base = ("extract", "--data", "zoo:digits/test?subset=20", "--model", "zoo:vgg-cifar")
    planned = run(*base, "--layers", "all", "--out", str(out), "--dry-run")
    assert "540" in planned.stdout  # channels of all layers together
    assert run(*base, "--layers", "all", "--out", str(out)).exit_code == 0
    assert len(FeatureStore.open(out).layers) == 7
    assert "cached" in run(*base, "--layers", "all", "--out", str(out)).stdout
