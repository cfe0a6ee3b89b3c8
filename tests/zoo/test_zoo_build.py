"""The build, from tiny original files to accuracies, and what it keeps when it runs again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxte import InputError, zoo
from jaxte.zoo.build import build
from jaxte.zoo.specs import TARGET_DRAWINGS, TARGETS, FineTune, ModelSpec, Probe

from .originals import write_cifar_bin, write_drawings, write_idx_set

SPECS = (
    ModelSpec("rows", "mlp", 16, ("mnist",), 200, lr=3e-3, batch=32),
    ModelSpec("both", "mlp", 16, ("mnist", "cifar10"), 2, batch=32, labels="shuffled"),
    ModelSpec("fresh", "mlp", 16, (), 0),
)
FINETUNE, PROBE = FineTune(epochs=1), Probe(epochs=2)
DRAWINGS = tuple(replace(spec, train_per_class=20) for spec in TARGETS if spec.name == "drawings")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with tiny originals of everything but digits."""
    root = tmp_path_factory.mktemp("originals")
    write_idx_set(root / "mnist", train=320, test=80, suffix=".gz")
    write_idx_set(root / "fashion_mnist", train=0, test=1600)
    write_cifar_bin(root / "cifar10", 20)
    write_drawings(root / "quickdraw", TARGET_DRAWINGS, 100)
    return root


@pytest.fixture(scope="module")
def built(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The directory of a whole build of three small models and one target, and what it said."""
    out = tmp_path_factory.mktemp("out")
    said: list[str] = []
    build(
        originals, out=out, specs=SPECS, target_specs=DRAWINGS, seeds=2, progress=said.append,
        finetune=FINETUNE, probe=PROBE,
    )  # fmt: skip
    return out, said


def test_everything_is_there(built: tuple[Path, list[str]]) -> None:
    """Models, target and accuracies can be read from the directory written."""
    out, said = built
    assert zoo.names(root=out) == ("both", "fresh", "rows")
    assert zoo.targets(root=out) == ("drawings",)
    result = zoo.accuracies("drawings", root=out)
    assert list(result) == ["both", "fresh", "rows"]
    assert all(a.seeds == (0, 1) for a in result.values())
    features = zoo.extract_all(root=out)["drawings"]["rows"]
    assert features.shape == (200, 16)
    assert len(said) == 1 + 3 + 6
    assert not list(out.rglob("*.part"))


def test_pretraining_learns(built: tuple[Path, list[str]]) -> None:
    """The classes of the tiny set are learned, by the weights as stored."""
    card = zoo.load("rows", root=built[0]).card
    assert card["source_test_accuracy"] > 0.9
    assert card["source_train_images"] == 320
    assert card["normalisation"]["mean"][0] == pytest.approx(
        (9.5 + 99) * 784 / 1024 / 255, abs=0.01
    )


def test_mixture_has_both_label_spaces(built: tuple[Path, list[str]]) -> None:
    """Two sources give twenty classes and all their images."""
    card = zoo.load("both", root=built[0]).card
    assert (card["source_classes"], card["source_train_images"]) == (20, 320 + 100)
    assert card["labels"] == "shuffled"
    assert zoo.load("fresh", root=built[0]).card["source_test_accuracy"] is None


def test_second_run_keeps_all_and_changes_nothing(
    built: tuple[Path, list[str]], originals: Path
) -> None:
    """Nothing is made again, and no original file is opened."""
    out, _ = built
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    said: list[str] = []
    build(None, out=out, specs=SPECS, target_specs=DRAWINGS, seeds=2, progress=said.append,
          finetune=FINETUNE, probe=PROBE)  # fmt: skip
    assert all(line.endswith("kept") for line in said)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_rebuilding_gives_the_same(
    built: tuple[Path, list[str]], originals: Path, tmp_path: Path
) -> None:
    """The same seeds give the same target, weights and accuracies, to the bit on one machine."""
    build(
        originals, out=tmp_path, models=["rows"], specs=SPECS, target_specs=DRAWINGS, seeds=2,
        resume=False, finetune=FINETUNE, probe=PROBE,
    )  # fmt: skip
    for name in ("weights/rows.safetensors", "targets/drawings.npz"):
        assert (tmp_path / name).read_bytes() == (built[0] / name).read_bytes()
    again = zoo.accuracies("drawings", root=tmp_path)
    assert again == {"rows": zoo.accuracies("drawings", root=built[0])["rows"]}


def test_what_changed_is_made_again(originals: Path, tmp_path: Path) -> None:
    """Another budget retrains, and its accuracies are measured anew; another recipe too."""
    said: list[str] = []

    def run(spec: ModelSpec, probe: Probe) -> list[str]:
        said.clear()
        build(
            originals, out=tmp_path, specs=(spec,), target_specs=DRAWINGS, seeds=1,
            stages=("pretrain", "targets", "probe"), probe=probe, progress=said.append,
        )  # fmt: skip
        return [line for line in said if line.endswith("kept")]

    spec = replace(SPECS[0], steps=1)
    assert run(spec, Probe(epochs=1)) == []
    assert len(run(spec, Probe(epochs=1))) == 3
    assert len(run(spec, Probe(epochs=2))) == 2
    assert len(run(replace(spec, steps=3), Probe(epochs=2))) == 1
    record = json.loads((tmp_path / "accuracies.json").read_text())
    assert record["recipes"]["probe"]["epochs"] == 2
    with pytest.raises(InputError, match="rows on drawings lacks a fine-tuning"):
        zoo.accuracies("drawings", root=tmp_path)


def test_all_targets_from_originals(originals: Path, tmp_path: Path) -> None:
    """The three targets of the package come out of originals with their shipped shapes."""
    write_drawings(originals / "quickdraw", TARGET_DRAWINGS, 100)
    build(originals, out=tmp_path, stages=("targets",), models=())
    for name in zoo.targets():
        made, shipped = zoo.load_target(name, root=tmp_path), zoo.load_target(name)
        assert made.train_images.shape == shipped.train_images.shape
        assert made.test_images.shape == shipped.test_images.shape
        assert made.card == shipped.card
    digits = zoo.load_target("digits", root=tmp_path)
    np.testing.assert_array_equal(digits.test_images, zoo.load_target("digits").test_images)


def test_missing_original_is_named(tmp_path: Path) -> None:
    """The first file that is not there is named with its folder."""
    with pytest.raises(InputError, match=r"no train-images-idx3-ubyte.*mnist"):
        build(tmp_path, out=tmp_path / "out", models=["mlp-mnist"], stages=["pretrain"])
    with pytest.raises(InputError, match="no directory given"):
        build(None, out=tmp_path / "out", models=["mlp-mnist"], stages=["pretrain"])
    with pytest.raises(InputError, match=r"mlp-mnist\.safetensors is missing: run the stages"):
        build(None, out=tmp_path / "out", models=["mlp-mnist"], stages=["probe"])


def test_unknown_names(tmp_path: Path) -> None:
    """Models and stages that do not exist are refused before any work."""
    with pytest.raises(InputError, match=r"no zoo model named 'resnet-50': .* vgg-cifar"):
        build(tmp_path, out=tmp_path, models=["resnet-50"])
    with pytest.raises(InputError, match="no zoo stage named 'train': did you mean 'pretrain'"):
        build(tmp_path, out=tmp_path, stages=["train"])
    with pytest.raises(InputError, match="seeds is 0"):
        build(tmp_path, out=tmp_path, seeds=0)
