"""Features in the files of other tools: what each holds, never unpickled."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.intake import disk
from jaxte.intake.arrays import of_torch
from jaxte.intake.sources import Shards, probe_files

__all__ = ["FEATURE", "LABEL", "OF_OTHERS", "READERS", "SHARED_LABELS", "Arrays", "load"]

FEATURE, LABEL, _OUTPUT = "_feature.npy", "_label.npy", "_output.npy"  # of the SFDA family
SHARED_LABELS = "labels.npy"
OF_OTHERS = (".safetensors", ".pt", ".pth", ".parquet")

_FEATURES = ("features", "embeddings", "hidden_states")
_LABELS = ("labels", "label", "targets", "target", "y")
_LOGITS = ("logits",)
_ROWS = 1 << 13  # of a Parquet file, at once
_HEADER_LIMIT = 100 << 20  # as the safetensors format has it
_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<V2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
}  # fmt: skip


class Arrays(NamedTuple):
    """What a file holds."""

    layers: dict[str, np.ndarray]  # [n, d] each
    labels: np.ndarray | None = None  # [n] or [n, k], maybe texts
    logits: np.ndarray | None = None  # [n, s]


def load(path: Path, columns: Sequence[str] | None, rows: int | None) -> Arrays:
    """Read a file, or a directory of shards.

    ``columns`` are the features of a Parquet file; ``rows`` is the number of labels that lie apart,
    by which lists of samples differ from lists of layers.
    """
    if os.path.isdir(path) and path.suffix.lower() not in OF_OTHERS:
        return _shards(path)
    if (suffix := path.suffix.lower()) not in READERS:
        state = "cannot be imported" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}: give one of {', '.join(READERS)}")
    kind, reader = READERS[suffix]
    with disk.reading(path, kind):
        arrays = reader(path, columns, rows)
    for name, array in arrays.layers.items():
        disk.check_matrix(array, f"{path.name}, {name}," if len(arrays.layers) > 1 else path.name)
    return arrays


def _npy(path: Path, columns: Any, rows: int | None) -> Arrays:
    features = disk.load_npy(path, "features")
    stem = path.name.removesuffix(FEATURE)
    beside, logits = path.with_name(SHARED_LABELS), None
    if stem != path.name:
        beside, outputs = path.with_name(stem + LABEL), path.with_name(stem + _OUTPUT)
        if os.path.lexists(outputs):
            logits = disk.load_npy(outputs, "logits")
    labels = disk.load_npy(beside, "labels") if os.path.lexists(beside) else None
    return Arrays({"features": features}, labels, logits)


def _npz(path: Path, columns: Any, rows: int | None) -> Arrays:
    arrays = disk.npz_arrays(path, ("features", "labels", "logits"))
    return Arrays({"features": arrays.pop("features")}, **arrays)


def _shards(path: Path) -> Arrays:
    if probe_files(path):
        raise InputError(f"{path} holds probes of TE-Bench: import one of its .npz files")
    shards = Shards(path)
    return Arrays({"features": np.concatenate(list(shards.parts()))}, shards.labels())


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a .safetensors file, mapped; an `InputError` if it is damaged."""
    with disk.reading(path, READERS[".safetensors"][0]):
        size, tensors = path.stat().st_size, {}
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            start = 8 + length
            if length > min(_HEADER_LIMIT, size):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        content = np.memmap(path, np.uint8, mode="r") if size > start else np.zeros(size, np.uint8)
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in _SAFETENSORS:
                continue  # of 8-bit floats and the like there is no use here
            begin, end = (start + offset for offset in entry["data_offsets"])
            kind, shape = np.dtype(_SAFETENSORS[entry["dtype"]]), tuple(entry["shape"])
            wanted = kind.itemsize * int(np.prod(shape, dtype=object))
            if not start <= begin <= end <= size or end - begin != wanted:
                raise ValueError(f"{name} lies outside of it")
            tensor = content[begin:end].view(kind).reshape(shape)
            tensors[name] = disk.numeric(tensor, path.name, name)
        return tensors


def _pt(path: Path, columns: Any, rows: int | None) -> Arrays:
    torch = require("torch", path.name, "hf")
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 6):  # before, weights_only could be made to run code
        raise ImportError(
            f"reading {path.name} safely needs PyTorch 2.6 or newer, here is {torch.__version__}: "
            "pip install --upgrade torch"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, from the unpickler to the archive
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{path.name} cannot be read without running code that it brings ({first}): save "
            "plain tensors, as torch.save({'features': x, 'labels': y}, path)"
        ) from None
    arrays = _without_torch(content, path, torch)
    if isinstance(arrays, Mapping):
        return _from_mapping(arrays, path.name, rows)
    return Arrays(_layers(arrays, path.name, rows))


def _without_torch(value: Any, path: Path, torch: Any) -> Any:
    """Tensors in lists and mappings as arrays."""
    if isinstance(value, Mapping):
        return {str(key): _without_torch(item, path, torch) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_torch(item, path, torch) for item in value]
    if not isinstance(value, torch.Tensor):
        return value
    if value.layout != torch.strided or value.is_quantized:
        raise InputError(f"{path.name} holds a sparse or quantised tensor: save a dense one")
    if value.numel() * value.element_size() > path.stat().st_size:  # rows that are one in memory
        raise InputError(
            f"{path.name} holds a tensor {list(value.shape)}, larger than the file: save it as "
            "tensor.clone()"
        )
    return of_torch(value)


def _from_mapping(tensors: Mapping[str, Any], where: str, rows: int | None) -> Arrays:
    """Tensors by name: features, labels and logits, or else one layer by each name left."""

    def one_of(names: tuple[str, ...]) -> Any:
        present = [name for name in names if name in tensors]
        if len(present) > 1:
            raise InputError(f"{where} holds both {' and '.join(present)}: keep one of them")
        return tensors[present[0]] if present else None

    labels, logits, features = one_of(_LABELS), one_of(_LOGITS), one_of(_FEATURES)
    labels = None if labels is None else np.asarray(labels)
    if labels is not None:
        rows = len(labels)
    if features is not None:
        layers = _layers(features, where, rows)
    else:
        layers = {name: v for name, v in tensors.items() if name not in (*_LABELS, *_LOGITS)}
        odd = any(not isinstance(v, np.ndarray) or v.ndim != 2 for v in layers.values())
        if odd or len({len(array) for array in layers.values()}) != 1:
            shapes = [f"{n} {list(getattr(v, 'shape', []))}" for n, v in [*tensors.items()][:5]]
            shapes += ["..."] * (len(tensors) > 5)
            raise InputError(
                f"{where} holds {', '.join(shapes) or 'nothing'}: it needs features [n, d] and "
                "labels, or one matrix of n rows for each layer"
            )
    return Arrays(layers, labels, None if logits is None else np.asarray(logits))


def _layers(value: Any, where: str, rows: int | None) -> dict[str, np.ndarray]:
    """A matrix [n, d]; [n, L, d], or a list of it along either axis, as L layers; or by name."""
    if isinstance(value, Mapping):
        return {str(name): np.asarray(array) for name, array in value.items()}
    if isinstance(value, list):
        if not value or not all(isinstance(array, np.ndarray) for array in value):
            raise InputError(f"{where} holds a list of something else than tensors")
        if len({array.shape for array in value}) > 1 or value[0].ndim not in (1, 2):
            raise InputError(
                f"{where} holds a list of tensors of other shapes than [d], [L, d] or [n, d]"
            )
        outer, inner = len(value), len(value[0])
        if value[0].ndim == 1 or (rows == outer and rows != inner):
            value = np.stack(value)  # one for each sample
        elif rows == inner and rows != outer:
            return {str(index): array for index, array in enumerate(value)}
        else:
            raise InputError(
                f"{where} holds a list of {outer} tensors {list(value[0].shape)}, of which it is "
                "not plain whether they are samples or layers: save labels with them, or one "
                "tensor [n, L, d]"
            )
    if not isinstance(value, np.ndarray):
        raise InputError(f"{where} holds a {type(value).__name__}, no tensor")
    if value.ndim == 3:
        return {str(index): value[:, index] for index in range(value.shape[1])}
    return {"features": value}


def _parquet(path: Path, columns: Sequence[str] | None, rows: int | None) -> Arrays:
    pq, pa = (require(name, path.name, "data") for name in ("pyarrow.parquet", "pyarrow"))
    layers: dict[str, list[np.ndarray]] = {}
    labels: list[np.ndarray] = []
    start = 0
    with pq.ParquetFile(path) as file:
        kinds = {field.name: field.type for field in file.schema_arrow}
        label = next((name for name in _LABELS if name in kinds), None)
        chosen = _chosen(kinds, columns, label, path.name, pa.types)
        wanted = [*chain(*chosen.values()), *([label] if label else [])]
        for batch in file.iter_batches(_ROWS, columns=wanted):
            for layer, names in chosen.items():
                read = [_column(batch, name, path.name, start) for name in names]
                part = read[0] if read[0].ndim == 2 else np.stack(read, axis=1)
                parts = layers.setdefault(layer, [])
                if parts and part.shape[1] != parts[0].shape[1]:
                    raise _ragged(path.name, names[0], start)
                parts.append(part)
            if label:
                labels.append(_column(batch, label, path.name, start))
            start += batch.num_rows
    if not layers:
        raise InputError(f"{path.name} has no rows")
    # one after the other: only one of them is in memory twice at any time
    whole = {name: np.concatenate(layers.pop(name)) for name in list(layers)}
    return Arrays(whole, np.concatenate(labels) if labels else None)


def _chosen(
    kinds: Mapping[str, Any], columns: Sequence[str] | None, label: Any, where: str, types: Any
) -> dict[str, list[str]]:
    """Layer -> its columns: lists of floats are one each, plain floats one together."""

    def is_list(kind: Any) -> bool:
        some = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return some and types.is_floating(kind.value_type)

    for name in columns or ():
        if name not in kinds:
            raise InputError(f"{where} has no column {name!r}: there are {', '.join(kinds)}")
    names = [name for name in kinds if name != label] if columns is None else list(columns)
    lists = [name for name in names if is_list(kinds[name])]
    if lists:
        return {"features": lists} if len(lists) == 1 else {name: [name] for name in lists}
    plain = [name for name in names if types.is_floating(kinds[name])]
    if not plain:
        raise InputError(
            f"{where} has no column of embeddings, lists of floats or floats: there are "
            f"{', '.join(kinds)}"
        )
    return {"features": plain}


def _column(batch: Any, name: str, where: str, start: int) -> np.ndarray:
    """[r], or [r, k] of a column of lists; texts as they are."""
    column = batch.column(name)
    if column.null_count:
        row = start + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"{where}: column {name} has no value in row {row}: leave such rows out")
    if hasattr(column, "dictionary_decode"):
        column = column.dictionary_decode()
    if not hasattr(column, "flatten") or not hasattr(column, "value_lengths"):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    width = int(lengths[0]) if len(lengths) else 0
    values = column.flatten()
    if (lengths != width).any():
        raise _ragged(where, name, start + int(np.argmax(lengths != width)))
    if values.null_count:
        raise InputError(f"{where}: column {name} has lists with missing numbers")
    array: np.ndarray = values.to_numpy(zero_copy_only=False).reshape(-1, width)
    return array


def _ragged(where: str, name: str, row: int) -> InputError:
    return InputError(f"{where}: column {name} has another length in row {row} than before")


# By the ending of a file: what it is called in messages, and (path, columns, rows) -> its arrays.
READERS: dict[str, tuple[str, Callable[[Path, Sequence[str] | None, int | None], Arrays]]] = {
    ".npy": ("NumPy file", _npy),
    ".npz": ("NumPy file", _npz),
    ".safetensors": (
        "safetensors file",
        lambda path, _, n: _from_mapping(safetensors(path), path.name, n),
    ),
    ".pt": ("PyTorch file", _pt),
    ".pth": ("PyTorch file", _pt),
    ".parquet": ("Parquet file", _parquet),
}
