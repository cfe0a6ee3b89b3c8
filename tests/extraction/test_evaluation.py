"""Models in training mode are noticed by what they do, whatever their flag is called."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxte
from jaxte import InputError
from jaxte.extraction import as_model
from jaxte.extraction._arrays import inference_flags
from jaxte.extraction.models import settled

R = np.random.default_rng(0)
X = R.normal(size=(12, 6)).astype(np.float32)
Y = np.arange(12) % 3
W = R.normal(size=(6, 4)).astype(np.float32)


def normalised(x: Any, training: Any) -> Any:
    return (x - x.mean(0, keepdims=True)) @ W if training else x @ W


def dropped(x: Any, training: Any) -> Any:
    kept = jax.random.bernoulli(jax.random.key(0), 0.9, x.shape)
    return (x * kept if training else x) @ W


class Linen(linen.Module):
    layer: str

    @linen.compact
    def __call__(self, x: Any, phase: str = "learn", is_train: bool = False) -> Any:
        on = is_train or phase == "learn"
        if self.layer == "statistics":
            x = linen.BatchNorm(use_running_average=not on)(x)
        return linen.Dense(4)(linen.Dropout(0.2, deterministic=self.layer != "drop" or not on)(x))


class Nnx(nnx.Module):
    def __init__(self, layer: str) -> None:
        rngs = nnx.Rngs(0)
        self.layer, self.rngs = layer, nnx.Rngs(1)
        self.norm, self.head = nnx.BatchNorm(6, rngs=rngs), nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x: Any, phase: str = "learn") -> Any:
        if self.layer == "statistics":
            return self.head(self.norm(x, use_running_average=phase != "learn"))
        return self.head(x * jax.random.bernoulli(self.rngs.noise(), 0.9, x.shape))


def torch_net(layer: str) -> Any:
    torch = pytest.importorskip("torch")
    module: Any = torch.nn.Module

    class Net(module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 4)

        def forward(self, x: Any, phase: str = "learn") -> Any:
            if layer == "drop":
                return self.head(torch.nn.functional.dropout(x, 0.2, training=phase == "learn"))
            norm, on = self.norm, phase == "learn"
            return self.head(
                torch.nn.functional.batch_norm(x, norm.running_mean, norm.running_var, training=on)
            )

    return Net()


def linen_net(layer: str) -> tuple[Any, dict[str, Any]]:
    net = Linen(layer)
    return net, {"variables": net.init(jax.random.key(0), X, phase="use")}


DOORS: dict[str, Any] = {
    "function": lambda layer: (
        lambda x: (normalised if layer == "statistics" else dropped)(x, True),
        {},
    ),
    "on host": lambda layer: (
        lambda x: np.asarray((normalised if layer == "statistics" else noisy)(np.asarray(x), True)),
        {},
    ),
    "nnx": lambda layer: (Nnx(layer), {}),
    "nnx in a function": lambda layer: (as_function(Nnx(layer)), {}),
    "linen": linen_net,
    "torch": lambda layer: (torch_net(layer), {}),
}


def noisy(x: Any, training: Any) -> Any:
    return (x * R.binomial(1, 0.8, x.shape)) @ W


def as_function(net: Any) -> Any:
    return lambda x: net(x)


@pytest.mark.parametrize("layer", ["statistics", "drop"])
@pytest.mark.parametrize("door", DOORS)
def test_an_unknown_flag_is_an_error_not_a_number(door: str, layer: str) -> None:
    model, options = DOORS[door](layer)
    with pytest.raises(InputError, match="as if the model were training"):
        jaxte.extract(model, [(X, Y)], **options)
    if door in ("function", "nnx", "torch"):  # and once more: a refusal is not remembered as good
        with pytest.raises(InputError, match="as if the model were training"):
            jaxte.stream(model, [(X, Y)], num_classes=3, **options)


def test_batch_statistics_that_no_other_example_can_show() -> None:
    with pytest.raises(InputError, match=r"writes to norm/mean, norm/var"):
        jaxte.extract(Nnx("statistics"), [(X[i : i + 1], Y[i : i + 1]) for i in range(12)])


@pytest.mark.parametrize("layer", ["statistics", "drop"])
def test_torch_modules_keep_their_mode_and_their_statistics(layer: str) -> None:
    net = torch_net(layer).train()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    with pytest.raises(InputError, match="were training"):
        jaxte.extract(net, [(X, Y)])
    assert net.training
    assert all(bool((before[name] == x).all()) for name, x in net.state_dict().items())


def test_torch_buffers_are_put_back_where_a_forward_pass_fails() -> None:
    torch = pytest.importorskip("torch")

    class Counting(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Any) -> Any:
            self.calls += 1
            raise RuntimeError("no memory")

    net = Counting()
    with pytest.raises(RuntimeError, match="no memory"):
        jaxte.extract(net, [(X, Y)])
    assert float(net.calls) == 0


def test_batch_normalisation_without_running_statistics() -> None:
    torch = pytest.importorskip("torch")
    norm = torch.nn.BatchNorm1d(6, track_running_stats=False)
    with pytest.raises(InputError, match="were training"):
        jaxte.extract(
            torch.nn.Sequential(norm, torch.nn.Linear(6, 4)), [(X + np.arange(12)[:, None], Y)]
        )


KNOWN = ["train", "training", "is_train", "is_training", "deterministic", "inference", "mode"]


@pytest.mark.parametrize(
    ("flag", "streamed"), [*((flag, False) for flag in KNOWN), ("is_train", True)]
)
@pytest.mark.parametrize("door", ["function", "jitted", "nnx", "linen", "torch"])
def test_known_flags_are_set(door: str, flag: str, streamed: bool) -> None:
    """The default of each means training, so that only a flag that is set gives x @ W."""
    default = {"mode": "'train'", "deterministic": "False", "inference": "False"}.get(flag, "True")
    on = f"{flag} == {default}"
    names: dict[str, Any] = {"normalised": normalised, "W": W}
    if door == "torch":
        names["W"] = pytest.importorskip("torch").from_numpy(W)
        names["normalised"] = lambda x, on: (x - x.mean(0)) @ names["W"] if on else x @ names["W"]
    exec(f"def call(self, x, {flag}={default}): return normalised(x, {on})", names)
    exec(f"def function(x, {flag}={default}): return normalised(x, {on})", names)
    call, function = names["call"], names["function"]
    options: dict[str, Any] = {"layers": "output"}
    if door in ("function", "jitted"):
        options = {}
        model: Any = jax.jit(function, static_argnames=flag) if door == "jitted" else function
    elif door == "nnx":
        model = type("Net", (nnx.Module,), {"__call__": call})()
    elif door == "linen":
        model = type("Net", (linen.Module,), {"__call__": call, "__module__": __name__})()
        options["variables"] = {"params": {}}
    else:
        model = type("Net", (pytest.importorskip("torch").nn.Module,), {"forward": call})()
    if streamed:
        state = jaxte.stream(model, [(X, Y)], num_classes=3, **options)
        means = np.stack([(X @ W)[label == Y].mean(axis=0) for label in range(3)])
        np.testing.assert_allclose(state.means + state.origin[None], means, rtol=1e-4, atol=1e-5)
        return
    result = np.asarray(jaxte.extract(model, [(X, Y)], **options))
    np.testing.assert_allclose(result, X @ W, rtol=1e-5, atol=1e-5)


def test_arguments_that_only_look_like_flags_are_left_alone() -> None:
    def function(x: Any, test: str = "mean", mode: str = "bilinear", train: float = 0.5) -> Any:
        return x

    assert inference_flags(function) == {}
    assert inference_flags(np.tanh) == {}


@pytest.mark.parametrize("size", [1, 5, 12])
def test_models_at_rest_pass_in_every_size_and_type(size: int) -> None:
    batches = [(X[i : i + size], Y[i : i + size]) for i in range(0, 12, size)]
    for compute in (None, "bfloat16"):
        store = jaxte.extract(lambda x: jnp.tanh(100 + x @ W), batches, compute_dtype=compute)
        assert store.rows == 12


# --- tracing -------------------------------------------------------------------------------------


def test_why_a_function_is_not_traced_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def asks(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    with caplog.at_level(logging.INFO, logger="jaxte"):
        assert settled(as_model(asks), X).traced is False
        assert settled(as_model(lambda x: np.tanh(np.asarray(x))), X).traced is False
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[0][0] == "WARNING"
    assert "asks runs as it is" in said[0][1]
    assert "TracerBoolConversionError" in said[0][1]
    assert said[1][0] == "INFO"
    assert "TracerArrayConversionError" in said[1][1]


def test_an_error_of_its_own_keeps_that_of_tracing() -> None:
    def broken(x: Any) -> Any:
        if x.sum() > 0:
            return x
        raise KeyError("no such weights")

    with pytest.raises(KeyError, match="no such weights") as raised:
        settled(as_model(broken), -np.abs(X))
    assert "TracerBoolConversionError" in raised.value.__notes__[0]


# --- unscaled images -----------------------------------------------------------------------------

IMAGES = R.integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)


def flat(x: Any) -> Any:
    return x.reshape(len(x), -1) / 255


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (None, "preprocessing: none, values 0 to 255"),
        (np.stack, "preprocessing: numpy.stack, values 0 to 255"),
        (lambda images: np.stack(images) / np.float32(255), None),
        ({"size": 4}, None),
    ],
)
def test_images_that_nobody_scaled_are_mentioned(
    prepare: Any, said: str | None, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if streamed:
        jaxte.stream(as_model(flat, prepare=prepare), [(IMAGES, Y[:6])], num_classes=3)
    else:
        jaxte.extract(flat, [(IMAGES, Y[:6])], prepare=prepare)
    messages = [record.getMessage() for record in caplog.records if record.name == "jaxte"]
    assert messages == ([] if said is None else [f"flat: {said}"])


def test_the_zoo_scales_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    from jaxte import zoo

    jaxte.extract(zoo.load("mlp-mnist"), [(list(IMAGES), Y[:6])])
    assert not [record for record in caplog.records if record.name == "jaxte"]
