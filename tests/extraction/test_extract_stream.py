"""stream() of what extract() takes: the moments of the features that extract() stores."""

from typing import Any

import numpy as np
import pytest
from flax import nnx

import jaxte
from jaxte import data, moments, zoo
from jaxte.extraction.models import Model, as_model

from .flax_models import Net, cnn, scaled

DIGITS = data.load("zoo:digits/test?subset=70")


def numpy_only(params: Any, x: Any) -> dict[str, Any]:
    return {"flat": np.asarray(x).reshape(len(x), -1)}


def assert_moments_of(state: Any, features: Any, labels: Any, **known: Any) -> None:
    x = np.asarray(features, np.float64)
    wanted = moments.update(moments.init(x.shape[1], **known), x, labels)
    for name in ("counts", "squares", "scatter"):
        result, value = np.asarray(getattr(state, name)), np.asarray(getattr(wanted, name))
        np.testing.assert_allclose(result, value, 1e-5, 1e-6 * np.abs(value).max(), err_msg=name)
    means = [np.asarray(one.means) + np.asarray(one.origin) for one in (state, wanted)]
    np.testing.assert_allclose(means[0], means[1], 1e-5, 1e-6)


@pytest.mark.parametrize("kind", ["zoo", "nnx", "linen", "function", "model", "outside"])
def test_models_of_all_kinds_on_a_data_set(kind: str, x64: None) -> None:
    options: dict[str, Any] = {"prepare": scaled}
    source: Any
    if kind == "zoo":
        source, options = zoo.load("mlp-mnist"), {}
    elif kind == "nnx":
        source, options = Net(nnx.Rngs(0)), {**options, "layers": "blocks/1"}
    elif kind == "linen":
        source, variables = cnn()
        options |= {"variables": variables, "layers": "stem"}
    elif kind == "function":
        source = lambda x: x.reshape(len(x), -1)  # noqa: E731
    elif kind == "model":
        source = as_model(Net(nnx.Rngs(0)), layers="penultimate", prepare=scaled)
        options = {}
    else:
        source = Model("out", numpy_only, ("flat",), prepare=scaled, traced=False)
        options = {}
    state = jaxte.stream(source, DIGITS, batch_size=32, precision="float64", **options)
    store = jaxte.extract(source, DIGITS, batch_size=32, **options)
    assert_moments_of(state, store, store.labels, num_classes=10)
    ranking = jaxte.rank({"m": state}, metrics=("logme", "face"))
    whole = jaxte.rank({"m": store}, metrics=("logme", "face"))
    for metric in ranking.metrics:  # of a data set the counts of the classes are known
        assert ranking.score("m", metric) == pytest.approx(whole.score("m", metric), rel=1e-4)


def test_regression_and_several_labels(x64: None) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 4)).astype(np.float32)
    for y in (random.normal(size=30), (random.random((30, 3)) > 0.5).astype(np.float32)):
        source = data.as_dataset(x, y)
        state = jaxte.stream(lambda x: x, source, batch_size=8, precision="float64")
        assert state.targets is not None
        assert_moments_of(state, x, y, num_targets=1 if y.ndim == 1 else 3)


def test_batches_as_dicts_and_progress() -> None:
    images = np.stack([DIGITS[row][0] for row in range(20)])
    labels = DIGITS.labels()
    assert labels is not None
    seen: list[tuple[int, int | None, str]] = []
    source = [
        {"image": images[:12], "label": labels[:12]},
        {"image": images[12:], "label": labels[12:20]},
    ]
    state = jaxte.stream(
        zoo.load("mlp-mnist"), source, num_classes=10, progress=lambda *told: seen.append(told)
    )
    assert np.asarray(state.counts).sum() == 20
    assert [done for done, _, _ in seen] == [0, 12, 20]


def test_one_layer_at_a_time() -> None:
    both = as_model(Net(nnx.Rngs(0)), layers=["blocks/0", "blocks/1"], prepare=scaled)
    with pytest.raises(jaxte.InputError, match=r"Net has several layers \(blocks/0, blocks/1\)"):
        jaxte.stream(both, DIGITS)


def test_what_cannot_be_streamed_is_named() -> None:
    hole = Model("net", lambda p, x: {"last": 1 / x}, ("last",))
    source = [
        (np.ones((4, 2), np.float32), np.arange(4)),
        (np.zeros((4, 2), np.float32), np.arange(4)),
    ]
    with pytest.raises(jaxte.InputError, match="batch 1 contain NaN or infinity, first in row 0"):
        jaxte.stream(hole, source, num_classes=4)
    with pytest.raises(jaxte.InputError, match=r"net: layer last has shape \(4, 2, 1\)"):
        jaxte.stream(
            Model("net", lambda p, x: {"last": x[..., None]}, ("last",)), source, num_classes=4
        )
