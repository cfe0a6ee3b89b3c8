"""What models return, by every door: one array, or an error that names the parts to pick from."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxte
from jaxte import InputError
from jaxte.extraction import Model, as_model

R = np.random.default_rng(0)
X = R.normal(size=(6, 4)).astype(np.float32)
Y = np.arange(6) % 2
MAPS = R.normal(size=(6, 3, 5, 4)).astype(np.float32)  # [b, h, w, c], no two sizes alike


class Named(NamedTuple):
    one: Any
    two: Any


@dataclasses.dataclass
class Parts:
    one: Any
    two: Any


# Each returns several arrays, of which the second is twice the input.
SEVERAL: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "tuple": (lambda x: (x, 2 * x), "[0]", "[1]"),
    "list": (lambda x: [x, 2 * x], "[0]", "[1]"),
    "nested": (lambda x: (x, (None, {"z": 2 * x})), "[0]", "[1][1][z]"),
    "dict": (lambda x: {"one": x, "two": 2 * x}, "one", "[two]"),
    "named tuple": (lambda x: Named(x, 2 * x), "one", "[two]"),
    "dataclass": (lambda x: Parts(x, 2 * x), "one", "[two]"),
}


def function(returns: Any) -> Any:
    return lambda x: returns(x)


def on_host(returns: Any) -> Any:
    return lambda x: returns(np.asarray(x))


def with_nnx(returns: Any) -> Any:
    class Net(nnx.Module):
        def __call__(self, x: Any) -> Any:
            return returns(x)

    return Net()


def with_linen(returns: Any) -> Any:
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return returns(x)

    return Net()


def with_torch(returns: Any) -> Any:
    module: Any = pytest.importorskip("torch").nn.Module

    class Net(module):
        def forward(self, x: Any) -> Any:
            return returns(x)

    return Net()


DOORS = {
    "function": function,
    "on host": on_host,
    "nnx": with_nnx,
    "linen": with_linen,
    "torch": with_torch,
}


def variables(door: str) -> dict[str, Any]:
    return {"variables": {"params": {}}} if door == "linen" else {}


def halves() -> Any:
    return iter([(X[:2], Y[:2]), (X[2:4], Y[2:4]), (X[4:], Y[4:])])


@pytest.mark.parametrize("streamed", [False, True], ids=["extract", "stream"])
@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("door", DOORS)
def test_several_arrays_are_refused_and_one_can_be_picked(
    door: str, kind: str, streamed: bool
) -> None:
    returns, first, second = SEVERAL[kind]
    model, options = DOORS[door](returns), variables(door)
    if streamed and door == "on host":
        model = as_model(model, layers=f"output{second}", traced=False)  # streams trace functions
    else:
        # batches of two rows and two parts: a stack of the parts would look like a batch
        run = jaxte.stream if streamed else jaxte.extract
        known: dict[str, Any] = {"num_classes": 2} if streamed else {}
        with pytest.raises(InputError, match=r"returns a .*layers") as raised:
            run(model, halves(), **options, **known)
        assert first in str(raised.value)
        assert "(2, 4)" in str(raised.value)
        options["layers"] = f"output{second}"
    if streamed:
        state = jaxte.stream(model, halves(), num_classes=2, **options)
        np.testing.assert_allclose(state.means + state.origin[None], class_means(2 * X), atol=1e-6)
        return
    np.testing.assert_allclose(np.asarray(jaxte.extract(model, halves(), **options)), 2 * X)


def class_means(x: np.ndarray) -> np.ndarray:
    return np.stack([x[label == Y].mean(axis=0) for label in (0, 1)])


@pytest.mark.parametrize("door", DOORS)
def test_one_array_in_a_container_is_no_question(door: str) -> None:
    model = DOORS[door](lambda x: (x, None))
    np.testing.assert_allclose(np.asarray(jaxte.extract(model, halves(), **variables(door))), X)


@pytest.mark.parametrize("door", ["function", "on host", "nnx", "linen"])
@pytest.mark.parametrize(
    ("returns", "said"),
    [
        (lambda x: None, "NoneType without any array"),
        (lambda x: [], "list without any array"),
        (lambda x: x + 1j, "complex64: features are real"),
        (lambda x: x.sum(), r"shape \(\)"),
        (lambda x: [row for row in x], r"list of 2 arrays, \[0\] \(4,\)"),
    ],
)
def test_what_is_no_array_of_features(door: str, returns: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        jaxte.extract(DOORS[door](returns), halves(), **variables(door))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ma.masked_array(X[:2], X[:2] > 0), "masked"),
        (X[:2].astype(object), "type object"),
        (X[:2].astype(str), "<U"),
    ],
)
def test_arrays_that_would_lose_something(array: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        jaxte.extract(lambda x: array, [(X[:2], Y[:2])])


def test_models_made_by_hand_are_looked_at_too() -> None:
    for returned in (lambda x: (x, x), lambda x: list(x)):

        def apply(params: Any, x: Any, returned: Any = returned) -> dict[str, Any]:
            return {"last": returned(x)}

        model = Model("own", apply, ("last",))
        with pytest.raises(
            InputError, match=r"own: layer 'last' returns a (tuple|list) of \d array"
        ):
            jaxte.extract(model, halves())


def test_a_part_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"no part \[2\]: there are \[0\] \(2, 4\), \[1\]"):
        jaxte.extract(lambda x: (x, x), halves(), layers="output[2]")


# --- maps ----------------------------------------------------------------------------------------

MEAN = MAPS.mean(axis=(1, 2))


def first(x: Any) -> Any:
    return x.transpose(0, 3, 1, 2)


def torch_of(array: Any) -> Any:
    return pytest.importorskip("torch").as_tensor(np.asarray(array).copy())


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (function(lambda x: x), {}),
        (with_nnx(lambda x: x), {}),
        (with_linen(lambda x: x), variables("linen")),
        (lambda x: torch_of(first(np.asarray(x))), {}),
        (on_host(lambda x: x), {"layout": "NHWC"}),
        (on_host(first), {"layout": "NCHW"}),
        (function(first), {"layout": "NCHW"}),
        (lambda x: torch_of(x), {"layout": "NHWC"}),
        (with_nnx(first), {"layout": "NCHW"}),
    ],
)
@pytest.mark.parametrize("level", ["example", "dense"])
def test_the_layout_of_maps_is_that_of_the_framework_or_is_said(
    model: Any, options: dict[str, Any], level: str
) -> None:
    made = as_model(model, level=level, **options)
    (out,) = made.apply(made.params, jnp.asarray(MAPS)).values()
    np.testing.assert_allclose(out, MEAN if level == "example" else MAPS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_maps_of_torch_modules(layout: str | None) -> None:
    inputs = MAPS if layout else first(MAPS)
    for model in (with_torch(lambda x: x), with_torch(lambda x: (x, x[:, 0]))):
        layers = "output[0]" if isinstance(model(torch_of(inputs)), tuple) else "output"
        store = jaxte.extract(model, [(inputs, Y)], layers=layers, layout=layout)
        np.testing.assert_allclose(np.asarray(store), MEAN, rtol=1e-5, atol=1e-6)


def test_maps_of_a_library_without_a_layout() -> None:
    with pytest.raises(InputError, match=r"of numpy, .*say layout='NHWC' or layout='NCHW'"):
        jaxte.extract(on_host(lambda x: x), [(MAPS, Y)])
    with pytest.raises(InputError, match="unknown layout 'CHW'"):
        as_model(on_host(lambda x: x), layout="CHW")
