"""Flax nnx models: layers by path, with nothing of the model changed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import counted_compilations

from jaxte import InputError
from jaxte.extraction import as_model, fingerprint

from .compiled import run

R = np.random.default_rng(0)
X: Any = R.normal(size=(5, 4)).astype(np.float32)
IMAGES: Any = R.normal(size=(3, 8, 8, 3)).astype(np.float32)


# --- nnx -----------------------------------------------------------------------------------------


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.dense = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.drop(jax.nn.relu(self.norm(self.dense(x))))


class Net(nnx.Module):
    """Blocks in a list, a dict of heads, one module used twice and one that never is."""

    def __init__(self, seed: int = 0, width: int = 4, ending: str = "plain"):
        rngs = nnx.Rngs(seed)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.twice = nnx.Linear(width, width, rngs=rngs)
        self.heads = nnx.Dict(main=nnx.Linear(width, 3, rngs=rngs))
        self.spare = nnx.Linear(width, 3, rngs=rngs)
        self.ending = ending

    def __call__(self, x: Any, **options: Any) -> Any:
        for block in self.blocks:
            x = nnx.remat(lambda block, x: block(x))(block, x) if options else block(x)
        x = self.twice(self.twice(x))
        logits = self.heads["main"](x)
        return {
            "plain": lambda: logits,
            "shaped": lambda: logits.reshape(-1, 1, 3).astype(jnp.bfloat16).squeeze(1),
            "tuple": lambda: (logits, x),
            "dict": lambda: {"features": x, "logits": logits},
            "softmax": lambda: jax.nn.softmax(logits),
            "body": lambda: jax.nn.relu(x),
        }[self.ending]()


def by_hand(net: Net, x: Any = X) -> dict[str, Any]:
    """What `Net` computes in inference mode."""
    actual = {}
    for i, block in enumerate(net.blocks):
        norm: Any = block.norm
        mean, var, scale, bias = (p[...] for p in (norm.mean, norm.var, norm.scale, norm.bias))
        x = (block.dense(x) - mean) / jnp.sqrt(var + norm.epsilon)
        x = actual[f"blocks/{i}"] = jax.nn.relu(x * scale + bias)
    actual["penultimate"] = actual["twice"] = net.twice(net.twice(x))
    actual["logits"] = actual["heads/main"] = net.heads["main"](actual["penultimate"])
    return actual


def trained(seed: int = 0, **options: Any) -> Net:
    """With batch statistics that are no defaults, and random streams that were used."""
    net = Net(seed, **options)
    net.train()
    net(R.normal(size=(20, 4)).astype(np.float32) * 3 + 1)
    return net


LAYERS = ("blocks/1", "penultimate", "blocks/0", "twice", "heads/main")


def test_layers_by_path_in_one_forward_pass() -> None:
    net = trained()
    out, expected = run(as_model(net, layers=LAYERS), X), by_hand(net)
    assert set(out) == {*LAYERS, "logits"}
    for name, array in out.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
        assert array.dtype == np.float32


def test_the_model_stays_as_it_is() -> None:
    net = trained()
    before, state = nnx.split(net)
    kept = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.filter_state(state, nnx.Not(nnx.RngKey))))
    model = as_model(net, layers=LAYERS)
    run(model, X)
    graph, state = nnx.split(net)
    assert graph == before
    now = nnx.to_pure_dict(nnx.filter_state(state, nnx.Not(nnx.RngKey)))
    jax.tree.map(np.testing.assert_array_equal, kept, jax.tree.map(np.asarray, now))
    assert {type(node) for _, node in nnx.iter_modules(net)} >= {Net, Block, nnx.Linear}
    assert not net.blocks[0].drop.deterministic
    assert not hasattr(net.twice, "jaxte_passed")
    # parameters are shared, not copied
    argument = jax.tree.leaves(nnx.split(net, nnx.Param, ...)[1])
    parameters = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(model.params)[4:]}
    assert sum(leaf.unsafe_buffer_pointer() in parameters for leaf in argument) >= len(argument) - 4


def test_a_failure_in_a_layer_leaves_nothing_behind() -> None:
    net = trained()
    model = as_model(net, layers="blocks/0")
    with pytest.raises(TypeError, match=r"dot_general|shape"):
        run(model, np.ones((2, 7), np.float32))
    np.testing.assert_allclose(
        run(model, X)["blocks/0"], by_hand(net)["blocks/0"], rtol=1e-5, atol=1e-6
    )


def test_many_threads_at_once() -> None:
    nets = [trained(seed) for seed in range(4)]
    gate = threading.Barrier(8)

    def work(index: int) -> Any:
        gate.wait()
        layer = LAYERS[index % 3]
        model = as_model(nets[index % 4], layers=layer)
        return [run(model, X + shift)[layer] for shift in range(3)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    for index, arrays in enumerate(results):
        for shift, array in enumerate(arrays):
            expected = by_hand(nets[index % 4], X + shift)[LAYERS[index % 3]]
            np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", ["plain", "shaped", "dict"])
def test_the_head_is_found(ending: str) -> None:
    net = trained(ending=ending)
    out, expected = run(as_model(net), X), by_hand(net)
    assert set(out) == {"penultimate", "logits"}
    for name, array in out.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ending", ["softmax", "body"])
def test_a_model_without_a_head_gives_its_output(ending: str) -> None:
    net = trained(ending=ending)
    out = run(as_model(net), X)
    copy = nnx.clone(net)
    copy.eval()
    assert list(out) == ["penultimate"]
    np.testing.assert_allclose(out["penultimate"], copy(X), rtol=1e-6)
    np.testing.assert_array_equal(
        run(as_model(net, layers="output"), X)["output"], out["penultimate"]
    )
    with pytest.raises(InputError, match="'logits': the model has no head"):
        run(as_model(net, layers="logits"), X)


class Fcn(nnx.Module):
    """Classes of pixels, by a convolution of one pixel."""

    def __init__(self, pooled: bool):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 6, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Conv(6, 2, (1, 1), rngs=rngs)
        self.pooled = pooled

    def __call__(self, x: Any) -> Any:
        x = self.stem(x)
        if self.pooled:
            return self.head(x.mean((1, 2), keepdims=True))[:, 0, 0]
        return self.head(x)


def test_heads_that_are_convolutions() -> None:
    net = Fcn(pooled=False)
    dense = run(as_model(net, level="dense", layers=["penultimate", "stem"]), IMAGES)
    np.testing.assert_allclose(dense["penultimate"], net.stem(IMAGES), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(dense["penultimate"], dense["stem"])
    assert set(dense) == {"penultimate", "stem"}
    assert set(run(as_model(net), IMAGES)) == {"penultimate"}  # a class of each pixel is no logits
    pooled = run(as_model(Fcn(pooled=True)), IMAGES)
    assert pooled["penultimate"].shape == (3, 6)


def test_convolutions_pool_over_places() -> None:
    net = Fcn(pooled=False)
    maps = np.asarray(net.stem(IMAGES))
    for pool, expected in (
        ("mean", maps.mean((1, 2))),
        ("max", maps.max((1, 2))),
        ("flatten", maps.reshape(3, -1)),
        (lambda x: x[:, 1, 1], maps[:, 1, 1]),
    ):
        out = run(as_model(net, layers="stem", pool=pool), IMAGES)["stem"]
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_layers_inside_of_lifted_transformations() -> None:
    net = trained()

    class Remat(nnx.Module):
        def __init__(self, inner: Net):
            self.inner = inner

        def __call__(self, x: Any) -> Any:
            return self.inner(x, remat=True)

    out = run(as_model(Remat(net), layers="inner/blocks/1"), X)
    np.testing.assert_allclose(
        out["inner/blocks/1"], by_hand(net)["blocks/1"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(out["logits"], by_hand(net)["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("block/1", r"no layer 'block/1': did you mean 'blocks/1'"),
        ("blocks/2", r"did you mean 'blocks/\d"),
        ("blocks", "the layers are blocks/0".capitalize()),
        ("blocks/0/dense/kernel", "no layer"),
        ("zzz", r"^there is no layer 'zzz': The layers are [^?]*heads/main[^?]*spare"),
    ],
)
def test_wrong_paths(layer: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        as_model(Net(), layers=layer)


def test_a_module_that_is_never_called() -> None:
    with pytest.raises(InputError, match="'spare' takes no part"):
        run(as_model(Net(), layers="spare"), X)


def test_models_of_one_architecture_share_a_compilation() -> None:
    one, other, wider = (as_model(Net(seed, w)) for seed, w in ((0, 4), (1, 4), (0, 5)))
    assert one.apply == other.apply != wider.apply
    assert hash(one.apply) == hash(other.apply)
    step = jax.jit(lambda apply, params, x: apply(params, x), static_argnums=0)
    first = step(one.apply, one.params, X)["logits"]
    with counted_compilations() as names:
        second = step(other.apply, other.params, X)["logits"]
    assert names == []
    assert not np.allclose(first, second)


def test_fingerprints_and_cards() -> None:
    net = trained()
    argument = fingerprint(as_model(net))
    net(X)  # in training mode: other batch statistics
    assert fingerprint(as_model(net)) != argument
    assert fingerprint(as_model(Net(0))) != fingerprint(as_model(Net(1)))
    kept = as_model(Net(0))
    assert fingerprint(as_model(Net(0))) == fingerprint(kept)
    assert fingerprint(as_model(Net(0), pool="max")) != fingerprint(kept)
    assert fingerprint(as_model(Net(0, ending="dict"))) != fingerprint(kept)  # a setting
    used = Net(0)
    used.blocks[0].drop(jnp.ones((2, 4)))  # only a random stream went on
    assert fingerprint(as_model(used)) == fingerprint(kept)
    assert kept.card["kind"] == "nnx"
    assert kept.card["source"].endswith("test_models_flax.Net")
    assert (kept.name, as_model(net, name="mine").name) == ("Net", "mine")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype: str) -> None:
    net = trained()
    out, exact = run(as_model(net, compute_dtype=dtype), X), run(as_model(net), X)
    for name, array in out.items():
        assert array.dtype == np.float32
        off = np.abs(array - exact[name]).max()
        assert 0 < off < 0.05 * np.abs(exact[name]).max() + 0.02
        assert (array == array.astype(jnp.dtype(dtype)).astype(np.float32)).all()


class ResumableBatches(nnx.Module):
    """Texts: embeddings and one layer, with a mask."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(20, 6, rngs=rngs)
        self.mix = nnx.Linear(6, 6, rngs=rngs)
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, input_ids: Any, attention_mask: Any, train: bool = True) -> Any:
        assert not train
        x = self.mix(self.embed(input_ids)) * attention_mask[..., None]
        return self.head(x[:, 0])


def test_texts_by_name_with_masks() -> None:
    ids: Any = R.integers(0, 20, (3, 5)).astype(np.int32)
    mask = np.array([[1, 1, 0, 0, 0], [1] * 5, [1, 0, 0, 0, 0]], np.int32)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids}
    net = ResumableBatches()
    tokens = np.asarray(net.mix(net.embed(ids)))
    out = run(as_model(net, layers="mix"), inputs)
    expected = [one[row > 0].mean(axis=0) for one, row in zip(tokens, mask, strict=True)]
    np.testing.assert_allclose(out["mix"], expected, rtol=1e-5, atol=1e-6)
    assert out["logits"].shape == (3, 2)

    starts = np.array([[0, 1, -1], [0, 2, 3], [0, -1, -1]], np.int32)
    words = run(as_model(net, layers="mix", level="token"), {**inputs, "word_starts": starts})
    np.testing.assert_array_equal(words["valid"], starts >= 0)
    np.testing.assert_allclose(words["mix"][1, 1], tokens[1, 2], rtol=1e-5, atol=1e-6)
