"""stream(): moments beside the forward pass are those of the features that it gives."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Array, counted_compilations, regression
from jax import lax

import jaxte
from jaxte import metrics, moments

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(50, 6, 4)).astype(np.float32)
Y = np.arange(50) % 3
W = jnp.asarray(RANDOM.normal(size=(24, 9)), jnp.float32)


@pytest.fixture(autouse=True)
def strict_ranks() -> Iterator[None]:
    """As in the tests of the kernels: the network is our own, and moments are kernels."""
    with jax.numpy_rank_promotion("raise"):
        yield


def network(w: jax.Array, images: jax.Array) -> jax.Array:
    """Python numbers, integers and conversions, as models have them."""
    x = images.reshape(len(images), -1) @ w
    x = 0.5 * jax.nn.gelu(x) + jnp.arange(x.shape[1])[None] / 7
    x = lax.fori_loop(0, 3, lambda i, h: h * 1.01 + i, x)
    return x + jnp.argsort(x, axis=1) + jax.random.normal(jax.random.key(1), x.shape[1:])[None]


def batches(x: Any = IMAGES, y: Array = Y, size: int = 16) -> list[Any]:
    cuts = [slice(i, i + size) for i in range(0, len(y), size)]
    return [(jax.tree.map(lambda leaf, cut=cut: leaf[cut], x), y[cut]) for cut in cuts]


def expected(features: Any, y: Array, **known: Any) -> moments.Moments:
    with jax.enable_x64(True):
        empty = moments.init(np.shape(features)[1], **known)
        return moments.update(empty, np.asarray(features).astype(np.float64), y)


def assert_equal(actual: moments.Moments, wanted: moments.Moments, rtol: float = 1e-12) -> None:
    """Up to the origin, which is arbitrary."""
    values = [
        {
            "means": np.asarray(state.means) + np.asarray(state.origin),
            "counts": np.asarray(state.counts),
            "squares": np.asarray(state.squares),
            "scatter": np.asarray(state.scatter),
        }
        for state in (actual, wanted)
    ]
    for name, value in values[1].items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(values[0][name], value, rtol, rtol * scale, err_msg=name)


@pytest.mark.parametrize("source", ["params", "closure"])
def test_moments_are_those_of_the_models_own_features(source: str) -> None:
    """In float32 the model, in float64 the moments: no digit is lost, and none is won."""
    features = jax.jit(network)(W, IMAGES)
    assert features.dtype == jnp.float32
    with jax.numpy_rank_promotion("allow"):
        if source == "params":
            actual = jaxte.stream(network, batches(), params=W, num_classes=3, precision="float64")
        else:
            actual = jaxte.stream(
                lambda x: network(W, x), batches(), num_classes=3, precision="float64"
            )
    assert actual.scatter.dtype == np.float64
    assert jnp.zeros(()).dtype == jnp.float32
    assert_equal(actual, expected(features, Y, num_classes=3), 1e-6)


def test_features_are_the_same_to_the_last_bit() -> None:
    features = jax.jit(lambda x: jnp.tanh(x.reshape(len(x), -1) @ W))
    source = [(IMAGES, Y)]
    actual = jaxte.stream(features, source, num_classes=3, precision="float64")
    assert_equal(actual, expected(features(IMAGES), Y, num_classes=3), 1e-13)


def test_rank_takes_the_result_in_its_precision() -> None:
    def features(x: jax.Array) -> jax.Array:
        return jnp.tanh(x.reshape(len(x), -1) @ W)

    counts = np.bincount(Y)
    state = jaxte.stream(features, batches(), class_counts=counts, precision="float64")
    ranking = jaxte.rank({"m": state}, metrics=("logme", "face"), precision="float64")
    with jax.enable_x64(True):
        x = np.asarray(jax.jit(features)(IMAGES)).astype(np.float64)
        for metric in (metrics.logme, metrics.face):
            assert ranking.score("m", metric.__name__) == pytest.approx(
                float(metric(x, Y)), rel=1e-6
            )


def test_any_inputs_and_labels() -> None:
    ids = RANDOM.integers(0, 9, size=(50, 5))  # int64, which a model of its own takes as int32
    inputs = {"ids": ids, "mask": ids > 2}

    def features(batch: dict[str, jax.Array]) -> jax.Array:
        assert batch["ids"].dtype == jnp.int32
        return jnp.where(batch["mask"], batch["ids"], 0).astype(jnp.float16) * 0.5

    x = np.where(ids > 2, ids, 0) * 0.5
    actual = jaxte.stream(features, batches(inputs), num_classes=3, precision="float64")
    assert_equal(actual, expected(x, Y, num_classes=3))
    z, y = regression(50, 4, outputs=2)
    actual = jaxte.stream(lambda x: x, batches(z.astype(np.float32), y), precision="float64")
    wanted = expected(z.astype(np.float32), y, num_targets=2)
    assert_equal(actual, wanted)
    assert actual.targets is not None
    assert wanted.targets is not None
    np.testing.assert_allclose(actual.targets.cross, wanted.targets.cross, 1e-10)


def test_weights_and_functions_that_make_batches() -> None:
    weights = np.arange(50) % 4 * 0.5
    labels = np.where(weights > 0, Y, -1)

    def made() -> Iterator[Any]:
        assert jnp.zeros(()).dtype == jnp.float32  # made in the caller's precision
        for cut in (slice(0, 20), slice(20, 50)):
            yield jnp.asarray(IMAGES[cut, 0]), labels[cut], weights[cut]

    actual = jaxte.stream(lambda x: x / 4, made, num_classes=3, precision="float64")
    with jax.enable_x64(True):
        x = (IMAGES[:, 0] / np.float32(4)).astype(np.float64)
        wanted = moments.update(moments.init(4, num_classes=3), x, labels, weights)
    assert_equal(actual, wanted)


def test_a_short_last_batch_compiles_nothing_and_neither_does_a_second_run() -> None:
    def features(w: jax.Array, x: jax.Array) -> jax.Array:
        return x.reshape(len(x), -1) @ w

    jaxte.stream(features, batches()[:1], params=W, num_classes=3)
    with counted_compilations() as names:
        for data in (batches(), batches()[2:] + batches()):
            jaxte.stream(features, data[:3], params=2 * W, num_classes=3)
    assert [name for name in names if "step" in name] == []


def test_models_are_not_kept_alive() -> None:
    def model(weights: Array) -> Callable[[jax.Array], jax.Array]:
        return lambda x: x.reshape(len(x), -1) @ weights

    apply = model(np.asarray(W))
    jaxte.stream(apply, batches(), num_classes=3)
    gone = weakref.ref(apply)
    del apply
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("model", "source", "options", "said"),
    [
        (lambda x: x[..., None], batches(), {"num_classes": 3}, r"\(16, 6, 4, 1\).*pool"),
        (lambda x: {"f": x}, batches(), {"num_classes": 3}, r"dict.*'features'"),
        (lambda x: x[:3, 0], batches(), {"num_classes": 3}, r"3 rows for a batch of 16"),
        (lambda x: x[:, 0], batches(), {}, r"num_classes=\.\.\."),
        (lambda x: x[:, 0], batches(), {"num_classes": 2}, r"batch 0 has label 2 in row 2"),
        (lambda x: x[:, 0], batches(y=Y * 1.0), {"num_classes": 3}, r"astype\(int\)"),
        (lambda x: x[:, 0], [], {"num_classes": 3}, "no batches"),
        (lambda x: x[:, 0], [IMAGES], {"num_classes": 3}, r"batch 0 must be \(inputs, labels\)"),
        (lambda x: x[:, 0], [(IMAGES, Y[:9])], {"num_classes": 3}, r"labels \(9,\)"),
        (lambda x: x[:, 0], [(IMAGES, Y, -Y)], {"num_classes": 3}, "weights must be finite"),
        (lambda x: jnp.log(x[:, 0]), batches(), {"num_classes": 3}, "batch 0 contain NaN"),
    ],
)
def test_what_cannot_be_streamed_is_named(
    model: Callable[..., Any], source: list[Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(jaxte.InputError, match=said):
        jaxte.stream(model, source, **options)


def test_a_batch_in_which_no_row_counts_is_passed_by() -> None:
    x, nothing = IMAGES[:, 0], np.zeros(50)
    result = jaxte.stream(lambda x: x, [(x, Y), (x, Y, nothing)], num_classes=3)
    jax.tree.map(
        np.testing.assert_array_equal,
        result,
        jaxte.stream(lambda x: x, [(x, Y)], num_classes=3),
    )
