"""`jaxte evaluate`, and `jaxte rank --accuracies`."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxte import InputError, Ranking

from .conftest import Run

ACCURACIES = {"good": 0.9, "worse": 0.8, "noise": 0.5}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(ACCURACIES))
    return path


def test_published_accuracies_and_every_form(run: Run, tmp_path: Path) -> None:
    lines = ["model,dataset,metric,score"]
    lines += [
        f"{model},{dataset},width,{score}"
        for dataset in ("dtd", "pets", "cars")
        for model, score in (("resnet34", 1), ("resnet50", 3), ("resnet152", 2), ("vit", 4))
    ]
    scores = tmp_path / "scores.csv"
    scores.write_text("\n".join(lines))
    arguments = ("evaluate", scores, "published:sfda_cnn", "--draws", 20)
    starts = {"r.txt": "metric ", "r.csv": "metric,", "r.json": "{", "r.md": "| metric"}
    for name, start in (starts | {"r.html": "<!doctype html>"}).items():
        result = run(*map(str, arguments), "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert (tmp_path / name).read_text("utf-8").startswith(start)
    result = run(*map(str, arguments), "--plot", tmp_path / "p.png")
    assert "no accuracy of vit" in result.stdout
    assert "static ranking" in result.stdout
    for name in ("p.png", "p-scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_ranking_beside_accuracies(run: Run, stored: Path, truth: Path, tmp_path: Path) -> None:
    arguments = ("rank", stored, "--metrics", "logme", "--accuracies", truth)
    result = run(*arguments, "--plot", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert "weighted tau" in result.stdout
    assert (tmp_path / "p-scores.png").exists()
    records = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    measured = {r["model"]: float(r["accuracy"]) for r in records if r["accuracy"]}
    assert measured == ACCURACIES
    content = json.loads(run(*arguments, "--format", "json").stdout)
    assert content["rankings"]["data"]["metrics"] == ["logme"]
    assert content["evaluation"]["metrics"] == ["logme"]
    assert "| metric |" in run(*arguments, "--format", "markdown").stdout
    # what it wrote is a table of scores and of accuracies
    for name in ("r.csv", "r.json"):
        run(*arguments, "--out", tmp_path / name)
        result = run("evaluate", tmp_path / name, tmp_path / name)
        assert result.exit_code == 0, result.output
    read = Ranking.from_csv(tmp_path / "r.csv"), Ranking.from_json(tmp_path / "r.json")
    assert read[0] == read[1]
    assert read[0].terms("good", "logme") == {}


@pytest.mark.parametrize(
    ("ending", "method", "module", "extra"),
    [
        ("parquet", "to_parquet", "pyarrow.parquet", "data"),
        ("xlsx", "to_excel", "openpyxl", "pandas"),
    ],
)
def test_other_tables_are_read_like_csv(
    run: Run, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ending: str, method: str, module: str, extra: str,
) -> None:  # fmt: skip
    pandas = pytest.importorskip("pandas")
    pytest.importorskip(module)
    (stored / "noise.npz").rename(stored / "007.npz")  # a name, not a number
    scores, accuracies = tmp_path / f"scores.{ending}", tmp_path / f"accuracies.{ending}"
    measured = {"model": ["good", "worse", "007"], "accuracy": [0.9, 0.8, 0.5]}
    getattr(pandas.DataFrame(measured), method)(accuracies, index=False)
    result = run("rank", stored, "--metrics", "logme", "--out", scores)
    assert result.exit_code == 0, result.output
    (tmp_path / "all").mkdir()
    scores.rename(tmp_path / "all" / f"data.{ending}")
    result = run("evaluate", tmp_path / "all", accuracies, "--format", "csv", "--dataset", "data")
    assert result.exit_code == 0, result.output
    assert next(csv.DictReader(io.StringIO(result.stdout)))["models"] == "3"
    (tmp_path / f"bad.{ending}").write_bytes(b"PAR1 and no more")
    result = run("evaluate", tmp_path / f"bad.{ending}", accuracies)
    assert (result.exit_code, f"bad.{ending} is truncated or no" in result.stderr) == (2, True)
    monkeypatch.setitem(sys.modules, module, None)
    result = run("evaluate", accuracies, accuracies)
    assert (result.exit_code, f'pip install "jaxte[{extra}]"' in result.stderr) == (2, True)


def test_a_directory_for_each_data_set(run: Run, tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), np.arange(30) % 3
    for dataset in ("pets", "food", "empty"):
        (tmp_path / "all" / dataset).mkdir(parents=True)
    for dataset in ("pets", "food"):
        for i, model in enumerate(ACCURACIES):
            features = random.normal(size=(30, 4)) + (3 - i) * np.eye(3, 4)[labels]
            np.savez(tmp_path / "all" / dataset / f"{model}.npz", features=features, labels=labels)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(dict.fromkeys(("pets", "food", "empty"), ACCURACIES)))
    arguments = ("rank", tmp_path / "all", "--metrics", "logme", "--accuracies", truth)
    result = run(*arguments, "--plot", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    assert "2 data sets ranked" in result.stdout
    assert "empty: " in result.stderr
    records = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    assert {(r["dataset"], r["model"]) for r in records} == {
        (dataset, model) for dataset in ("pets", "food") for model in ACCURACIES
    }
    content = json.loads(run(*arguments, "--format", "json").stdout)
    assert set(content["rankings"]) == {"pets", "food"}
    for name in ("all.json", "all.csv"):
        run(*arguments, "--out", tmp_path / name)
        shown = run("evaluate", tmp_path / name, truth, "--format", "csv").stdout
        assert next(csv.DictReader(io.StringIO(shown)))["models"] == "3"
        with pytest.raises(InputError, match="is no ranking"):
            (Ranking.from_csv if name.endswith("csv") else Ranking.from_json)(tmp_path / name)
    assert run(*arguments, "--format", "markdown").stdout.startswith("| metric |")
    one = run("rank", tmp_path / "all" / "pets", "--metrics", "logme", "--accuracies", truth)
    assert "1.000" in one.stdout


def test_data_sets_that_cannot_be_compared_are_ranked_all_the_same(
    run: Run, tmp_path: Path
) -> None:
    random, labels = np.random.default_rng(0), np.arange(30) % 3
    for dataset, count in (("few", 2), ("many", 3), ("unknown", 3)):
        (tmp_path / "all" / dataset).mkdir(parents=True)
        for model in list(ACCURACIES)[:count]:
            features = random.normal(size=(30, 4)) + np.eye(3, 4)[labels]
            np.savez(tmp_path / "all" / dataset / f"{model}.npz", features=features, labels=labels)
    truth = tmp_path / "truth.json"
    arguments = ("rank", tmp_path / "all", "--each", "--metrics", "logme", "--accuracies", truth)
    scored = {("few", 2), ("many", 3), ("unknown", 3)}
    for datasets, why in (
        (("few", "many"), "few: logme, static ranking: 2 models have both"),
        (("few",), "no comparison with accuracies: no data set has 3 models"),
    ):
        truth.write_text(json.dumps(dict.fromkeys(datasets, ACCURACIES)))
        result = run(*arguments, "--format", "csv")
        assert result.exit_code == 0, result.output
        names = [r["dataset"] for r in csv.DictReader(io.StringIO(result.stdout))]
        assert {(name, names.count(name)) for name in names} == scored
        assert why in result.stderr
        assert "no accuracies on" in result.stderr
        for form in ("table", "markdown"):
            text = run(*arguments, "--format", form).stdout
            heads = [line.strip("# ").partition(":")[0] for line in text.splitlines()]
            assert {"few", "unknown"} <= set(heads)
            if form == "markdown":
                assert ("many" in heads) == ("many" not in datasets)
    one = run("rank", tmp_path / "all" / "few", "--metrics", "logme", "--accuracies", truth)
    assert (one.exit_code, "2 models scored" in one.stdout) == (0, True)
    assert "fewer than 3: not evaluated" in one.stderr


@pytest.mark.parametrize("named", [False, True])
def test_the_data_set_of_accuracies_is_chosen_for_features_of_one(
    run: Run, stored: Path, tmp_path: Path, named: bool
) -> None:
    both = tmp_path / "both.json"
    both.write_text(json.dumps({"mine": ACCURACIES, "other": ACCURACIES}))
    if named:  # its files say another name
        labels = np.load(stored / "labels.npy")
        for name in ("good", "worse"):
            features = np.load(stored / f"{name}.npy")
            (stored / f"{name}.npy").unlink()
            np.save(stored / f"{name}_pets_feature.npy", features)
            np.save(stored / f"{name}_pets_label.npy", labels)
    arguments = ("rank", stored, "--metrics", "logme", "--accuracies", both)
    assert "(mine, other): choose with --dataset" in run(*arguments).stderr
    result = run(*arguments, "--dataset", "mine", "--format", "csv")
    assert result.exit_code == 0, result.output
    records = [r for r in csv.DictReader(io.StringIO(result.stdout)) if r["model"] == "good"]
    assert [(r["dataset"], r["accuracy"]) for r in records] == [("mine", "0.9")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "nowhere.csv", "{truth}"), "nowhere.csv does not exist"),
        (("evaluate", "{truth}", "published:cnn"), "sfda_cnn/full"),
        (("evaluate", "{truth}", "{truth}", "--draws", "0"), "--draws 0"),
        (("evaluate", "{truth}", "{truth}", "--plot", "p.doc"), "p.doc"),
        (("evaluate", "{stored}", "{truth}"), "holds no .json, .csv, .parquet, .xlsx"),
        (("rank", "{stored}", "--accuracies", "nowhere.csv"), "nowhere.csv does not exist"),
        (("rank", "{stored}", "--accuracies", "published:itm"), "named as none of the data sets"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    run: Run, stored: Path, truth: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = run(*(text.format(stored=stored, truth=truth) for text in arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_tables_that_cannot_be_read_are_named(run: Run, tmp_path: Path, truth: Path) -> None:
    (tmp_path / "empty.csv").write_text("model,score\n")
    (tmp_path / "semi.csv").write_text("model;dataset;score\na;b;0.5\n")
    said = {
        "empty.csv": f"scores of {tmp_path / 'empty.csv'}: the table is empty",
        "semi.csv": "semi.csv: the file seems to be separated by ';': commas are needed",
        "gone.xlsx": "gone.xlsx does not exist",
    }
    for name, message in said.items():
        assert message in run("evaluate", tmp_path / name, truth).stderr
