"""extract(): the features of a plain loop over the batches, whatever the batches look like."""

import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import Array, counted_compilations

import jaxte
from jaxte.errors import InputError
from jaxte.extraction.loop import extraction
from jaxte.extraction.models import Model
from jaxte.store import FeatureStore

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(50, 4, 6)).astype(np.float32)
Y = np.arange(50) % 3
W = RANDOM.normal(size=(24, 9)).astype(np.float32)


def apply(params: Any, images: Any) -> dict[str, Any]:
    hidden = jnp.tanh(images.reshape(len(images), -1) @ params)
    return {"low": hidden, "high": 3 * hidden[:, :5] ** 2, "logits": hidden @ params[:9, :4]}


def model(**changes: Any) -> Model:
    values: dict[str, Any] = {"name": "net", "apply": apply, "layers": ("low",), "params": W}
    return Model(**values | changes)


def batches(x: Any = IMAGES, y: Array = Y, size: int = 16) -> list[Any]:
    cuts = [slice(i, i + size) for i in range(0, len(y), size)]
    return [(jax.tree.map(lambda leaf, cut=cut: leaf[cut], x), y[cut]) for cut in cuts]


def expected(layer: str, size: int = 16) -> Array:
    """What a plain loop over the same batches gives, the last one filled up by hand."""
    forward, parts = jax.jit(apply), []
    for start in range(0, 50, size):
        part = IMAGES[start : start + size]
        padded = np.concatenate([part, np.zeros((size - len(part), 4, 6), np.float32)])
        parts.append(np.asarray(forward(W, padded)[layer])[: len(part)])
    return np.concatenate(parts)


def test_features_are_those_of_a_plain_loop_to_the_last_bit() -> None:
    store = jaxte.extract(model(), batches())
    assert isinstance(store, FeatureStore)
    np.testing.assert_array_equal(np.asarray(store), expected("low"))
    np.testing.assert_array_equal(store.labels, Y)
    assert store.logits is not None
    np.testing.assert_array_equal(np.asarray(store.logits), expected("logits"))


def test_a_pair_of_all_examples_is_a_data_set() -> None:
    """Of arrays as of texts; two batches in a tuple stay batches."""
    whole = jaxte.extract(model(), (IMAGES, Y), batch_size=16)
    np.testing.assert_array_equal(whole.features(), expected("low"))
    np.testing.assert_array_equal(whole.labels, Y)
    listed = jaxte.extract(model(), (list(IMAGES), list(Y)), batch_size=16)
    np.testing.assert_array_equal(listed.features(), whole.features())
    for two in (tuple(batches(size=25)), tuple(map(list, batches(size=25)))):
        np.testing.assert_array_equal(jaxte.extract(model(), two).labels, Y)
    with pytest.raises(InputError, match=r"all examples at once are a tuple \(inputs, labels\)"):
        jaxte.extract(model(), [IMAGES, Y])
    lengths = jaxte.extract(
        lambda x: x, (["a", "bcd"] * 3, [0, 1] * 3),
        prepare=lambda texts: np.array([[len(text), 1.0] for text in texts]),
    )  # fmt: skip
    np.testing.assert_array_equal(lengths.features()[:2, 0], [1, 3])
    moments = jaxte.stream(lambda x: x.reshape(len(x), -1), (IMAGES, Y), num_classes=3)
    scores = jaxte.rank({"moments": moments, "rows": IMAGES.reshape(50, -1)}, Y, metrics="logme")
    streamed, rows = (scores.score(name, "logme") for name in scores.models)
    assert streamed == pytest.approx(rows, rel=1e-4)


def test_a_linen_module_may_come_with_its_variables() -> None:
    module = nn.Dense(5)
    variables = module.init(jax.random.key(0), IMAGES[:1].reshape(1, -1))
    x = IMAGES.reshape(50, -1)
    pair = jaxte.extract((module, variables), (x, Y), layers="output")
    apart = jaxte.extract(module, (x, Y), layers="output", variables=variables)
    np.testing.assert_array_equal(pair.features(), apart.features())


def test_several_layers_at_once(tmp_path: Any) -> None:
    store = jaxte.extract(model(layers=("low", "high")), batches(), out=tmp_path / "store")
    assert store.layers == ("low", "high")
    for layer in store.layers:
        np.testing.assert_array_equal(np.asarray(store[layer]), expected(layer))
    ranking = jaxte.rank({"net": store}, metrics="logme")
    assert ranking.models == ("net@low", "net@high")


def test_logits_are_left_out_on_demand_and_where_there_are_none() -> None:
    assert jaxte.extract(model(), batches(), logits=False).logits is None
    plain = model(apply=lambda p, x: {"low": apply(p, x)["low"]})
    assert jaxte.extract(plain, batches()).logits is None


def test_the_output_of_the_head_can_be_a_layer_too() -> None:
    store = jaxte.extract(model(layers=("logits", "low")), batches())
    np.testing.assert_array_equal(np.asarray(store["logits"]), expected("logits"))
    assert store.logits is not None
    np.testing.assert_array_equal(np.asarray(store.logits), expected("logits"))


@pytest.mark.parametrize("key", ["image", "inputs", "text"])
@pytest.mark.parametrize("label", ["label", "target"])
def test_dicts_and_functions_that_make_batches(key: str, label: str) -> None:
    def made() -> Iterator[Any]:
        for x, y in batches():
            yield {"id": np.arange(len(y)), key: x, label: y}

    np.testing.assert_array_equal(np.asarray(jaxte.extract(model(), made)), expected("low"))


def test_inputs_of_several_arrays() -> None:
    ids = RANDOM.integers(0, 9, size=(50, 5))
    source = {"ids": ids, "mask": ids > 2}
    named = [{**x, "labels": y} for x, y in batches(source)]

    def masked(params: Any, x: Any) -> dict[str, Any]:
        return {"low": jnp.where(x["mask"], x["ids"], 0).astype(jnp.float32)}

    for data in (batches(source), named):
        store = jaxte.extract(model(apply=masked), data)
        np.testing.assert_array_equal(np.asarray(store), np.where(ids > 2, ids, 0))


def test_raw_examples_are_prepared() -> None:
    texts = [f"{i} words" for i in range(50)]

    def prepare(examples: Any) -> Array:
        assert isinstance(examples, list)
        return np.array([[float(text.split()[0]), 1.0] for text in examples], np.float32)

    source: Any = [(texts[i : i + 16], Y[i : i + 16]) for i in range(0, 50, 16)]
    named = [{"sentence": x, "label": y} for x, y in source]
    for batches in (source, named, lambda: ((tuple(x), y) for x, y in source)):
        store = jaxte.extract(model(apply=lambda p, x: {"low": x}, prepare=prepare), batches)
        np.testing.assert_array_equal(np.asarray(store)[:, 0], np.arange(50))


def test_raw_examples_of_several_parts_are_prepared_as_dicts() -> None:
    def prepare(examples: Any) -> Array:
        return np.array([[len(one["premise"]), one["size"]] for one in examples], np.float32)

    source = [{"premise": ["a", "bcd"], "size": [3, 4], "label": [0, 1]}]
    store = jaxte.extract(model(apply=lambda p, x: {"low": x}, prepare=prepare), source)
    np.testing.assert_array_equal(np.asarray(store), [[1, 3], [3, 4]])


def test_batches_of_torch() -> None:
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(IMAGES), torch.tensor(Y)), batch_size=16
    )
    store = jaxte.extract(model(), loader)
    np.testing.assert_array_equal(np.asarray(store), expected("low"))
    np.testing.assert_array_equal(store.labels, Y)


def test_one_compilation_for_all_batches_and_all_models_of_an_architecture() -> None:
    jaxte.extract(model(), batches())
    with counted_compilations() as names:
        for seed in range(3):
            jaxte.extract(model(params=W + seed), batches()[2:] + batches())
    assert [name for name in names if "step" in name] == []


def test_a_larger_batch_than_the_first_is_no_error() -> None:
    source = [(IMAGES[:7], Y[:7]), (IMAGES[7:40], Y[7:40]), (IMAGES[40:], Y[40:])]
    np.testing.assert_allclose(jaxte.extract(model(), source), expected("low"), 1e-6)


def test_empty_batches_are_passed_over() -> None:
    source = [(IMAGES[:0], Y[:0]), *batches(), (IMAGES[:0], Y[:0])]
    np.testing.assert_array_equal(np.asarray(jaxte.extract(model(), source)), expected("low"))


def test_an_iterator_may_fill_its_arrays_again() -> None:
    """What is under way on the device and in the writer is no longer the iterator's."""
    big = RANDOM.normal(size=(6, 64, 256)).astype(np.float32)
    weights = RANDOM.normal(size=(256, 256)).astype(np.float32)

    def slow(params: Any, x: Any) -> dict[str, Any]:
        for _ in range(30):
            x = jnp.tanh(x @ params)
        return {"low": x}

    def shared() -> Iterator[Any]:
        images, labels = np.empty((64, 256), np.float32), np.empty(64, np.int64)
        for number, part in enumerate(big):
            images[:], labels[:] = part, number
            yield images, labels

    deep = model(apply=slow, params=weights)
    result = jaxte.extract(deep, shared)
    wanted = jaxte.extract(deep, [(part, np.full(64, i)) for i, part in enumerate(big)])
    np.testing.assert_array_equal(np.asarray(result), np.asarray(wanted))
    np.testing.assert_array_equal(result.labels, np.repeat(np.arange(6), 64))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_types_of_the_store(dtype: str, tmp_path: Any) -> None:
    store = jaxte.extract(model(), batches(), out=tmp_path / "half", dtype=dtype)
    assert store.dtype == jnp.dtype(dtype)
    wanted = expected("low").astype(jnp.dtype(dtype))
    np.testing.assert_array_equal(np.asarray(store), wanted)


def test_float64_is_kept_where_jax_computes_in_it() -> None:
    with jax.enable_x64(True):
        wide = model(params=W.astype(np.float64))
        store = jaxte.extract(wide, batches(IMAGES.astype(np.float64)), dtype="float64")
        result = np.asarray(store)
    assert result.dtype == np.float64
    x = IMAGES.reshape(50, -1).astype(np.float64)
    np.testing.assert_allclose(result, np.tanh(x @ W.astype(np.float64)), 1e-13)


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(np.uint8),
        Y == 1,
        Y.tolist(),
        RANDOM.normal(size=50),
        RANDOM.normal(size=(50, 2)).astype(np.float32),
        np.eye(3, dtype=np.int64)[Y],
    ],
    ids=["classes", "yes-no", "list", "regression", "several", "multilabel"],
)
def test_labels_of_examples(labels: Any) -> None:
    source = [(IMAGES[i : i + 16], labels[i : i + 16]) for i in range(0, 50, 16)]
    store = jaxte.extract(model(), source)
    np.testing.assert_array_equal(store.labels, np.asarray(labels))
    assert store.labels.dtype.kind == ("f" if np.ndim(labels) == 2 else "i") or (
        np.asarray(labels).dtype.kind == "f"
    )


def test_models_outside_jax_work_in_a_thread_and_give_the_same() -> None:
    threads = set()

    def outside(params: Any, x: Any) -> dict[str, Any]:
        threads.add(threading.current_thread().name)
        hidden = np.tanh(np.asarray(x).reshape(len(x), -1) @ params)
        return {"low": hidden, "logits": hidden @ params[:9, :4]}

    store = jaxte.extract(model(apply=outside, traced=False), batches())
    np.testing.assert_allclose(np.asarray(store), expected("low"), 1e-5, 1e-6)
    assert store.logits is not None
    np.testing.assert_allclose(np.asarray(store.logits), expected("logits"), 1e-4, 1e-5)
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_the_next_batch_is_read_while_the_model_is_at_work() -> None:
    asked = threading.Semaphore(0)

    def source() -> Iterator[Any]:
        first, *others = batches()
        yield first
        for batch in others:
            asked.release()
            yield batch
        asked.release()

    def waits(params: Any, x: Any) -> dict[str, Any]:
        assert asked.acquire(timeout=20), "nobody asked for another batch"
        return {"low": np.asarray(x).reshape(len(x), -1)}

    assert jaxte.extract(model(apply=waits, traced=False), source).rows == 50


def test_progress_counts_examples() -> None:
    seen: list[tuple[int, int | None, str]] = []
    jaxte.extract(model(), batches(), progress=lambda *told: seen.append(told))
    assert seen[0] == (0, None, "net")
    assert seen[-1] == (50, None, "net")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_what_became_of_it(tmp_path: Any) -> None:
    first = extraction(model(), batches(), out=tmp_path / "s")
    again = extraction(model(), batches(), out=tmp_path / "s")
    assert (first.status, first.examples) == ("extracted", 50)
    assert (again.status, again.examples) == ("cached", 0)
    assert again.store.meta["model"]["name"] == "net"
    np.testing.assert_array_equal(np.asarray(again.store), expected("low"))


def test_params_of_any_tree_and_a_callable_of_inputs_alone() -> None:
    nested = model(params={"w": [W]}, apply=lambda p, x: apply(p["w"][0], x))
    np.testing.assert_array_equal(np.asarray(jaxte.extract(nested, batches())), expected("low"))
    closed = jaxte.extract(lambda x: apply(jnp.asarray(W), x)["low"], batches(), name="closed")
    np.testing.assert_allclose(np.asarray(closed), expected("low"), 1e-6)
    assert closed.meta["model"]["name"] == "closed"
