"""layers="all" of torch modules, of timm and transformers."""

import weakref
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.extraction import as_model

torch = pytest.importorskip("torch")
nn = torch.nn
Module: Any = nn.Module

R = np.random.default_rng(0)
X = R.normal(size=(9, 3, 8, 8)).astype(np.float32)
Y = np.arange(9) % 3


class Block(Module):
    """As in a residual network: one ReLU in place for both, and a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class ResNet(Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(), Block())
        self.norm = nn.InstanceNorm2d(4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)
        self.spare = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        x = self.layer1(self.relu(self.bn1(self.conv1(x))))
        self.norm(x)
        return self.fc(self.drop(torch.flatten(self.avgpool(x), 1)))


def resnet() -> Any:
    torch.manual_seed(0)
    net = ResNet()
    with torch.no_grad():
        net(torch.randn(20, 3, 8, 8) * 2 + 1)  # batch statistics that are no defaults
    return net


LAYERS = (
    "conv1", "bn1", "relu", "layer1/0/conv1", "layer1/0/bn1", "layer1/0/conv2", "layer1/0/bn2",
    "layer1/0", "layer1/1/conv1", "layer1/1/bn1", "layer1/1/conv2", "layer1/1/bn2", "layer1",
    "penultimate",
)  # fmt: skip


def by_hand(net: Any) -> dict[str, Any]:
    """The mean over positions of each module's output, at the time of its last call."""
    means: dict[str, Any] = {}

    def watch(name: str) -> Any:
        return lambda module, args, out: means.update({name: out.mean((2, 3)).numpy()})

    layers = [name for name in LAYERS if name != "penultimate"]
    hooks = [
        net.get_submodule(name.replace("/", ".")).register_forward_hook(watch(name))
        for name in layers
    ]
    with torch.no_grad():
        net.eval()(torch.from_numpy(X))
    for hook in hooks:
        hook.remove()
    return means


def test_outputs_that_are_written_over_are_what_they_were() -> None:
    net = resnet()
    store = jaxte.extract(net, [(X[:5], Y[:5]), (X[5:], Y[5:])], layers="all")
    assert store.layers == LAYERS
    assert net.training
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())
    for layer, mean in by_hand(net).items():
        np.testing.assert_allclose(store[layer], mean, rtol=1e-4, atol=1e-5)
    assert np.asarray(store["layer1/0/bn1"]).min() < 0 < np.asarray(store["relu"]).min()
    own = as_model(net, layers=LAYERS, pool=lambda x: x.mean((1, 2)))
    named = jaxte.extract(own, [(X, Y)])
    for layer in LAYERS[:-1]:  # the last one is a vector before it is pooled
        np.testing.assert_allclose(store[layer], named[layer], rtol=1e-4, atol=1e-5)


def test_maps_are_not_kept_once_they_are_pooled() -> None:
    alive: list[Any] = []

    class Watchful(Module):
        def forward(self, x: Any) -> Any:
            alive.append(sum(one() is not None for one in maps[:-1]))
            maps.append(weakref.ref(out := x + 1))
            return out

    maps: list[Any] = []
    net = nn.Sequential(*(Watchful() for _ in range(5)), nn.Flatten(), nn.Linear(192, 2))
    model = as_model(net, layers=[str(i) for i in range(5)])
    model.apply(model.params, X)
    maps.clear()
    model.apply(model.params, X)
    assert alive[-5:] == [0] * 5


def test_vectors_that_are_written_over_are_what_they_were() -> None:
    torch.manual_seed(0)
    first = nn.Linear(192, 4)
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(inplace=True), nn.Linear(4, 2))
    store = jaxte.extract(net, [(X, Y)], layers="all")
    assert store.layers == ("0", "1", "penultimate")
    with torch.no_grad():
        expected = first(torch.from_numpy(X).flatten(1)).numpy()
    np.testing.assert_allclose(store["1"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(store["penultimate"], np.maximum(store["1"], 0))


class Attends(Module):
    """Weights of attention by modules, an attention that returns two, and a dropout of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.softmax, self.drop = nn.Softmax(-1), nn.Dropout(0.5)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)

    def forward(self, input_ids: Any) -> Any:
        x = self.embed(input_ids)
        x = self.drop(self.softmax(x @ x.mT)) @ x
        return self.norm(x + self.attend(x, x, x)[0])


def test_weights_of_attention_are_no_features() -> None:
    ids = {"input_ids": R.integers(0, 20, (6, 5))}
    torch.manual_seed(0)
    store = jaxte.extract(Attends(), [(ids, Y[:6])], layers="all")
    assert store.layers == ("embed", "penultimate")
    words = jaxte.extract(
        Attends(), [(ids, R.integers(0, 2, (6, 5)))], layers="all", level="token", num_classes=2
    )
    assert words.layers == ("embed", "penultimate")
    assert words["embed"].shape == (30, 4)


def test_a_model_that_trains_is_refused_and_left_as_it_was() -> None:
    net = resnet()
    net.bn1.track_running_stats = False
    net.bn1.running_mean, net.bn1.running_var = None, None
    with pytest.raises(InputError, match="as if the model were training"):
        jaxte.extract(net, [(X, Y)], layers="all")


def test_hidden_states_of_transformers() -> None:
    hf = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 6}
    config = hf.BertConfig(vocab_size=20, num_hidden_layers=2, **sizes)
    mask = np.array([[1, 1, 1, 0, 0], [1] * 5, [1, 0, 0, 0, 0], [1] * 5])
    inputs = {"input_ids": R.integers(1, 20, (4, 5)), "attention_mask": mask}
    for kind, layers in (
        ("BertModel", ("hidden/0", "hidden/1", "penultimate")),
        ("BertForSequenceClassification", ("hidden/0", "hidden/1", "hidden/2", "penultimate")),
    ):
        net = getattr(hf, kind)(config).eval()
        store = jaxte.extract(net, [(inputs, Y[:4])], layers="all")
        assert store.layers == layers
        tensors = {name: torch.from_numpy(x) for name, x in inputs.items()}
        with torch.no_grad():
            states = net(**tensors, output_hidden_states=True).hidden_states
        for index in range(len(layers) - 1):
            state = states[index].numpy()
            expected = (state * mask[..., None]).sum(1) / mask.sum(1)[:, None]
            np.testing.assert_allclose(store[f"hidden/{index}"], expected, rtol=1e-4, atol=1e-5)


def test_modules_of_timm() -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=3)
    size = net.pretrained_cfg["input_size"][-1]
    images = R.integers(0, 255, (3, size, size, 3), dtype=np.uint8)
    store = jaxte.extract(net, [(images, Y[:3])], layers="all")
    assert store.layers[:4] == (
        "patch_embed/proj", "patch_embed", "blocks/0/norm1", "blocks/0/attn/qkv",
    )  # fmt: skip
    assert store.layers[-1] == "penultimate"
    assert not any(name.startswith("head") for name in store.layers)
    np.testing.assert_allclose(
        store["penultimate"], jaxte.extract(net, [(images, Y[:3])])["penultimate"], rtol=1e-5
    )
