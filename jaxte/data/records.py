"""Data sets whose examples are read one by one: of arrays, .npz files, folders, and the zoo."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.data import _digests, _targets, images
from jaxte.data._columns import Request
from jaxte.data._targets import LabelSpec, Targets
from jaxte.data.dataset import Dataset
from jaxte.errors import InputError
from jaxte.intake.arrays import as_array, is_array
from jaxte.intake.checks import choose
from jaxte.intake.sources import natural

__all__ = ["Records", "arrays", "card", "check_files", "check_words", "folder", "npz", "zoo_target"]


class Records(Dataset):
    """Examples from a function of the row, labels from `Targets`."""

    def __init__(
        self, name: str, example: Callable[[int], Any], targets: Targets, card: dict[str, Any]
    ) -> None:
        self._example, self._targets = example, targets
        self.name, self.task, self.card = name, targets.task, card
        self.num_classes, self.class_names = targets.num_classes, targets.class_names
        self.ignore = targets.ignore

    def __len__(self) -> int:
        return len(self._targets.values)

    def read(self, row: int) -> tuple[Any, Any]:
        """Example and label of a row."""
        return self._example(row), self.label(row)

    def label(self, row: int) -> Any:
        """The label of a row."""
        value = self._targets.values[row]
        return int(value) if self.task == "classification" else value

    def labels(self) -> np.ndarray | None:
        """All labels, where they are one array."""
        values = self._targets.values
        return values if isinstance(values, np.ndarray) else super().labels()


def card(name: str, targets: Targets, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a data set, its ``facts`` included; what is None is left out."""
    names = targets.class_names
    entries = {
        "name": name,
        **facts,
        "task": targets.task,
        "rows": len(targets.values),
        "num_classes": targets.num_classes,
        "class_names": None if names is None else list(names),
        "ignore": targets.ignore,
    }
    if isinstance(targets.values, np.ndarray | list):
        entries["labels"] = _digests.of_values(targets.values)
    return {key: value for key, value in entries.items() if value is not None}


def arrays(
    inputs: Any, labels: Any, spec: LabelSpec, name: str, facts: Mapping[str, Any]
) -> Records:
    """Examples and labels in memory; ``facts`` say where they come from."""
    if not isinstance(inputs, Sequence) or isinstance(inputs, str):
        inputs = np.asarray(as_array(inputs, f"{name}: inputs"))
        if inputs.ndim == 0:
            raise InputError(
                f"{name}: inputs are a single {inputs.dtype}: give an array with one row per "
                "example, or a list of texts, of lists of words or of arrays"
            )
        inputs = list(inputs) if inputs.dtype == np.object_ else inputs
    if not isinstance(labels, np.ndarray | Sequence):
        labels = np.asarray(as_array(labels, spec.where))
    if getattr(labels, "ndim", 1) == 0:
        raise InputError(f"{name} has a single label: one for each example is needed")
    if len(inputs) != len(labels):
        raise InputError(
            f"{name} has {len(inputs)} examples but {len(labels)} labels: one each is needed"
        )
    words = isinstance(inputs, Sequence) and len(inputs) > 0 and _is_words(inputs[0])
    targets = _targets.make(labels, spec, words=words)
    if targets.task == "tokens":
        check_words(list(map(len, inputs)), targets, spec)
    if not isinstance(inputs, np.ndarray):
        inputs = [
            images.of_pillow(value, f"example {row}")
            if images.is_pillow(value)
            else np.asarray(as_array(value, f"example {row}"))
            if is_array(value)
            else value
            for row, value in enumerate(inputs)
        ]
    facts = {**facts, "inputs": _digests.of_values(inputs)}
    return Records(name, lambda row: _example(inputs[row]), targets, card(name, targets, facts))


def _is_words(example: Any) -> bool:
    return isinstance(example, list | tuple) and all(isinstance(word, str) for word in example)


def _example(value: Any) -> Any:
    """One example of an array or list; images get a channel axis, NumPy's texts become str."""
    if isinstance(value, str):
        return str(value)
    if _is_words(value):
        return list(value)
    array = np.asarray(value)
    return array[..., None] if array.ndim == 2 and array.dtype == np.uint8 else array


def check_words(lengths: Sequence[int], targets: Targets, spec: LabelSpec) -> None:
    """Raise `InputError` unless each row has as many tags as words."""
    for row, (words, tags) in enumerate(zip(lengths, targets.values, strict=True)):
        if words != len(tags):
            raise InputError(f"{spec.row(row)} has {words} words but {len(tags)} tags")


def npz(file: str, request: Request) -> Records:
    """Two arrays of an .npz file, by their names or those that are usual; never unpickled."""
    path = Path(file)
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError(f"{path} holds one array: inputs and labels are needed, as .npz")
            chosen = request.columns.choose(dict.fromkeys(archive.files, ""), request.name)
            inputs, *labels = (archive[key] for key in (chosen.input, *chosen.labels))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read ({error}): write plain arrays with numpy.savez"
        ) from error
    several = labels if len(labels) > 1 else []
    if odd := {np.shape(one) for one in several} - {np.shape(inputs)[:1]}:
        raise InputError(f"{path}: labels have shape {min(odd)}, for {len(inputs)} rows of inputs")
    values = labels[0] if len(labels) == 1 else np.stack(labels, axis=1)
    facts = {"source": "npz", "name": path.name, "columns": chosen.card()}
    return arrays(inputs, values, request.labels, request.name, facts)


_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def folder(where: str, request: Request) -> Records:
    """Images below ``where/<class>/``, classes in the order of their names, files in natural order.

    Hidden files and folders, and files that are no images by their ending, are passed over.
    """
    root = Path(where)
    if not root.is_dir():
        raise InputError(f"{root} is no directory")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))
    if not folders:
        raise InputError(f"{root} holds no folders: there must be one for each class")
    by_class = {path: _images_below(path) for path in folders}
    for path, of_class in by_class.items():
        if not of_class:
            raise InputError(f"{path} holds no images: remove the folder, or fill it")
    if len(folders) > 1 and {path.name.lower() for path in folders} <= _SPLITS:
        shown = ", ".join(path.name for path in folders)
        raise InputError(f"{root} holds parts of a data set ({shown}): name one, {folders[0]}")
    files = [file for of_class in by_class.values() for file in of_class]
    if not request.skip:
        check_files(files)
    names = tuple(path.name for path in folders)
    classes = np.repeat(names, [len(of_class) for of_class in by_class.values()])
    labels = request.labels
    if labels.names is None:
        labels = labels._replace(names=names, number=len(names))
    targets = _targets.make(classes, labels)
    facts = {"source": "folder", "files": _digests.of_files(files, root)}

    def example(row: int) -> np.ndarray:
        return images.decode(files[row], str(files[row]))

    return Records(request.name, example, targets, card(root.name, targets, facts))


def check_files(files: Sequence[Path]) -> None:
    """Raise `InputError` that names files which do not exist or are empty."""
    broken = [file for file in files if not (file.is_file() and file.stat().st_size)]
    if broken:
        named = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        raise InputError(
            f"{len(broken)} image files do not exist or are empty: {named}: remove or replace "
            "them, or load and extract with on_error='skip' (--skip-damaged)"
        )


def _images_below(root: Path) -> list[Path]:
    files = []
    for directory, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if not _hidden(name)]
        visible = (Path(directory, name) for name in names if not _hidden(name))
        files += [file for file in visible if file.suffix.lower() in images.SUFFIXES]
    return sorted(files, key=lambda f: [natural(Path(part)) for part in f.relative_to(root).parts])


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def zoo_target(where: str, request: Request) -> Records:
    """The train or test part of a target set of the zoo."""
    from jaxte import zoo

    target, _, split = where.partition("/")
    split = choose("part of a zoo target", split or "train", ("train", "test"))
    loaded = zoo.load_target(target)
    inputs, labels = (getattr(loaded, f"{split}_{what}") for what in ("images", "labels"))
    spec = request.labels._replace(names=loaded.class_names, number=len(loaded.class_names))
    facts = {"source": "zoo", "name": target, "split": split, "licence": loaded.licence}
    return arrays(inputs, labels, spec, request.name, facts)
