"""Features that other tools have saved, as a store."""

from __future__ import annotations

import hashlib
import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.intake import class_names, clean_labels, disk, number_classes
from jaxte.intake.sources import shard_files
from jaxte.store import formats
from jaxte.store.columns import FEATURE_TYPES
from jaxte.store.formats import Arrays
from jaxte.store.memory import SHARD_ROWS, MemoryWriter
from jaxte.store.reader import FeatureStore
from jaxte.store.writer import Writer

__all__ = ["import_features", "read_arrays"]

_ROWS = 1 << 12  # of a batch; part of what makes an import resumable


def import_features(
    path: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    labels: Any = None,
    name: str | None = None,
    dataset: str | None = None,
    dtype: str | None = None,
    columns: list[str] | None = None,
    shard_rows: int = SHARD_ROWS,
) -> FeatureStore:
    """Bring features that another tool has saved into a store.

    What is understood, by the ending of the name:

    - `.npy`: a matrix [n, d] beside `labels.npy`; or `<model>_<dataset>_feature.npy` beside
      `..._label.npy`, as the scripts of the SFDA family write them, and `..._output.npy`, which
      is taken for the logits of the source head.
    - `.npz`: arrays `features`, `labels` and maybe `logits`. These are also the names in the
      probes of TE-Bench (`<model>/<dataset>.npz` beside a `.json`), read from its public source
      of 2025, in which labels are class numbers and logits are left out of models without a
      head; its files of weights (`_weights.npz`) are not features.
    - `.safetensors`: tensors `features`, `labels` and maybe `logits`; without `features` every
      other matrix is a layer of its name.
    - `.pt`, `.pth`: the same names in a dict; or one tensor, or a list of them. transformer-ranker
      has no file format; assumed is what it holds in memory, saved by `torch.save`: for each
      sample one tensor [L, d] of L layers. [n, L, d] and a list of L matrices [n, d] are read,
      too. Nothing but tensors and plain containers is loaded (`weights_only=True`), which needs
      PyTorch 2.6 or newer.
    - `.parquet`: a column of lists of floats, several of them (a layer each), or many columns of
      floats; and a column `label`, `labels`, `target`, `targets` or `y`.
    - a directory of shards, as `jaxte.intake.sources.Shards` reads it.

    Labels that are texts become class numbers in the order of the sorted texts, which are kept as
    ``class_names`` in the data card. Tensors and Parquet files are read into memory.

    Args:
        path: the file or directory.
        out: directory of the store; in memory without it. Run again with the same arguments, an
            import that was interrupted goes on.
        labels: [n] or [n, k], or the path of an .npy file, where they do not lie with the
            features.
        name: of the model; by default from the name of the file.
        dataset: name of the data set, likewise.
        dtype: of the stored features; by default as they are, or float32 for other numbers.
        columns: which columns of a Parquet file are the features.
        shard_rows: rows from which on a shard is closed.

    Returns:
        The complete store.

    Raises:
        InputError: for a file that is damaged or holds something else, without labels, or an
            ``out`` that holds the features of something else.
        ImportError: if PyTorch or pyarrow is needed and missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     names = np.array(["cat", "dog", "cat"])
        ...     np.savez(f"{directory}/net.npz", features=np.eye(3), labels=names)
        ...     store = import_features(f"{directory}/net.npz")
        >>> store.shape, store.labels.tolist(), store.meta["data"]["class_names"]
        ((3, 3), [0, 1, 0], ['cat', 'dog'])
    """
    path = Path(path)
    arrays = read_arrays(path, labels=labels, columns=columns)
    targets = arrays.labels
    if targets is None:
        raise InputError(f"{path.name} holds no labels: give them as labels=")
    rows, names = len(targets), None
    if targets.dtype.kind not in "biuf":
        numbers, classes = number_classes(targets)
        targets, names = numbers.astype(np.int64), class_names(classes)
    model, data = _names(path)
    data_card: dict[str, Any] = {"name": dataset or data, "rows": rows}
    if names is not None:
        data_card["class_names"] = list(names)
    card: dict[str, Any] = {"kind": "import", "file": path.name}
    if out is not None:
        card["sha256"] = _digest(path)
        data_card["sha256"] = hashlib.sha256(np.ascontiguousarray(targets).tobytes()).hexdigest()
    settings: dict[str, Any] = {
        "model": {"name": name or model, "card": card},
        "data": data_card,
        "layers": list(arrays.layers),
        "dtype": dtype or _common_type(arrays),
        "shard_rows": shard_rows,
    }
    with MemoryWriter(**settings) if out is None else Writer(out, **settings) as writer:
        start = rows if writer.complete else len(writer.digests) * _ROWS
        for begin in range(start, rows, _ROWS):
            part = slice(begin, min(begin + _ROWS, rows))
            writer.append(
                {layer: array[part] for layer, array in arrays.layers.items()},
                targets[part],
                None if arrays.logits is None else arrays.logits[part],
                examples=part.stop - begin,
                digest=f"rows {begin} to {part.stop - 1}",
            )
        return writer.finish()


def read_arrays(path: Path, *, labels: Any = None, columns: list[str] | None = None) -> Arrays:
    """What a file of another tool holds, checked; with other ``labels`` if there are any."""
    if isinstance(labels, str | PathLike):
        labels = disk.load_npy(Path(labels), "labels")
    labels = None if labels is None else clean_labels(labels)
    arrays = formats.load(path, columns, None if labels is None else len(labels))
    labels = arrays.labels if labels is None else labels
    rows = len(next(iter(arrays.layers.values())))
    if labels is not None:
        labels = clean_labels(labels, f"labels of {path.name}")
        for layer, array in arrays.layers.items():
            what = path.name if len(arrays.layers) == 1 else f"{path.name}, {layer},"
            disk.check_labels(labels, "the labels", len(array), what)
    if arrays.logits is not None and (arrays.logits.ndim != 2 or len(arrays.logits) != rows):
        raise InputError(f"{path.name} has {rows} rows but logits {list(arrays.logits.shape)}")
    return arrays._replace(labels=labels)


def _names(path: Path) -> tuple[str, str | None]:
    """Of the model and, where the name of the file says it, of the data set."""
    if path.name.endswith(formats.FEATURE):
        model, _, data = path.name.removesuffix(formats.FEATURE).rpartition("_")
        return (model, data) if model else (data, None)
    if path.suffix == ".npz" and path.with_suffix(".json").is_file():
        return path.resolve().parent.name, path.stem
    return (path.resolve().name if path.is_dir() else path.stem), None


def _common_type(arrays: Arrays) -> str:
    names = {array.dtype.name for array in arrays.layers.values()}
    if len(names) == 1 and names <= set(FEATURE_TYPES):
        return names.pop()
    return "float64" if "float64" in names else "float32"


def _digest(path: Path) -> str:
    """Of the bytes of a file, or of all files that hold the features of a directory."""
    digest = hashlib.sha256()
    for file in shard_files(path) if path.is_dir() else [path]:
        with open(file, "rb", buffering=0) as stream:
            digest.update(os.fsencode(file.name) + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
