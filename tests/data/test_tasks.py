"""Rows of words and pixels, against plain loops."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxte import InputError, data

MAPS = np.random.default_rng(0).integers(0, 4, (12, 16, 20))
MAPS[MAPS == 3] = 255


def test_words_that_count() -> None:
    labels = np.random.default_rng(1).integers(-1, 3, (5, 7))
    features = np.arange(5 * 7 * 2).reshape(5, 7, 2)
    rows = data.token_rows(labels, -1)
    expected = [(i, j) for i in range(5) for j in range(7) if labels[i, j] != -1]
    np.testing.assert_array_equal(rows.labels, [labels[place] for place in expected])
    flat = features.reshape(-1, 2)[rows.index]
    np.testing.assert_array_equal(flat, [features[place] for place in expected])


def test_words_beyond_the_features_are_left_out() -> None:
    labels = np.asarray([[1, 2, 3], [4, -100, -100]])
    cut, filled = data.token_rows(labels, width=2), data.token_rows(labels, width=5)
    assert (cut.index.tolist(), cut.labels.tolist()) == ([0, 1, 2], [1, 2, 4])
    assert (filled.index.tolist(), filled.labels.tolist()) == ([0, 1, 2, 5], [1, 2, 3, 4])


def voted(label_map: np.ndarray, grid: tuple[int, int], ignore: int) -> np.ndarray:
    """Pixel by pixel, each to the cell where its centre lies."""
    (height, width), (h, w) = label_map.shape, grid
    votes: list[Counter[int]] = [Counter() for _ in range(h * w)]
    for y in range(height):
        for x in range(width):
            cell = int((y + 0.5) * h / height) * w + int((x + 0.5) * w / width)
            votes[cell][int(label_map[y, x])] += 1
    best = [
        min(result, key=lambda label: (-result[label], label == ignore, label)) for result in votes
    ]
    return np.asarray(best).reshape(grid)


@pytest.mark.parametrize("grid", [(4, 5), (3, 7), (16, 20), (1, 1), (16, 3)])
def test_cells_take_the_class_with_most_pixels(grid: tuple[int, int]) -> None:
    for label_map in MAPS[:3]:
        np.testing.assert_array_equal(data.to_grid(label_map, grid), voted(label_map, grid, 255))
        signed = np.where(label_map == 255, -1, label_map)
        result = data.to_grid(signed, grid, ignore=-1)
        np.testing.assert_array_equal(result, voted(signed, grid, -1))


def test_a_coarser_map_is_repeated() -> None:
    label_map = np.asarray([[1, 2], [3, 255]], np.uint8)
    expected = np.repeat(np.repeat(label_map, 3, 0), 2, 1)
    result = data.to_grid(label_map, (6, 4))
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.uint8
    tall = np.asarray([[1], [1], [2], [2]])  # shrunk one way, enlarged the other
    np.testing.assert_array_equal(data.to_grid(tall, (2, 3)), [[1, 1, 1], [2, 2, 2]])


def plain(maps: np.ndarray, grid: tuple[int, int], per_image: float | None) -> list[Counter[int]]:
    """How many positions of each class a draw may take from each image."""
    counts = [Counter(voted(one, grid, 255).ravel().tolist()) for one in maps]
    for count in counts:
        del count[255]
    if per_image is None:
        return counts
    return [Counter({c: min(k, int(per_image)) for c, k in count.items()}) for count in counts]


@pytest.mark.parametrize("per_image", [None, 1, 3, 100])
def test_pixels_per_class_and_image(per_image: int | None) -> None:
    grid, size = (8, 10), 80
    rows = data.pixel_rows(MAPS, grid, per_image=per_image, seed=2)
    assert (np.diff(rows.index) > 0).all()
    flat = np.concatenate([voted(one, grid, 255).ravel() for one in MAPS])
    np.testing.assert_array_equal(rows.labels, flat[rows.index])
    for number, expected in enumerate(plain(MAPS, grid, per_image)):
        drawn = Counter(rows.labels[rows.index // size == number].tolist())
        assert drawn == expected


def test_a_draw_depends_on_seed_and_example_alone() -> None:
    """Not on how the data set is cut into batches, nor where a run was resumed."""
    grid = (8, 10)
    whole = data.pixel_rows(MAPS, grid, per_image=2.4, seed=3)
    for size in (1, 5, 12):
        parts = [
            data.pixel_rows(list(MAPS[at : at + size]), grid, per_image=2.4, seed=3, first=at)
            for at in range(0, len(MAPS), size)
        ]
        moved = [part.index + number * size * 80 for number, part in enumerate(parts)]
        np.testing.assert_array_equal(np.concatenate(moved), whole.index)
        np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), whole.labels)
    other = data.pixel_rows(MAPS, grid, per_image=2.4, seed=4)
    assert other.index.tolist() != whole.index.tolist()


def test_every_position_is_drawn_as_often() -> None:
    one = np.zeros((1, 4, 4), np.uint8)
    drawn = np.zeros(16)
    for seed in range(800):
        drawn[data.pixel_rows(one, (4, 4), per_image=4, seed=seed).index] += 1
    assert drawn.sum() == 3200
    assert (np.abs(drawn - 200) < 5 * np.sqrt(800 * 0.25 * 0.75)).all()  # five deviations


def test_fractions_are_chances_of_one_more() -> None:
    one = np.zeros((2000, 2, 2), np.uint8)
    one[:, 1] = 1
    rows = data.pixel_rows(one, (2, 2), per_image=[0.25, 1.5], seed=0)
    counts = np.bincount(rows.labels)
    assert abs(counts[0] - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)
    assert abs(counts[1] - 3000) < 5 * np.sqrt(2000 * 0.25)
    per_row = np.bincount(rows.index // 4, rows.labels, minlength=2000)
    assert set(per_row.tolist()) == {1, 2}


def test_a_budget_is_met_by_every_class_that_can() -> None:
    grid = (8, 10)
    budget = data.pixel_budget(iter(MAPS), grid, per_class=60)
    rows = data.pixel_rows(MAPS, grid, per_image=budget)
    counts = np.bincount(rows.labels, minlength=3)
    assert (np.abs(counts - 60) <= len(MAPS)).all()  # only the fraction is left to chance
    everything = data.pixel_budget(MAPS, grid, per_class=10**6, num_classes=5)
    assert everything[3] == everything[4] == 0
    every = data.pixel_rows(MAPS, grid, per_image=everything)
    np.testing.assert_array_equal(every.index, data.pixel_rows(MAPS, grid).index)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(1, 60))
def test_budget_is_the_level_at_which_the_sum_is_the_budget(counts: list[int], total: int) -> None:
    """The counts of class 1 in maps of one row of 12 pixels."""
    maps = [np.asarray([[1] * count + [0] * (12 - count)]) for count in counts]
    level = data.pixel_budget(maps, (1, 12), per_class=total, num_classes=2)[1]
    reached = sum(min(count, level) for count in counts)
    assert reached == pytest.approx(min(total, sum(counts)))
    assert level <= max(counts)


def test_nothing_that_counts() -> None:
    rows = data.pixel_rows(np.full((2, 3, 3), 255, np.uint8), (3, 3), per_image=1)
    assert len(rows.index) == len(rows.labels) == 0
    assert data.pixel_rows([], (3, 3)).index.dtype == np.int64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.token_rows(np.zeros((2, 3))), "labels of words have shape"),
        (lambda: data.token_rows(np.zeros(3, int)), "labels of words have shape"),
        (lambda: data.to_grid(np.zeros((2, 2)), (1, 1)), "a label map has shape"),
        (lambda: data.to_grid(np.zeros((0, 2), int), (1, 1)), "a label map has shape"),
        (lambda: data.pixel_rows(MAPS, (8, 10), per_image=-1), "must not be negative"),
        (lambda: data.pixel_rows(MAPS, (8, 10), per_image=[1, 1]), "per_image has 2 classes"),
        (lambda: data.pixel_rows(MAPS - 1, (8, 10), ignore=254), "has class -1, and ignore is 254"),
        (lambda: data.pixel_rows(MAPS, (8, 10), per_image=1, seed=-1), "seed is -1"),
        (lambda: data.pixel_budget([], (2, 2), per_class=3), "there are no label maps"),
        (lambda: data.pixel_budget(MAPS, (2, 2), per_class=0), "per_class is 0"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
