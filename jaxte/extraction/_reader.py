"""Batches of a data set or an iterable from where a store ends, after a look at what it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from jaxte.errors import InputError
from jaxte.extraction._batches import Batch, Prepare, checked, digest, read
from jaxte.extraction._damaged import check_skip

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["Reader", "Stored"]

_HINT = (
    "on_error='skip' (--skip-damaged) leaves out what cannot be read, Dataset.damaged() (--check) "
    "lists it beforehand"
)


class Stored(Protocol):
    """What a store knows of a batch."""

    @property
    def examples(self) -> int: ...

    @property
    def digest(self) -> str: ...

    @property
    def skipped(self) -> Mapping[int, str]: ...


class Reader:
    """Where batches come from.

    Args:
        given: a `jaxte.data.Dataset`, or an iterable of batches.
        prepare: list of raw examples -> inputs, as the model wants them.
        size: examples of a batch of a data set.
        workers: threads that read a data set ahead.
        skip: whether examples of a data set that cannot be read are left out.

    Attributes:
        skipped: those behind the last batch.

    Raises:
        InputError: where nothing can be skipped.
    """

    def __init__(
        self,
        given: Any,
        prepare: Prepare | None,
        size: int,
        workers: int,
        skip: bool = False,
    ) -> None:
        self.dataset = as_dataset(given)
        if skip:
            check_skip(self.dataset)
        self._skip, self.skipped = skip, dict[int, str]()
        self._given, self._prepare = given, prepare
        self._size, self._workers = size, workers
        self._left: Iterator[Batch] | None = None

    @property
    def total(self) -> int | None:
        """Examples in all, if known."""
        return None if self.dataset is None else len(self.dataset)

    @property
    def size(self) -> int:
        """Examples of a whole batch; 0 where the first one will show it."""
        return 0 if self.total is None else min(self._size, self.total)

    def again(self, stored: Sequence[Stored], least: bool, whole: bool = False) -> Iterator[Batch]:
        """Stored batches as they are now: the first, and unless ``least`` what comes cheap.

        That is the last of a data set, and all of an iterable, which has to be read up to there.

        Args:
            stored: what a store knows of them.
            least: whether the first is enough.
            whole: whether all of a data set are wanted.

        Raises:
            InputError: names the first one that is not what was stored.
        """
        if self.dataset is not None:
            kept = [i for i, one in enumerate(stored) if len(one.skipped) < one.examples]
            ends = {kept[0], kept[0 if least else -1]}
            for index in kept if whole else sorted(ends):
                start, one = sum(one.examples for one in stored[:index]), stored[index]
                there = start + one.examples <= len(self.dataset)
                found = self._of_dataset(one.examples, start, index, 0, one.skipped)
                rows = f" (rows {start} to {start + one.examples - 1})"
                yield _same(next(found, None) if there else None, one, f"batch {index}", rows)
            return
        self._left = read(self._given, self._prepare)
        for index, one in enumerate(stored[:1] if least else stored):
            yield _same(next(self._left, None), one, f"batch {index}", "")

    def rest(self, stored: Sequence[Stored]) -> Iterator[Batch]:
        """What is not stored yet; after `again`."""
        if self.dataset is not None:
            start = sum(one.examples for one in stored)
            yield from self._of_dataset(self._size, start, len(stored), self._workers)
            return
        yield from read(self._given, self._prepare) if self._left is None else self._left

    def noted(self, stored: Sequence[Stored]) -> Iterator[Batch]:
        """As `rest`; an error says where it failed, and what to do."""
        batches, index = self.rest(stored), None
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                after = "the first batch" if index is None else f"the batch after batch {index}"
                error.add_note(f"while reading {after}")
                if self.dataset is not None:
                    error.add_note(_HINT)
                raise
            index = batch.number
            yield batch

    def _of_dataset(
        self, size: int, start: int, index: int, workers: int, without: Collection[int] = ()
    ) -> Iterator[Batch]:
        assert self.dataset is not None
        pieces = self.dataset.pieces(
            size,
            prepare=self._prepare,
            start=start,
            workers=workers,
            skip=self._skip,
            without=without,
        )
        self.skipped = {}
        for piece in pieces:
            self.skipped |= piece.skipped
            if piece.inputs is not None:
                batch = checked(piece.inputs, piece.labels, index)
                yield batch._replace(skipped=self.skipped)
                self.skipped, index = {}, index + 1


def as_dataset(given: Any) -> Dataset | None:
    """The data set, if it is one."""
    from jaxte.data import Dataset

    return given if isinstance(given, Dataset) else None


def facts(dataset: Dataset | None, num_classes: int | None) -> Mapping[str, Any]:
    """What a manifest says of the data."""
    if dataset is None:
        return {"name": "batches", "num_classes": num_classes}
    return {
        "name": dataset.name,
        "task": dataset.task,
        "num_classes": dataset.num_classes if num_classes is None else num_classes,
        "class_names": dataset.class_names,
        "ignore": dataset.ignore,
        "card": dataset.card,
    }


def _same(batch: Batch | None, stored: Stored, where: str, rows: str) -> Batch:
    remedy = "give the same batches, or extract into another directory (out=...)"
    if batch is None:
        raise InputError(f"the batches end before {where}{rows}, which is stored: {remedy}")
    if batch.examples != stored.examples:
        raise InputError(
            f"{where} has {batch.examples} examples, but {stored.examples} were stored: {remedy}"
        )
    now, before = digest(batch).split("."), stored.digest.split(".")
    parts = [what for what, a, b in zip(("inputs", "labels"), now, before, strict=True) if a != b]
    if parts:
        raise InputError(
            f"the {' and '.join(parts)} of {where} are not those that were stored{rows}: the data "
            f"or how it is prepared has changed; {remedy}"
        )
    return batch
