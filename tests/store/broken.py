"""Files that are damaged, hostile or no files at all, by what is wrong with them."""

import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Y = np.arange(40) % 3
X = (np.random.default_rng(0).normal(size=(40, 6)) + 2 * np.eye(3, 6)[Y]).astype(np.float32)


def npy(
    shape: str = "(40, 6)", descr: str = "'<f4'", *, head: bytes = b"", data: bytes = b""
) -> bytes:
    """An .npy file that says of itself what it is told to."""
    text = head or f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + (data or X.tobytes())


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytearray:
    """An archive of features and labels, or of other members instead."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in ({"features": saved(X), "labels": saved(Y)} | members).items():
            archive.writestr(f"{name}.npy", content)
    return bytearray(stream.getvalue())


def marked(offset: int, central: int, value: int, flag: bool = False) -> bytes:
    """An archive with a field of both headers of its first member changed."""
    content = npz()
    for signature, at in ((b"PK\x03\x04", offset), (b"PK\x01\x02", central)):
        place = content.find(signature) + at
        content[place] = content[place] | value if flag else value
    return bytes(content)


def flipped(content: bytearray, start: int = 90, stop: int = 110) -> bytes:
    content[start:stop] = bytes(byte ^ 0xFF for byte in content[start:stop])
    return bytes(content)


def sized(value: int) -> bytes:
    """An archive whose directory says that its first member has so many bytes."""
    content = npz()
    place = content.find(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", value)
    return bytes(content)


HUGE = 99_999_999_999_999_999_999
OBJECTS = np.array([{"a": 1}, None], dtype=object)
NPY: dict[str, bytes] = {
    "nothing": b"",
    "a text": b"model,accuracy\nx,0.5\n",
    "a header cut short": npy()[:20],
    "numbers cut short": npy()[:-4],
    "numbers too many": npy() + bytes(4),
    "an open brace": npy(head=b"{'descr': '<f4', 'fortran_order': False, 'shape': (40, 6), "),
    "an open text": npy(head=b"{'descr': '<f4, 'fortran_order': False, 'shape': (40, 6)}"),
    "no dictionary": npy(head=b"[1, 2, 3]"),
    "another key": npy(head=b"{'descr': '<f4', 'fortran_order': False, 'shap': (40, 6)}"),
    "deep brackets": npy(head=b"(" * 100),
    "negative rows": npy("(-40, 6)"),
    "negative twice": npy("(-40, -6)"),
    "10**20 rows": npy(f"({HUGE}, 1)"),
    "480 TB": npy("(20000000000000, 6)"),
    "overflow to 0": npy(f"({1 << 62}, 16)"),
    "no rows, 10**20 columns": npy(f"(0, {HUGE})"),
    "rows as a text": npy("('40', 6)"),
    "rows as a float": npy("(40.0, 6)"),
    "70 dimensions": npy(f"({'1, ' * 70})", data=bytes(4)),
    "a huge header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0) + b"{" * 200,
    "a header of 60 kB": b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b" " * 60_000,
    "another version": b"\x93NUMPY\x09\x00" + npy()[8:],
    "objects": saved(OBJECTS),
    "objects, it says": npy(descr="'|O'"),
    "a structure": npy("(40,)", "[('a', '<f4', (6,))]"),
    "huge items": npy("(40, 6)", "'<V999999999'"),
    "unknown items": npy(descr="'<q9'"),
    "dates": npy(descr="'<M8[s]'", shape="(40, 3)"),
    "complex numbers": npy("(40, 3)", "'<c8'"),
    "texts": npy("(40, 6)", "'<U1'"),
    "three dimensions": npy("(40, 3, 2)"),
    "one number": npy("()", data=bytes(4)),
    "no columns": npy("(40, 0)"),
    "an archive": bytes(npz()),
    "a pickle": b"\x80\x04K\x01.",
}
NPZ: dict[str, bytes] = {
    "nothing": b"",
    "no archive": b"PK\x03\x04 and no more",
    "cut short": bytes(npz()[:-30]),
    "cut in half": bytes(npz()[: len(npz()) // 2]),
    "encrypted": marked(6, 8, 1, flag=True),
    "an unknown method": marked(8, 10, 99),
    "a size of 4 GB": sized(0xFFFFFFF0),
    "a size of 9 bytes": sized(9),
    "damaged, stored": flipped(npz(zipfile.ZIP_STORED)),
    "damaged, deflated": flipped(npz()),
    "damaged, bzip2": flipped(npz(zipfile.ZIP_BZIP2)),
    "damaged, LZMA": flipped(npz(zipfile.ZIP_LZMA)),
    "damaged header, LZMA": flipped(npz(zipfile.ZIP_LZMA), 42, 52),
    "no features": bytes(npz(features=b"")),
    "no array": bytes(npz(features=b"features")),
    "others": bytes(npz())[:0] + bytes(npz()).replace(b"features", b"featured"),
    "48 GB": bytes(npz(features=npy("(2000000000, 6)", data=bytes(10**6)))),
    "480 TB": bytes(npz(features=npy("(20000000000000, 6)", data=bytes(10**6)))),
    "negative rows": bytes(npz(features=npy("(-40, 6)"))),
    "an open brace": bytes(npz(features=NPY["an open brace"])),
    "objects": bytes(npz(features=saved(OBJECTS))),
    "labels of objects": bytes(npz(labels=saved(OBJECTS))),
    "labels cut short": bytes(npz(labels=saved(Y)[:-4])),
    "three dimensions": bytes(npz(features=npy("(40, 3, 2)"))),
    "a plain array": npy(),
    "a pickle": b"\x80\x04K\x01.",
}


def of_safetensors(header: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + data


OTHERS: dict[str, dict[str, bytes]] = {
    "safetensors": {
        "nothing": b"",
        "a text": b"model,accuracy\n",
        "a header of 2**60 bytes": struct.pack("<Q", 1 << 60) + b"{}",
        "deep brackets": of_safetensors("[" * 20_000),
        "no rows, 10**20 columns": of_safetensors(
            f'{{"features": {{"dtype": "F32", "shape": [0, {HUGE}], "data_offsets": [0, 0]}}}}'
        ),
        "10**20 rows": of_safetensors(
            f'{{"features": {{"dtype": "F32", "shape": [{HUGE}, 1], "data_offsets": [0, 8]}}}}',
            bytes(8),
        ),
    },
    "pt": {"nothing": b"", "a text": b"model\n", "an archive of another kind": bytes(npz())},
    "parquet": {"nothing": b"", "a text": b"PAR1 and no more PAR1", "zeros": bytes(500)},
}


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def bound(path: Path) -> None:
    """A socket; its name is short because the system allows no long ones."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": bound,
    "a link to nothing": link_to_nothing,
    "a link to itself": link_to_itself,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}
