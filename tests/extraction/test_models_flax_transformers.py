"""Flax models of transformers, which its releases before 5 have: random weights."""

from typing import Any

import numpy as np
import pytest

from jaxte import InputError
from jaxte.extraction import as_model, fingerprint

from .compiled import run

hf = pytest.importorskip("transformers")
if not hasattr(hf, "FlaxBertModel"):
    pytest.skip("this release of transformers has no models in Flax", allow_module_level=True)

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "num_labels": 3}
IDS = np.random.default_rng(0).integers(1, 50, (3, 7))
MASK = np.array([[1] * n + [0] * (7 - n) for n in (7, 3, 5)])
TEXTS = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": 0 * IDS}


def bert(kind: str, seed: int = 0, **options: Any) -> Any:
    config = hf.BertConfig(vocab_size=50, intermediate_size=24, **SIZES)
    return getattr(hf, kind)(config, seed=seed, **options)


def test_texts_by_layers_and_states() -> None:
    net = bert("FlaxBertModel")
    layers = ("last_hidden_state", "hidden/1", "encoder/layer/0", "pooler_output")
    out = run(as_model(net, layers=layers), TEXTS)
    whole = net(**TEXTS, train=False, output_hidden_states=True)

    def mean(states: Any) -> Any:
        return (states * MASK[..., None]).sum(1) / MASK.sum(1)[:, None]

    np.testing.assert_allclose(
        out["last_hidden_state"], mean(whole.last_hidden_state), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(out["hidden/1"], mean(whole.hidden_states[1]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out["hidden/1"], out["encoder/layer/0"])
    np.testing.assert_allclose(out["pooler_output"], whole.pooler_output, rtol=1e-4, atol=1e-5)


def test_heads() -> None:
    net = bert("FlaxBertForSequenceClassification")
    out = run(as_model(net, layers=("last_hidden_state", "penultimate")), TEXTS)
    np.testing.assert_allclose(out["logits"], net(**TEXTS, train=False).logits, atol=1e-5)
    assert out["penultimate"].shape == out["last_hidden_state"].shape == (3, 16)


def test_models_of_one_architecture_are_equal_and_told_apart() -> None:
    one, other = (as_model(bert("FlaxBertModel", seed)) for seed in (0, 1))
    assert one.apply == other.apply
    assert hash(one.apply) == hash(other.apply)
    assert fingerprint(one) != fingerprint(other)
    assert one.apply != as_model(bert("FlaxBertForSequenceClassification")).apply


def test_what_does_not_fit() -> None:
    net = bert("FlaxBertModel")
    with pytest.raises(InputError, match="no layer 'encode/layer/0': did you mean 'encoder/layer/"):
        run(as_model(net, layers="encode/layer/0"), TEXTS)
    with pytest.raises(InputError, match=r"computes in float32 itself: .*dtype=jnp\.bfloat16"):
        as_model(net, compute_dtype="bfloat16")


def test_images() -> None:
    config = hf.ViTConfig(image_size=32, patch_size=8, intermediate_size=24, **SIZES)
    net = hf.FlaxViTForImageClassification(config)
    model = as_model(net, prepare={"size": 32})
    assert model.prepare is not None
    images = model.prepare([np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)] * 2)
    out = run(model, images)
    np.testing.assert_allclose(out["logits"], net(images, train=False).logits, atol=1e-5)
    maps = run(as_model(net, layers="last_hidden_state", level="dense"), images)
    assert maps["last_hidden_state"].shape == (2, 4, 4, 16)
