"""`jaxte run`: several models, what is missing extracted, all ranked, a report."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import data, zoo
from jaxte.cli._extraction import directory_name, jobs_of_file
from jaxte.extraction.preprocess import Images
from jaxte.store import FeatureStore

from .conftest import Run
from .test_cli_process import process

DATA = ("--data", "zoo:digits/test?subset=60")
TOML = """
[[model]]
source = "zoo:mlp-mnist"

[[model]]
name = "broken"
source = "zoo:resnet-cifar"
layers = ["blocks/7"]

[[model]]
name = "layers"
source = "zoo:resnet-random"
layers = ["blocks/1", "penultimate"]
batch_size = 16
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(TOML)
    return path


def statuses(text: str) -> dict[str, str]:
    """Model -> what became of it, of the last table on the page."""
    lines = text.rpartition("status")[2].splitlines()[2:]
    return {line.split()[0]: line.split()[1] for line in lines if line and line[0] != " "}


def features(names: tuple[str, ...] = ("mlp-mnist",)) -> tuple[dict[str, Any], np.ndarray]:
    whole = data.load(DATA[1])
    images = np.stack([whole[row][0] for row in range(60)])
    labels = whole.labels()
    assert labels is not None
    return {name: zoo.load(name).features(images) for name in names}, labels


def test_a_broken_model_among_three(run: Run, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = run("run", "--models", models, *DATA, "--out", out)
    assert result.exit_code == 1
    assert statuses(result.stdout) == {
        "mlp-mnist": "extracted",
        "broken": "failed",
        "layers": "extracted",
    }
    assert "jaxte: broken: there is no layer 'blocks/7'" in result.stderr
    expected, labels = features(("mlp-mnist", "resnet-random"))
    ranking = jaxte.rank(expected, labels)
    with (out / "ranking.csv").open(newline="") as stream:
        rows = {(r["model"], r["metric"]): r for r in csv.DictReader(stream)}
    for metric in ("logme", "sfda", "face"):
        for name, own in (("mlp-mnist", "mlp-mnist"), ("layers@penultimate", "resnet-random")):
            actual = float(rows[name, metric]["score"])
            assert actual == pytest.approx(ranking.score(own, metric), rel=1e-3)
        assert rows["broken", metric]["status"].startswith("there is no layer 'blocks/7'")
    content = json.loads((out / "ranking.json").read_text())
    assert content["models"] == ["mlp-mnist", "layers@blocks/1", "layers@penultimate", "broken"]
    page = (out / "ranking.md").read_text()
    assert "| layers@blocks/1 |" in page
    assert "| broken | failed |" in page
    assert (out / "ranking.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "features" / "broken").exists()

    again = run("run", "--models", models, *DATA, "--out", out, "--metrics", "logme")
    assert again.exit_code == 1
    assert statuses(again.stdout)["layers"] == "cached"
    ranked = run("rank", out / "features", "--metrics", "logme", "--format", "csv")
    assert ranked.exit_code == 0
    assert len(ranked.stdout.splitlines()) == 1 + 3


def test_options_of_the_command_line_are_for_models_that_leave_them_open(
    run: Run, models: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    result = run(
        "run", "--models", models, "--model", "other=zoo:resnet-cifar", *DATA, "--out",
        tmp_path / "r", "--features", kept, "--layers", "penultimate", "--pool", "max",
        "--dtype", "float16", "--no-logits", "--metrics", "logme",
    )  # fmt: skip
    assert result.exit_code == 1
    folder = directory_name("zoo:digits/test?subset=60&seed=0")
    stores = {name: FeatureStore.open(kept / name / folder) for name in ("layers", "other")}
    assert stores["layers"].layers == ("blocks/1", "penultimate")
    assert stores["other"].layers == ("penultimate",)
    assert stores["other"].dtype == np.float16
    assert stores["other"].meta["model"]["card"]["pool"] == "max"
    assert not (tmp_path / "r" / "features").exists()


def test_models_of_the_command_line_alone_and_settings(run: Run, tmp_path: Path) -> None:
    base = ("run", "--model", "zoo:mlp-mnist", *DATA, "--out", tmp_path / "r")
    result = run(*base, "--metrics", "sfda", "--set", "sfda.variant=paper")
    assert result.exit_code == 0, result.stderr
    expected, labels = features()
    ranking = jaxte.rank(expected, labels, metrics="sfda", options={"sfda": {"variant": "paper"}})
    content = json.loads((tmp_path / "r" / "ranking.json").read_text())
    score = content["records"][0]["score"]
    assert score == pytest.approx(ranking.score("mlp-mnist", "sfda"), rel=1e-3)


def test_a_dry_run_says_what_is_there(run: Run, models: Path, tmp_path: Path) -> None:
    base = ("run", "--models", models, *DATA, "--out", tmp_path / "r")
    result = run(*base, "--dry-run")
    assert result.exit_code == 1
    assert not (tmp_path / "r").exists()
    lines = [line.split() for line in result.stdout.splitlines()[2:5]]
    assert lines[0] == ["mlp-mnist", "extract", "60", "60", "256", "60.0", "KiB"]
    assert lines[1][:2] == ["broken", "failed"]
    assert lines[2] == ["layers", "extract", "60", "60", "128", "30.0", "KiB"]
    run("run", "--model", "zoo:mlp-mnist", *DATA, "--out", tmp_path / "r")
    result = run(*base, "--dry-run")
    assert result.stdout.splitlines()[2].split()[:3] == ["mlp-mnist", "cached", "0"]


def test_parts_share_the_work_and_one_may_be_killed(run: Run, tmp_path: Path) -> None:
    """Four jobs on one directory; the one that is killed while it extracts is called again."""
    names = ("mlp-mnist", "resnet-random", "resnet-cifar", "vgg-shuffled", "mixer-cifar")
    call = ["run", *DATA, "--out", str(tmp_path / "out"), "--model"]
    call.append(",".join(f"zoo:{name}" for name in names))
    jobs = [
        subprocess.Popen(
            [sys.executable, "-m", "jaxte", *call, "--part", f"{i}/4"], stdout=subprocess.DEVNULL
        )
        for i in range(1, 5)
    ]
    begun = tmp_path / "out" / "features" / "resnet-random"
    deadline = time.monotonic() + 120
    while not begun.exists() and jobs[1].poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    jobs[1].kill()
    killed, *others = (jobs[i].wait(120) for i in (1, 0, 2, 3))
    assert killed in (-signal.SIGKILL, 0)
    assert others == [0, 0, 0]
    assert not (tmp_path / "out" / "ranking.csv").exists()
    again = run(*call, "--part", "2/4")
    assert statuses(again.stdout)["resnet-random"] in {"extracted", "resumed", "cached"}
    assert "without --part ranks the models" in again.stdout
    result = run(*call, "--metrics", "hscore")
    assert set(statuses(result.stdout).values()) == {"cached"}
    with (tmp_path / "out" / "ranking.csv").open() as file:
        assert {line["model"] for line in csv.DictReader(file)} == set(names)


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "2/2"])
def test_a_part_that_cannot_be(run: Run, tmp_path: Path, part: str) -> None:
    result = run(
        "run", *DATA, "--out", tmp_path / "out", "--model", "zoo:mlp-mnist", "--part", part
    )
    assert result.exit_code == 2
    assert f"--part {part}: " in result.stderr


def test_without_a_store_nothing_is_kept(run: Run, models: Path, tmp_path: Path) -> None:
    result = run(
        "run", "--models", models, *DATA, "--out", tmp_path / "r", "--no-store",
        "--metrics", "logme,sfda",
    )  # fmt: skip
    assert result.exit_code == 1
    assert not (tmp_path / "r" / "features").exists()
    assert statuses(result.stdout)["layers"] == "streamed"
    expected, labels = features(("mlp-mnist", "resnet-random"))
    ranking = jaxte.rank(expected, labels, metrics="logme")
    records = json.loads((tmp_path / "r" / "ranking.json").read_text())["records"]
    actual = {(r["model"], r["metric"]): r for r in records}
    for name, own in (("mlp-mnist", "mlp-mnist"), ("layers@penultimate", "resnet-random")):
        score = actual[name, "logme"]["score"]
        assert score == pytest.approx(ranking.score(own, "logme"), rel=1e-3)
    assert actual["mlp-mnist", "sfda"]["score"] is None
    assert "looks at the samples more than once" in actual["mlp-mnist", "sfda"]["status"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Numbers in columns: the label is one of them, or two."""
    x = np.random.default_rng(0).normal(size=(60, 4, 4))
    np.savez(tmp_path / "real.npz", inputs=x, labels=x[:, 0, :2] @ [1.0, 2.0])
    np.savez(tmp_path / "tags.npz", inputs=x, labels=(x[:, 0, :3] > 0).astype(int))
    (tmp_path / "flat_model.py").write_text(
        "def flat(x):\n    return x.reshape(len(x), -1).astype('float32')\n"
    )
    return tmp_path


@pytest.mark.parametrize("kind", ["real", "tags"])
def test_regression_and_several_labels_are_scored_by_what_can(
    run: Run, table: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(table)
    source = f"npz:{table / f'{kind}.npz'}"
    base = ("run", "--model", "python:flat_model:flat", "--data", source, "--out", table / "r")
    result = run(*base)
    assert result.exit_code == 0, result.stderr
    assert json.loads((table / "r" / "ranking.json").read_text())["metrics"] == [
        "ridge_probe",
        "logme",
    ]
    result = run(*base, "--metrics", "logme,sfda")
    assert result.exit_code == 2
    assert "data set, but sfda cannot score that: choose of ridge_probe, logme" in result.stderr
    result = run(*base, "--no-store")
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the models: --models FILE, or --model SPEC once or more"),
        (("--models", "none.toml"), "none.toml"),
        (("--models", "bad.toml"), "bad.toml is no TOML"),
        (("--models", "empty.toml"), "empty.toml has no [[model]] tables"),
        (("--models", "keys.toml"), "keys.toml: model 2 has no 'sauce': there are name, source"),
        (("--models", "kinds.toml"), "kinds.toml: model 1: layers cannot be 1.5"),
        (("--models", "lacks.toml"), "lacks.toml: model 1 has no source"),
        (("--model", "a=zoo:mlp-mnist", "--model", "a=zoo:vgg-cifar"), "two models are called a"),
        (("--model", "zoo:mlp-mnist", "--metrics", "logmee"), "logmee"),
        (
            ("--model", "zoo:mlp-mnist", "--set", "face.x=1", "--metrics", "logme"),
            "given for 'face'",
        ),
        (("--model", "zoo:mlp-mnist", "--precision", "half"), "unknown precision 'half'"),
        (("--model", "zoo:mlp-mnist", "--normalize", "max"), "unknown normalize 'max'"),
        (("--model", "zoo:mlp-mnist", "--no-store", "--devices", "2"), "--devices is for features"),
        (("--model", "zoo:nothing"), "no model could be extracted"),
    ],
)
def test_bad_calls(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, said: str
) -> None:
    good = '[[model]]\nsource = "zoo:mlp-mnist"\n'
    (tmp_path / "bad.toml").write_text("[[model")
    (tmp_path / "empty.toml").write_text("title = 'none'")
    (tmp_path / "keys.toml").write_text(good + '[[model]]\nsource = "x"\nsauce = "y"\n')
    (tmp_path / "kinds.toml").write_text(good + "layers = 1.5\n")
    (tmp_path / "lacks.toml").write_text('[[model]]\nname = "x"\n')
    monkeypatch.chdir(tmp_path)
    result = run("run", *arguments, *DATA, "--out", "r")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("r", "features").exists()


@pytest.mark.parametrize(
    "models",
    [
        ("zoo:mlp-mnist", "zoo:mlp-mnist"),
        ("zoo:mlp-mnist,mlp-mnist=zoo:vgg-cifar", "zoo:vgg-cifar"),
        ("hf:some/where/bert", "hf:bert"),
        ("python:flat_model:flat", "python:flat_model:flat"),
    ],
)
def test_two_models_of_one_name_are_refused_before_any_work(
    run: Run, tmp_path: Path, models: tuple[str, str]
) -> None:
    twice = [argument for model in models for argument in ("--model", model)]
    result = run("run", *twice, *DATA, "--out", tmp_path / "r")
    assert result.exit_code == 2
    assert "two models are called" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_models_of_python_are_named_by_their_specification(
    run: Run, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(table)
    (table / "same_model.py").write_text("from flat_model import flat\n")
    specs = ["python:flat_model:flat", "python:same_model:flat"]
    models = ("--model", ",".join(specs), "--metrics", "logme")
    result = run("run", *models, "--data", f"npz:{table / 'real.npz'}", "--out", table / "r")
    assert result.exit_code == 0, result.stderr
    assert statuses(result.stdout) == dict.fromkeys(specs, "extracted")


@pytest.mark.parametrize("command", ["run", "extract"])
@pytest.mark.parametrize(
    "option",
    [
        ("--batch-size", "0"), ("--batch-size", "x"), ("--max-length", "-1"), ("--subset", "0"),
        ("--limit", "0"), ("--limit", "-5"), ("--workers", "-1"), ("--devices", "0"),
        ("--pixels", "nan"), ("--pixels", "-1"), ("--pixels", "inf"), ("--pixel-budget", "0"),
        ("--seed", "-1"), ("--dtype", "int8"), ("--compute-dtype", "half"), ("--pool", "median"),
        ("--nonsense", "1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_values_end_in_one_line_before_any_work(
    run: Run, tmp_path: Path, command: str, option: tuple[str, str]
) -> None:
    out = tmp_path / "r"
    result = run(command, "--model", "zoo:mlp-mnist", *DATA, "--out", out, *option)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("jaxte: ")
    name = "of type" if option[0] == "--dtype" else option[0].removeprefix("--")
    assert re.search(name.replace("-", "[-_]"), result.stderr)
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--set", "logme.variant=x"), "unknown variant 'x'"),
        (("--set", "logme.variant=3"), "logme.variant is 3: give a text"),
        (("--set", "logme.nope=3"), "logme has no option 'nope'"),
        (("--set", "logme"), "write METRIC.OPTION=VALUE"),
        (("--set", "logme.variant=paper", "--set", "logme.variant=released"), "set twice"),
    ],
)
def test_settings_are_checked_before_any_work(
    run: Run, tmp_path: Path, option: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "r"
    base = ("run", "--model", "zoo:mlp-mnist", *DATA, "--out", out, "--metrics", "logme")
    result = run(*base, *option)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


def test_names_of_directories() -> None:
    assert directory_name("vit-b16") == "vit-b16"
    names = ["a/b", "a_b", "a:b", "A/b", "..", "", "tfds:digits/train[:500]", "x" * 300]
    made = [directory_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert name == Path(name).name
        assert len(name) < 100
        assert name.strip(".")


def test_a_process_of_its_own(models: Path, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "r", "--metrics", "logme")
    done = process("run", "--models", models, *DATA, *options, TERM="xterm")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert statuses(done.stdout)["mlp-mnist"] == "extracted"
    assert done.stderr.splitlines()[-1] == f"jaxte: wrote {tmp_path / 'r'}"


def test_the_example_is_read_as_it_is_printed(run: Run, tmp_path: Path) -> None:
    result = run("run", "--example")
    assert result.exit_code == 0
    (tmp_path / "models.toml").write_text(result.stdout)
    jobs = jobs_of_file(tmp_path / "models.toml", {}, 64)
    assert [job.title for job in jobs] == ["zoo:resnet-cifar", "vit", "own"]
    assert Images(**jobs[2].options["prepare"]).size == 64


def test_an_interrupted_run_says_what_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxte.cli._extraction.run_jobs", interrupted)
    result = run("run", *DATA, "--model", "zoo:mlp-mnist", "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "interrupted: what is complete is kept, and the same command goes on" in result.stderr
