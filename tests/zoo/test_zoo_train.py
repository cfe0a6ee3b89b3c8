"""Training, the splits and the choice of the learning rate."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxte.zoo.models import FAMILIES
from jaxte.zoo.network import BATCH, forward, initial, skeleton
from jaxte.zoo.sources import Part
from jaxte.zoo.specs import FineTune, Probe
from jaxte.zoo.train import Outcome, finetune, measure, probe, score, split_classes, train

NORMAL = {"mean": [0.5] * 3, "std": [0.25] * 3}


def halves(count: int, seed: int) -> Part:
    """Images bright in the upper or the lower half, by class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int32)
    images = rng.integers(0, 100, (count, 32, 32, 3)).astype(np.uint8)
    images[labels == 0, :16] += 100
    images[labels == 1, 16:] += 100
    return Part(images, labels)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_family(family: str) -> None:
    """Every family traces at two widths to [batch, width] and its batch rows are independent."""
    for width in (32, 64):
        graphdef, shapes = skeleton(family, width, None)
        images = jax.ShapeDtypeStruct((BATCH, 32, 32, 3), np.float32)

        def run(params: Any, x: Any, graphdef: Any = graphdef) -> Any:
            from flax import nnx

            return nnx.merge(graphdef, params)(x)

        assert jax.eval_shape(run, shapes, images).shape == (BATCH, width)
        assert 5_000 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 300_000


def test_training_learns_and_leaves_its_start_alone() -> None:
    """The loss falls to a tenth; the parameters given are still usable and unchanged."""
    graphdef, params = initial("mlp", 16, 2, seed=0)
    before = [np.array(leaf) for leaf in jax.tree.leaves(params)]
    data = halves(64, 0)
    trained = train(
        graphdef, params, NORMAL, data, steps=40, batch=16, lr=3e-3, warmup=0.1, decay=0.0,
        shift=1, flip=True, seed=0,
    )  # fmt: skip
    first = score(forward(graphdef, params, NORMAL, data.images), data.labels)
    last = score(forward(graphdef, trained, NORMAL, data.images), data.labels)
    assert last.accuracy == 1.0
    assert last.loss < first.loss / 10
    for old, leaf in zip(before, jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(old, leaf)


def test_finetune_generalises_and_depends_on_the_seed() -> None:
    """A whole fine-tuning reaches the held-out images; seeds differ, a seed repeats."""
    graphdef, params = initial("mlp", 16, 2, seed=0)
    data, held_out = halves(64, 0), halves(40, 1)
    recipe = FineTune(epochs=3, batch=16)
    results = [
        finetune(graphdef, params, NORMAL, data, held_out, recipe=recipe, lr=1e-3, seed=seed)
        for seed in (0, 1, 0)
    ]
    assert results[0] == results[2]
    assert results[0].loss != results[1].loss
    assert min(result.accuracy for result in results) > 0.9


def test_probe_finds_a_linear_rule() -> None:
    """Classes apart along one feature of very unequal scales are told apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = rng.normal(size=(120, 5)) * [1, 10, 100, 1e-3, 1]
    features[:, 3] += labels * 1e-2
    data = Part(features[:90].astype(np.float32), labels[:90])
    held_out = Part(features[90:].astype(np.float32), labels[90:])
    outcome = probe(data, held_out, recipe=Probe(epochs=40, batch=30), lr=1e-1, seed=0)
    assert outcome.accuracy > 0.95


def test_score_by_hand() -> None:
    """Accuracy and log loss of two rows worked out by hand."""
    logits = np.log(np.array([[0.8, 0.2], [0.6, 0.4]]))
    outcome = score(logits, np.array([0, 1]))
    assert outcome.accuracy == 0.5
    assert outcome.loss == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)


def test_split_is_stratified_and_complete() -> None:
    """Every class gives its share, every item is in one part, and it is not the file order."""
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    first, rest = split_classes(labels, 5, seed=0)
    assert np.bincount(labels[first]).tolist() == [5, 5, 5]
    assert sorted([*first, *rest]) == list(range(60))
    assert first.tolist() != sorted(first.tolist())
    share, _ = split_classes(labels, 0.2, seed=0)
    assert np.bincount(labels[share]).tolist() == [2, 4, 6]


def test_the_rate_is_chosen_without_the_test_part() -> None:
    """Validation comes out of the train part; the test part is seen with the chosen rate alone."""
    train_part = Part(np.arange(50), np.repeat(np.arange(5), 10))
    test_part = Part(np.arange(100, 120), np.repeat(np.arange(5), 4))
    calls = []

    def run(data: Part, held_out: Part, lr: float, seed: int) -> Outcome:
        calls.append((lr, seed, held_out.images.min() >= 100, len(data.labels)))
        if held_out.images.min() < 100:
            assert not set(data.images) & set(held_out.images)
            assert sorted([*data.images, *held_out.images]) == list(range(50))
        # rates 1 and 2 tie in accuracy; 2 has the lower loss
        return Outcome({1.0: 0.7, 2.0: 0.7, 4.0: 0.6}[lr] + seed / 100, 1 / lr)

    actual = measure(run, train_part, test_part, lrs=(1.0, 2.0, 4.0), validation=0.2, seeds=2)
    assert actual == {
        "lr": 2.0, "validation": {"1.0": 0.7, "2.0": 0.7, "4.0": 0.6}, "test": [0.7, 0.71]
    }  # fmt: skip
    assert calls == [
        (1.0, 0, False, 40), (2.0, 0, False, 40), (4.0, 0, False, 40),
        (2.0, 0, True, 50), (2.0, 1, True, 50),
    ]  # fmt: skip
