"""What every data set is here: examples and labels by number, in an order that never changes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from jaxte._progress import Progress, reporter
from jaxte.data._digests import of_values
from jaxte.data._draws import keys, stratified
from jaxte.data._threads import in_order
from jaxte.errors import InputError, one_line

__all__ = ["TASKS", "Dataset", "Piece", "Subset", "collate"]

_HINT = (
    "on_error='skip' (jaxte extract --skip-damaged) leaves out what cannot be read, "
    "Dataset.damaged() (jaxte extract --check) lists it beforehand"
)
TASKS = ("classification", "multilabel", "regression", "tokens", "segmentation")


class Piece(NamedTuple):
    """Some rows of a data set, one after the other."""

    inputs: Any  # of the rows that were read, as the labels; None if there are none
    labels: Any
    rows: int  # how many there are in all
    skipped: Mapping[int, str]  # number of a row that was left out -> why


class Dataset:
    """Examples and their labels; `jaxte.data.load` makes one.

    A user's class needs the attributes, ``__len__`` and ``read``; ``label`` and ``labels``
    where labels can be had without decoding examples.

    Attributes:
        name: the specification it was loaded by.
        task: one of `TASKS`.
        num_classes: C; the columns of a multilabel task; None for regression, and for label maps
            whose classes were not named.
        class_names: the names of the classes, where they have any.
        ignore: the label of tokens or pixels that do not count.
        card: what identifies the data, as JSON values: source, split, version, rows, columns,
            checksums, and n and seed of a subset.
    """

    name: str = "data"
    task: str = "classification"
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    ignore: int | None = None
    card: Mapping[str, Any] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, row: int) -> tuple[Any, Any]:
        """Example and label of a row from 0 to n - 1.

        The example is an image (uint8 [h, w, c]), a text, a list of words or an array. The label
        is a class (int), a float or float vector (regression, multilabel), the classes of the
        words [W] or a label map [h, w].
        """
        raise NotImplementedError

    def label(self, row: int) -> Any:
        """The label of a row alone, without decoding the example where that can be avoided."""
        return self.read(row)[1]

    def labels(self) -> np.ndarray | None:
        """All labels, [n] or [n, k]; None for tokens and label maps, which have no one shape."""
        if self.task in ("tokens", "segmentation"):
            return None
        return collate([self.label(row) for row in range(len(self))], self.task, self.ignore)

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, Any]:
        row, rows = operator.index(index), len(self)
        if not -rows <= row < rows:
            raise IndexError(f"{self.name} has {rows} rows, no row {row}")
        return self.read(row % rows)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return map(self.read, range(len(self)))

    def __repr__(self) -> str:
        classes = "" if self.num_classes is None else f", {self.num_classes} classes"
        return f"Dataset({self.name!r}, {self.task}, {len(self)} rows{classes})"

    def subset(self, n: int, *, seed: int = 0) -> Dataset:
        """Draw n rows, the same ones on every machine, in the order of the data set.

        Of a classification task each class gets its share, rounded by largest remainder, and at
        least one row where n allows; other tasks are drawn from evenly.

        Args:
            n: how many rows, at most all.
            seed: which draw.

        Returns:
            A data set whose card names n and seed.

        Raises:
            InputError: if n is not in 1..rows.

        Example:
            >>> from jaxte import data
            >>> part = data.load("zoo:digits/train").subset(50, seed=1)
            >>> len(part), len(set(part.labels().tolist())), part.card["subset"]["seed"]
            (50, 10, 1)
        """
        if not 1 <= n <= len(self):
            raise InputError(f"a subset of {n} rows: {self.name} has {len(self)}, choose from 1 up")
        classes = self.labels() if self.task == "classification" else None
        if classes is None:
            classes = np.zeros(len(self), np.int64)
        rows = stratified(classes, n, keys(len(classes), seed))
        drawn = {"n": n, "seed": seed, "of": len(self)}
        if "subset" in self.card:
            drawn["within"] = self.card["subset"]
        name = f"{self.name}{'&' if '?' in self.name else '?'}subset={n}&seed={seed}"
        return Subset(self, rows, name, {**self.card, "rows": n, "subset": drawn})

    def take(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """The data set of these rows, in this order; `InputError` for one that it has not."""
        chosen = np.asarray(rows, np.int64).reshape(-1)
        if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= len(self):
            raise InputError(f"rows to take of {self.name}: give some from 0 to {len(self) - 1}")
        part = {"rows": len(chosen), "taken": of_values([chosen])}
        return Subset(self, chosen, self.name, {**self.card, **part})

    def damaged(self, *, workers: int = 0, progress: bool | Progress = False) -> dict[int, str]:
        """Read every row, to know those that cannot be read before hours are spent.

        Args:
            workers: threads that read.
            progress: True for a progress bar, or a function (done, total, name).

        Returns:
            The number of each row that cannot be read, and why; `jaxte.extract` leaves them out
            with ``on_error="skip"``.

        Example:
            >>> from jaxte import data
            >>> data.load("zoo:digits/test").damaged()
            {}
        """

        def reason(row: int) -> str:
            try:
                self.read(row)
            except Exception as error:  # a user's data set may raise anything
                return one_line(error)
            return ""

        reasons = {}
        with reporter(progress, self.name) as report:
            for row, why in enumerate(in_order(reason, range(len(self)), workers)):
                if why:
                    reasons[row] = why
                report(row + 1, len(self), self.name)
        return reasons

    def without(self, rows: Collection[int]) -> Dataset:
        """The data set without some rows."""
        kept = np.setdiff1d(np.arange(len(self)), np.asarray(list(rows), np.int64))
        left = {"rows": len(kept), "without": sorted(rows)}
        return Subset(self, kept, self.name, {**self.card, **left})

    def batches(
        self,
        size: int,
        *,
        prepare: Callable[[list[Any]], Any] | None = None,
        start: int = 0,
        workers: int = 0,
    ) -> Iterator[tuple[Any, Any]]:
        """Examples start, start + 1, ... in order, in batches of ``size``; the last is shorter.

        What is in a batch depends on ``start`` and ``size`` only. With workers, that many threads
        read, decode and prepare the batches ahead, one batch each, while the caller works on an
        earlier one; at most ``workers + 1`` batches wait.

        Args:
            size: examples in a batch.
            prepare: list of examples -> inputs. Threads call it at once, though not before the
                first call has returned. By default arrays are stacked, and texts and words left a
                list.
            start: the first example, 0 to n.
            workers: threads; 0 does the work in the caller's.

        Yields:
            Inputs, and labels: [b], [b, k], tokens [b, W] filled up with ``ignore``, label maps
            [b, h, w] or, where their sizes differ, a list of them.

        Raises:
            InputError: if an argument is out of range, or an example cannot be read.

        Example:
            >>> from jaxte import data
            >>> digits = data.load("zoo:digits/train")
            >>> [inputs.shape for inputs, labels in digits.batches(200, start=50)]
            [(200, 8, 8, 1), (200, 8, 8, 1), (50, 8, 8, 1)]
        """
        pieces = self.pieces(size, prepare=prepare, start=start, workers=workers)
        return ((piece.inputs, piece.labels) for piece in pieces)

    def pieces(
        self,
        size: int,
        *,
        prepare: Callable[[list[Any]], Any] | None = None,
        start: int = 0,
        workers: int = 0,
        skip: bool = False,
        without: Collection[int] = (),
    ) -> Iterator[Piece]:
        """As `batches`, with what was left out: rows ``without``, and to ``skip`` damaged ones."""
        if size < 1 or workers < 0:
            raise InputError(f"size is {size} and workers {workers}: at least 1 and 0 are needed")
        if not 0 <= start <= len(self):
            raise InputError(f"start is {start}: {self.name} has {len(self)} rows")

        def make(first: int) -> Piece:
            last = min(first + size, len(self))
            read, skipped = [], {}
            for row in range(first, last):
                if row in without:
                    skipped[row] = ""
                    continue
                try:
                    read.append(self.read(row))
                except Exception as error:
                    if not skip:
                        error.add_note(_HINT)
                        raise
                    skipped[row] = one_line(error)
            if not read:
                return Piece(None, None, last - first, skipped)
            examples, labels = zip(*read, strict=True)
            try:
                inputs = (prepare or _stack)(list(examples))
            except Exception as error:
                error.add_note(f"while preparing rows {first} to {last - 1} of {self.name}")
                raise
            return Piece(inputs, collate(labels, self.task, self.ignore), last - first, skipped)

        return in_order(make, range(start, len(self), size), workers)


class Subset(Dataset):
    """Some rows of another data set."""

    def __init__(
        self, whole: Dataset, rows: Sequence[int] | np.ndarray, name: str, card: Mapping[str, Any]
    ) -> None:
        self._whole, self._rows, self.name, self.card = whole, rows, name, card
        self.task, self.ignore = whole.task, whole.ignore
        self.num_classes, self.class_names = whole.num_classes, whole.class_names

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, row: int) -> tuple[Any, Any]:
        """Example and label of a row."""
        return self._whole.read(int(self._rows[row]))

    def label(self, row: int) -> Any:
        """The label of a row."""
        return self._whole.label(int(self._rows[row]))


def collate(labels: Sequence[Any], task: str, ignore: int | None) -> Any:
    """The labels of a batch as one array; label maps of different sizes stay a list."""
    if task == "classification":
        return np.asarray(labels, np.int32)
    if task == "tokens":
        padded = np.full((len(labels), max(map(len, labels))), ignore, np.int32)
        for row, classes in zip(padded, labels, strict=True):
            row[: len(classes)] = classes
        return padded
    if task == "segmentation" and len({label.shape for label in labels}) > 1:
        return list(labels)
    return np.stack(labels)


def _stack(examples: list[Any]) -> Any:
    if not isinstance(examples[0], np.ndarray):
        return examples
    shapes = sorted({example.shape for example in examples})
    if len(shapes) > 1:
        raise InputError(
            f"examples have different shapes, as {shapes[0]} and {shapes[-1]}: give prepare=, to "
            "bring them to one"
        )
    return np.stack(examples)
