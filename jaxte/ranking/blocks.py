"""Batches of any size, checked and cut anew to blocks of one shape, with targets and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte.errors import InputError, said
from jaxte.intake import ClassNumbers, as_features, as_labels, checks, class_counts
from jaxte.intake.outputs import SourceOutputs
from jaxte.intake.sources import Source
from jaxte.runtime.devices import platform_of
from jaxte.statistics.linalg import unit_of

# Rows of a block: what a CPU's caches hold; where there is more to keep busy, more.
_ROWS, _MANY_ROWS = 2048, 8192
# Every block adds a row for each class: a quarter of the arithmetic at most.
_PER_CLASS = 4
# What a block takes, in blocks: as read, filled up, promoted, centred, weighted; two are under way.
_COPIES = 8


class Block(NamedTuple):
    """Rows of one shape, filled up with rows of weight 0."""

    features: Any  # [size, width], or [size, d] where it lies on a device
    targets: np.ndarray  # [size] or [size, k]
    weights: np.ndarray
    outputs: SourceOutputs | None
    start: int  # which row of all is the first
    rows: int  # how many are rows


class LabelCounts(NamedTuple):
    """What the labels alone say."""

    num_classes: int | None  # None for regression
    num_targets: int | None
    counts: np.ndarray | None  # [C] weights of the classes


class _Piece(NamedTuple):
    features: Any
    targets: np.ndarray
    weights: np.ndarray

    def cut(self, start: int, most: int) -> _Piece:
        return _Piece(*(part[start : start + most] for part in self))


class Blocks:
    """The rows of a source, with their own targets or others, as often as wanted.

    Attributes:
        width: d; 0 until the first block.
        rows: n, once known.
        labels: what they say, once known.
        unit: power of two that features are divided by before anything is squared, once known.
    """

    def __init__(
        self,
        source: Source,
        targets: np.ndarray | None,
        weights: np.ndarray | None,
        outputs: SourceOutputs | None,
        *,
        num_classes: int | None,
        dtype: np.dtype[Any],
        memory_limit: int,
        reading: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.source, self.targets, self.weights = source, targets, weights
        self.outputs = outputs
        self.num_classes, self.dtype, self.limit = num_classes, dtype, memory_limit
        self.reading = reading
        self.width = source.width or 0
        self.rows = source.rows if targets is None else len(targets)
        self.labels: LabelCounts | None = None
        self.unit: Any = None
        self.numbers = ClassNumbers(num_classes)
        self._first: np.ndarray | None = None
        if weights is not None:
            checks.check_weights(weights, self.rows)
        if targets is not None:
            self.labels = _read_labels(targets, weights, num_classes)

    @property
    def padded(self) -> int:
        """Columns of a block."""
        return width_of(self.width)

    def unit_of(self, block: Block) -> Any:
        """The unit, of the first block: later ones are seen too late for it."""
        if self.unit is None:
            self.unit = _unit_of(block.features, block.weights)
        return self.unit

    def all_targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets and weights of all rows, once the blocks are known; read where they go along."""
        if self.targets is not None and self.labels is not None:
            weights = np.ones(len(self.targets)) if self.weights is None else self.weights
            targets = checked(self.targets, weights, self.labels, self.dtype, batch=0)
            return targets, weights.astype(self.dtype)
        pieces = [(one.targets[: one.rows], one.weights[: one.rows]) for one in self]
        targets, weights = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return targets, weights

    def survey(self, seen: Callable[[int], None]) -> None:
        """Find the number of classes in a pass over labels that come with batches, if need be."""
        if self.labels is not None or self.num_classes is not None or not self.source.reiterable:
            return
        counts, rows = np.zeros(0), 0
        for index, features, labels in self._read():
            weights = _part(self.weights, rows, len(features), "weights")
            numbers = self._numbers(labels, weights, index, rows)
            if not checks.is_classification(numbers):
                return  # regression: the first batch says all
            more = np.bincount(numbers, weights, len(self.numbers.classes))
            counts = np.pad(counts, (0, len(more) - len(counts))) + more
            rows += len(features)
            seen(rows)
        if rows:
            counts = counts[self.numbers.sort(rows, "labels")]
            self.labels, self.rows = LabelCounts(len(counts), None, counts), rows

    def _numbers(
        self, labels: Any, weights: np.ndarray | None, index: int, start: int
    ) -> np.ndarray:
        """Class numbers or float targets of labels that came with a batch."""
        what = f"batch {index}: labels"
        if labels is None:
            raise InputError(
                f"batch {index} comes without labels: give targets, or batches of (features, "
                "labels)"
            )
        clean = as_labels(
            labels, what, num_classes=self.num_classes, weights=weights, keep=True, whole=False
        )
        if clean.classes is None:
            return clean.values
        return self.numbers.of(
            clean, what, start, new=self.labels is None or not self.source.reiterable
        )

    def __iter__(self) -> Iterator[Block]:
        """One pass."""
        pieces: list[_Piece] = []
        count = start = size = 0
        for piece in self._pieces():
            size = size or self._size()
            at = 0
            while at < len(piece.targets):
                pieces.append(piece.cut(at, size - count))
                count, at = count + len(pieces[-1].targets), at + len(pieces[-1].targets)
                if count == size:
                    yield self._block(pieces, size, start)
                    pieces, count, start = [], 0, start + size
        if count:
            # a stream shorter than a block need not be filled up to one
            yield self._block(pieces, size if start else max(16, _power_above(count)), start)

    def _size(self) -> int:
        most = self.limit // (_COPIES * self.padded * self.dtype.itemsize)
        wanted = _ROWS if platform_of() == "cpu" else _MANY_ROWS
        if self.labels is not None and self.labels.num_classes is not None:
            wanted = max(wanted, _power_above(_PER_CLASS * self.labels.num_classes))
        return min(wanted, max(64, _power_above(most + 1) // 2))

    def _block(self, parts: Sequence[_Piece], size: int, start: int) -> Block:
        first = parts[0]
        rows = sum(len(part.targets) for part in parts)
        features: Any = first.features
        if not (isinstance(features, jax.Array) and len(features) == size):
            dtype = features.dtype  # half the bytes to move, if the device promotes them
            if (
                dtype.itemsize > 4
                or dtype.kind in "biu"
                or any(part.features.dtype != dtype for part in parts)
            ):
                dtype = self.dtype
            # an array of its own: the device may still be reading the one before
            features = np.zeros((size, self.padded), dtype)
            at = 0
            for part in parts:
                features[at : at + len(part.targets), : self.width] = part.features
                at += len(part.targets)
        targets = np.zeros((size, *first.targets.shape[1:]), first.targets.dtype)
        targets[:rows] = np.concatenate([part.targets for part in parts])
        weights = np.zeros(size, self.dtype)
        weights[:rows] = np.concatenate([part.weights for part in parts])
        return Block(features, targets, weights, self._outputs(start, rows, size), start, rows)

    def _outputs(self, start: int, rows: int, size: int) -> SourceOutputs | None:
        """Those of the rows of a block."""

        def filled(values: Any) -> np.ndarray:
            part = np.zeros((size, values.shape[1]), self.dtype)
            own = _part(values, start, rows, "the outputs")
            part[:rows] = own
            return part

        return jax.tree.map(filled, self.outputs)

    def _read(self) -> Iterator[tuple[int, Any, Any]]:
        """Numbered batches, made in the caller's own precision; what fails there is named."""
        pieces = self.source.read(self._size() if self.width else _ROWS)
        index = 0
        while True:
            try:
                with self.reading():
                    features, labels = next(pieces)
                    features = as_features(features, f"features of batch {index}")
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"batch {index} could not be read: {said(error)}") from error
            yield index, features, labels
            index += 1

    def _pieces(self) -> Iterator[_Piece]:
        """Checked batches with their targets and weights."""
        seen = 0
        for index, features, labels in self._read():
            rows, d = features.shape
            if self.width not in (0, d):
                raise InputError(f"batch {index} has {d} columns, others have {self.width}")
            self.width = d
            weights = _part(self.weights, seen, rows, "weights")
            own: Any
            if self.targets is None:
                own = self._numbers(labels, weights, index, seen)
            elif labels is not None:
                raise InputError(
                    "labels come with the batches and in targets, too: give them only once"
                )
            else:
                own = _part(self.targets, seen, rows, "targets")
                if seen == 0:
                    self._check_order(features)
            w = np.ones(rows) if weights is None else weights
            if self.labels is None:
                self.labels = self._first_labels(own)
            targets = checked(own, w, self.labels, self.dtype, batch=index)
            yield _Piece(features, targets, w)
            seen += rows
        if seen == 0:
            raise InputError("there are no batches: was the iterator used up before?")
        if self.rows is not None and seen < self.rows:
            what = "the pass before had" if self.targets is None else "targets have"
            raise InputError(f"the batches end after {seen} rows, but {what} {self.rows}")
        if self.outputs is not None and len(self.outputs.values) != seen:
            kind, count = self.outputs.kind, len(self.outputs.values)
            raise InputError(f"the batches end after {seen} rows, but {kind} have {count}")
        self.rows = seen

    def _first_labels(self, labels: np.ndarray) -> LabelCounts:
        if not checks.is_classification(labels):
            return _read_labels(labels, None, None)
        if self.num_classes is None:
            raise InputError(
                "the labels come with batches that can be had only once: say how many classes "
                "there are (num_classes=...)"
            )
        return LabelCounts(self.num_classes, None, None)

    def _check_order(self, features: Any) -> None:
        """Labels apart from the features need rows that come in the same order every time."""
        begin = np.asarray(features[:8]).astype(np.float64)
        before, self._first = self._first, begin
        if before is None:
            return
        rows = min(len(begin), len(before))
        begin, before = begin[:rows], before[:rows]
        near = 0.02 * np.abs(before[np.isfinite(before)]).max(initial=0)
        if not np.allclose(begin, before, 0, near, equal_nan=True):
            raise InputError(
                "the batches come in another order the second time, so that targets do not "
                "belong to them: do not shuffle, or give batches of (features, labels)"
            )


def check_finite(done: tuple[Any, Block] | None) -> None:
    """Raise `InputError` if a block that was passed over has a row that is not finite."""
    if done is not None and (row := int(done[0])) >= 0:
        raise InputError(
            f"features contain NaN or infinity, first in row {done[1].start + row}: fix the "
            "model's output or give those rows weight 0"
        )


@jax.jit
def _unit_of(features: Any, weights: Any) -> Any:
    return unit_of(features.astype(weights.dtype), weights)


def width_of(d: int) -> int:
    """The padded width of d columns: the next 2^i or 3 * 2^i, at least 16.

    Two sizes per octave keep the shapes few and the padding below a half.
    """
    octave = 2 ** max(4, math.ceil(math.log2(d)))
    return octave * 3 // 4 if d <= octave * 3 // 4 and octave > 16 else octave


def _power_above(count: int) -> int:
    """The least power of 2 that is not below."""
    return 1 << max(0, count - 1).bit_length()


def _part(whole: np.ndarray | None, start: int, rows: int, what: str) -> np.ndarray | None:
    if whole is None:
        return None
    if start + rows > len(whole):
        raise InputError(f"the batches hold more than the {len(whole)} rows that {what} have")
    return whole[start : start + rows]


def checked(
    own: np.ndarray, w: np.ndarray, labels: LabelCounts, dtype: np.dtype[Any], *, batch: int
) -> np.ndarray:
    """Class numbers as int32 or targets [b, k]; what rows of weight 0 hold is blanked."""
    if checks.is_classification(own) != (labels.num_classes is not None):
        raise InputError(f"batch {batch} has labels of type {own.dtype}, unlike the first")
    if labels.num_classes is not None:
        return np.where(w > 0, own, 0).astype(np.int32)
    targets = np.asarray(own, dtype).reshape(len(own), -1)
    if targets.shape[1] != labels.num_targets:
        raise InputError(f"batch {batch} has {targets.shape[1]} targets, not {labels.num_targets}")
    return np.where((w > 0)[:, None], targets, 0)


def _read_labels(
    labels: np.ndarray, weights: np.ndarray | None, num_classes: int | None
) -> LabelCounts:
    """Of all labels, clean."""
    if checks.is_classification(labels):
        counts = class_counts(labels, weights, num_classes or 1 + int(labels.max()))
        return LabelCounts(len(counts), None, counts)
    return LabelCounts(None, int(np.prod(labels.shape[1:], dtype=int)), None)
