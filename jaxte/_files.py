"""Arrays in files, read without ever unpickling; what cannot be used says why."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxte._inputs import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# What NumPy raises on files that are cut short, damaged or something else altogether.
_READ_ERRORS = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def load_npy(path: Path, what: str) -> np.ndarray:
    """One numeric array, memory-mapped; never unpickles."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise InputError(f"{path.name} is an .npz archive by its content: rename it to .npz")
    return numeric(loaded, path.name, what)


def load_npz(
    path: Path, *, features: bool = True, labels: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The features and, where the archive has them, the labels; None for what is not wanted."""
    wanted = [name for name, want in (("features", features), ("labels", labels)) if want]
    found = npz_arrays(path, wanted)
    x, y = found.get("features"), found.get("labels")
    return (
        None if x is None else numeric(x, path.name, "features"),
        None if y is None else numeric(y, path.name, "labels"),
    )


def npz_arrays(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the wanted arrays that an archive of features holds; never unpickles."""
    try:
        # Opened here, because NumPy leaves the file open when the archive turns out damaged.
        with path.open("rb") as stream:
            archive: Any = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError(f"{path.name} is a plain .npy by its content: rename it to .npy")
            if "features" not in archive.files:
                keys = ", ".join(archive.files) or "nothing"
                raise InputError(f"{path.name} holds {keys}: it needs features and labels")
            return {name: archive[name] for name in wanted if name in archive.files}
    except InputError:
        raise
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error


def check_matrix(features: np.ndarray, where: str) -> None:
    """Raise `InputError` unless features are a matrix with something in it."""
    if features.ndim != 2:
        raise InputError(
            f"{where} holds features of shape {list(features.shape)}, not [n, d]: "
            "pool or flatten them to one row per image"
        )
    if features.size == 0:
        raise InputError(f"{where} is empty, of shape {list(features.shape)}")


def check_labels(labels: np.ndarray, where: str, rows: int, beside: str) -> None:
    """Raise `InputError` unless there is one label, or one row of targets, for each row."""
    if labels.ndim not in (1, 2):
        raise InputError(f"{where} holds labels of shape {list(labels.shape)}, not [n] or [n, k]")
    if rows != len(labels):
        raise InputError(
            f"{beside} has {rows} rows but {where} {len(labels)} labels: save one label per row"
        )


def replace(path: Path, text: str) -> None:
    """Write a text file in one step: after a crash or power loss there is the old or the new."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # a link would be written through
    with part.open("x", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, so that a power loss does not take them away."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names that were created or changed in a directory survive a power loss."""
    if os.name == "nt":  # directories cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{path.name} may not be read: check its permissions")
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist")
    with path.open("rb") as stream:
        start = stream.read(1)
    # NumPy suspects a pickle in whatever it does not know: 0x80 begins one, \x93 and P its own.
    suspected = any(sign in str(error) for sign in ("allow_pickle", "Python objects"))
    if suspected and start in (b"\x80", b"\x93", b"P"):
        return InputError(
            f"{path.name} holds pickled objects, which are refused because loading them can run "
            "code: save plain numeric arrays"
        )
    return InputError(f"{path.name} is truncated or no NumPy file: write it again")


def numeric(array: np.ndarray, where: str, what: str) -> np.ndarray:
    """The array as numbers; NumPy stores bfloat16 as two opaque bytes, which are given back."""
    if array.dtype == np.dtype("V2"):
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{where} holds {what} of type {array.dtype}: save them as "
            + ("numbers" if what == "features" else "integers (classes) or floats (regression)")
        )
    return array
