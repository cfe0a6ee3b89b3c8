"""Folders of emoji and clip art, and pre-training without labels."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from jaxte import InputError, zoo
from jaxte.zoo.build import build
from jaxte.zoo.network import initial
from jaxte.zoo.pictures import CLIPART_SOURCE, read_clipart, read_emoji, read_picture
from jaxte.zoo.selfsupervised import PROJECTION, contrast, turned
from jaxte.zoo.sources import Part, Source, load_source
from jaxte.zoo.specs import MORE_MODELS, ModelSpec

from .originals import write_cifar_bin
from .test_zoo_train import NORMAL


def draw(path: Path, size: tuple[int, int], colour: tuple[int, ...], mode: str = "RGBA") -> None:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def write_emoji(folder: Path) -> None:
    """Write sixteen emoji of two subcategories, by two vendors, and one of a third."""
    entries = []
    for i in range(17):
        kind = "rare" if i == 16 else ("face", "food")[i % 2]
        entries.append(
            {
                "image": f"{i:02}.png", "category": "all", "subcategory": kind,
                "has_img_google": True, "has_img_twitter": True,
            }
        )  # fmt: skip
        for vendor, shade in (("google", 250), ("twitter", 100)):
            draw(folder / "img" / vendor / "64" / f"{i:02}.png", (64, 64), (shade, 3 * i, 0, 255))
    (folder / "emoji.json").write_text(json.dumps(entries))


def test_picture_is_on_white_and_square(tmp_path: Path) -> None:
    """What is transparent is white; the shorter side is padded with white, evenly."""
    draw(tmp_path / "wide.png", (64, 32), (255, 0, 0, 255))
    picture = read_picture(tmp_path / "wide.png")
    assert picture.shape == (32, 32, 3)
    assert (picture[:7] == 255).all()
    assert (picture[-7:] == 255).all()
    assert (picture[9:23] == (255, 0, 0)).all()
    draw(tmp_path / "clear.png", (40, 40), (9, 9, 9, 0))
    assert (read_picture(tmp_path / "clear.png") == 255).all()


def test_picture_damaged(tmp_path: Path) -> None:
    """A file that is no picture, or cut short, is named."""
    draw(tmp_path / "a.png", (64, 64), (1, 2, 3, 255))
    whole = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.png cannot be read"):
            read_picture(tmp_path / "a.png")


def test_emoji(tmp_path: Path) -> None:
    """Rare classes are left out, each eighth image is for tests, the vendor's art is read."""
    write_emoji(tmp_path)
    (images, labels), (test_images, test_labels), names = read_emoji(tmp_path, "google", least=2)
    assert names == ("face", "food")
    assert len(images) == len(labels) == 14
    assert len(test_images) == len(test_labels) == 2
    assert (images[..., 0] == 250).all()
    np.testing.assert_array_equal(labels, images[:, 0, 0, 1] // 3 % 2)
    (tmp_path / "emoji.json").write_text("[")
    with pytest.raises(InputError, match=r"emoji\.json cannot be read"):
        read_emoji(tmp_path, "google")


def test_clipart(tmp_path: Path) -> None:
    """A folder is a class, folders inside it too; links and giant pages are left out."""
    for i in range(4):
        draw(tmp_path / "a" / "deep" / f"{i}.png", (10, 10), (0, 0, 0, 255))
        draw(tmp_path / "b" / f"{i}.png", (10, 10), (200, 0, 0, 255))
    (tmp_path / "b" / "link.png").symlink_to(tmp_path / "a" / "deep" / "0.png")
    draw(tmp_path / "b" / "giant.png", (8001, 1), (7, 7, 7), "RGB")
    train, test, names = read_clipart(tmp_path, ("a", "b"))
    labels = np.concatenate([test[1], train[1]])
    images = np.concatenate([test[0], train[0]])
    assert names == ("a", "b")
    assert len(labels) == 8
    np.testing.assert_array_equal(images[:, 16, 16, 0], 200 * labels)
    (tmp_path / "b" / "text.png").write_text("no picture, but longer than a header")
    with pytest.raises(InputError, match=r"text\.png cannot be read"):
        read_clipart(tmp_path, ("a", "b"))
    with pytest.raises(InputError, match="no pictures in"):
        read_clipart(tmp_path, ("a", "c"))


def test_sources_by_name(tmp_path: Path) -> None:
    """Emoji and clip art are read as the other sources are, also beside tensorflow-datasets."""
    for name in CLIPART_SOURCE:
        draw(tmp_path / "clipart" / name / "0.png", (5, 5), (0, 0, 0, 255))
    for tfds in (False, True):
        source = load_source("clipart", tmp_path, tfds=tfds)
        assert source.class_names == CLIPART_SOURCE
    with pytest.raises(InputError, match="emoji"):
        load_source("emoji_twitter", tmp_path)


# --- without labels ------------------------------------------------------------------------------


def test_turned() -> None:
    """Each image comes in four quarter turns, labelled by their number."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    part = Part(images, np.arange(3))
    both = turned(Source(part, part, ("x",)))
    for actual in both[:2]:
        assert actual.images.shape == (12, 32, 32, 3)
        for image, label, i in zip(actual.images, actual.labels, range(12), strict=True):
            np.testing.assert_array_equal(np.rot90(image, -label), images[i % 3])
    assert both.class_names == ("0", "90", "180", "270")


def test_contrast_learns() -> None:
    """The loss falls; the parameters given are left as they are; one seed, one result."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    graphdef, params = initial("mlp", 16, PROJECTION, seed=0)
    before = [np.array(leaf) for leaf in jax.tree.leaves(params)]
    said: list[str] = []
    settings: dict[str, Any] = {
        "batch": 8, "lr": 3e-3, "warmup": 0.1, "decay": 0.0, "seed": 0, "progress": said.append,
    }  # fmt: skip
    contrast(graphdef, params, NORMAL, images.astype(np.uint8), steps=500, **settings)
    chance = np.log(15)  # of outputs that tell no two of sixteen views apart
    assert float(said[0].rsplit(" ", 1)[1]) < 0.8 * chance
    for old, leaf in zip(before, jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(old, leaf)
    once, again = (
        contrast(graphdef, params, NORMAL, images.astype(np.uint8), steps=3, **settings)
        for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, once, again)


@pytest.mark.parametrize("labels", ["rotation", "contrastive"])
def test_model_without_labels_is_built(labels: str, tmp_path: Path) -> None:
    """The build takes both ways; a card says what was learned, and how well if that is known."""
    write_cifar_bin(tmp_path / "cifar10", 20)
    spec = ModelSpec("small", "mlp", 16, ("cifar10",), 3, batch=32, labels=labels)
    build(tmp_path, out=tmp_path, specs=[spec], stages=("pretrain",))
    card = zoo.load("small", root=tmp_path).card
    assert card["labels"] == labels
    assert card["source_classes"] == (4 if labels == "rotation" else PROJECTION)
    assert (card["source_test_accuracy"] is None) is (labels == "contrastive")
    assert "without labels" in card["limits"]


def test_every_source_of_more_models_has_a_licence() -> None:
    """No card can be written without one; the sixteen differ in more than their seed."""
    from jaxte.zoo.specs import SOURCE_LICENCES

    assert {name for spec in MORE_MODELS for name in spec.source} <= set(SOURCE_LICENCES)
    stripped = {replace(spec, name="", seed=0) for spec in MORE_MODELS}
    assert len(stripped) == len(MORE_MODELS)
