"""layers="all" of Flax models, of the zoo, and in stores."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from helpers import counted_compilations

import jaxte
from jaxte import InputError, zoo
from jaxte.extraction import Model, as_model, extract_many
from jaxte.extraction.loop import extraction
from jaxte.extraction.streaming import streamed
from jaxte.store import FeatureStore

from .flax_models import Net as Plain

R = np.random.default_rng(0)
X: Any = R.normal(size=(20, 6)).astype(np.float32)
Y = np.arange(20) % 2
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]


class Block(nnx.Module):
    """Ends in a dropout, which in evaluation gives what it takes."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(6, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.drop(self.norm(self.dense(x)))


class Net(nnx.Module):
    """Attributes in another order than calls; shared, unused, and behind the head."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.head = nnx.Linear(6, 3, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.twice = nnx.Linear(6, 6, rngs=rngs)
        self.stem = nnx.Sequential(nnx.Linear(6, 6, rngs=rngs), nnx.relu)
        self.spare = nnx.Linear(6, 6, rngs=rngs)
        self.table = nnx.Embed(5, 6, rngs=rngs)
        self.behind = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.stem(x) + self.table(jnp.arange(1))  # [1, 6] is no row of each example
        for block in self.blocks:
            x = nnx.remat(lambda block, x: block(x))(block, x)
        x = nnx.relu(self.twice(self.twice(x)))
        logits = self.head(x)
        return {"logits": logits, "more": self.behind(logits)}


class Cnn(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = linen.Conv(4, (3, 3), name="stem")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        x = linen.relu(x).mean((1, 2))
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(3, name="head")(linen.Dense(5, name="before")(x))


def test_layers_of_nnx_in_the_order_of_the_forward_pass() -> None:
    net = Net()
    layers = (
        "stem/layers/0", "stem", "blocks/0/dense", "blocks/0", "blocks/1/dense", "blocks/1",
        "twice", "penultimate",
    )  # fmt: skip
    store = jaxte.extract(net, iter(BATCHES), layers="all")
    assert store.layers == layers
    assert store.manifest["model"]["card"]["layers"] == list(layers)
    expected = jaxte.extract(net, BATCHES, layers=layers)
    for layer in layers:
        np.testing.assert_array_equal(store[layer], expected[layer])
    np.testing.assert_array_equal(store.labels, Y)
    np.testing.assert_allclose(
        store["stem"], jax.nn.relu(net.stem.layers[0](X)), rtol=1e-5, atol=1e-6
    )


def test_layers_of_linen() -> None:
    images: Any = R.normal(size=(8, 6, 6, 3)).astype(np.float32)
    net = Cnn()
    variables = net.init(jax.random.key(0), images)
    model = as_model(net, variables=variables, layers="all", pool="max")
    store = jaxte.extract(model, [(images, Y[:8])])
    assert store.layers == ("stem", "norm", "penultimate")
    assert store["stem"].shape == (8, 4)
    wide = as_model(net, variables=variables, layers="all", level="dense")
    masks = np.broadcast_to(Y[:8, None, None], (8, 6, 6))
    # vectors have no places: of a last layer without any, none remain but itself
    with pytest.raises(InputError, match=r"penultimate has shape \(8, 5\)"):
        jaxte.extract(wide, [(images, masks)], num_classes=2)


class Pixels(nnx.Module):
    """Maps of two sizes."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.full = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.half = nnx.Conv(4, 5, (3, 3), strides=2, rngs=rngs)
        self.again = nnx.Conv(5, 6, (3, 3), rngs=rngs)
        self.head = nnx.Conv(6, 2, (1, 1), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(nnx.relu(self.again(self.half(self.full(x)))))


def test_of_pixels_only_maps_of_one_size() -> None:
    images: Any = R.normal(size=(3, 8, 8, 3)).astype(np.float32)
    masks = R.integers(0, 2, (3, 8, 8))
    store = jaxte.extract(
        Pixels(), [(images, masks)], layers="all", level="dense", num_classes=2, pixels=3
    )
    assert store.layers == ("half", "again", "penultimate")


class Attends(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(20, 8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, input_ids: Any, attention_mask: Any) -> Any:
        x = self.embed(input_ids)
        return self.head((x + self.attend(x))[:, 0])


def test_heads_of_attention_are_pooled_over_the_tokens_that_count() -> None:
    ids: Any = R.integers(1, 20, (4, 5)).astype(np.int32)
    mask = np.array([[1, 1, 0, 0, 0], [1] * 5, [1, 0, 0, 0, 0], [1] * 5], np.int32)
    net, inputs = Attends(), {"input_ids": ids, "attention_mask": mask}
    store = jaxte.extract(net, [(inputs, Y[:4])], layers="all")
    assert store.layers == (
        "embed", "attend/query", "attend/key", "attend/value", "attend", "penultimate",
    )  # fmt: skip
    query = np.asarray(net.attend.query(net.embed(ids))).reshape(4, 5, 8)
    expected = (query * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    np.testing.assert_allclose(store["attend/query"], expected, rtol=1e-5, atol=1e-6)


# --- the zoo -------------------------------------------------------------------------------------


def test_models_of_one_architecture_share_a_compilation() -> None:
    digits = jaxte.data.load("zoo:digits/test?subset=12")
    one, other = (zoo.load(name) for name in ("resnet-cifar", "resnet-random"))
    store = jaxte.extract(one, digits, layers="all")
    assert store.layers[:6] == (
        "stem/conv", "stem/norm", "stem",
        "blocks/0/first/conv", "blocks/0/first/norm", "blocks/0/first",
    )  # fmt: skip
    assert store.layers[-2:] == ("blocks/2", "penultimate")
    assert "blocks/2/second" in store.layers  # which is its last normalisation, named once
    assert len(store.layers) == 24
    with counted_compilations() as names:
        second = jaxte.extract(other, digits, layers="all")
    assert names == []
    assert second.layers == store.layers
    np.testing.assert_array_equal(store["penultimate"], jaxte.extract(one, digits)["penultimate"])


def test_many_models_on_many_data_sets() -> None:
    names = ("vgg-shuffled", "mlp-mnist", "vgg-cifar")
    targets = {
        name: jaxte.data.load(f"zoo:{name}/test?subset=20") for name in ("digits", "fashion")
    }
    seen: list[Any] = []
    stores = extract_many(
        map(zoo.load, names), targets, layers="all", progress=lambda *one: seen.append(one)
    )
    assert list(stores) == list(targets)
    assert all(tuple(by_model) == names for by_model in stores.values())
    alone = jaxte.extract(zoo.load("vgg-cifar"), targets["fashion"], layers="all")
    together = stores["fashion"]["vgg-cifar"]
    assert together.layers == alone.layers == (
        "pairs/0/0", "pairs/1/0", "pairs/1/1", "pairs/2/0", "pairs/2/1", "dense", "penultimate",
    )  # fmt: skip
    for layer in alone.layers:
        np.testing.assert_array_equal(together[layer], alone[layer])
    assert [one[:2] for one in seen] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="two models are called vgg-cifar"):
        extract_many([zoo.load("vgg-cifar")] * 2, targets)


# --- stores --------------------------------------------------------------------------------------


def broken() -> Iterator[Any]:
    yield from BATCHES[:2]
    raise OSError("the disk is gone")


@pytest.mark.parametrize("data", [BATCHES, lambda: iter(BATCHES)])
def test_a_store_has_the_names_and_goes_on(tmp_path: Path, data: Any) -> None:
    net, out = Net(), tmp_path / "s"
    with pytest.raises(OSError, match="the disk is gone"):
        jaxte.extract(net, broken(), layers="all", out=out)
    model = as_model(net, layers="all")
    assert model.layers == ("all",)
    done = extraction(model, data, out=out)
    assert (done.status, done.examples) == ("resumed", 4)
    assert extraction(model, data, out=out).status == "cached"
    whole = jaxte.extract(net, BATCHES, layers="all")
    store = FeatureStore.open(out)
    assert store.layers == whole.layers
    for layer in store.layers:
        np.testing.assert_array_equal(store[layer], whole[layer])
    # the same layers by name are the same; others are not
    assert extraction(as_model(net, layers=store.layers), data, out=out).status == "cached"
    with pytest.raises(InputError, match="layers"):
        jaxte.extract(net, data, layers=store.layers[1:], out=out)
    with pytest.raises(InputError, match="layers"):
        extraction(as_model(Plain(nnx.Rngs(0)), layers="all"), _wide(), out=out)


def _wide() -> list[Any]:
    return [(R.normal(size=(8, 64)).astype(np.float32), Y[:8])]


def test_moments_of_all_layers_of_weighted_batches() -> None:
    model, weights = as_model(Net(), layers="all"), np.linspace(0, 1, 20)
    batches = ((X[i : i + 8], Y[i : i + 8], weights[i : i + 8]) for i in (0, 8, 16))
    states = streamed(model, batches, num_classes=2)
    store = jaxte.extract(Net(), BATCHES, layers="all")
    assert tuple(states) == store.layers
    x = np.asarray(store["blocks/0"])[Y == 1]
    mean = np.average(x, axis=0, weights=weights[Y == 1])
    state = states["blocks/0"]
    np.testing.assert_allclose(state.means[1] + state.origin, mean, rtol=1e-4, atol=1e-5)


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: as_model(lambda x: x, layers="all"), "is a function, .* give the module itself"),
        (lambda: as_model(Net(), layers=["all", "stem"]), "'all' stands alone"),
        (
            lambda: as_model(Model("by hand", lambda p, x: {"a": x}, ("a",)), layers="all"),
            "by hand has no layer 'all': it has a",
        ),
        (
            lambda: jaxte.stream(Net(), BATCHES, num_classes=2, layers="all"),
            r"several layers \(all\): choose one",
        ),
        (lambda: jaxte.extract(Net(), [], layers="all"), "there are no batches"),
    ],
)
def test_what_cannot_be(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
