"""Labels of batches: checked, of one type, and for words and pixels which of them are rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxte._inputs import InputError
from jaxte.extraction.models import Model

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["IGNORE", "LEVELS", "PIXELS", "Chosen", "Targets", "level_of", "targets_of"]

LEVELS = {"example": (), "token": ("W",), "dense": ("h", "w")}  # and their positions
PIXELS = 64  # of a label map that become rows, unless told otherwise
IGNORE = -100  # the label of words and pixels that do not count, unless the data set has another

_OF_TASKS = {"tokens": "token", "segmentation": "dense"}


class Chosen(NamedTuple):
    """Which positions of each example of a batch become rows, and their labels.

    Attributes:
        labels: [b] or [b, k] of examples; [b, p] of positions.
        places: [b, p] positions among all of an example; None where the examples are the rows.
        counted: [b, p] which of them are rows; the others only fill up.
    """

    labels: np.ndarray
    places: np.ndarray | None = None
    counted: np.ndarray | None = None


class Targets:
    """What is to be learnt of each row of features.

    Args:
        level: one of `LEVELS`.
        num_classes: C, if known.
        ignore: the label of positions that do not count.
        pixels: most pixels of a label map that become rows.
        seed: of their choice.
    """

    def __init__(
        self, level: str, *, num_classes: int | None, ignore: int | None, pixels: int, seed: int
    ) -> None:
        self.level, self.num_classes = level, num_classes
        self.ignore = IGNORE if ignore is None else ignore
        self.pixels, self.seed = pixels, seed
        self._like: np.ndarray | None = None
        self._most = 1

    def of(self, labels: Any, index: int, grid: tuple[int, ...], first: int) -> Chosen:
        """The rows of a batch.

        Args:
            labels: of the batch.
            index: its number, for errors.
            grid: positions of an example, (), (W,) or (h, w).
            first: which example of all is the first of the batch.

        Raises:
            InputError: names batch and row of a label that will not do.
        """
        if self.level == "example":
            return Chosen(self._of_examples(labels, index))
        from jaxte.data import tasks

        if self.level == "token":
            rows = tasks.token_rows(self._of_words(labels, index, grid[0]), self.ignore)
        else:
            rows = tasks.pixel_rows(
                self._maps(labels, index),
                grid,
                ignore=self.ignore,
                per_image=self.pixels,
                seed=self.seed,
                first=first,
            )
        positions = int(np.prod(grid))
        self._check_classes(rows.labels, index, np.asarray(rows.index) // positions)
        return self._by_example(rows.index, rows.labels, len(labels), positions)

    def _of_examples(self, labels: Any, index: int) -> np.ndarray:
        array = _array(labels, index)
        if array.ndim not in (1, 2) or 0 in array.shape:
            hint = "as_model(..., level='token') or 'dense' gives features of words or pixels"
            raise InputError(
                f"batch {index} has labels of shape {list(array.shape)}, not [b] or [b, k]: {hint}"
            )
        if array.ndim == 1 and array.dtype.kind in "biu":
            self._check_classes(array, index, np.arange(len(array)))
            array = array.astype(np.int32)
        else:
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            if bad.any():
                row = int(np.argmax(bad))
                raise InputError(f"batch {index} has labels that are not finite, first in row {row}")
            wide = array.dtype == np.float64
            array = array.astype(np.float64 if wide else np.float32)
        if self._like is None:
            self._like = array[:1]
        elif (array.dtype.kind, array.shape[1:]) != (self._like.dtype.kind, self._like.shape[1:]):
            raise InputError(
                f"batch {index} has labels {array.dtype} {list(array.shape)}, batches before it "
                f"had {self._like.dtype} with {list(self._like.shape[1:])} behind the rows"
            )
        return array.astype(self._like.dtype, copy=True)

    def _of_words(self, labels: Any, index: int, width: int) -> np.ndarray:
        """Classes of words [b, W], cut or filled up to the words that the model looks at."""
        found = np.full((len(labels), width), self.ignore, np.int64)
        for row, given in enumerate(labels):
            words = _array(given, index)
            if words.ndim != 1 or words.dtype.kind not in "iu":
                raise InputError(
                    f"batch {index}, row {row} has labels {words.dtype} of shape "
                    f"{list(words.shape)}: give a class for each word"
                )
            found[row, : len(words)] = words[:width]
        return found

    def _maps(self, labels: Any, index: int) -> Sequence[np.ndarray] | np.ndarray:
        maps = labels if isinstance(labels, list | tuple) else _array(labels, index)
        for row, given in enumerate(maps):
            one = _array(given, index)
            if one.ndim != 2 or one.dtype.kind not in "iu":
                raise InputError(
                    f"batch {index}, row {row} has labels {one.dtype} of shape {list(one.shape)}: "
                    "give a map [h, w] of classes"
                )
        return maps

    def _check_classes(self, classes: np.ndarray, index: int, rows: np.ndarray) -> None:
        bad = classes < 0
        if self.num_classes is not None:
            bad = bad | (classes >= self.num_classes)
        if bad.any():
            at = int(np.argmax(bad))
            known = "" if self.num_classes is None else f" of {self.num_classes}"
            ignored = "" if self.level == "example" else f" or {self.ignore} for what is ignored"
            raise InputError(
                f"batch {index} has label {int(classes[at])} in row {int(rows[at])}: give classes from "
                f"0 up{known}{ignored}"
            )

    def _by_example(
        self, index: np.ndarray, classes: np.ndarray, examples: int, positions: int
    ) -> Chosen:
        """Rows by example, in as many columns as are likely to do for other batches, too."""
        order = np.argsort(index, kind="stable")
        example, place = np.divmod(np.asarray(index)[order], positions)
        count = np.bincount(example, minlength=examples)
        while self._most < count.max(initial=0):
            self._most *= 2
        most = min(self._most, positions)
        column = np.arange(len(example)) - np.repeat(np.cumsum(count) - count, count)
        places, labels = (np.zeros((examples, most), np.int32) for _ in range(2))
        places[example, column] = place
        labels[example, column] = np.asarray(classes)[order]
        return Chosen(labels, places, np.arange(most)[None] < count[:, None])


def level_of(model: Any, dataset: Dataset | None, level: str | None) -> str:
    """The level of a model that is to learn what the data set is about.

    Raises:
        InputError: where a model of another level was made for it.
    """
    needed = None if dataset is None else _OF_TASKS.get(dataset.task, "example")
    own = model.level if isinstance(model, Model) else level
    if dataset is not None and own not in (None, needed):
        raise InputError(
            f"{dataset.name} is a {dataset.task} data set, which needs level={needed!r}, but the "
            f"model is of level {own!r}"
        )
    return own or needed or "example"


def targets_of(
    model: Model, dataset: Dataset | None, num_classes: int | None, pixels: int, seed: int
) -> Targets:
    """How labels become those of rows of features."""
    if dataset is not None and num_classes is None:
        num_classes = dataset.num_classes
    ignore = None if dataset is None else dataset.ignore
    return Targets(model.level, num_classes=num_classes, ignore=ignore, pixels=pixels, seed=seed)


def _array(labels: Any, index: int) -> np.ndarray:
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise InputError(f"batch {index} has labels of different lengths: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"batch {index} has labels of type {array.dtype}: give classes as integers from 0 up, "
            "or floats"
        )
    return array
