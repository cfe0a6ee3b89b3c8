"""Checksums that tell whether data are still the same data."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SMALL = 256 << 20  # bytes up to which data are read for their checksum alone


def of_values(values: Iterable[Any]) -> str:
    """CRC-32 of arrays, texts, bytes or lists of texts; the same on every machine."""
    crc = 0
    for value in (values,) if isinstance(values, np.ndarray) else values:
        if isinstance(value, str | bytes):
            text = value.encode(errors="surrogatepass") if isinstance(value, str) else value
            crc = zlib.crc32(text + b"\0", crc)
            continue
        array = np.asarray(value)
        crc = zlib.crc32(f"{array.dtype.kind}{array.shape}".encode(), crc)
        if array.dtype.kind == "U":
            crc = zlib.crc32("\0".join(array.ravel().tolist()).encode(), crc)
        else:
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            crc = zlib.crc32(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data, crc)
    return f"crc32:{crc:08x}"


def of_files(files: Sequence[Path], root: Path) -> dict[str, Any]:
    """Number, size and SHA-256 of files: of names and sizes, and of contents up to 256 MiB in all.

    Names are those below ``root``, so that a directory may be moved.
    """
    sizes = [file.stat().st_size if file.is_file() else -1 for file in files]
    read = sum(sizes) <= SMALL
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        name = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        digest.update(f"{name.as_posix()}\0{size}\0".encode(errors="surrogateescape"))
        if read and size > 0:
            with file.open("rb") as stream:
                while part := stream.read(1 << 20):
                    digest.update(part)
    return {
        "number": len(files),
        "bytes": sum(size for size in sizes if size > 0),
        "digest": f"sha256:{digest.hexdigest()}",
        "of": "names, sizes and contents" if read else "names and sizes",
    }
