"""Rows of features for tasks with many labels per example: the words of texts, pixels of images.

Token features are [b, W, d] and dense features [b, h, w, d]; a metric wants one row per label. The
functions here say which rows to keep of the flattened features, by the labels alone. Which pixels
are drawn depends on the seed and the example's number in the data set, not on batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jaxte.data._draws import keys, rank_within
from jaxte.errors import InputError

__all__ = ["Rows", "pixel_budget", "pixel_rows", "to_grid", "token_rows"]

Maps: TypeAlias = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Rows:
    """Which rows of the flattened features [b * positions, d] count, in rising order.

    Attributes:
        index: [r] the rows.
        labels: [r] their classes, int32.
    """

    index: np.ndarray
    labels: np.ndarray


def token_rows(labels: np.ndarray, ignore: int = -100, *, width: int | None = None) -> Rows:
    """The words that have a label.

    Args:
        labels: [b, W] classes, ``ignore`` where a word has none or there is no word.
        ignore: the label of what does not count.
        width: W of the features, if it is another than that of the labels: words behind it have
            no features, and are left out.

    Returns:
        Rows of features [b * width, d].

    Example:
        >>> import numpy as np
        >>> token_rows(np.array([[3, -100], [1, 2]]))
        Rows(index=array([0, 2, 3]), labels=array([3, 1, 2], dtype=int32))
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of words have shape {labels.shape} and type {labels.dtype}: give integer "
            "classes [b, W]"
        )
    width = labels.shape[1] if width is None else width
    row, word = np.nonzero(labels[:, :width] != ignore)
    return Rows(row * width + word, labels[row, word].astype(np.int32))


def pixel_rows(
    label_maps: Maps,
    grid: tuple[int, int],
    *,
    ignore: int = 255,
    per_image: ArrayLike | None = None,
    seed: int = 0,
    first: int = 0,
) -> Rows:
    """A draw of the positions of dense features, of each class so many per image.

    Label maps are brought to the feature grid by `to_grid`.

    Args:
        label_maps: [b, H, W], or a list of maps [H, W] of different sizes.
        grid: (h, w) of the features.
        ignore: the label of what does not count.
        per_image: how many positions of a class are drawn from one image, at most; a number for
            all, or one for each class [C]. Of a fraction the rest is the chance of one more: 0.25
            draws one position from every fourth image. All positions by default.
        seed: which draw.
        first: the number of the batch's first example in the data set.

    Returns:
        Rows of features [b * h * w, d].

    Example:
        >>> import numpy as np
        >>> rows = pixel_rows(np.arange(16).reshape(1, 4, 4) // 8, (2, 2), per_image=1)
        >>> rows.labels.tolist(), len(rows.index)
        ([0, 1], 2)
    """
    size = grid[0] * grid[1]
    share = np.asarray(np.inf if per_image is None else per_image, np.float64)
    if (share < 0).any():
        raise InputError("per_image must not be negative")
    index, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for number, label_map in enumerate(label_maps):
        flat = to_grid(label_map, grid, ignore=ignore).ravel()
        kept = _counted(flat, ignore)
        if per_image is not None and len(kept):
            classes, group = np.unique(flat[kept], return_inverse=True)
            if share.ndim and classes[-1] >= len(share):
                raise InputError(f"per_image has {len(share)} classes, but a map has {classes[-1]}")
            drawn = keys(size + int(classes[-1]) + 1, seed, first + number)
            chance = (drawn[size:][classes] >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1)
            wanted = np.floor(share[classes] + chance if share.ndim else share + chance)
            kept = kept[rank_within(group, drawn[kept]) < wanted[group]]
        index.append(kept + number * size)
        labels.append(flat[kept].astype(np.int32))
    return Rows(np.concatenate(index), np.concatenate(labels))


def _counted(flat: np.ndarray, ignore: int) -> np.ndarray:
    """Where the labels that count are."""
    kept = np.flatnonzero(flat != ignore)
    if len(kept) and flat[kept].min() < 0:
        raise InputError(f"a label map has class {flat[kept].min()}, and ignore is {ignore}")
    return kept


def to_grid(label_map: np.ndarray, grid: tuple[int, int], *, ignore: int = 255) -> np.ndarray:
    """Bring a label map to the grid of features: the class with most pixels in each cell.

    A feature sums up its whole cell, so a vote of all pixels fits it better than the one pixel
    in the middle. Equal votes go to the smaller class, and to ``ignore`` only where nothing else
    has as many. Where the map is coarser than the grid the nearest pixel is taken.

    Args:
        label_map: [H, W] integer classes.
        grid: (h, w).
        ignore: the label of what does not count; it votes like a class.

    Returns:
        [h, w] classes, of the same type.

    Example:
        >>> import numpy as np
        >>> to_grid(np.array([[1, 1, 7, 2], [1, 0, 7, 2]]), (1, 2))
        array([[1, 2]])
    """
    label_map = np.asarray(label_map)
    if label_map.ndim != 2 or label_map.dtype.kind not in "iu" or 0 in label_map.shape:
        raise InputError(
            f"a label map has shape {label_map.shape} and type {label_map.dtype}: give integer "
            "classes [H, W]"
        )
    if label_map.shape == grid:
        return label_map
    cells = []
    for axis, (size, wanted) in enumerate(zip(label_map.shape, grid, strict=True)):
        if size < wanted:
            nearest = (2 * np.arange(wanted) + 1) * size // (2 * wanted)
            label_map, size = np.take(label_map, nearest, axis), wanted
        cells.append((2 * np.arange(size) + 1) * wanted // (2 * size))  # of each pixel's centre
    cell = cells[0][:, None] * grid[1] + cells[1][None, :]
    classes, place = np.unique(label_map, return_inverse=True)
    order = np.argsort(classes == ignore, kind="stable")  # ignore behind, the first maximum wins
    rank = np.argsort(order)[place.reshape(cell.shape)]
    votes = np.bincount(
        (cell * len(classes) + rank).ravel(), minlength=len(classes) * np.prod(grid)
    )
    winner: np.ndarray = classes[order][votes.reshape(*grid, -1).argmax(axis=-1)]
    return winner


def pixel_budget(
    label_maps: Iterable[np.ndarray],
    grid: tuple[int, int],
    *,
    per_class: int,
    ignore: int = 255,
    num_classes: int | None = None,
) -> np.ndarray:
    """The ``per_image`` of `pixel_rows` that draws ``per_class`` positions of each class in all.

    Classes with fewer positions give all they have. Every image that shows a class takes part, by
    chance where there are more of them than positions wanted; the number drawn then varies a
    little around ``per_class``.

    Args:
        label_maps: of all examples, as ``(data.label(row) for row in range(len(data)))``.
        grid: (h, w) of the features.
        per_class: how many positions of each class in the whole data set.
        ignore: the label of what does not count.
        num_classes: C, if classes may be missing from the maps.

    Returns:
        [C] positions per image.

    Example:
        >>> import numpy as np
        >>> maps = [np.array([[0, 0], [1, 1]]), np.array([[0, 0], [0, 0]])]
        >>> pixel_budget(maps, (2, 2), per_class=4)
        array([2., 2.])
    """
    if per_class < 1:
        raise InputError(f"per_class is {per_class}: at least one position is needed")
    counts: list[np.ndarray] = []
    for label_map in label_maps:
        flat = to_grid(label_map, grid, ignore=ignore).ravel()
        counts.append(np.bincount(flat[_counted(flat, ignore)], minlength=num_classes or 0))
    if not counts:
        raise InputError("there are no label maps")
    width = max((len(count) for count in counts), default=0)
    table = np.stack([np.pad(count, (0, width - len(count))) for count in counts])
    return np.asarray([_level(table[:, column], per_class) for column in range(width)])


def _level(counts: np.ndarray, total: int) -> float:
    """The m for which the sum of min(count, m) is ``total``; the largest count if it is less."""
    counts = np.sort(counts)
    left = len(counts) - np.arange(len(counts))  # counts at least as large as this one
    below = np.concatenate([[0], np.cumsum(counts)[:-1]])
    reached = below + counts * left  # the sum, with m at this count
    place = int(np.searchsorted(reached, total))
    if place == len(counts):
        return float(counts[-1])
    return float((total - below[place]) / left[place])
