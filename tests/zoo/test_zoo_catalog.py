"""What ships: models, cards, targets, accuracies."""

import json
import math
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from jaxte import InputError, zoo
from jaxte.zoo.artefacts import digest
from jaxte.zoo.catalog import PACKAGE
from jaxte.zoo.network import read_tensors
from jaxte.zoo.specs import MODELS, SOURCE_DRAWINGS, TARGET_DRAWINGS, TARGETS

NAMES = zoo.names()
CARD_KEYS = {
    "name", "architecture", "width", "parameters", "source", "source_classes",
    "source_train_images", "source_test_accuracy", "source_licence", "steps", "batch", "lr",
    "seed", "labels", "normalisation", "weights", "licence", "intended_use", "limits",
    "training_seconds", "versions",
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> zoo.Target:
    """The smallest target."""
    return zoo.load_target("digits")


def test_every_specified_model_ships() -> None:
    """Names, weight files and specifications agree; there are at least ten models."""
    weights = sorted(path.stem for path in (PACKAGE / "weights").iterdir())
    assert list(NAMES) == weights == sorted(spec.name for spec in MODELS)
    assert len(NAMES) >= 10


def test_families_widths_and_sources_differ() -> None:
    """The pool is not one architecture, one width or one source."""
    assert len({spec.family for spec in MODELS}) >= 8
    assert len({spec.width for spec in MODELS}) >= 4
    assert len({spec.source for spec in MODELS}) >= 5
    assert {spec.labels for spec in MODELS} == {"true", "shuffled"}


@pytest.mark.parametrize("name", NAMES)
def test_features(name: str, digits: zoo.Target) -> None:
    """Width of the card, float32, finite, not constant, and the same again."""
    model = zoo.load(name)
    images = digits.train_images[:20]
    features = model.features(images)
    assert features.shape == (20, model.card["width"])
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert features.std(0).max() > 1e-3
    np.testing.assert_array_equal(features, zoo.load(name).features(images))


@pytest.mark.parametrize("name", ["mlp-mnist", "resnet-cifar", "vit-quickdraw"])
def test_features_do_not_depend_on_the_batch(name: str, digits: zoo.Target) -> None:
    """A row is the same alone, beside others, and across the border of two batches."""
    model = zoo.load(name)
    images = digits.train_images[:260]
    whole = model.features(images)
    np.testing.assert_allclose(
        model.features(images[255:258]), whole[255:258], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(model.features(images[7:8]), whole[7:8], rtol=1e-5, atol=1e-5)


def test_features_take_colour_and_other_sizes() -> None:
    """Any uint8 image goes in; floats do not."""
    model = zoo.load("mlp-mnist")
    rng = np.random.default_rng(0)
    for shape in ((2, 28, 28), (2, 40, 30, 3), (2, 16, 16, 1)):
        images = rng.integers(0, 256, shape).astype(np.uint8)
        assert model.features(images).shape == (2, 256)
    with pytest.raises(InputError, match="dtype float64"):
        model.features(np.zeros((2, 28, 28)))


@pytest.mark.parametrize("name", NAMES)
def test_card(name: str) -> None:
    """Complete, in accord with the specification and with the weight file."""
    card = zoo.load(name).card
    spec = next(spec for spec in MODELS if spec.name == name)
    assert card.keys() == CARD_KEYS
    assert (card["architecture"], card["width"]) == (spec.family, spec.width)
    assert (tuple(card["source"]), card["steps"], card["lr"]) == (spec.source, spec.steps, spec.lr)
    assert len(card["source_licence"]) == len(spec.source)
    assert min(card["normalisation"]["std"]) > 0
    assert len(card["normalisation"]["mean"]) == 3
    path = PACKAGE / "weights" / f"{name}.safetensors"
    assert card["weights"]["sha256"] == digest(path)
    assert card["weights"]["bytes"] == path.stat().st_size
    tensors = read_tensors(path)
    body = sum(t.size for key, t in tensors.items() if key.startswith("body/"))
    assert card["parameters"] == body
    assert tensors["head/kernel"].shape == (spec.width, card["source_classes"])


def test_cards_tell_trained_from_control() -> None:
    """Real training beats chance by far, shuffled labels do not, a random model has no accuracy."""
    for name in NAMES:
        card = zoo.load(name).card
        accuracy, chance = card["source_test_accuracy"], 1 / card["source_classes"]
        if not card["source"]:
            assert accuracy is None
        elif card["labels"] == "shuffled":
            assert abs(accuracy - chance) < 0.05
        else:
            assert accuracy > 2 * chance


def test_weights_and_normalisation_belong_together(digits: zoo.Target) -> None:
    """The MNIST model with its own head reads digits it never saw, from another collection."""
    model = zoo.load("mlp-mnist")
    tensors = read_tensors(PACKAGE / "weights" / "mlp-mnist.safetensors")
    # MNIST digits are 20 pixels high inside the frame, these fill it
    small = np.zeros((500, 32, 32), np.uint8)
    enlarged = np.kron(digits.train_images, np.ones((1, 3, 3), np.uint8))
    small[:, 4:28, 4:28] = enlarged
    logits = model.features(small) @ tensors["head/kernel"] + tensors["head/bias"]
    assert (logits.argmax(1) == digits.train_labels).mean() > 0.5


def test_size_and_formats() -> None:
    """Under 8 MB in a wheel, with the benchmark pool, and nothing that unpickles."""
    files = [p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 8_000_000
    kinds = {path.suffix for path in files}
    assert kinds == {".py", ".safetensors", ".npz", ".json", ".jsonl"}


def test_targets() -> None:
    """Ten classes, 500 training images each, labels of both parts in range, no image in both."""
    assert zoo.targets() == tuple(sorted(spec.name for spec in TARGETS))
    for name in zoo.targets():
        target = zoo.load_target(name)
        assert len(target.class_names) == 10
        assert np.bincount(target.train_labels).tolist() == [50] * 10
        assert len(target.train_images) == 500
        assert set(target.test_labels.tolist()) == set(range(10))
        assert len(target.test_images) == len(target.test_labels) >= 500
        assert target.train_images.dtype == target.test_images.dtype == np.uint8
        assert target.licence
        assert target.source
        assert target.card["attribution"]


def test_train_and_test_images_differ() -> None:
    """No training image is among the test images of its set."""
    for name in zoo.targets():
        target = zoo.load_target(name)
        train = {image.tobytes() for image in target.train_images}
        shared = sum(image.tobytes() in train for image in target.test_images)
        assert shared == 0, f"{name}: {shared} test images are also training images"


def test_targets_are_no_sources() -> None:
    """No model was trained on a target: other sets, and other classes of drawings."""
    sources = {name for spec in MODELS for name in spec.source}
    assert sources == {"cifar10", "mnist", "quickdraw"}
    assert set(zoo.load_target("drawings").class_names) == set(TARGET_DRAWINGS)
    assert not set(TARGET_DRAWINGS) & set(SOURCE_DRAWINGS)
    assert len(set(SOURCE_DRAWINGS)) == 100


def test_accuracies() -> None:
    """Every model on every target, three seeds or more, means and deviations of those values."""
    for target in zoo.targets():
        result = zoo.accuracies(target)
        assert tuple(result) == NAMES
        for accuracy in result.values():
            for kind in ("finetune", "probe"):
                values = getattr(accuracy, kind)
                assert len(values) == len(accuracy.seeds) >= 3
                assert all(0 <= value <= 1 for value in values)
                mean = math.fsum(values) / len(values)
                spread = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
                assert getattr(accuracy, f"{kind}_mean") == pytest.approx(mean)
                assert getattr(accuracy, f"{kind}_std") == pytest.approx(math.sqrt(spread))


def test_accuracies_belong_to_what_ships() -> None:
    """They were measured on these weights and these targets, by a rate of the recipe."""
    record = json.loads((PACKAGE / "accuracies.json").read_text())
    for target, of_target in record["targets"].items():
        assert of_target["sha256"] == digest(PACKAGE / "targets" / f"{target}.npz")
        for name, entry in of_target["models"].items():
            weights = PACKAGE / "weights" / f"{name}.safetensors"
            assert entry["weights_sha256"] == digest(weights), name
            for stage in ("finetune", "probe"):
                assert entry[stage]["lr"] in record["recipes"][stage]["lrs"]
                best = max(entry[stage]["validation"].values())
                assert entry[stage]["validation"][str(entry[stage]["lr"])] == best


def test_there_is_something_to_rank() -> None:
    """On every target fine-tuned accuracy differs by far more than its noise, and by target."""
    orders = []
    for target in zoo.targets():
        result = zoo.accuracies(target)
        means = {name: accuracy.finetune_mean for name, accuracy in result.items()}
        noise = np.mean([accuracy.finetune_std for accuracy in result.values()])
        assert np.std(list(means.values())) > 2 * noise
        orders.append(sorted(means, key=means.__getitem__))
    assert orders[0] != orders[1] != orders[2]


def test_extract_all_is_the_same_as_one_by_one() -> None:
    """Threads and shared compilations change nothing; progress is told once per model."""
    wanted = ["vgg-shuffled", "mlp-mnist", "vgg-cifar"]
    lines: list[tuple[int, int, str]] = []
    result = zoo.extract_all(
        ["digits", "drawings"], wanted, progress=lambda *line: lines.append(line)
    )
    assert list(result) == ["digits", "drawings"]
    for target, by_model in result.items():
        assert list(by_model) == wanted
        for name, features in by_model.items():
            one = zoo.load(name).features(zoo.load_target(target).train_images)
            np.testing.assert_array_equal(features, one)
    assert [line[:2] for line in lines] == [(1, 3), (2, 3), (3, 3)]
    assert sorted(line[2] for line in lines) == sorted(wanted)


def test_unknown_names() -> None:
    """The message lists what there is."""
    with pytest.raises(
        InputError, match=r"named 'resnet-50': did you mean 'resnet-.*The zoo has .*vgg-cifar"
    ):
        zoo.load("resnet-50")
    with pytest.raises(
        InputError, match=r"no zoo target named 'cats': The zoo has digits, drawings"
    ):
        zoo.load_target("cats")
    with pytest.raises(InputError, match=r"named 'cats': The zoo has digits"):
        zoo.accuracies("cats")
    with pytest.raises(InputError, match="no zoo model named 'x'"):
        zoo.extract_all(["digits"], ["x"])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A root with one model and one target, to be damaged."""
    for kind, name in (("cards", "mlp-mnist.json"), ("weights", "mlp-mnist.safetensors"),
                       ("targets", "digits.json"), ("targets", "digits.npz")):  # fmt: skip
        (tmp_path / kind).mkdir(exist_ok=True)
        shutil.copy(PACKAGE / kind / name, tmp_path / kind / name)
    return tmp_path


def test_damaged_files_are_named(copy: Path) -> None:
    """Cut weights, another architecture's weights, a cut target, a cut card, no accuracies."""
    assert zoo.names(root=copy) == ("mlp-mnist",)
    weights = copy / "weights" / "mlp-mnist.safetensors"
    shutil.copy(PACKAGE / "weights" / "vgg-cifar.safetensors", weights)
    with pytest.raises(InputError, match=r"mlp-mnist\.safetensors: body/first/bias is missing"):
        zoo.load("mlp-mnist", root=copy)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"mlp-mnist\.safetensors cannot be read"):
        zoo.load("mlp-mnist", root=copy)
    (copy / "targets" / "digits.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"digits\.npz cannot be read"):
        zoo.load_target("digits", root=copy)
    (copy / "cards" / "mlp-mnist.json").write_text("{")
    with pytest.raises(InputError, match=r"mlp-mnist\.json cannot be read"):
        zoo.load("mlp-mnist", root=copy)
    with pytest.raises(InputError, match=r"accuracies\.json cannot be read"):
        zoo.accuracies("digits", root=copy)


@pytest.mark.parametrize("missing", ["flax", "optax", "safetensors"])
def test_missing_dependency(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says which package and how to install it; the data stay readable."""
    for module in [m for m in sys.modules if m.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'needs {missing},.*: pip install "jaxte\[zoo\]"'):
        zoo.load("mlp-mnist")
    assert zoo.load_target("digits").train_images.shape == (500, 8, 8)


def test_import_is_light() -> None:
    """Reading names, targets and accuracies loads neither Flax nor Optax."""
    code = (
        "import sys; from jaxte import zoo; zoo.names(); zoo.load_target('digits');"
        "zoo.accuracies('digits'); heavy = {'flax', 'optax', 'safetensors', 'sklearn'};"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
