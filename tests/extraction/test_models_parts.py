"""Models of transformers of several parts: encoders are run alone, of towers the one that fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError, data
from jaxte.extraction import as_model, fingerprint, resolve

from .test_models_transformers import TEXTS, vocabulary

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")

R = np.random.default_rng(0)
IMAGES = R.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
IDS = R.integers(3, 13, (4, 6)).astype(np.int32)
MASK = (np.arange(6) < np.array([6, 3, 5, 1])[:, None]).astype(np.int32)
Y = np.arange(4) % 2


def t5(kind: str = "T5Model") -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return getattr(hf, kind)(hf.T5Config(vocab_size=30, decoder_start_token_id=0, **sizes))


def bart(kind: str = "BartModel") -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 16, "max_position_embeddings": 20}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": 2, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 8}
    return getattr(hf, kind)(hf.BartConfig(vocab_size=30, **sizes))


BOTH = {
    "T5": t5,
    "T5 for generation": lambda: t5("T5ForConditionalGeneration"),
    "BART": bart,
    "BART for generation": lambda: bart("BartForConditionalGeneration"),
    "BART with a head": lambda: bart("BartForSequenceClassification"),
}


def pooled(states: Any) -> np.ndarray:
    source = states.detach().numpy()
    return np.asarray((source * MASK[..., None]).sum(1) / MASK.sum(1)[:, None])


@pytest.mark.parametrize("kind", BOTH)
def test_the_encoder_of_an_encoder_and_a_decoder(kind: str) -> None:
    net = BOTH[kind]().eval()
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    source = {name: torch.from_numpy(x).long() for name, x in inputs.items()}
    with torch.no_grad():
        expected = net.get_encoder()(**source, output_hidden_states=True)
    store = jaxte.extract(net, [(inputs, Y)])
    assert store.layers == ("last_hidden_state",)
    np.testing.assert_allclose(
        np.asarray(store), pooled(expected.last_hidden_state), rtol=1e-4, atol=1e-5
    )
    store = jaxte.extract(net, [(inputs, Y)], layers="hidden/1")
    np.testing.assert_allclose(
        np.asarray(store), pooled(expected.hidden_states[1]), rtol=1e-4, atol=1e-5
    )
    assert as_model(net).card["part"] == "encoder"


def test_layers_of_the_encoder_have_the_paths_of_the_model() -> None:
    inputs = [({"input_ids": IDS, "attention_mask": MASK}, Y)]
    assert jaxte.extract(t5(), inputs, layers="encoder/block/1[0]").shape == (4, 16)
    with pytest.raises(InputError, match="'decoder/block/1' takes no part"):
        jaxte.extract(t5(), inputs, layers="decoder/block/1")


def test_who_gives_inputs_of_the_decoder_gets_the_decoder() -> None:
    net = t5().eval()
    inputs = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS[:, :2]}
    with torch.no_grad():
        expected = net(**{name: torch.from_numpy(x).long() for name, x in inputs.items()})
    store = jaxte.extract(net, [(inputs, Y)])
    expected = expected.last_hidden_state.numpy().mean(axis=1)
    np.testing.assert_allclose(np.asarray(store), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["T5EncoderModel", "T5ForConditionalGeneration"])
def test_checkpoints_of_encoders(kind: str, tmp_path: Path) -> None:
    net = t5(kind)
    net.save_pretrained(tmp_path / "m")
    vocabulary().save_pretrained(tmp_path / "m")
    model = resolve(f"hf:{tmp_path / 'm'}")
    assert model.prepare is not None
    out = model.apply(model.params, model.prepare(TEXTS))["last_hidden_state"]
    ours = as_model(net, prepare=vocabulary())
    assert ours.prepare is not None
    expected = ours.apply(ours.params, ours.prepare(TEXTS))["last_hidden_state"]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


# --- towers --------------------------------------------------------------------------------------

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**SIZES, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
TEXT = {**SIZES, "num_hidden_layers": 1, "vocab_size": 30, "max_position_embeddings": 32}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2}


def clip() -> Any:
    torch.manual_seed(0)
    config = hf.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)
    return hf.CLIPModel(config)


def siglip() -> Any:
    torch.manual_seed(0)
    return hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=VISION))


def dual() -> Any:
    torch.manual_seed(0)
    vision, text = hf.ViTConfig(**VISION), hf.BertConfig(**TEXT)
    config = hf.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text)
    return hf.VisionTextDualEncoderModel(config)


def processor() -> Any:
    return hf.ViTImageProcessor(size={"height": 32, "width": 32})


TOWERS = {"CLIP": clip, "SigLIP": siglip, "dual": dual}


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("about", ["images", "pixel values", "texts"])
def test_the_tower_that_fits_the_data(kind: str, about: str) -> None:
    net = TOWERS[kind]().eval()
    pixels = (IMAGES.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
    prepare: Any = processor() if about == "images" else None
    source: Any = {
        "images": data.as_dataset(IMAGES, Y),
        "pixel values": [({"pixel_values": pixels}, Y)],
        "texts": [({"input_ids": IDS, "attention_mask": MASK}, Y)],
    }[about]
    with torch.no_grad():
        if about == "texts":
            tokens = (torch.from_numpy(one).long() for one in (IDS, MASK))
            states = net.text_model(
                **dict(zip(("input_ids", "attention_mask"), tokens, strict=True))
            )
            expected = pooled(states.last_hidden_state)
        else:
            states = net.vision_model(pixel_values=torch.from_numpy(pixels)).last_hidden_state
            expected = states.numpy().mean(axis=1)
    store = jaxte.extract(net, source, prepare=prepare)
    np.testing.assert_allclose(np.asarray(store), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", TOWERS)
def test_images_and_texts_at_once(kind: str) -> None:
    pixels = np.zeros((4, 3, 32, 32), np.float32)
    with pytest.raises(InputError, match="a tower for each of pixel_values, input_ids: give one"):
        jaxte.extract(TOWERS[kind](), [({"input_ids": IDS, "pixel_values": pixels}, Y)])


def test_a_checkpoint_prepares_images_or_texts(tmp_path: Path) -> None:
    clip().save_pretrained(tmp_path / "m")
    hf.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path / "m")
    vocabulary().save_pretrained(tmp_path / "m")
    model = resolve(f"hf:{tmp_path / 'm'}")
    assert set(model.card["preprocessing"]) == {"texts", "images"}
    assert fingerprint(model)
    assert jaxte.extract(model, data.as_dataset(IMAGES, Y)).shape == (4, 16)
    assert jaxte.extract(model, data.as_dataset(TEXTS, Y)).shape == (4, 16)
