"""The benchmark pool: what it holds, how a rate is chosen, and results that survive a kill."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxte import InputError, zoo
from jaxte.intake.lines import append_line, read_lines
from jaxte.zoo import benchmark
from jaxte.zoo.artefacts import digest, read_json
from jaxte.zoo.benchmark import build as building
from jaxte.zoo.benchmark import cuts as cutting
from jaxte.zoo.benchmark import measure as measuring
from jaxte.zoo.benchmark.cuts import TARGETS, Cut, cut_target
from jaxte.zoo.benchmark.measure import (
    OUTPUTS,
    PROBE,
    Problem,
    choose_rate,
    fit_head,
    judge,
    problem_of,
    rate_at,
    split_folds,
)
from jaxte.zoo.catalog import PACKAGE
from jaxte.zoo.models import FAMILIES
from jaxte.zoo.sources import Part
from jaxte.zoo.specs import MODELS, MORE_MODELS

from .originals import write_cifar_bin, write_idx_set
from .test_zoo_train import halves

ROOT = Path(__file__).parents[2]
CLASSES = Problem(2, False, np.zeros(1), np.ones(1))

# --- what the pool holds -------------------------------------------------------------------------


def test_models_and_targets() -> None:
    """At least 28 models and 12 targets of several kinds; each family's members have one width."""
    specs = (*MODELS, *MORE_MODELS)
    assert len({spec.name for spec in specs}) == len(specs) >= 28
    assert {spec.family for spec in specs} == set(FAMILIES)
    for family in FAMILIES:
        assert len({spec.width for spec in specs if spec.family == family}) == 1
    assert len({spec.name for spec in TARGETS}) == len(TARGETS) >= 12
    assert set(cutting.CUTS) == {spec.name for spec in TARGETS}
    assert sum(spec.task == "regression" for spec in TARGETS) >= 2
    assert sum(bool(spec.shift) for spec in TARGETS) >= 2
    assert all(spec.overlap and spec.licence for spec in TARGETS)


def test_what_ships() -> None:
    """Each model that ships loads, and fits its card."""
    folder = PACKAGE / "benchmark"
    by_name = {spec.name: spec for spec in MORE_MODELS}
    for name, root in benchmark.models().items():
        model = zoo.load(name, root=root)
        file = root / "weights" / f"{name}.safetensors"
        assert model.card["weights"]["sha256"] == digest(file)
        if root == folder:
            assert model.card["steps"] == by_name[name].steps
            images = np.zeros((2, 28, 28), np.uint8)
            assert np.isfinite(model.features(images)).all()


@pytest.mark.parametrize("file", ["accuracies.jsonl", "random-head.jsonl"])
def test_results_that_ship(file: str) -> None:
    """Every line names a model and a target of the pool and has five seeds of each stage."""
    targets = {spec.name: spec for spec in TARGETS}
    names = {spec.name for spec in (*MODELS, *MORE_MODELS)}
    actual = benchmark.results(PACKAGE / "benchmark" / file)
    assert actual
    for result in actual:
        assert result.model in names
        spec = targets[result.target]
        for values in (result.finetune, result.probe):
            assert len(values) == 5
            assert not any(value > 1 for value in values)
        assert bool(result.finetune_shifted) == bool(spec.shift)
        mean = result.card["finetune"].get("test_mean", np.nan)  # left out where a seed diverged
        assert mean == pytest.approx(np.mean(result.finetune), abs=1e-5, nan_ok=True)


def test_weights_of_results_are_those_that_ship() -> None:
    """No line is of other weights or another recipe: each key is that of what ships."""
    cards = benchmark.targets()
    there = benchmark.models()
    for result in benchmark.results():
        images = cards[result.target]["sha256_of_arrays"]
        weights = digest(there[result.model] / "weights" / f"{result.model}.safetensors")
        assert result.card["key"] == building.key_of_pair(
            result.model, weights, result.target, images
        )


# --- targets -------------------------------------------------------------------------------------


def test_cut_is_the_same_each_time_and_its_parts_share_no_image(tmp_path: Path) -> None:
    """Cut twice, a target has the same bytes; its parts share no image; a shift has its labels."""
    write_cifar_bin(tmp_path / "cifar10", 600)
    first, again = (cut_target("natural-longtail", tmp_path) for _ in range(2))
    for one, other in zip(first[:3], again[:3], strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    rows = [{image.tobytes() for image in part.images} for part in (first.train, first.test)]
    assert not rows[0] & rows[1]
    counts = np.bincount(first.train.labels, minlength=10)
    assert counts.max() > 4 * counts.min()
    assert first.shifted is not None
    np.testing.assert_array_equal(first.shifted.labels, first.test.labels)
    assert np.abs(first.shifted.images.astype(int) - first.test.images).mean() > 5


def test_target_missing(tmp_path: Path) -> None:
    """An original that is not there is named."""
    with pytest.raises(InputError, match="dsprites"):
        cut_target("sprites-scale", tmp_path)
    with pytest.raises(InputError, match="say where the original data is"):
        building.build(None, out=tmp_path, targets=["textile"], stages=("targets",))


# --- measuring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "inside"), [(-3, True), (-6, True), (0, False), (-10, False)]
)  # half decades; the probe's grid goes from -10 to 0
def test_rate_is_walked_to_until_it_lies_inside(best: int, inside: bool) -> None:
    """The walk ends at the best rate, with both neighbours tried, or says that it is the edge."""
    tried = set()

    def train(data: Part, lr: float, seed: int) -> Any:
        del data, seed
        tried.add(lr)
        guess = 1 - abs(round(2 * math.log10(lr)) - best) / 20  # 1 is right
        return lambda images: np.full((len(images), OUTPUTS), guess)

    problem = Problem(1, True, np.zeros(1), np.ones(1))
    numbers = Part(np.zeros((400, 3), np.float32), np.linspace(0.9, 1.1, 400)[:, None])
    actual = choose_rate(PROBE, numbers, problem, train)
    assert actual["lr"] == rate_at(best)
    assert actual["inside"] is inside
    neighbours = {rate_at(step) for step in (best - 1, best + 1) if -10 <= step <= 0}
    assert neighbours <= tried
    assert len(tried) < 9 or not inside


def test_rate_that_diverges_is_not_chosen() -> None:
    """Outputs that are no numbers lose to any other, and are null in the book."""

    def train(data: Part, lr: float, seed: int) -> Any:
        del data, seed
        return lambda images: np.full((len(images), OUTPUTS), np.nan if lr > 0.005 else 0.0)

    actual = choose_rate(PROBE, Part(np.zeros((40, 3)), np.arange(40) % 2), CLASSES, train)
    assert actual["lr"] <= 0.003
    assert actual["validation"]["0.01"] is None
    json.dumps(actual, allow_nan=False)


def test_rate_is_judged_on_enough_images() -> None:
    """All folds of a small target, one of a large one; the probe, which costs nothing, all."""
    assert [measuring.FINETUNE.splits(n) for n in (20, 100, 480, 2000)] == [5, 5, 2, 1]
    assert [PROBE.splits(n) for n in (20, 2000)] == [5, 5]


def test_folds_are_even_by_class_and_cover_each_image_once() -> None:
    """Every image is held out in one fold; classes are spread over the folds, numbers too."""
    images = np.arange(53)[:, None]
    labels = np.repeat(np.arange(3), (30, 20, 3))
    for part in (Part(images, labels), Part(images, labels[:, None].astype(float))):
        folds = split_folds(part, 5)
        tested = np.concatenate([part.images[:, 0] for part, _ in folds])
        assert sorted(tested) == list(range(53))
        for held_part, kept in folds:
            assert not set(held_part.images[:, 0]) & set(kept.images[:, 0])
            assert len(held_part.labels) + len(kept.labels) == 53
    for held_part, _ in split_folds(Part(images, labels), 5):
        assert np.bincount(held_part.labels, minlength=2)[:2].tolist() == [6, 4]


@pytest.mark.parametrize("regression", [False, True])
def test_head_is_of_the_features_as_such(regression: bool) -> None:
    """The head fitted on standardised features tells unscaled ones; a dead feature does no harm."""
    rng = np.random.default_rng(0)
    features = rng.normal(3.0, (1.0, 50.0, 1.0, 0.0), (200, 4)).astype(np.float32)
    numbers = features[:, :1] + features[:, 1:2] / 50
    labels = numbers if regression else (numbers[:, 0] > numbers.mean()).astype(int)
    part = Part(features, labels)
    problem = problem_of(Cut(part, part, None, () if regression else ("low", "high")))
    head = fit_head(problem, part, 1e-2, 0)
    score = judge(problem, features @ head["kernel"] + head["bias"], labels)
    assert score.value is not None
    assert score.value > 0.95
    assert np.abs(head["kernel"]).max() < 100


def test_judge() -> None:
    """Accuracy and R2 look at the columns of the target alone; NaN is nothing."""
    outputs = np.zeros((4, OUTPUTS))
    outputs[:, 5] = 9  # of no class
    outputs[[0, 1, 2, 3], [0, 1, 1, 1]] = 2
    score = judge(CLASSES, outputs, np.array([0, 1, 1, 0]))
    assert score.value == 0.75
    values = np.array([[1.0], [2.0], [3.0], [6.0]])
    problem = problem_of(Cut(Part(values, values), Part(values, values), None, ()))
    outputs[:, 0] = ((values - problem.mean) / problem.std)[:, 0]
    assert judge(problem, outputs, values).value == 1.0
    outputs[:, 0] = 0.0
    assert judge(problem, outputs, values).value == pytest.approx(0.0, abs=1e-5)
    assert judge(problem, outputs * np.nan, values) == (None, None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An output directory with two targets, one to classify and one to tell a number, and recipes
    of a few steps."""
    brief = replace(
        measuring.FINETUNE, epochs=1, fewest=60, steps=60, batch=16, seeds=2, least=1e-3
    )
    monkeypatch.setattr(measuring, "FINETUNE", brief)
    monkeypatch.setattr(measuring, "PROBE", replace(PROBE, fewest=100, steps=100, seeds=2))

    def classes(data: Path, rng: np.random.Generator) -> Cut:
        del data, rng
        return Cut(halves(40, 0), halves(60, 1), halves(30, 2), ("up", "down"))

    def numbers(data: Path, rng: np.random.Generator) -> Cut:
        del data
        parts = []
        for count in (60, 60):
            value = rng.uniform(0, 200, (count, 1)).astype(np.float32)
            images = np.broadcast_to(value[:, :, None], (count, 32, 32)).astype(np.uint8)
            parts.append(Part(images, value))
        return Cut(parts[0], parts[1], None, ())

    specs = (
        replace(TARGETS[0], name="classes", shift="other"),
        replace(TARGETS[0], name="numbers", task="regression"),
    )
    monkeypatch.setattr(building, "TARGETS", specs)
    monkeypatch.setattr(cutting, "CUTS", {"classes": classes, "numbers": numbers})
    return tmp_path


def test_build_measures_and_goes_on_where_it_was_stopped(small: Path) -> None:
    """Stopped after one pair and with a torn line, it measures the others alone; both learn."""

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if " on " in line:
            raise Stop

    arguments: dict[str, Any] = {"out": small, "models": ["mlp-mnist"]}
    with pytest.raises(Stop):
        building.build(small, **arguments, stages=("targets", "accuracies"), progress=stop)
    file = small / "accuracies.jsonl"
    first = file.read_text()
    assert first.count("\n") == 1
    file.write_text(first + '{"key": "half of a li')
    said: list[str] = []
    building.build(small, **arguments, progress=said.append)
    assert file.read_text().startswith(first)
    assert sum(" on " in line for line in said) == 1
    actual = {result.target: result for result in benchmark.results(file)}
    assert set(actual) == {"classes", "numbers"}
    assert np.mean(actual["classes"].finetune) > 0.9
    assert np.mean(actual["classes"].probe) > 0.9
    assert len(actual["classes"].finetune_shifted) == 2
    assert np.mean(actual["numbers"].finetune) > 0.5  # a constant has 0
    assert actual["numbers"].finetune_shifted == ()
    building.build(small, **arguments, progress=said.append)
    assert sum(" on " in line for line in said) == 1


def test_result_is_measured_anew_where_its_inputs_changed(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another recipe, or another image, is another key. Of two steps, as nobody is to learn."""
    for name in ("FINETUNE", "PROBE"):
        recipe = replace(getattr(measuring, name), fewest=2, steps=2)
        monkeypatch.setattr(measuring, name, recipe)
    arguments: dict[str, Any] = {"out": small, "models": ["mlp-mnist"], "targets": ["classes"]}
    building.build(small, **arguments)
    file = small / "accuracies.jsonl"
    monkeypatch.setattr(measuring, "FINETUNE", replace(measuring.FINETUNE, weight_decay=0.3))
    building.build(small, **arguments)
    assert len(read_lines(file)) == 2
    card_path = small / "targets" / "classes.json"
    card = read_json(card_path)
    card_path.write_text(json.dumps({**card, "licence": "another"}))  # cut again, same images
    building.build(small, **arguments)
    assert len(read_lines(file)) == 2
    assert len(benchmark.results(file)) == 1  # the last of a pair counts


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"models": ["nope"]}, "no zoo model named 'nope'"),
        ({"targets": ["nope"]}, "no zoo target named 'nope'"),
        ({"stages": ["probe"]}, "no zoo stage named 'probe'"),
    ],
)
def test_unknown_names(argument: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A name that is not there is said, with those that are."""
    with pytest.raises(InputError, match=message):
        building.build(tmp_path, out=tmp_path, **argument)


# --- the file of results -------------------------------------------------------------------------


def test_lines_survive_a_kill(tmp_path: Path) -> None:
    """Killed at any byte of its last line, the file keeps those before it and takes new ones."""
    file = tmp_path / "lines.jsonl"
    for key in ("a", "b"):
        append_line(file, {"key": key, "value": "ä"})
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        file.write_bytes(whole[:length])
        assert set(read_lines(file)) <= {"a", "b"}
        append_line(file, {"key": "c"})
        assert list(read_lines(file)) == ["a", "c"]


@pytest.mark.parametrize("line", ["{}", "[1]", "3", '{"key": 3}'])
def test_a_line_of_another_kind_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    append_line(file, {"key": "a"})
    with file.open("a") as whole:
        whole.write(line + "\n")
    with pytest.raises(InputError, match=r"line 2, is no object with a \"key\""):
        read_lines(file)


def test_damaged_line_is_named(tmp_path: Path) -> None:
    """A line damaged in the middle is not passed over."""
    file = tmp_path / "lines.jsonl"
    file.write_text('{"key": "a"}\nnonsense\n{"key": "b"}\n')
    with pytest.raises(InputError, match="line 2"):
        read_lines(file)


def test_import_loads_no_flax() -> None:
    """Reading the results needs none of the zoo's packages."""
    code = (
        "import sys; from jaxte.zoo import benchmark; benchmark.results(); benchmark.targets();"
        "assert not {'flax', 'optax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_mnist_target_has_another_hand(tmp_path: Path) -> None:
    """The shifted part of the digits comes from another set, framed as MNIST is."""
    write_idx_set(tmp_path / "mnist", train=20, test=400)
    cut = cut_target("mnist-100", tmp_path)
    assert len(cut.train.labels) == 100
    assert cut.shifted is not None
    assert cut.shifted.images.shape == (1797, 32, 32)
    assert not cut.shifted.images[:, :8].any()
