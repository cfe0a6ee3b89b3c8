"""Labels of any form to the labels of a task: which task, which classes, and one value per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from jaxte.data.dataset import TASKS
from jaxte.errors import InputError
from jaxte.intake import check_classes, class_names, clean_labels, is_array, number_classes
from jaxte.intake.checks import choose

IGNORE = {"tokens": -100, "segmentation": 255}  # what PyTorch and the label maps of VOC use


class LabelSpec(NamedTuple):
    """What is said of the labels beforehand; None or empty is concluded from the labels."""

    where: str  # names the labels in messages
    task: str | None = None
    names: tuple[str, ...] | None = None
    number: int | None = None  # C, said alone or by the names
    ignore: int | None = None
    ids: bool = False  # whether lists hold class ids rather than rows of 0 and 1
    rows: Sequence[int] | None = None  # the number of each row in messages, if not 0, 1, ...

    def row(self, place: int | np.integer[Any]) -> str:
        """How messages name the row of a value."""
        return f"{self.where}: row {place if self.rows is None else self.rows[int(place)]}"

    def flat(self, lengths: Sequence[int]) -> LabelSpec:
        """The same for the elements of all rows, one after the other."""
        rows = range(len(lengths)) if self.rows is None else self.rows
        return self._replace(rows=np.repeat(np.asarray(rows), lengths).tolist())

    def of_task(self, task: str | None) -> LabelSpec:
        """The same with a task, and what it ignores unless that is said."""
        ignore = IGNORE.get(task or "") if self.ignore is None else self.ignore
        return self._replace(task=task, ignore=ignore)


@dataclass(frozen=True)
class Targets:
    """The labels of a data set: ``values[row]`` is a row's label; an array where that is cheap."""

    task: str
    values: np.ndarray | Sequence[Any]
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    ignore: int | None = None


class Lazy(Sequence[Any]):
    """A label per row, made when it is asked for."""

    def __init__(self, rows: int, make: Callable[[int], Any]) -> None:
        self._rows, self._make = rows, make

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: Any) -> Any:
        return self._make(row)


def label_spec(
    where: str,
    *,
    task: str | None = None,
    classes: int | Sequence[str] | None = None,
    ignore: int | None = None,
) -> LabelSpec:
    """`LabelSpec` from a user's options, checked."""
    if task is not None:
        choose("task", task, TASKS)
    if ignore is not None and task not in (None, *IGNORE):
        raise InputError(f"ignore is for tokens and segmentation: the task is {task}")
    if isinstance(classes, int):
        if classes < 1:
            raise InputError(f"classes is {classes}: at least 1 is needed")
        return LabelSpec(where, task, None, classes, ignore)
    names = None if classes is None else tuple(classes)
    if names is not None and len(set(names)) < len(names):
        raise InputError(f"classes of {where} are named twice: {', '.join(names)}")
    return LabelSpec(where, task, names, None if names is None else len(names), ignore)


def make(values: Any, spec: LabelSpec, *, words: bool = False) -> Targets:
    """The targets of all rows: of numbers, texts, or for each row a list of them or an array.

    ``words``: whether the examples are lists of words, so that lists are labels of words.
    """
    values = _plain(values, spec)
    task = spec.task or _infer(values, spec, words)
    spec = spec.of_task(task)
    return Targets(task, *_MAKERS[task](values, spec), spec.ignore)


def _plain(values: Any, spec: LabelSpec) -> np.ndarray | list[Any]:
    """An array where the labels are one, else a list without gaps."""
    listed = not is_array(values) or values.dtype == np.object_
    if listed:
        values = list(values)
        for row, value in enumerate(values):
            if value is None:
                raise InputError(f"{spec.row(row)} has no label: leave that row out")
    if len(values) == 0:
        raise InputError(f"{spec.where} holds no rows")
    if listed and np.ndim(values[0]) > 0:
        return values
    return clean_labels(values, spec.where, row=spec.row)


def _infer(values: Any, spec: LabelSpec, words: bool) -> str:
    if isinstance(values, np.ndarray):
        if values.ndim == 1:
            return "regression" if values.dtype.kind == "f" else "classification"
        if words:
            return "tokens"
        if values.ndim != 2:
            return "segmentation"
        if values.shape[1] == 1 and values.dtype.kind != "f":
            return "classification"
        hot = values.dtype.kind != "U" and np.isin(values, (0, 1)).all()
        if not hot and values.dtype.kind in "iu":
            raise InputError(
                f"{spec.where} has labels that are integers of shape {list(values.shape)}: give "
                "one class for each row, rows of 0 and 1, or floats or task='regression'"
            )
        return "multilabel" if hot else "regression"
    if words:
        return "tokens"
    if np.ndim(values[0]) > 1:
        return "segmentation"
    numbers = not any(isinstance(value, str) for value in chain.from_iterable(values))
    if numbers and len({len(value) for value in values}) == 1:
        return _infer(np.asarray(values), spec, words)
    return "multilabel"


_Made = tuple[Any, int | None, tuple[str, ...] | None]  # values, number of classes, names


def _classification(values: Any, spec: LabelSpec) -> _Made:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"{spec.where} has labels of shape {array.shape}: one class per row")
    if array.dtype.kind == "f":
        if (broken := ~(array == np.floor(array))).any():
            row = int(np.flatnonzero(broken)[0])
            raise InputError(f"{spec.row(row)} has label {array[row]}, which is no class")
        array = array.astype(np.int64)
    if array.dtype.kind == "U" and spec.names is not None:
        return _ids(array, spec.names, spec), spec.number, spec.names
    if array.dtype.kind != "U" and spec.number is not None:
        _check_range(array.astype(np.int64), spec)
        return array.astype(np.int32), spec.number, spec.names
    ids, classes = number_classes(array)
    if spec.number not in (None, len(classes)):
        raise InputError(
            f"{spec.where} holds {len(classes)} classes, not {spec.number}: name all of them"
        )
    check_classes(
        classes, len(ids), spec.where, spec.number,
        lambda one: int(np.argmax(ids == one)),
    )  # fmt: skip
    return ids.astype(np.int32), len(classes), class_names(classes)


def _ids(values: np.ndarray, names: Sequence[str], spec: LabelSpec) -> np.ndarray:
    """Texts to the positions of their names."""
    positions = {name: position for position, name in enumerate(names)}
    ids = np.asarray([positions.get(value, -1) for value in values.tolist()], np.int32)
    if (ids < 0).any():
        row = int(np.argmax(ids < 0))
        raise InputError(
            f"{spec.row(row)} has label {str(values[row])!r}, which is none of the classes "
            f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        )
    return ids


def _check_range(values: np.ndarray, spec: LabelSpec) -> None:
    """Classes [n] lie in 0..C-1, or are the ignored one."""
    assert spec.number is not None
    bad = ((values < 0) | (values >= spec.number)) & (values != spec.ignore)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{spec.row(row)} has label {values[row]}, outside the {spec.number} classes, 0 to "
            f"{spec.number - 1}: leave out what has no label, or correct the classes"
        )


def _regression(values: Any, spec: LabelSpec) -> _Made:
    array = _matrix(values, spec)
    if array.dtype.kind == "U" or array.ndim > 2:
        raise InputError(
            f"{spec.where} holds labels of type {array.dtype} and shape {array.shape}: regression "
            "needs numbers, [n] or [n, k]"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        raise InputError(f"{spec.row(row)} has a label that is missing or not finite")
    return array, None, None


def _matrix(values: Any, spec: LabelSpec) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{spec.where}: the rows have different numbers of labels") from error


def _multilabel(values: Any, spec: LabelSpec) -> _Made:
    """Multi-hot rows as they are; lists of tags or class ids become them."""
    listed = isinstance(values, list)
    tags: list[Any] = list(chain.from_iterable(values)) if listed else []
    lengths = [len(value) for value in values] if listed else []
    same = len(set(lengths)) == 1 and all(tag in (0, 1) for tag in tags)
    if not listed or (same and not spec.ids):
        array = _matrix(values, spec)
        if array.ndim != 2 or array.dtype.kind == "U" or not np.isin(array, (0, 1)).all():
            raise InputError(f"{spec.where}: multilabel needs rows of 0 and 1, or lists of tags")
        if spec.number not in (None, array.shape[1]):
            raise InputError(
                f"{spec.where} has {array.shape[1]} columns, but there are {spec.number} classes"
            )
        return array.astype(np.float32), array.shape[1], spec.names
    each = spec.flat(lengths)
    if not tags and spec.number is not None:
        return np.zeros((len(values), spec.number), np.float32), spec.number, spec.names
    ids, number, names = _classification(_plain(tags, each), each._replace(ignore=None))
    array = np.zeros((len(values), number or 0), np.float32)
    array[np.repeat(np.arange(len(values)), lengths), ids] = 1
    return array, number, names


def _tokens(values: Any, spec: LabelSpec) -> _Made:
    """Tags of the words of each row; no tag (None) is ignored."""
    lengths = [len(value) for value in values]
    tags = list(chain.from_iterable(values))
    counted = np.asarray([tag is not None for tag in tags], bool)
    kept = np.asarray([tag for tag in tags if tag is not None])
    each = spec.flat(lengths)
    each = each._replace(rows=np.asarray(each.rows)[counted].tolist())
    names, number = spec.names, spec.number or 0
    if kept.dtype.kind == "U":
        names = names or tuple(np.unique(kept).tolist())
        kept, number = _ids(kept, names, each), len(names)
    elif len(kept):
        if kept.dtype.kind not in "iu":
            raise InputError(f"{spec.where} holds tags of type {kept.dtype}: give classes")
        number = number or int(kept[kept != spec.ignore].max(initial=0)) + 1
        _check_range(kept, each._replace(number=number))
    ids = np.full(len(tags), spec.ignore, np.int32)
    ids[counted] = kept
    return np.split(ids, np.cumsum(lengths)[:-1]), number, names


def _segmentation(values: Any, spec: LabelSpec) -> _Made:
    maps = [check_map(np.asarray(value), spec, row) for row, value in enumerate(values)]
    highest = max(int(one[one != spec.ignore].max(initial=0)) for one in maps)
    return maps, spec.number or highest + 1, spec.names


def check_map(label: np.ndarray, spec: LabelSpec, row: int) -> np.ndarray:
    """One label map [h, w] of integer classes, checked against the ``spec``."""
    if label.ndim == 3 and label.shape[-1] == 1:
        label = label[..., 0]
    if label.ndim != 2 or label.dtype.kind not in "iu":
        raise InputError(
            f"{spec.row(row)} is of type {label.dtype} and shape {label.shape}, no label map "
            "[h, w] of integer classes"
        )
    bad = (label < 0) & (label != spec.ignore)
    if spec.number is not None:
        bad |= (label >= spec.number) & (label != spec.ignore)
    if bad.any():
        last = "" if spec.number is None else f" to {spec.number - 1}"
        raise InputError(
            f"{spec.row(row)} has label {label[bad][0]}, which is neither a class (0{last}) nor "
            f"the ignored one, {spec.ignore}: correct classes= or ignore="
        )
    return label


_MAKERS: Mapping[str, Callable[[Any, LabelSpec], _Made]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
    "tokens": _tokens,
    "segmentation": _segmentation,
}
