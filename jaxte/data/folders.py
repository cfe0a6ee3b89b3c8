"""Images in folders, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxte.data import _digests, _targets, images
from jaxte.data._columns import Request
from jaxte.data.records import Records, card
from jaxte.errors import InputError
from jaxte.intake.sources import natural

__all__ = ["check_files", "folder"]


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
