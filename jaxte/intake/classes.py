"""Classes: numbered from 0 up in sorted order, all at once or batch by batch, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxte.errors import InputError

if TYPE_CHECKING:
    from jaxte.intake.labels import Labels

__all__ = [
    "ClassNumbers",
    "check_classes",
    "class_counts",
    "class_names",
    "listed",
    "number_classes",
]

# What stands for "no label" where it is the only negative number: TFDS and Hugging Face write -1,
# PyTorch ignores -100.
_NO_LABEL = (-1, -100)
# More classes than half the rows are numbers or texts of another kind, unless they are few, or not
# very many and numbered from 0 up.
_FEW, _MANY = 10, 1000
_COUNTABLE = 1 << 16  # class numbers up to here are counted rather than sorted
_AT_ONCE = 1 << 20  # labels that are counted, which NumPy converts to 64 bits for it
_SHOWN = 10  # classes in a message


def number_classes(labels: np.ndarray) -> tuple[np.ndarray, Sequence[Any]]:
    """Numbers [n] of classes, and the classes in sorted order; of integers, texts or the like."""
    if labels.dtype.kind in "biu" and labels.min() >= 0:
        high = int(labels.max())
        if high < max(_COUNTABLE, 2 * len(labels)):  # counted rather than sorted
            occurs = class_counts(labels, None, high + 1) > 0
            distinct = np.flatnonzero(occurs)
            if labels.dtype == np.bool_:
                labels, distinct = labels.astype(np.int8), distinct.astype(np.bool_)
            elif occurs.all():
                return labels, range(high + 1)
            return (np.cumsum(occurs) - 1)[labels.astype(np.int64)], distinct.tolist()
    distinct, numbers = np.unique(labels, return_inverse=True)
    return numbers, distinct.tolist()


def class_names(classes: Sequence[Any]) -> tuple[str, ...] | None:
    """The classes as texts; None where they are just 0, 1, ..., C-1."""
    return None if isinstance(classes, range) else tuple(map(str, classes))


class ClassNumbers:
    """Numbers of classes that come in batches, in the order in which they are first seen.

    Args:
        num_classes: C; integers are numbers below it already.
    """

    def __init__(self, num_classes: int | None = None) -> None:
        self.num_classes = num_classes
        self._numbers: dict[Any, int] = {}
        self._rows: list[int] = []  # in which each class is first seen

    @property
    def classes(self) -> Sequence[Any]:
        """What has been seen, by number."""
        classes = list(self._numbers)
        counted = all(type(one) is int and one == i for i, one in enumerate(classes))
        return range(len(classes)) if counted else classes

    def of(self, labels: Labels, what: str, start: int = 0, *, new: bool = True) -> np.ndarray:
        """Class numbers [n] of a batch, the first of whose rows is number ``start`` of all.

        ``new`` says whether it may hold classes that have not been seen.
        """
        assert labels.classes is not None
        if not labels.classes or (self.num_classes and isinstance(labels.classes, range)):
            return labels.values
        for number, one in enumerate(labels.classes):
            if one not in self._numbers:
                if not new or len(self._numbers) == self.num_classes:
                    raise InputError(
                        f"{what} contain {one!r}, which is none of the classes before: "
                        f"{listed(self.classes)}"
                    )
                self._numbers[one] = len(self._numbers)
                self._rows.append(start + int(np.argmax(labels.values == number)))
        return np.array([self._numbers[one] for one in labels.classes], np.int32)[labels.values]

    def sort(self, rows: int, what: str) -> np.ndarray:
        """Number the classes of all rows in sorted order, as `as_labels` does; return the order."""
        try:
            order = sorted(self._numbers)
        except TypeError:
            shown = listed([*self._numbers])
            raise InputError(f"{what} are of several kinds ({shown}): give one kind") from None
        places = np.array([self._numbers[one] for one in order])
        self._rows = [self._rows[place] for place in places]
        self._numbers = {one: number for number, one in enumerate(order)}
        check_classes(self.classes, rows, what, None, self._rows.__getitem__)
        return places


def check_classes(
    classes: Sequence[Any],
    rows: int,
    what: str,
    num_classes: int | None,
    first: Callable[[int], int],
) -> None:
    """Raise `InputError` unless these can be the classes of so many rows.

    ``first``: the first row of a class, by its number.
    """
    if num_classes is not None:
        if len(classes) > num_classes:
            raise InputError(
                f"{what} hold {len(classes)} classes, but num_classes is {num_classes}: "
                f"{listed(classes)}"
            )
        return
    if isinstance(classes[0], int):
        negative = [one for one in classes if one < 0]
        pair = list(classes) == [-1, 1]  # as support vector machines have them
        if len(negative) == 1 and negative[0] in _NO_LABEL and not pair:
            raise InputError(
                f"{what} contain {negative[0]}, first in row {first(classes.index(negative[0]))}, "
                "which stands for 'no label': leave those rows out or give them weight 0; if it "
                "is a class, number the classes from 0 up"
            )
    numbered = isinstance(classes, range) and len(classes) <= _MANY
    if len(classes) > max(rows / 2, _FEW) and not numbered:
        texts = isinstance(classes[0], str)
        raise InputError(
            f"{what} hold {len(classes)} different {'texts' if texts else 'integers'} in {rows} "
            "rows, too many for classes: "
            + ("choose another column" if texts else "for regression give floats")
            + ", or, if they are classes, say how many there are"
        )


def class_counts(numbers: np.ndarray, weights: np.ndarray | None, size: int) -> np.ndarray:
    """Sum of the weights of each class [size]."""
    counts = np.zeros(size)
    for start in range(0, len(numbers), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        counts += np.bincount(numbers[part], None if weights is None else weights[part], size)
    return counts


def listed(classes: Sequence[Any]) -> str:
    """Some classes for a message."""
    return ", ".join(map(str, classes[:_SHOWN])) + (", ..." if len(classes) > _SHOWN else "")
