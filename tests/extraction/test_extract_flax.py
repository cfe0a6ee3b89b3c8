"""extract() of Flax models on a data set of tensorflow-datasets, also when it is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.builders import prepare_digits
from flax import nnx

import jaxte
from jaxte import data, zoo
from jaxte.extraction.loop import extraction
from jaxte.store import FeatureStore

from .flax_models import LAYERS, Net, cnn, make, scaled
from .killed_worker import extract_all

WORKER = [sys.executable, "-W", "error", "-m", "extraction.killed_worker"]
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tfds")
    prepare_digits(directory, num_shards=2)
    return directory


def loop(function: Any, images: np.ndarray, size: int) -> list[np.ndarray]:
    """What a plain loop over batches gives, the last one filled up."""
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
        out = jax.tree.leaves(jax.jit(function)(padded))
        parts.append([np.asarray(one)[: len(part)] for one in out])
    return [np.concatenate(one) for one in zip(*parts, strict=True)]


def test_three_flax_models_give_what_plain_loops_give(prepared: Path) -> None:
    digits = data.load("tfds:scanned_digits/train[:100]", data_dir=str(prepared))
    images = np.stack([digits[row][0] for row in range(100)])
    stores = {
        name: extraction(make(name), digits, batch_size=32).store
        for name in ("nnx", "linen", "zoo")
    }
    for store in stores.values():
        np.testing.assert_array_equal(store.labels, digits.labels())

    net = Net(nnx.Rngs(0))
    net.eval()

    def by_hand(x: jax.Array) -> Any:
        first = nnx.relu(net.blocks[0](x.reshape(len(x), -1)))
        second = net.blocks[1](first)
        return second, nnx.relu(second), net.head(nnx.relu(second))

    block, last, logits = loop(by_hand, scaled(images), 32)
    np.testing.assert_allclose(np.asarray(stores["nnx"]["blocks/1"]), block, 1e-6, 1e-6)
    np.testing.assert_allclose(np.asarray(stores["nnx"]["penultimate"]), last, 1e-6, 1e-6)
    assert stores["nnx"].logits is not None
    np.testing.assert_allclose(np.asarray(stores["nnx"].logits), logits, 1e-6, 1e-6)

    module, variables = cnn()

    def captured(x: jax.Array) -> Any:
        _, kept = module.apply(variables, x, capture_intermediates=True)
        return jnp.asarray(kept["intermediates"]["stem"]["__call__"][0]).mean((1, 2))

    (stem,) = loop(captured, scaled(images), 32)
    np.testing.assert_allclose(np.asarray(stores["linen"]), stem, 1e-6, 1e-6)

    wanted = zoo.load("mlp-mnist").features(images)
    np.testing.assert_allclose(np.asarray(stores["zoo"]), wanted, 1e-5, 1e-5)


def test_a_zoo_model_takes_batches_of_images_of_any_size() -> None:
    target = zoo.load_target("digits")
    images, labels = target.train_images[:20], target.train_labels[:20]
    model = zoo.load("mlp-mnist")
    store = jaxte.extract(model, [{"image": images, "label": labels}])
    np.testing.assert_allclose(np.asarray(store), model.features(images), 1e-5, 1e-5)
    assert store.meta["model"]["name"] == "mlp-mnist"


def test_models_of_one_architecture_compile_once(prepared: Path) -> None:
    from helpers import counted_compilations

    digits = data.load("tfds:scanned_digits/train[:40]", data_dir=str(prepared))
    jaxte.extract(zoo.load("resnet-cifar"), digits, batch_size=16)
    with counted_compilations() as names:
        for name in ("resnet-quickdraw", "resnet-random"):
            jaxte.extract(zoo.load(name), digits, batch_size=16)
    assert [name for name in names if "step" in name] == []


def test_another_seed_of_the_same_network_is_refused(prepared: Path, tmp_path: Path) -> None:
    digits = data.load("tfds:scanned_digits/train[:40]", data_dir=str(prepared))
    jaxte.extract(Net(nnx.Rngs(0)), digits, out=tmp_path / "s", prepare=scaled)
    assert jaxte.extract(Net(nnx.Rngs(0)), digits, out=tmp_path / "s", prepare=scaled).complete
    with pytest.raises(jaxte.InputError, match=r"model\.fingerprint was"):
        jaxte.extract(Net(nnx.Rngs(1)), digits, out=tmp_path / "s", prepare=scaled)
    other = data.load("tfds:scanned_digits/train[:50]", data_dir=str(prepared))
    with pytest.raises(jaxte.InputError, match=r"data\.name was .*train\[:40\].*train\[:50\]"):
        jaxte.extract(Net(nnx.Rngs(0)), other, out=tmp_path / "s", prepare=scaled)


def stored(out: Path) -> dict[str, int]:
    """Rows that are safe of each model."""
    result = {}
    for name in LAYERS:
        try:
            result[name] = FeatureStore.open(out / name, partial=True).rows
        except jaxte.InputError:  # not begun
            result[name] = 0
    return result


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.slow
def test_kills_at_random_change_no_score(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    draw = random.Random(0)
    before = dict.fromkeys(LAYERS, 0)
    for kill in range(4):
        process = subprocess.Popen(
            [*WORKER, str(prepared), str(out), "0.03"],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process, process.stdout as lines:
            said = dict(before)
            if kill == 3:  # anywhere, also while it starts
                time.sleep(draw.uniform(0, 3))
            else:
                for _ in range(draw.randrange(1, 18)):
                    name, _, done = lines.readline().partition(" ")
                    said[name] = max(said[name], int(done))
                time.sleep(draw.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            for line in lines:
                name, _, done = line.partition(" ")
                assert name != "complete"
                said[name] = max(said[name], int(done))
        assert process.returncode == -signal.SIGKILL
        now = stored(out)
        assert all(now[name] >= said[name] for name in LAYERS), (now, said)
        before = now
    assert sum(before.values()) < 3 * 600
    last = subprocess.run(
        [*WORKER, str(prepared), str(out)], cwd=TESTS, capture_output=True, text=True, check=True
    ).stdout
    assert last.endswith("complete 0\n")
    whole: list[str] = []
    extract_all(str(prepared), tmp_path / "whole", lambda _done, _total, name: whole.append(name))
    assert len(whole) > last.count("\n")

    killed, never = (
        {name: FeatureStore.open(root / name) for name in LAYERS}
        for root in (out, tmp_path / "whole")
    )
    for name, layers in LAYERS.items():
        killed[name].verify()
        np.testing.assert_array_equal(killed[name].labels, never[name].labels)
        for layer in layers:
            np.testing.assert_array_equal(
                np.asarray(killed[name][layer]), np.asarray(never[name][layer])
            )
    first, second = jaxte.rank(killed), jaxte.rank(never)
    assert first.models == ("nnx@blocks/1", "nnx@penultimate", "linen", "zoo")
    for model in first.models:
        for metric in first.metrics:
            assert first.status(model, metric) == "ok"
            assert first.score(model, metric) == second.score(model, metric)
