"""From layers to features: every pooling against a plain loop, in all kinds of arrays."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxte import InputError
from jaxte.extraction.pooling import Positions, features, grid

R = np.random.default_rng(0)
TOKENS = R.normal(size=(4, 6, 3)).astype(np.float32)
MAPS = R.normal(size=(4, 2, 5, 3)).astype(np.float32)
LENGTHS = (6, 1, 3, 4)
MASK = np.array([[1] * n + [0] * (6 - n) for n in LENGTHS], np.int32)
LEFT = MASK[:, ::-1].copy()


def to_torch(x: Any) -> Any:
    return pytest.importorskip("torch").from_numpy(np.ascontiguousarray(x))


KINDS: dict[str, Callable[[Any], Any]] = {
    "numpy": np.asarray,
    "jax": jnp.asarray,
    "torch": to_torch,
}
POOLS: dict[str, Callable[[Any], Any]] = {
    "mean": lambda x: x.mean(axis=0),
    "max": lambda x: x.max(axis=0),
    "cls": lambda x: x[0],
    "last": lambda x: x[-1],
}


def example(x: Any, pool: Any, mask: Any = None) -> Any:
    return features({"layer": x}, ("layer",), pool, "example", Positions(mask))["layer"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", POOLS)
def test_all_positions(pool: str, kind: str) -> None:
    for x in (TOKENS, MAPS):
        expected = [POOLS[pool](one.reshape(-1, 3)) for one in x]
        np.testing.assert_allclose(
            np.asarray(example(KINDS[kind](x), pool)), expected, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("mask", [MASK, LEFT], ids=["right", "left"])
def test_only_the_tokens_that_there_are(pool: str, kind: str, mask: Any) -> None:
    shifted = TOKENS + np.where(mask, 0, 50)[..., None].astype(np.float32)  # no value to be seen
    expected = [POOLS[pool](one[row > 0]) for one, row in zip(shifted, mask, strict=True)]
    source = example(KINDS[kind](shifted), pool, KINDS[kind](mask))
    np.testing.assert_allclose(np.asarray(source), expected, rtol=1e-6, atol=1e-6)


def test_vectors_pass_and_numbers_become_vectors() -> None:
    np.testing.assert_array_equal(example(TOKENS[:, 0], "mean", MASK), TOKENS[:, 0])
    assert example(TOKENS[:, 0, 0], "mean").shape == (4, 1)


def test_a_mask_of_other_positions_does_not_count() -> None:
    x = R.normal(size=(4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(example(x, "mean", MASK), x.mean(1), rtol=1e-6)


def test_flatten() -> None:
    np.testing.assert_array_equal(example(MAPS, "flatten"), MAPS.reshape(4, -1))
    with pytest.raises(InputError, match="cannot be flattened"):
        example(TOKENS, "flatten", MASK)


def test_functions_pool_too() -> None:
    np.testing.assert_array_equal(example(MAPS, lambda x: x[:, 0, 1]), MAPS[:, 0, 1])
    np.testing.assert_allclose(
        example(TOKENS, lambda x, mask: (x * mask[..., None]).sum(1), MASK),
        [one[:n].sum(axis=0) for one, n in zip(TOKENS, LENGTHS, strict=True)],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(example(TOKENS, lambda x: x[:, 2], MASK), TOKENS[:, 2])
    with pytest.raises(InputError, match=r"gives shape \(4, 6\) .* not \[b, d\]|gives shape"):
        example(MAPS, lambda x: x[:, :, 0])


def test_logits_stay_unless_they_have_positions() -> None:
    result = {"layer": MAPS, "logits": TOKENS[:, 0]}
    out = features(result, ("layer",), "mean", "example", Positions())
    assert list(out) == ["layer", "logits"]
    out = features({**result, "logits": TOKENS}, ("layer",), "mean", "example", Positions())
    assert list(out) == ["layer"]


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_words_have_the_features_of_their_first_tokens(kind: str) -> None:
    starts = np.array([[1, 3, 4], [0, -1, -1], [2, 1, -1], [0, 1, 5]], np.int32)
    where = Positions(KINDS[kind](MASK), KINDS[kind](starts))
    out = features({"layer": KINDS[kind](TOKENS)}, ("layer",), "mean", "token", where)
    valid = np.asarray(out["valid"])
    np.testing.assert_array_equal(valid, starts >= 0)
    assert out["layer"].shape == (4, 3, 3)
    for row, word in np.argwhere(valid):
        np.testing.assert_array_equal(out["layer"][row, word], TOKENS[row, starts[row, word]])


def test_tokens_are_words_where_nobody_says_otherwise() -> None:
    out = features({"layer": TOKENS}, ("layer",), "mean", "token", Positions(MASK))
    np.testing.assert_array_equal(out["layer"], TOKENS)
    np.testing.assert_array_equal(out["valid"], MASK > 0)
    out = features({"layer": TOKENS}, ("layer",), "mean", "token", Positions())
    assert list(out) == ["layer"]
    with pytest.raises(InputError, match=r"not \[b, tokens, d\]"):
        features({"layer": MAPS}, ("layer",), "mean", "token", Positions())


# --- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_patches_go_back_to_their_places(kind: str) -> None:
    def dense(x: Any, size: Any) -> Any:
        made = features(
            {"layer": KINDS[kind](x)}, ("layer",), "mean", "dense", Positions(size=size)
        )
        return np.asarray(made["layer"])

    np.testing.assert_array_equal(dense(MAPS, None), MAPS)
    tokens = R.normal(size=(2, 1 + 2 * 3, 4)).astype(np.float32)
    made = dense(tokens, (16, 24))
    assert made.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(made[:, 1, 0], tokens[:, 1 + 3])
    assert dense(tokens[:, 1:5], None).shape == (2, 2, 2, 4)


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        (196, (224, 224), (14, 14)),
        (197, (224, 224), (14, 14)),
        (198, (224, 224), (14, 14)),
        (261, (224, 224), (16, 16)),
        (257, None, (16, 16)),
        (1 + 8 * 12, (128, 192), (8, 12)),
        (3136, (224, 224), (56, 56)),
    ],
)
def test_grids(tokens: int, size: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    assert grid(tokens, size, "layer") == expected


def test_tokens_that_are_no_grid() -> None:
    with pytest.raises(InputError, match=r"layer blocks/1 has 150 tokens, .* 224 x 224"):
        grid(150, (224, 224), "blocks/1")
    with pytest.raises(InputError, match=r"still knows places"):
        features({"layer": TOKENS[:, 0]}, ("layer",), "mean", "dense", Positions())
