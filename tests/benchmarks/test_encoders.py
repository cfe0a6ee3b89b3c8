"""The pool of encoders: what is measured is the encoder's, kept, and compared."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import cli, proof
from benchmarks import encoders as own
from jaxte.zoo import benchmark, encoders
from jaxte.zoo.encoders.catalog import build
from jaxte.zoo.encoders.specs import SPECS
from jaxte.zoo.images import prepare
from jaxte.zoo.network import forward, save_params

NAMES = ("resnet56-cifar", "vgg16-cifar")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small encoders, one without a head, and a target of bright and dark images."""
    random = np.random.default_rng(0)
    spec = replace(
        SPECS["vgg16-cifar"], settings={"stages": ((4, 1), (6, 1)), "hidden": 5}, size=24
    )
    (tmp_path / "weights").mkdir()
    for name, classes in zip(NAMES, (10, 0), strict=True):
        monkeypatch.setitem(SPECS, name, replace(spec, classes=classes))
        state = nnx.state(build(SPECS[name]))
        drawn = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), state)
        save_params(tmp_path / "weights" / f"{name}.safetensors", drawn, np.float32)
    (tmp_path / "targets").mkdir()
    labels = np.arange(40) % 2
    images = random.integers(0, 128, (40, 32, 32)) + 100 * labels[:, None, None]
    path, images = tmp_path / "targets" / "light.npz", images.astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    card = {"class_names": ["dark", "light"], "sha256_of_arrays": "0"}
    (tmp_path / "targets" / "light.json").write_text(json.dumps(card))
    monkeypatch.setattr(benchmark, "targets", lambda: {"light": card})
    monkeypatch.setattr(
        own,
        "RECIPE",
        replace(own.RECIPE, fewest=3, steps=3, seeds=2, start=(1e-5, 3e-5), most=1e-4),
    )
    return tmp_path


def test_the_head_is_put_on_what_the_encoder_makes_of_images(folder: Path) -> None:
    encoder = encoders.load(NAMES[0], root=folder)
    images = prepare(np.load(folder / "targets" / "light.npz")["train_images"])
    network, random = own.TrainableEncoder(encoder), np.random.default_rng(1)
    features = network.features(images)
    kernel, bias = random.normal(size=(5, 3)).astype(np.float32), np.arange(3, dtype=np.float32)
    outputs = forward(*network.with_head(kernel, bias), network.normal, images)
    np.testing.assert_allclose(outputs, features @ kernel + bias, rtol=1e-4, atol=1e-3)
    head = nnx.to_pure_dict(nnx.state(encoder))["head"]
    kernel, bias = np.asarray(head["kernel"]), np.asarray(head["bias"])
    expected = np.asarray(encoder(images))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features @ kernel + bias, expected, atol=1e-5 * scale)


def test_what_is_measured_is_kept_and_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, scores = folder / "encoders.jsonl", folder / "encoders.csv"
    paths = {"--built": folder, "--encoders": folder, "--results": results, "--scores": scores}
    arguments = ["encoders", *(str(one) for option in paths.items() for one in option)]
    monkeypatch.setattr(own, "METRICS", ("ridge_probe", "sfda", "leep"))
    assert cli.main(arguments) == 0
    assert [one.finetune for one in benchmark.results(results)] == [(), ()]
    scored = scores.stat().st_mtime_ns
    assert cli.main([*arguments, "--finetune", "light"]) == 0
    written = results.stat().st_mtime_ns
    assert cli.main(arguments) == 0  # with and without: neither measures again
    assert (results.stat().st_mtime_ns, scores.stat().st_mtime_ns) == (written, scored)
    measured = benchmark.results(results)
    assert [(one.model, len(one.finetune)) for one in measured] == [(name, 2) for name in NAMES]
    assert min(min(one.probe) for one in measured) > 0.9
    pool = proof.Pool(scores, results, 2)
    table, accuracies = proof.tables(pool, "finetune", 2)
    assert set(accuracies["light"]) == set(NAMES)
    assert {"ridge_probe, all layers", "leep", "sfda, 5 folds"} <= set(table["light"])
