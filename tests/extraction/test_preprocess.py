"""Images on their way into a model, against Pillow and the processors of transformers."""

from typing import Any

import numpy as np
import pytest

from jaxte import InputError
from jaxte.extraction import as_model
from jaxte.extraction.preprocess import IMAGENET, Images, channels_first, zoo_images

pillow = pytest.importorskip("PIL.Image")

R = np.random.default_rng(0)


def photo(height: int, width: int, channels: int = 3) -> Any:
    """Something smooth, on which filters differ."""
    small = pillow.fromarray(R.integers(0, 255, (9, 7, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), pillow.Resampling.BICUBIC))
    return (
        np.concatenate([pixels, pixels], axis=2)[..., :channels]
        if channels != 1
        else pixels[..., :1]
    )


def test_resized_cropped_and_normalised() -> None:
    image = photo(60, 90)
    made = Images(size=(32, 24), resize=40, interpolation="bilinear", **IMAGENET)([image])
    resized = pillow.fromarray(image).resize((60, 40), pillow.Resampling.BILINEAR)
    pixels = np.asarray(resized)[4:36, 18:42].astype(np.float64) / 255
    expected = (pixels - IMAGENET["mean"]) / IMAGENET["std"]
    assert made.shape == (1, 32, 24, 3)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (33, 33), (24, 200)])
def test_the_shorter_side_and_the_middle(shape: tuple[int, int]) -> None:
    image = photo(*shape)
    short = min(shape)
    wanted = tuple(int(32 * side / short) for side in shape)
    made = Images(size=24, resize=32, scale=1.0)([image])[0]
    whole = np.asarray(pillow.fromarray(image).resize(wanted[::-1], pillow.Resampling.BICUBIC))
    top, left = (round((side - 24) / 2) for side in wanted)
    np.testing.assert_array_equal(made, whole[top : top + 24, left : left + 24])


@pytest.mark.parametrize("name", ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"])
def test_filters_are_those_of_pillow(name: str) -> None:
    image = photo(50, 40)
    expected = pillow.fromarray(image).resize((16, 16), getattr(pillow.Resampling, name.upper()))
    made = Images(size=16, interpolation=name, scale=1.0)([image])
    np.testing.assert_array_equal(made[0], np.asarray(expected))


def test_images_that_fit_are_not_touched() -> None:
    images = [photo(16, 16) for _ in range(2)]
    np.testing.assert_array_equal(Images(size=16, scale=1.0)(images), np.stack(images))


def test_images_of_all_kinds() -> None:
    grey, colour = photo(16, 16, 1), photo(16, 16)
    alpha = np.dstack([colour, np.full((16, 16), 255, np.uint8)])
    clear = np.dstack([colour, np.zeros((16, 16), np.uint8)])
    half = np.dstack([colour, np.full((16, 16), 51, np.uint8)])  # a fifth
    same = Images(size=16, scale=1.0)
    threefold = np.repeat(grey, 3, axis=2)
    for source, expected in (
        (grey, threefold),
        (grey[..., 0], threefold),
        (alpha, colour),
        (clear, np.full_like(colour, 255)),
        (half, np.rint(colour * 0.2 + 255 * 0.8)),
        ({"image": colour, "id": 3}, colour),
        (pillow.fromarray(colour), colour),
        (pillow.fromarray(grey[..., 0]), threefold),
        (pillow.fromarray(alpha), colour),
        (
            pillow.fromarray(colour).convert("P"),
            np.asarray(pillow.fromarray(colour).convert("P").convert("RGB")),
        ),
    ):
        np.testing.assert_array_equal(same([source])[0], expected)


def test_models_of_one_channel() -> None:
    colour = photo(16, 16)
    made = Images(size=16, mean=(0.5,), std=(0.25,))([colour, photo(20, 30, 1)])
    assert made.shape == (2, 16, 16, 1)
    grey = np.asarray(pillow.fromarray(colour).convert("L"), np.float64)
    np.testing.assert_allclose(made[0, ..., 0], (grey / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


def test_order_of_axes_and_channels() -> None:
    images = [photo(20, 24), photo(24, 20)]
    plain = Images(size=16, **IMAGENET)
    np.testing.assert_array_equal(plain.first()(images), plain(images).transpose(0, 3, 1, 2))
    flipped = Images(size=16, scale=1.0, flip=True)(images)
    np.testing.assert_array_equal(flipped, Images(size=16, scale=1.0)(images)[..., ::-1])
    assert channels_first(plain).card["channels_first"] is True
    assert channels_first(np.stack) is np.stack


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((4, 4, 3)), "example 1 has dtype float64: give images as uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"example 1 has shape \(3, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), r"example 1 has shape \(0, 4, 3\)"),
        ("a.png", "example 1 has shape"),
        ({"text": "a"}, "example 1 has text, but no 'image'"),
    ],
)
def test_what_is_no_image(source: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Images(size=4)([photo(4, 4), source])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": 8, "interpolation": "cubic"}, "unknown interpolation 'cubic'"),
        ({"size": 8, "resize": 7}, "cannot be cropped to 8 x 8"),
        ({"size": (8, 9), "resize": (8, 8)}, "cannot be cropped to 8 x 9"),
        ({"size": 0}, "cannot be cropped"),
        ({"size": 8, "mean": (0.5,)}, "belong together"),
        ({"size": 8, "mean": (0.5,) * 3, "std": (0.5,)}, "one or three numbers"),
        ({"size": 8, "mean": (0.5,), "std": (0.0,)}, "no std of 0"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Images.of(fields)


def test_a_dict_of_fields_does() -> None:
    fields = {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    model = as_model(lambda x: x, prepare=fields)
    assert model.prepare == Images(size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert model.card["preprocessing"]["std"] == (0.25,) * 3
    assert model.card["preprocessing"]["interpolation"] == "bicubic"


def test_images_for_the_zoo() -> None:
    made = zoo_images([photo(28, 28, 1), photo(64, 48), photo(32, 32)])
    assert made.shape == (3, 32, 32, 3)
    assert made.dtype == np.uint8
    same = [photo(20, 20) for _ in range(3)]
    np.testing.assert_array_equal(
        zoo_images(same), np.concatenate([zoo_images([one]) for one in same])
    )


@pytest.mark.parametrize(
    ("name", "resize", "interpolation"),
    [("vit", None, "bilinear"), ("clip", 224, "bicubic"), ("deit", (256, 256), "bicubic")],
)
def test_the_processors_of_transformers(name: str, resize: Any, interpolation: str) -> None:
    pytest.importorskip("transformers")
    module = pytest.importorskip(f"transformers.models.{name}.image_processing_pil_{name}")
    kind = {"vit": "ViT", "clip": "CLIP", "deit": "DeiT"}[name] + "ImageProcessor"
    theirs = getattr(module, f"{kind}Pil")()
    examples = [photo(256, 384), photo(448, 256)]
    model = as_model(lambda x: x, prepare=theirs)
    assert model.prepare is not None
    made = model.prepare(examples)
    expected = theirs(examples, return_tensors="np", input_data_format="channels_last")
    np.testing.assert_array_equal(made, expected["pixel_values"].transpose(0, 2, 3, 1))
    mean, std = tuple(theirs.image_mean), tuple(theirs.image_std)
    ours = Images(224, resize=resize, interpolation=interpolation, mean=mean, std=std)
    np.testing.assert_allclose(ours(examples), made, atol=1e-5)
    assert model.card["preprocessing"]["image_processor_type"] == kind
