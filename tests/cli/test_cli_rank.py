"""`jaxte rank`: formats, options, models that fail, input that cannot be used."""

import csv
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import jaxte
from jaxte.cli import _options as options
from jaxte.metrics import DEFAULT_METRICS

from .conftest import Run

SCORED = {"good", "worse", "noise"}


def test_table_names_the_best_and_the_failed(run: Run, stored: Path) -> None:
    result = run("rank", stored)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert rows["model"] == ["model", "ridge_probe", "#", "logme", "#", "sfda", "#", "face", "#"]
    assert rows["good"][1].startswith("*")
    assert rows["good"][2] == "1"
    assert "short: short.npy is truncated" in result.stdout
    assert "NaN" in rows["holed:"]
    assert "\x1b" not in result.stdout
    assert "jaxte: short: short.npy is truncated" in result.stderr


def test_csv_is_the_ranking_and_nothing_else(run: Run, stored: Path) -> None:
    result = run("rank", stored, "--format", "csv", "--metrics", "logme,face")
    assert result.exit_code == 0, result.output
    records = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {r["model"] for r in records} == SCORED | {"holed", "short"}
    features = {
        "good": np.load(stored / "good.npy"),
        "worse": np.load(stored / "worse.npy"),
        "noise": np.load(stored / "noise.npz")["features"],
    }
    ranking = jaxte.rank(features, np.load(stored / "labels.npy"), metrics=("logme", "face"))
    for record in records:
        if record["model"] in SCORED:
            expected = ranking.score(record["model"], record["metric"])
            assert float(record["score"]) == pytest.approx(expected, rel=1e-9)
            assert record["status"] == "ok"
            order = ranking.order(record["metric"])
            assert order[int(record["rank"]) - 1] == record["model"]
        else:
            assert record["score"] == record["rank"] == ""
            assert record["status"] != "ok"


def test_files_without_labels_are_ranked_by_what_reads_none(run: Run, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    np.save(tmp_path / "bare.npy", x)
    np.savez(tmp_path / "head.npz", features=x[:, :3], logits=3 * x)
    result = run("rank", tmp_path, "--format", "csv", "--metrics", "energy,msp")
    assert result.exit_code == 0, result.output
    records = csv.DictReader(io.StringIO(result.stdout))
    scores = {(r["model"], r["metric"]): r["score"] for r in records}
    expected = float(jaxte.metrics.msp(None, logits=3 * x))
    assert float(scores["head", "msp"]) == pytest.approx(expected, rel=1e-5)
    assert float(scores["bare", "energy"]) > float(scores["head", "energy"])
    assert scores["bare", "msp"] == ""
    result = run("rank", tmp_path, "--metrics", "energy,logme")
    assert result.exit_code == 2
    assert "no labels.npy beside" in result.stderr


def test_layers_are_ranked_each_or_joined(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(30) % 3
    for name in ("net", "other"):
        batch = random.normal(size=(30, 6)).astype("float32")
        jaxte.extract(
            lambda x: {"early": x[:, :4], "late": x[:, 2:]}, [(batch, y)], layers=["early", "late"],
            out=tmp_path / name, name=name,
        )  # fmt: skip
    each, joined = (
        json.loads(run("rank", tmp_path, "--format", "json", *options).stdout)
        for options in ((), ("--layers", "joined"))
    )
    assert set(each["models"]) == {f"{m}@{x}" for m in ("net", "other") for x in ("early", "late")}
    assert set(joined["models"]) == {"net", "other"}
    assert any("all layers of each model" in note for note in joined["notes"])
    assert any("net, other are ranked one by one" in note for note in each["notes"])
    undecided = run("rank", tmp_path, "--layers", "each", "--metrics", "logme,face").stdout
    assert "No recommendation: none of logme, face decides alone." in undecided
    assert "one by one" not in undecided
    shown = run("rank", tmp_path, "--layers", "joined").stdout
    assert "ine-tune " in shown
    assert run("rank", tmp_path, "--layers", "both").exit_code == 2


def test_json_is_strict_and_markdown_is_a_table(run: Run, stored: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(run("rank", stored, "--format", "json").stdout, parse_constant=refuse)
    assert set(content["models"]) == SCORED | {"holed", "short"}
    assert content["metrics"] == list(DEFAULT_METRICS)
    by_key = {(r["model"], r["metric"]): r for r in content["records"]}
    assert len(by_key) == len(content["records"]) == 20
    assert by_key["short", "sfda"]["score"] is None
    assert by_key["good", "face"]["variance_collapse"] < 0
    lines = run("rank", stored, "--format", "markdown").stdout.splitlines()
    assert lines[0] == "| model | ridge_probe | # | logme | # | sfda | # | face | # |"
    assert lines[2].startswith("| good | **")


def test_out_takes_its_form_from_the_ending(run: Run, stored: Path, tmp_path: Path) -> None:
    starts = {"r.csv": "model,", "r.json": "{", "r.md": "| model", "r": "model ", "r.txt": "model "}
    for name, start in (starts | {"R.CSV": "model,", "r.html": "<!doctype html>"}).items():
        result = run("rank", stored, "--metrics", "sfda", "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert (tmp_path / name).read_text("utf-8").startswith(start)
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "<title>jaxte: Fine-tune good</title>" in page
    assert page.index('<p class="verdict">Fine-tune good, by sfda') < page.index("<table>")
    assert "<b>#</b> place" in page
    result = run("rank", stored, "--out", tmp_path / "s.csv", "--format", "json")
    assert json.loads((tmp_path / "s.csv").read_text("utf-8"))["metrics"][0] == "ridge_probe"


@pytest.mark.parametrize("command", [("metrics",), ("zoo", "list")], ids=" ".join)
@pytest.mark.parametrize(
    ("ending", "start"),
    [("csv", ""), ("json", "{["), ("md", "| "), ("html", "<!doctype html>"), ("txt", "")],
)
def test_other_commands_write_the_same_forms(
    run: Run, tmp_path: Path, command: tuple[str, ...], ending: str, start: str
) -> None:
    out = tmp_path / f"r.{ending}"
    result = run(*command, "--out", out)
    assert result.exit_code == 0, result.output
    text = out.read_text("utf-8")
    assert text.startswith(tuple(start) if ending == "json" else start)
    assert ("<table>" in text) == (ending == "html")
    assert run(*command, "--out", tmp_path / "r.xyz").exit_code == 2


def test_options_reach_the_metrics(run: Run, stored: Path) -> None:
    def scores(*options: str) -> dict[str, float]:
        result = run("rank", stored, "--format", "csv", *options)
        assert result.exit_code == 0, result.output
        records = csv.DictReader(io.StringIO(result.stdout))
        return {r["model"]: float(r["score"]) for r in records if r["score"]}

    plain = scores("--metrics", "SFDA")
    paper = scores("--metrics", "sfda", "--set", "sfda.variant=paper")
    assert all(0 < plain[m] <= 1 and paper[m] < 0 for m in SCORED)
    mild = scores("--metrics", "sfda", "--set", "sfda.shrinkage=0.5")
    assert mild != plain
    assert scores("--metrics", "sfda", "--perturb", "spread") != plain
    half = scores("--metrics", "sfda", "--precision", "float32")
    assert half == pytest.approx(plain, abs=1e-3)


def test_lists_by_commas_and_repeats(run: Run, stored: Path) -> None:
    commas = run("rank", stored, "--format", "json", "--metrics", "logme,hscore")
    repeats = run("rank", stored, "--format", "json", "--metrics", "LogME", "--metrics", "hscore")
    assert json.loads(commas.stdout)["metrics"] == ["logme", "hscore"]
    assert json.loads(repeats.stdout)["metrics"] == ["logme", "hscore"]
    assert options.names(["a, b", "c", ""]) == ("a", "b", "c")
    assert options.models(["m=zoo:a,hf:x,y/z,encoder:b", "c,d"]) == (
        *("m=zoo:a", "hf:x,y/z", "encoder:b"),
        *("c", "d"),
    )


def test_a_choice_among_data_sets(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for dataset in ("pets", "food"):
        for model in ("resnet_50", "vgg"):
            np.save(tmp_path / f"{model}_{dataset}_feature.npy", random.normal(size=(20, 4)))
            np.save(tmp_path / f"{model}_{dataset}_label.npy", np.arange(20) % 2)
    result = run("rank", tmp_path)
    assert result.exit_code == 2
    assert "food, pets" in result.stderr
    result = run("rank", tmp_path, "--dataset", "pets", "--format", "csv", "--metrics", "sfda")
    assert result.exit_code == 0, result.output
    assert [line.split(",")[0] for line in result.stdout.splitlines()[1:]] == ["resnet_50", "vgg"]


def test_plot_is_saved(run: Run, stored: Path, tmp_path: Path) -> None:
    result = run("rank", stored, "--metrics", "logme", "--plot", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics", "logme,logmee"], ["logmee", "did you mean 'logme'"]),
        (["--metrics", ""], ["metric"]),
        (["--precision", "float63"], ["float63", "float64"]),
        (["--normalize", "max"], ["'max'", "minmax"]),
        (["--perturb", "shake"], ["shake", "spread"]),
        (["--set", "sfda.variant=papre"], ["papre", "paper"]),
        (["--set", "sfda.colour=blue"], ["colour"]),
        (["--set", "variant=paper"], ["METRIC.OPTION=VALUE"]),
        (["--set", "sdfa.variant=paper"], ["sdfa"]),
        (["--out", "nowhere/r.csv"], ["nowhere", "create"]),
        (["--plot", "nowhere/p.png"], ["nowhere", "create"]),
        (["--plot", "p.docx"], ["docx", "png"]),
        (["--out", "r.docx"], ["r.docx", ".csv", ".html"]),
        (["--out", "r.xml", "--plot", "p.png"], ["r.xml", ".md"]),
        (["--format", "xml"], ["xml", "html"]),
        (["--set", "face.temperature=abc"], ["face.temperature is 'abc'", "number"]),
        (["--set", "face.temperature=true"], ["face.temperature is True", "number"]),
        (["--set", "face.temperature=NaN"], ["face.temperature is nan", "number"]),
        (["--set", "face.temperature=-1"], ["temperature is -1", "positive"]),
        (["--set", "face.temperature=[1,2]"], ["face.temperature is [1, 2]", "number"]),
        (["--set", "face.temperature=" + "[" * 5000], ["face.temperature", "number"]),
        (["--set", "sfda.double_softmax=yes"], ["sfda.double_softmax", "true or false"]),
        (["--set", "face.temperature=1", "--set", "face.temperature=2"], ["set twice"]),
        (["--set", "=1"], ["METRIC.OPTION=VALUE"]),
        (["--devices", "x"], ["--devices", "integer"]),
        (["--colour"], ["--colour"]),
        (["--dataset", "pets"], ["_pets_feature.npy"]),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    run: Run, stored: Path, arguments: list[str], said: list[str]
) -> None:
    result = run("rank", stored, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("jaxte: ")
    for word in said:
        assert word in result.stderr


def test_directories_that_cannot_be_ranked(run: Run, tmp_path: Path) -> None:
    for directory, said in (("nowhere", "does not exist"), (".", "holds no features")):
        result = run("rank", tmp_path / directory)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert said in result.stderr


def test_pickled_arrays_are_refused_and_never_loaded(run: Run, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Trap()))
    np.save(tmp_path / "boxed.npy", np.array([Trap()], dtype=object))
    np.savez(tmp_path / "archive.npz", features=np.array([Trap()], dtype=object))
    np.save(tmp_path / "labels.npy", np.arange(4) % 2)
    result = run("rank", tmp_path)
    assert result.exit_code == 2
    assert "pickled objects, which are refused" in result.stderr
    assert not trap.exists()


def test_a_pool_of_which_nothing_is_left(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "holed.npz", features=np.full((6, 2), np.nan), labels=np.arange(6) % 2)
    result = run("rank", tmp_path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "no model can be scored. holed: " in result.stderr


def test_a_pool_of_which_nothing_gets_a_score(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", features=np.ones((6, 9)), labels=np.arange(6) % 2)
    result = run("rank", tmp_path, "--metrics", "face")
    assert result.exit_code == 2
    assert "\n  flat: " in result.stdout
    assert "no model could be scored" in result.stderr.splitlines()[-1]


def test_what_decides_has_intervals_where_they_are_cheap(
    run: Run, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxte.ranking.options.CHEAP", 1e12)
    result = run("rank", stored, "--metrics", "hscore", "--permutations", "9", "--format", "json")
    content = json.loads(result.stdout)
    assert (content["meta"]["permutations"], content["meta"]["intervals"]) == (9, ["hscore"])
    good = next(r for r in content["records"] if r["model"] == "good")
    assert good["lo"] < good["score"] < good["hi"]
    assert good["p_value"] == pytest.approx(1 / 10)
    plain = run("rank", stored, "--metrics", "hscore", "--format", "json", "--no-intervals")
    assert "intervals" not in json.loads(plain.stdout)["meta"]


def test_a_number_of_permutations_below_0_is_refused(run: Run, stored: Path) -> None:
    result = run("rank", stored, "--permutations", "-3")
    assert result.exit_code == 2
    assert "permutations is -3: give a whole number from 0 on" in result.stderr


def test_papers_and_spreadsheets(run: Run, stored: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    for name in ("r.tex", "r.parquet"):
        result = run("rank", stored, "--metrics", "hscore", "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    text = (tmp_path / "r.tex").read_text()
    assert text.startswith(f"% jaxte {jaxte.__version__}, {stored.name}, ")
    assert r"\begin{tabular}{l" in text
    assert r"model & hscore & \# \\" in text.replace(r"+/- & ", "").replace(r" & best", "")
    assert r"\textbf{" in text
    frame = pandas.read_parquet(tmp_path / "r.parquet")
    assert set(frame["model"]) == SCORED | {"holed", "short"}
    assert frame["score"].notna().sum() == 3
    wrong = run("rank", stored, "--format", "json", "--out", tmp_path / "r.parquet")
    assert wrong.exit_code == 2
    assert "leave out --format" in wrong.stderr


def test_a_spreadsheet_needs_its_package(
    run: Run, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxte.cli._output.find_spec", lambda name: None)
    result = run("rank", stored, "--out", tmp_path / "r.xlsx")
    assert result.exit_code == 2
    assert "needs packages: pip install pandas openpyxl" in " ".join(result.stderr.split())


def test_each_directory_is_a_data_set(run: Run, tmp_path: Path) -> None:
    random, y = np.random.default_rng(0), np.arange(30) % 3
    for name in ("cats", "dogs"):
        (tmp_path / "hub" / name).mkdir(parents=True)
        for model in "ab":
            x = random.normal(size=(30, 4))
            np.savez(tmp_path / "hub" / name / f"{model}.npz", features=x, labels=y)
    result = run("rank", tmp_path / "hub", "--each", "--metrics", "hscore", "--format", "csv")
    records = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(r["dataset"], r["model"]) for r in records] == [
        (name, model) for name in ("cats", "dogs") for model in "ab"
    ]
    assert "cats: a, b are read as parts of one model" in " ".join(
        run("rank", tmp_path / "hub", "--metrics", "hscore").stderr.split()
    )
    for name in "ab":
        (tmp_path / "hub" / "dogs" / f"{name}.npz").rename(
            tmp_path / "hub" / "dogs" / f"resnet{18 if name == 'a' else 34}.npz"
        )
    (tmp_path / "hub" / "cats" / "b.npz").unlink()
    assert "dogs: resnet18, resnet34 are read as parts of one model" in " ".join(
        run("rank", tmp_path / "hub", "--metrics", "hscore").stderr.split()
    )
    none = run("rank", tmp_path / "hub" / "cats", "--each")
    assert (none.exit_code, "has no directories, which --each ranks" in none.stderr) == (2, True)
    both = run("rank", tmp_path / "hub", "--each", "--dataset", "cats")
    assert both.exit_code == 2
    assert "leave out --dataset" in both.stderr
    plot = tmp_path / "p.png"
    shown = run("rank", tmp_path / "hub", "--each", "--metrics", "hscore", "--plot", plot).stdout
    assert shown.count("by hscore") == 2
    assert "dogs: Fine-tune" in shown
    assert {p.name for p in tmp_path.glob("*.png")} == {"p-cats.png", "p-dogs.png"}
