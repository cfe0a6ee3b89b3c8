"""Features of targets by encoders: what the encoder gives, and nothing twice."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import encoder_features
from jaxte.zoo import encoders
from jaxte.zoo.encoders.catalog import build
from jaxte.zoo.encoders.specs import SPECS
from jaxte.zoo.network import save_params


def test_features_of_every_classification_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(SPECS["vgg16-cifar"], settings={"stages": ((4, 1), (6, 1)), "hidden": 5})
    monkeypatch.setitem(SPECS, "vgg16-cifar", spec)
    random, state = np.random.default_rng(0), nnx.state(build(spec))
    drawn = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), state)
    (tmp_path / "weights").mkdir()
    save_params(tmp_path / "weights" / "vgg16-cifar.safetensors", drawn, np.float32)
    images = random.integers(0, 256, (70, 32, 32)).astype(np.uint8)
    for name, task in (("animals", "classification"), ("angles", "regression")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"task": task}))
        np.savez(tmp_path / f"{name}.npz", train_images=images, train_labels=np.arange(70) % 3)
    out = tmp_path / "out"
    options = {"--targets": tmp_path, "--encoders": tmp_path, "--out": out, "--size": 24}
    arguments = [str(one) for option in options.items() for one in option]
    assert encoder_features.main(arguments) == 0
    (path,) = out.iterdir()
    assert path.name == "animals__vgg16-cifar.npz"
    content = dict(np.load(path))
    encoder = encoders.load("vgg16-cifar", root=tmp_path, size=24)
    assert content["train_features"].shape == (70, 5)
    logits = np.asarray(encoder(images))
    np.testing.assert_allclose(content["train_logits"], logits, atol=1e-5 * np.abs(logits).max())
    before = path.stat().st_mtime_ns
    assert encoder_features.main(arguments) == 0
    assert path.stat().st_mtime_ns == before
