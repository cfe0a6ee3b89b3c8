"""Batches of a data set or an iterable that go on where a store ends, if that is of the same data.

Examples that cannot be read are left out on request; here is which, and how it is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from jaxte._progress import Progress
from jaxte.data.images import is_pillow
from jaxte.errors import InputError
from jaxte.extraction._all_layers import all_named
from jaxte.extraction._batches import Batch, Prepare, checked, digest, read
from jaxte.extraction._model import Model
from jaxte.extraction._outputs import ALL
from jaxte.intake.checks import check_whole

if TYPE_CHECKING:
    from jaxte.data import Dataset
    from jaxte.store import Batch as StoredBatch

__all__ = ["ResumableBatches", "as_dataset", "left_out", "of_pair", "readable"]

_REMEDY = "give the same batches, or extract into another directory (out=...)"


class ResumableBatches:
    """Numbered batches, from the first one that is not stored yet.

    Args:
        batches: a `jaxte.data.Dataset`, or an iterable of batches.
        prepare: list of raw examples -> inputs, as the model wants them.
        size: examples of a batch of a data set.
        workers: threads that read a data set ahead.
        skip: whether examples of a data set that cannot be read are left out.
        weighted: whether an iterable may give weights, too.

    Attributes:
        skipped: those behind the last batch.
    """

    def __init__(
        self, batches: Any, prepare: Prepare | None, size: int, workers: int, skip: bool = False,
        weighted: bool = False,
    ) -> None:  # fmt: skip
        self.dataset = as_dataset(batches)
        if skip:
            _check_skip(self.dataset)
        self._weighted = weighted
        self._skip, self.skipped = skip, dict[int, str]()
        self._batches, self._prepare = batches, prepare
        self._size, self._workers = check_whole("batch_size", size), workers
        self._iterator: Iterator[Batch] | None = None

    @property
    def total(self) -> int | None:
        """Number of examples, where the data tell it beforehand."""
        return None if self.dataset is None else len(self.dataset)

    @property
    def size(self) -> int:
        """Examples of a whole batch; 0 where the first one will show it."""
        return 0 if self.total is None else min(self._size, self.total)

    def recheck(self, stored: Sequence[StoredBatch], least: bool, whole: bool) -> Iterator[Batch]:
        """Stored batches as they are now: the first, and unless ``least`` what comes cheap.

        That is the last of a data set, and all of an iterable, which has to be read up to there;
        with ``whole`` all of a data set.
        """
        if self.dataset is None:
            iterator = self._read()
            for index, one in enumerate(stored[:1] if least else stored):
                yield _same(next(iterator, None), one, f"batch {index}", "")
            return
        nonempty = [i for i, one in enumerate(stored) if len(one.skipped) < one.examples]
        ends = {nonempty[0], nonempty[0 if least else -1]}
        for index in nonempty if whole else sorted(ends):
            start, one = sum(one.examples for one in stored[:index]), stored[index]
            batch = None
            if start + one.examples <= len(self.dataset):
                batch = next(self._of_dataset(one.examples, start, index, 0, one.skipped), None)
            rows = f" (rows {start} to {start + one.examples - 1})"
            yield _same(batch, one, f"batch {index}", rows)

    def remaining(self, stored: Sequence[StoredBatch]) -> Iterator[Batch]:
        """What is not stored yet; after `recheck`."""
        if self.dataset is not None:
            start = sum(one.examples for one in stored)
            return self._of_dataset(self._size, start, len(stored), self._workers)
        return self._read()

    def all_named(self, model: Model) -> Model:
        """`all_named` by one example, or by the first batch of an iterable, which is kept."""
        if model.layers != (ALL,):
            return model
        one = self._of_dataset(1, 0, 0, 0) if self.dataset is not None else self._read()
        batch = next(self._annotated(one), None)
        if batch is None:
            raise self.no_batches()
        if self.dataset is None:
            self._iterator = chain((batch,), self._read())
        return all_named(model, batch.inputs)

    def _read(self) -> Iterator[Batch]:
        if self._iterator is None:
            self._iterator = read(self._batches, self._prepare, weighted=self._weighted)
        return self._iterator

    def annotated(self, stored: Sequence[StoredBatch]) -> Iterator[Batch]:
        """As `remaining`; an error says where it failed, and what to do."""
        return self._annotated(self.remaining(stored))

    def no_batches(self) -> InputError:
        """The error where there is nothing to extract."""
        if self.skipped:
            row, why = next(iter(self.skipped.items()))
            return InputError(f"no example can be read: row {row} ({why})")
        return InputError("there are no batches: was the iterator used up before?")

    def _annotated(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        after = "the first batch"
        try:
            for batch in batches:
                after = f"the batch after batch {batch.number}"
                yield batch
        except Exception as error:
            error.add_note(f"while reading {after}")
            raise

    def _of_dataset(
        self, size: int, start: int, index: int, workers: int, without: Collection[int] = ()
    ) -> Iterator[Batch]:
        assert self.dataset is not None
        options: dict[str, Any] = {"prepare": self._prepare, "skip": self._skip}
        pieces = self.dataset.pieces(size, start=start, workers=workers, without=without, **options)
        self.skipped = {}
        for piece in pieces:
            self.skipped |= piece.skipped
            if piece.inputs is not None:
                batch = checked(piece.inputs, piece.labels, index)
                yield batch._replace(skipped=self.skipped)
                self.skipped, index = {}, index + 1


def _same(batch: Batch | None, stored: StoredBatch, where: str, rows: str) -> Batch:
    """The batch, or an `InputError` that says how it differs from the one that was stored."""
    if batch is None:
        raise InputError(f"the batches end before {where}{rows}, which is stored: {_REMEDY}")
    if batch.examples != stored.examples:
        raise InputError(
            f"{where} has {batch.examples} examples, but {stored.examples} were stored: {_REMEDY}"
        )
    now, before = digest(batch).split("."), stored.digest.split(".")
    parts = [what for what, a, b in zip(("inputs", "labels"), now, before, strict=True) if a != b]
    if parts:
        raise InputError(
            f"the {' and '.join(parts)} of {where} are not those that were stored{rows}: the data "
            f"or how it is prepared has changed; {_REMEDY}"
        )
    return batch


def as_dataset(batches: Any) -> Dataset | None:
    """The data set, if it is one."""
    from jaxte.data import Dataset

    return batches if isinstance(batches, Dataset) else None


def of_pair(batches: Any) -> Any:
    """A pair (inputs, labels) of arrays of all examples as a `Dataset`; else what it is."""
    if not isinstance(batches, tuple) or len(batches) != 2:
        return batches
    inputs, labels = batches
    if labels is None:
        raise InputError("these inputs have no labels: give (inputs, labels), one label each")
    kinds = set(map(_kind, inputs)) if isinstance(inputs, list) else set()
    rows = getattr(labels, "shape", None) or ((len(labels),) if isinstance(labels, list) else ())
    listed = len(kinds) == 1 and None not in kinds
    if not (listed or len(getattr(inputs, "shape", ())) > 1) or len(rows) == 0:
        return batches  # two batches, each a pair
    from jaxte.data import load

    return load(batches)


def _kind(example: Any) -> Any:
    """The same for examples that may stand in one list; None for what is none."""
    if isinstance(example, str) or is_pillow(example):
        return isinstance(example, str)
    return getattr(example, "ndim", None)


def _check_skip(dataset: Dataset | None) -> None:
    if dataset is None:
        raise InputError("on_error='skip' needs a Dataset: an iterator ends where it fails")


def left_out(skipped: Mapping[Any, str]) -> str:
    """How many are left out, and why the first of them is."""
    (row, why), more = next(iter(skipped.items())), ", ..." if len(skipped) > 1 else ""
    return f"{len(skipped)} examples could not be read and are left out: row {row} ({why}){more}"


def readable(
    dataset: Dataset | None, workers: int, progress: bool | Progress
) -> tuple[Dataset, dict[int, str]]:
    """What of a data set can be read, before any of it is used, and what cannot."""
    _check_skip(dataset)
    assert dataset is not None
    damaged = dataset.damaged(workers=workers, progress=progress)
    return (dataset.without(damaged) if damaged else dataset), damaged
