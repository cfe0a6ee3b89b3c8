"""Bringing images of any size to the input of the zoo."""

import numpy as np
import pytest

from jaxte import InputError
from jaxte.zoo.images import prepare


def test_right_size_is_left_alone() -> None:
    """A 32x32 colour image passes unchanged."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(prepare(images), images)


def test_grey_is_repeated_and_padded_with_black() -> None:
    """28x28 grey becomes three equal channels inside a black frame of two pixels."""
    images = np.random.default_rng(0).integers(1, 256, (3, 28, 28)).astype(np.uint8)
    out = prepare(images)
    assert out.shape == (3, 32, 32, 3)
    for channel in range(3):
        np.testing.assert_array_equal(out[:, 2:30, 2:30, channel], images)
    assert out.sum() == 3 * images.sum()
    np.testing.assert_array_equal(prepare(images[..., None]), out)


@pytest.mark.parametrize("size", [1, 8, 64, 100])
def test_resizing_keeps_a_constant(size: int) -> None:
    """The weights of a resize sum to one."""
    images = np.full((2, size, size + 1, 3), 77, np.uint8)
    np.testing.assert_array_equal(prepare(images), np.full((2, 32, 32, 3), 77))


def test_resizing_keeps_a_ramp() -> None:
    """A linear ramp stays one away from the border, enlarged or shrunk."""
    for size in (8, 64):
        ramp = np.linspace(0, 248, size).astype(np.uint8)
        row = prepare(np.tile(ramp, (1, size, 1)))[0, 16, 4:28, 0].astype(float)
        np.testing.assert_allclose(np.diff(row), np.diff(row).mean(), atol=2.5)
        assert row[0] < row[-1]


def test_halving_averages() -> None:
    """Shrinking by two uses all pixels: single bright ones do not vanish."""
    images = np.zeros((1, 64, 64), np.uint8)
    images[0, 31, 31] = 240
    assert prepare(images)[..., 0].sum() == pytest.approx(240 / 4, abs=8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 32, 32), np.float32), "dtype float32"),
        (np.zeros((32, 32), np.uint8), r"shape \(32, 32\)"),
        (np.zeros((2, 32, 32, 4), np.uint8), r"shape \(2, 32, 32, 4\)"),
        (np.zeros((0, 32, 32), np.uint8), r"shape \(0, 32, 32\)"),
    ],
)
def test_wrong_images(images: np.ndarray, message: str) -> None:
    """Floats, single images, four channels and no image are refused by name."""
    with pytest.raises(InputError, match=message):
        prepare(images)
