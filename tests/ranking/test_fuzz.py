"""Generated files and options: no crash, no traceback, no plausible number for garbage.

Each input follows from its number alone, so that one that fails can be made again. The short form
runs always, the long one of 10,000 inputs with ``-m long``.
"""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import jaxte
from jaxte import InputError
from jaxte.cli import app
from jaxte.intake.sources import Source
from jaxte.store import Writer, read_features

Random = np.random.Generator

Y = np.arange(24) % 3
X = (np.random.default_rng(0).normal(size=(24, 4)) + np.eye(3, 4)[Y]).astype(np.float32)
SHORT, LONG = {"files": 160, "stores": 60, "options": 60}, {"files": 7000, "stores": 2000}
LONG["options"] = 1000


def numbers(kind: str) -> Any:
    """How many inputs of a kind: a handful, and with the long tests all."""
    long = pytest.param(
        range(SHORT[kind], LONG[kind]), marks=[pytest.mark.slow, pytest.mark.long], id="long"
    )
    return pytest.mark.parametrize("indices", [pytest.param(range(SHORT[kind]), id="short"), long])


# --- files ----------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(method: int, x: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("features.npy", x)
        archive.writestr("labels.npy", npy(Y))
    return stream.getvalue()


def safetensors(header: str = "") -> bytes:
    entries = {
        "features": {"dtype": "F32", "shape": [24, 4], "data_offsets": [0, X.nbytes]},
        "labels": {"dtype": "I64", "shape": [24], "data_offsets": [X.nbytes, X.nbytes + Y.nbytes]},
    }
    text = (header or json.dumps(entries)).encode()
    return struct.pack("<Q", len(text)) + text + X.tobytes() + Y.tobytes()


def parquet() -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    pq.write_table(pa.table({"x": list(X), "label": Y}), stream)
    return stream.getvalue()


SHAPES = [
    "-24, 4",
    "24, -4",
    "-24, -4",
    f"{10**20}, 4",
    f"{1 << 62}, 4",
    "0, 4",
    "24",
    "",
    "2, 3, 4",
]
SHAPES += ["24, 4, 1", "24.0, 4", "'24', 4", "48, 2", "True, 96", "None", "[24], 4", "24, 4) + (1,"]
DTYPES = [
    "<f4",
    ">f4",
    "<f8",
    "<f2",
    "<i4",
    "|O",
    "<c8",
    "<U1",
    "|S4",
    "<M8[s]",
    "|V4",
    "<V2",
    "f4,f4",
]
DTYPES += ["", "<f", "<f999", "[('a', '<f4')]", "<f4'", "\\x00", "|b1", "<u8", "<f16"]


def claimed(random: Random) -> bytes:
    """An array whose header says something else."""
    shape, dtype = random.choice(SHAPES), random.choice([*DTYPES[:1] * 20, *DTYPES])
    text = f"{{'descr': '{dtype}', 'fortran_order': {random.choice(['False', 'True'])}, "
    text += f"'shape': ({shape}), {random.choice(['}', '}', '', '}}', ', }'])}"
    padded = text.encode().ljust(random.choice([53, 117, 400])) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + X.tobytes()


def mutated(content: bytes, random: Random) -> bytes:
    """A few bytes changed, cut off, left out, doubled or put in."""
    data = bytearray(content)
    for _ in range(random.integers(1, 4)):
        size = max(len(data), 1)
        # half of the time in what comes first, which says what the rest is
        at = int(random.integers(0, min(size, 140) if random.random() < 0.5 else size))
        count = int(random.integers(1, 9))
        match random.integers(0, 6):
            case 0:
                data[at : at + 1] = (
                    bytes([data[at] ^ 1 << int(random.integers(8))]) if data else b""
                )
            case 1:
                data[at : at + count] = random.bytes(count)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + count]
            case 4:
                data[at:at] = data[at : at + count]
            case 5:
                data[at : at + count] = b"9" * count
    return bytes(data)


def a_file(random: Random) -> tuple[str, bytes]:
    """The name and content of a file that is probably broken."""
    method = int(random.choice([0, 8, 12, 14]))
    makers: list[Callable[[], tuple[str, bytes]]] = [
        lambda: ("bad.npy", mutated(npy(X), random)),
        lambda: ("bad.npy", claimed(random)),
        lambda: ("bad.npy", mutated(claimed(random), random)),
        lambda: ("bad.npz", mutated(npz(method, npy(X)), random)),
        lambda: ("bad_inside.npz", npz(method, claimed(random))),
        lambda: ("bad_inside.npz", npz(method, mutated(npy(X), random))),
        lambda: ("bad.safetensors", mutated(safetensors(), random)),
        lambda: ("bad.parquet", mutated(parquet(), random)),
        lambda: (f"bad.{random.choice(['npy', 'npz', 'parquet'])}", random.bytes(200)),
        lambda: ("labels.npy", mutated(npy(Y), random)),
        lambda: ("labels.npy", mutated(npy(np.array(["cat", "dog", "eel"])[Y]), random)),
    ]
    return makers[int(random.integers(len(makers)))]()


def loaded(features: Any) -> np.ndarray | None:
    """All of a model's features; None for those that turn out to be damaged."""
    try:
        return np.asarray(features.load() if isinstance(features, Source) else features)
    except InputError:
        return None


@numbers("files")
@pytest.mark.filterwarnings("ignore:.*invalid escape sequence:SyntaxWarning")
def test_files(indices: range, tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", features=X, labels=Y)
    np.save(tmp_path / "other.npy", X)
    scored = 0
    for index in indices:
        name, content = a_file(np.random.default_rng([1, index]))
        np.save(tmp_path / "labels.npy", Y)
        (tmp_path / name).write_bytes(content)
        actual = read_features(tmp_path)
        np.testing.assert_array_equal(loaded(actual.features["good"]), X)
        for text in actual.problems.values():
            assert "\n" not in text, index
        sizes = {"bad": len(content)} if name.startswith("bad") else {}
        for model in {*actual.features} - {"good", "other"}:
            features, labels = loaded(actual.features[model]), actual.labels[model]
            if features is None:
                continue
            assert features.ndim == 2, index
            assert len(features) == len(labels), index
            if name == "bad.npz":  # which has checksums
                np.testing.assert_array_equal(features, X, err_msg=str(index))
            elif name == "bad.npy":
                assert features.nbytes < sizes["bad"], index
            if index % 25 == 0 and features.shape == X.shape:
                ranking = jaxte.rank({"a": features, "b": X}, {"a": labels, "b": Y}, metrics="face")
                assert ranking.status("b", "face") == "ok", index
                scored += 1
        if "bad" not in name:
            assert "other" in actual.features or "labels.npy" in actual.problems["other"], index
        (tmp_path / name).unlink()
    assert scored or len(indices) < 1000


# --- stores ---------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A complete store of three shards."""
    what: dict[str, Any] = {"model": {"name": "net"}, "data": {"name": "toy"}, "layers": ["body"]}
    with Writer(tmp_path / "whole", **what, shard_rows=8) as writer:
        for start in range(0, 24, 8):
            rows = slice(start, start + 8)
            writer.append({"body": X[rows]}, Y[rows], examples=8, digest=str(start))
        writer.finish()
    return tmp_path / "whole"


@numbers("stores")
def test_stores(indices: range, whole: Path, tmp_path: Path) -> None:
    names = sorted(f.relative_to(whole) for f in whole.rglob("*") if f.is_file())
    directory = tmp_path / "all"
    directory.mkdir()
    np.savez(directory / "good.npz", features=X, labels=Y)
    for index in indices:
        random = np.random.default_rng([2, index])
        shutil.copytree(whole, directory / "net")
        file = directory / "net" / names[int(random.integers(len(names)))]
        file.write_bytes(mutated(file.read_bytes(), random))
        actual = read_features(directory)
        assert "good" in actual.features, index
        for model in {*actual.features} - {"good"}:
            features = loaded(actual.features[model])
            if features is not None:  # then it is what was stored
                np.testing.assert_array_equal(features, X, err_msg=str(index))
                np.testing.assert_array_equal(actual.labels[model], Y, err_msg=str(index))
        shutil.rmtree(directory / "net")


# --- options --------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    3,
    2.5,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "face",
    "auto",
]
VALUES += [
    "float32",
    "sum",
    "minmax",
    "spread",
    b"x",
    [],
    ["face"],
    ["face", 5],
    (),
    {},
    {"face": {}},
]
VALUES += [{"face": {"temperature": "x"}}, {"face": 5}, {3: 4}, {"a"}, object(), np.ones(3), np.nan]
VALUES += [np.float32(1e9), np.int8(3), "1e9", 1 << 20, range(3), "x" * 5000]
NAMES = ["metrics", "perturb", "precision", "progress", "num_classes", "weights", "normalize"]
NAMES += ["options", "memory_limit", "mesh"]
WORDS = [
    "abc",
    "-1",
    "0",
    "nan",
    "3",
    "",
    "face",
    "face,face",
    "face,nope",
    "sum",
    "auto",
    "é",
    "[" * 99,
]
WORDS += ["face.temperature=x", "face.temperature=1", "face.nope=1", "=", ".=", "face.=1", "a.b=c"]
WORDS += ["csv", "r.xyz", "none/r.csv", "spread", "localhost:1", "--", "-h", "{}", "1e400", "\t"]
FLAGS = ["--metrics", "--format", "--out", "--plot", "--dataset", "--perturb", "--precision"]
FLAGS += ["--normalize", "--set", "--process-id", "--coordinator", "--colour"]


@numbers("options")
def test_options(indices: range) -> None:
    for index in indices:
        random = np.random.default_rng([3, index])
        count = int(random.integers(1, 4))
        options = {
            str(name): VALUES[int(random.integers(len(VALUES)))]
            for name in random.choice(NAMES, count, replace=False)
        }
        if (
            isinstance(options.get("num_classes"), int | np.floating)
            and options["num_classes"] > 99
        ):
            continue  # memory for so many classes is a matter of the machine
        try:
            ranking = jaxte.rank({"a": X, "b": -X}, Y, **{"metrics": "face", **options})
        except InputError as error:
            said = str(error)
        else:
            said = ranking.models[0]
        assert said, index
        assert "\n" not in said, index


@numbers("options")
def test_command_line(indices: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTE_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "good.npz", features=X, labels=Y)
    (tmp_path / "bad.npy").write_bytes(b"")
    for index in indices:
        random = np.random.default_rng([4, index])
        arguments = ["rank", "."] if random.random() < 0.9 else ["rank"]
        for _ in range(random.integers(1, 4)):
            arguments += [FLAGS[int(random.integers(len(FLAGS)))]]
            arguments += [WORDS[int(random.integers(len(WORDS)))]]
        result = CliRunner().invoke(app, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), arguments
        assert result.exit_code in (0, 2), arguments
        assert "Traceback" not in result.output, arguments
        if result.exit_code == 2:
            assert result.stderr.startswith("jaxte: "), arguments
