"""Labels of batches: checked, of one type, and for words and pixels which of them are rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxte.errors import InputError
from jaxte.extraction._batches import pad_rows
from jaxte.extraction.models import Model
from jaxte.intake import Labels, as_labels, is_array

if TYPE_CHECKING:
    from jaxte.data import Dataset, Rows

__all__ = ["LEVELS", "Chosen", "Pixels", "Targets", "level_of"]

LEVELS = {"example": (), "token": ("W",), "dense": ("h", "w")}  # and their positions
IGNORE = {"token": -100, "dense": 255}  # the label of what does not count, by default
PIXELS = 8.0  # of each class in an image, by default

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

    def padded_places(self, size: int) -> np.ndarray | None:
        """`places` of as many examples as are compiled for."""
        return None if self.places is None else pad_rows(self.places, size)


class Pixels(NamedTuple):
    """Which pixels of label maps become rows: see `jaxte.data.pixel_rows`, `pixel_budget`."""

    per_image: float | Sequence[float] | None = None  # of each class; PIXELS by default
    budget: int | None = None  # of each class in all, instead
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """In the terms of a manifest."""
        if self.budget is not None:
            return {"pixel_budget": self.budget, "seed": self.seed}
        return {"pixels": self.each(), "seed": self.seed}

    def each(self) -> Any:
        """Of each class in an image."""
        return PIXELS if self.per_image is None else self.per_image


class Targets:
    """What is to be learnt of each row of features.

    Args:
        level: one of `LEVELS`.
        dataset: whose labels they are, if they are of one.
        num_classes: C, to check labels by; by default that of the data set.
        pixels: which positions of label maps become rows.
    """

    def __init__(
        self, level: str, dataset: Dataset | None, num_classes: int | None, pixels: Pixels
    ) -> None:
        self.level, self.dataset, self.pixels = level, dataset, pixels
        self.num_classes, ignore = num_classes, None
        if dataset is not None:
            ignore = dataset.ignore
            if num_classes is None and dataset.task != "multilabel":  # columns of 0 and 1
                self.num_classes = dataset.num_classes
        self.ignore = IGNORE.get(level, 0) if ignore is None else ignore
        self._per_image: Any = None
        self._like: np.ndarray | None = None
        self._most = 1

    def of(
        self,
        labels: Any,
        index: int,
        grid: tuple[int, ...],
        first: int,
        weights: np.ndarray | None = None,
    ) -> Chosen:
        """The rows of a batch.

        Args:
            labels: of the batch.
            index: its number, for errors.
            grid: positions of an example, (), (W,) or (h, w).
            first: which example of all is the first of the batch.
            weights: of the examples; those of weight 0 may have any label.

        Raises:
            InputError: names batch and row of a label that will not do.
        """
        if self.level == "example":
            return Chosen(self._of_examples(labels, index, weights))
        try:
            rows = self._of_positions(labels, grid, first)
        except InputError as error:
            raise InputError(f"batch {index}: {error}") from error
        positions = int(np.prod(grid))
        self._check_classes(rows.labels, index, rows.index // positions)
        return self._by_example(rows, len(labels), positions)

    def _of_positions(self, labels: Any, grid: tuple[int, ...], first: int) -> Rows:
        from jaxte.data import pixel_budget, pixel_rows, token_rows
        from jaxte.data.dataset import collate

        if self.level == "token":
            if isinstance(labels, list | tuple):
                labels = collate(labels, "tokens", self.ignore)
            return token_rows(labels, self.ignore, width=grid[0])
        height, width = grid
        if self._per_image is None:
            self._per_image = self.pixels.each()
            if self.pixels.budget is not None:
                dataset = self.dataset
                if dataset is None:
                    raise InputError(
                        "a budget of pixels needs all label maps beforehand: give a data set, or "
                        "pixels=..., how many of each class in an image"
                    )
                self._per_image = pixel_budget(
                    (dataset.label(row) for row in range(len(dataset))),
                    (height, width),
                    per_class=self.pixels.budget,
                    ignore=self.ignore,
                    num_classes=self.num_classes,
                )
        return pixel_rows(
            labels,
            (height, width),
            ignore=self.ignore,
            per_image=self._per_image,
            seed=self.pixels.seed,
            first=first,
        )

    def _of_examples(self, labels: Any, index: int, weights: np.ndarray | None) -> np.ndarray:
        shape = np.shape(labels) if is_array(labels) else ()
        if len(shape) > 2 or 0 in shape:
            hint = "as_model(..., level='token') or 'dense' gives features of words or pixels"
            raise InputError(
                f"batch {index} has labels of shape {list(shape)}, not [b] or [b, k]: {hint}"
            )
        parsed = as_labels(labels, f"labels of batch {index}", weights=weights, whole=False)
        array = parsed.values
        if parsed.classes is not None:
            array = _as_integers(parsed, index)
            self._check_classes(array, index, np.arange(len(array)))
        if self._like is None:
            self._like = array[:1]
        elif (array.dtype.kind, array.shape[1:]) != (self._like.dtype.kind, self._like.shape[1:]):
            raise InputError(
                f"batch {index} has labels {array.dtype} {list(array.shape)}, batches before it "
                f"had {self._like.dtype} with {list(self._like.shape[1:])} behind the rows"
            )
        cast = array.astype(self._like.dtype, copy=True)
        if cast.dtype.kind == "i" and (cast != array).any():
            raise InputError(
                f"batch {index} has labels beyond 32 bits, unlike those before: number the classes"
            )
        return cast

    def _check_classes(self, classes: np.ndarray, index: int, rows: np.ndarray) -> None:
        bad = classes < 0
        if self.num_classes is not None:
            bad = bad | (classes >= self.num_classes)
        if bad.any():
            at = int(np.argmax(bad))
            count = "" if self.num_classes is None else f" of {self.num_classes}"
            ignored = "" if self.level == "example" else f" or {self.ignore} for what is ignored"
            raise InputError(
                f"batch {index} has label {int(classes[at])} in row {int(rows[at])}: give classes "
                f"from 0 up{count}{ignored}"
            )

    def _by_example(self, rows: Rows, examples: int, positions: int) -> Chosen:
        """Rows by example, in as many columns as are likely to do for other batches, too."""
        example, place = np.divmod(rows.index, positions)
        count = np.bincount(example, minlength=examples)
        while self._most < count.max(initial=0):
            self._most *= 2
        most = min(self._most, positions)
        column = np.arange(len(example)) - np.repeat(np.cumsum(count) - count, count)
        places, labels = (np.zeros((examples, most), np.int32) for _ in range(2))
        places[example, column] = place
        labels[example, column] = rows.labels
        return Chosen(labels, places, np.arange(most)[None] < count[:, None])


def level_of(model: Any, dataset: Dataset | None, level: str | None) -> str:
    """The level of a model that is to learn what the data set is about.

    Raises:
        InputError: where a model of another level was made for it.
    """
    needed = None if dataset is None else _OF_TASKS.get(dataset.task, "example")
    of_model = model.level if isinstance(model, Model) else level
    if dataset is not None and of_model not in (None, needed):
        raise InputError(
            f"{dataset.name} is a {dataset.task} data set, which needs level={needed!r}, but the "
            f"model is of level {of_model!r}"
        )
    return of_model or needed or "example"


def _as_integers(labels: Labels, index: int) -> np.ndarray:
    """Classes of a batch as the integers that they are, as other batches may have others."""
    classes = labels.classes
    assert classes is not None
    if not classes:  # no row of the batch counts
        return labels.values
    if not all(isinstance(one, int) for one in classes):
        raise InputError(
            f"batch {index} has texts as labels: give numbers, or "
            "jaxte.data.as_dataset(inputs, labels), which numbers the classes and keeps their names"
        )
    widest = max(map(abs, classes), default=0)
    if widest >= 2**63:
        raise InputError(f"batch {index} has a class {widest}, beyond 64 bits: number the classes")
    return np.array(classes, np.int64 if widest >= 2**31 else np.int32)[labels.values]
