"""Files that users name: checked before they are read, never unpickled; an error names the file."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 10_000  # bytes, as NumPy has it: a longer one is not safe to parse
_BLOCK = 1 << 24  # bytes that are unpacked at once
_SHOWN = 100  # characters of a reader's message


@contextmanager
def reading(path: Path, kind: str = "NumPy file") -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes an `InputError` that names the file.

    Damaged files make their readers raise anything. A pipe or device is refused unopened, because
    reading it might never end.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path.name} is a directory: a file is needed")
        if not stat.S_ISREG(mode):
            raise InputError(f"{path.name} is a pipe, socket or device: a file is needed")
        yield
    except (InputError, ImportError):
        raise
    except Exception as error:
        raise _unreadable(path, kind, error) from error


def read_bytes(path: Path, kind: str) -> bytes:
    """All of a file."""
    with reading(path, kind):
        return path.read_bytes()


def read_json(path: Path, advice: str) -> Any:
    """What a JSON file holds; ``advice`` is what to do where it cannot be read."""
    try:
        return json.loads(read_bytes(path, "JSON"))
    except (ValueError, RecursionError) as error:  # an InputError among them
        raise InputError(f"{path} cannot be read ({error}): {advice}") from error


def listing(directory: Path) -> list[Path]:
    """What a directory holds, sorted, without hidden files."""
    try:
        return sorted(file for file in directory.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise InputError(f"{directory} cannot be read ({error.strerror})") from error


def check_memory(size: int, where: str) -> None:
    """Raise `InputError` for bytes that this machine cannot hold, before it is tried."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # this system does not say
        return
    if size > memory:
        raise InputError(
            f"{where} takes {size / 1e9:.1f} GB of memory, of which there are {memory / 1e9:.1f}: "
            "save it as .npy, which is read in pieces"
        )


def _unreadable(path: Path, kind: str, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{path.name} may not be read: check its permissions")
    if isinstance(error, FileNotFoundError):
        state = "is a link to nothing" if path.is_symlink() else "does not exist"
        return InputError(f"{path} {state}")
    if isinstance(error, OSError) and error.errno is not None:
        return InputError(f"{path.name} cannot be read ({error.strerror})")
    reason = " ".join(str(error.args[0] if error.args else "").split()) or type(error).__name__
    reason = reason if len(reason) <= _SHOWN else reason[:_SHOWN] + "..."
    return InputError(f"{path.name} is truncated or no {kind} ({reason}): write it again")


class _Header(NamedTuple):
    """What an .npy file says of itself, and where its numbers begin."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype
    start: int

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_npy(path: Path, what: str) -> np.ndarray:
    """One numeric array, memory-mapped; never unpickles."""
    with reading(path), path.open("rb") as stream:
        if stream.read(2) == b"PK":
            raise InputError(f"{path.name} is an .npz archive by its content: rename it to .npz")
        stream.seek(0)
        header = _header(stream, path.stat().st_size, path.name, what)
        array: np.ndarray
        if header.size:
            array = np.memmap(path, header.dtype, "r", header.start, header.shape, header.order)
        else:  # nothing cannot be mapped
            array = np.empty(header.shape, header.dtype)
        return numeric(array, path.name, what)


def npz_arrays(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the wanted arrays that an archive of features holds; never unpickles."""
    with reading(path), path.open("rb") as stream:
        if stream.read(len(_MAGIC)) == _MAGIC:
            raise InputError(f"{path.name} is a plain .npy by its content: rename it to .npy")
        with zipfile.ZipFile(stream) as archive:
            members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
            if "features" not in members:
                keys = ", ".join(list(members)[:8]) or "nothing"
                raise InputError(f"{path.name} holds {keys}: it needs features and labels")
            return {
                name: _unpacked(archive, members[name], path.name, name)
                for name in wanted
                if name in members
            }


def _unpacked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str, what: str
) -> np.ndarray:
    """An array of an archive; memory grows with what is there, not with what is claimed."""
    if member.flag_bits & 1:
        raise ValueError(f"{what} are encrypted")
    with archive.open(member) as stream:
        header = _header(stream, member.file_size, where, what)
        check_memory(header.size, where)
        content = bytearray()
        while len(content) < header.size:
            block = stream.read(min(_BLOCK, header.size - len(content)))
            if not block:
                raise ValueError(f"{what} end after {len(content)} bytes")
            content += block
        stream.read()  # which compares the checksum
    array = np.frombuffer(content, header.dtype).reshape(header.shape, order=header.order)
    return numeric(array, where, what)


def _header(stream: IO[bytes], size: int, where: str, what: str) -> _Header:
    """The header of an array in a file of so many bytes, which must be all of it."""
    start = stream.read(10)
    if start[:1] == b"\x80":  # as a pickle begins
        raise _pickled(where)
    if start[:6] != _MAGIC:
        raise ValueError("it does not begin as one")
    start += stream.read(2) if start[6] > 1 else b""
    length = int.from_bytes(start[8:], "little")
    if length > _HEADER_LIMIT:
        raise ValueError(f"a header of {length} bytes")
    text = io.BytesIO(start + stream.read(length))
    version = np.lib.format.read_magic(text)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(text)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(text)
    if dtype.hasobject:
        raise _pickled(where)
    _check_type(dtype, where, what)
    header = _Header(shape, "F" if fortran else "C", dtype, len(start) + length)
    there = size - header.start
    if min(shape, default=0) < 0 or header.size != there:
        sizes = " x ".join(map(str, shape))
        raise ValueError(f"its header says {sizes} {dtype}, which are not the {there} bytes there")
    return header


def _pickled(where: str) -> InputError:
    return InputError(
        f"{where} holds pickled objects, which are refused because loading them can run code: "
        "save plain numeric arrays"
    )


def numeric(array: np.ndarray, where: str, what: str) -> np.ndarray:
    """The array as numbers; the two opaque bytes that NumPy stores for bfloat16 become it again."""
    _check_type(array.dtype, where, what)
    if array.dtype == np.dtype("V2"):
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    if array.dtype.kind == "U" and array.size:
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        if native.view(np.uint32).max() > sys.maxunicode:
            raise InputError(f"{where} holds {what} that are no texts: write it again")
    return array


def _check_type(dtype: np.dtype, where: str, what: str) -> None:
    """Numbers, and of labels also texts, which are names of classes."""
    allowed = "biufUS" if what == "labels" else "biuf"
    if dtype.kind not in allowed and dtype != np.dtype("V2"):
        raise InputError(
            f"{where} holds {what} of type {str(dtype)[:_SHOWN]}: save them as "
            + ("numbers" if what != "labels" else "integers (classes) or floats (regression)")
        )


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


def replace(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file in one step: after a crash or power loss there is the old or the new."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # a link would be written through
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with part.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)
    sync_directory(path.parent)


def lock(file: Path) -> Any:
    """The lock of a file, which dies with its process; None where another has it."""
    from filelock import FileLock, Timeout

    file_lock = FileLock(str(file), timeout=0, thread_local=False)  # any thread may release it
    try:
        file_lock.acquire()
    except Timeout:
        return None
    return file_lock


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
