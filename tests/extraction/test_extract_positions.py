"""extract() of words and pixels: the rows that have a label, and no others."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte.data import Dataset, pixel_budget, pixel_rows
from jaxte.extraction.loop import extraction
from jaxte.extraction.models import Model

RANDOM = np.random.default_rng(0)
N, WORDS = 21, 5
TOKENS = RANDOM.integers(0, 50, size=(N, WORDS))
TAGS = np.where(RANDOM.random((N, WORDS)) < 0.4, -100, RANDOM.integers(0, 4, size=(N, WORDS)))
TABLE = RANDOM.normal(size=(50, 3)).astype(np.float32)
IMAGES = RANDOM.normal(size=(N, 8, 8, 3)).astype(np.float32)
MAPS = np.where(RANDOM.random((N, 16, 16)) < 0.1, 255, np.arange(256).reshape(16, 16) // 64).astype(
    np.uint8
)


def words(params: Any, ids: Any) -> dict[str, Any]:
    return {"last": params[ids], "logits": params[ids]}


def pixels(params: Any, x: Any) -> dict[str, Any]:
    """Means of 2 x 2 pixels, and what the position adds."""
    low = x.reshape(len(x), 4, 2, 4, 2, 3).mean((2, 4))
    return {"last": low + jnp.arange(16.0).reshape(4, 4, 1), "wide": jnp.concatenate([low] * 2, -1)}


TAGGER = Model(name="tagger", apply=words, layers=("last",), params=TABLE, level="token")
SEGMENTER = Model(name="seg", apply=pixels, layers=("last",), level="dense")


def batches(x: Any, y: Any, size: int = 8) -> list[Any]:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, N, size)]


class Scenes(Dataset):
    name, task, num_classes, ignore = "scenes", "segmentation", 4, 255

    def __init__(self, fails: int = N) -> None:
        self.fails = fails

    def __len__(self) -> int:
        return N

    def read(self, row: int) -> tuple[Any, Any]:
        if row == self.fails:
            raise OSError("lost")
        return IMAGES[row], MAPS[row]


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("source", ["array", "lists"])
def test_words_that_have_a_label(source: str, traced: bool) -> None:
    labels: Any = TAGS if source == "array" else [row.tolist() for row in TAGS]
    tagger = TAGGER if traced else Model("t", words, ("last",), TABLE, traced=False, level="token")
    store = jaxte.extract(tagger, batches(TOKENS, labels))
    counted = TAGS != -100
    np.testing.assert_array_equal(store.labels, TAGS[counted])
    np.testing.assert_array_equal(np.asarray(store), TABLE[TOKENS[counted]])
    assert store.logits is None


def test_words_that_the_model_cut_off_or_never_saw() -> None:
    """It looks at 4 words of each text, and says that it saw no more than 3 of odd ones."""

    def shortened(params: Any, ids: Any) -> dict[str, Any]:
        valid = (jnp.arange(4) < 3)[None] | (ids[:, :1] % 2 == 0)
        seen = jnp.where(valid[..., None], params[ids[:, :4]], jnp.nan)  # whatever stands there
        return {"last": seen, "valid": valid}

    tagger = Model("tagger", shortened, ("last",), TABLE, level="token")
    store = jaxte.extract(tagger, batches(TOKENS, TAGS))
    counted = TAGS != -100
    counted[:, 4:] = False
    counted[TOKENS[:, 0] % 2 == 1, 3:] = False
    np.testing.assert_array_equal(np.asarray(store), TABLE[TOKENS[counted]])
    np.testing.assert_array_equal(store.labels, TAGS[counted])


def test_a_batch_without_a_single_label() -> None:
    tags = TAGS.copy()
    tags[8:16] = -100
    store = jaxte.extract(TAGGER, batches(TOKENS, tags))
    np.testing.assert_array_equal(store.labels, tags[tags != -100])


@pytest.mark.parametrize("size", [1, 8, 21])
def test_pixels_do_not_depend_on_batches(size: int) -> None:
    store = jaxte.extract(SEGMENTER, batches(IMAGES, MAPS, size), pixels=2, seed=3)
    rows = pixel_rows(MAPS, (4, 4), per_image=2, seed=3)
    np.testing.assert_array_equal(store.labels, rows.labels)
    dense = np.asarray(pixels(None, IMAGES)["last"]).reshape(-1, 3)
    np.testing.assert_allclose(np.asarray(store), dense[rows.index], 1e-6)
    assert len(rows.index) < N * 16


def test_layers_of_one_grid_and_a_data_set() -> None:
    both = Model(name="seg", apply=pixels, layers=("wide", "last"), level="dense")
    store = jaxte.extract(both, Scenes(), batch_size=4)
    rows = pixel_rows(MAPS, (4, 4), per_image=8)
    np.testing.assert_array_equal(store.labels, rows.labels)
    assert (store["wide"].shape, store["last"].shape) == (
        (len(rows.index), 6),
        (len(rows.index), 3),
    )
    assert jaxte.rank({"seg": store}, metrics="logme").order("logme")


def test_a_budget_for_each_class_in_all() -> None:
    store = jaxte.extract(SEGMENTER, Scenes(), pixel_budget=30)
    share = pixel_budget(MAPS, (4, 4), per_class=30)
    rows = pixel_rows(MAPS, (4, 4), per_image=share)
    np.testing.assert_array_equal(store.labels, rows.labels)
    with pytest.raises(jaxte.InputError, match="budget of pixels needs all label maps"):
        jaxte.extract(SEGMENTER, batches(IMAGES, MAPS), pixel_budget=30)


def test_a_resumed_draw_is_the_same(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="lost"):
        extraction(SEGMENTER, Scenes(fails=18), out=tmp_path / "s", batch_size=5)
    result = extraction(SEGMENTER, Scenes(), out=tmp_path / "s", batch_size=5)
    assert result.status == "resumed"
    wanted = jaxte.extract(SEGMENTER, Scenes())
    np.testing.assert_array_equal(result.store.labels, wanted.labels)
    np.testing.assert_allclose(np.asarray(result.store), np.asarray(wanted), 1e-6)
    with pytest.raises(jaxte.InputError, match=r"settings\.pixels was 8\.0, now it is 4"):
        jaxte.extract(SEGMENTER, Scenes(), out=tmp_path / "s", pixels=4)


def test_label_maps_of_different_sizes() -> None:
    maps = [label_map[: 8 + index % 3] for index, label_map in enumerate(MAPS)]
    store = jaxte.extract(SEGMENTER, batches(IMAGES, maps))
    np.testing.assert_array_equal(store.labels, pixel_rows(maps, (4, 4), per_image=8).labels)


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (SEGMENTER, (IMAGES, TAGS), r"batch 0: .*label map.*shape \(5,\)"),
        (TAGGER, (TOKENS, TAGS * 1.0), "batch 0: labels of words .*float64"),
        (TAGGER, (TOKENS, np.where(TAGS == 3, -2, TAGS)), "batch 0 has label -2 in row"),
        (TAGGER, (TOKENS, np.where(TAGS == 3, 7, TAGS)), "batch 0 has label 7 in row.*of 4"),
        (
            Model("t", lambda p, x: {"last": x}, ("last",), level="token"),
            (TOKENS, TAGS),
            r"t: layer last has shape \(8, 5\), not \[b, W, d\]",
        ),
        (
            Model(
                "s",
                lambda p, x: {"a": x, "b": x[:, ::2]},
                ("a", "b"),
                level="dense",
            ),
            (IMAGES, MAPS),
            r"s: layers have different positions, a \[8, 8\], b \[4, 8\]: extract each",
        ),
    ],
)
def test_what_does_not_fit(model: Model, data: Any, said: str) -> None:
    with pytest.raises(jaxte.InputError, match=said):
        jaxte.extract(model, batches(*data), num_classes=4)


def test_moments_of_words_and_pixels_are_those_of_the_rows() -> None:
    for model, data in ((TAGGER, batches(TOKENS, TAGS)), (SEGMENTER, Scenes())):
        state = jaxte.stream(model, data, num_classes=4, precision="float64")
        store = jaxte.extract(model, data)
        x, y = np.asarray(store, np.float64), store.labels
        means = np.stack([x[y == c].mean(axis=0) for c in range(4)])
        np.testing.assert_array_equal(state.counts, np.bincount(y, minlength=4))
        np.testing.assert_allclose(np.asarray(state.means) + np.asarray(state.origin), means, 1e-6)
        residual = x - means[y]
        np.testing.assert_allclose(state.scatter, residual.T @ residual, 1e-5, 1e-5)
