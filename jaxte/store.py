"""Features on disk: reading a directory of arrays, in the layouts that people already have."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxte._inputs import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

__all__ = ["FeatureSet", "read_features"]

_FEATURE, _LABEL = "_feature.npy", "_label.npy"
_SHARED_LABELS = "labels.npy"
# What NumPy raises on files that are cut short, damaged or something else altogether.
_READ_ERRORS = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class FeatureSet(NamedTuple):
    """What a directory of features holds.

    Attributes:
        features: model name -> array [n, d]; `.npy` files stay memory-mapped.
        labels: model name -> array [n], or [n, k] for several regression targets.
        problems: model name -> why it could not be read, with the file and what to do.
    """

    features: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    problems: dict[str, str]


class _Source(NamedTuple):
    """The files of one model: `labels` is None where the `.npz` itself should hold them."""

    model: str
    features: Path
    labels: Path | None


def read_features(directory: str | PathLike[str], *, dataset: str | None = None) -> FeatureSet:
    """Read the features and labels of every model stored in a directory.

    Three layouts are understood, also side by side:

    - `<model>.npz` with the arrays `features` and `labels`;
    - `<model>.npy` (or an `.npz` without `labels`) beside one `labels.npy`;
    - `<model>_<dataset>_feature.npy` beside `<model>_<dataset>_label.npy`, as the scripts of the
      SFDA family write them (what else they write there, as `_output.npy`, is passed over).

    A file that cannot be used (truncated, pickled, not numeric, of another shape or length)
    becomes an entry of `problems` and does not stop the others. Pickled arrays are never loaded.

    Args:
        directory: where the files are; other kinds of file in it are ignored.
        dataset: which data set to read in the third layout, where a directory holds several.

    Returns:
        A `FeatureSet`, models in alphabetical order.

    Raises:
        InputError: the directory is missing, holds no features, holds several data sets and none
            was chosen, or not one of its models can be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     labels = np.array([0, 1, 0, 1])
        ...     np.savez(f"{directory}/tiny.npz", features=np.eye(4), labels=labels)
        ...     found = read_features(directory)
        >>> found.features["tiny"].shape, found.problems
        ((4, 4), {})
    """
    directory = Path(directory)
    if not directory.is_dir():
        state = "is not a directory" if directory.exists() else "does not exist"
        raise InputError(f"{directory} {state}: name a directory with <model>.npz or .npy files")
    sources = sorted(_sources(directory, dataset), key=lambda source: source.model)
    if not sources:
        raise InputError(
            f"{directory} holds no features: expected <model>.npz (arrays features and labels), "
            f"<model>.npy beside {_SHARED_LABELS}, or <model>_<dataset>{_FEATURE}"
        )
    found = FeatureSet({}, {}, {})
    names = [source.model for source in sources]
    for source in sources:
        try:
            if names.count(source.model) > 1:
                files = sorted(s.features.name for s in sources if s.model == source.model)
                raise InputError(f"stored more than once ({', '.join(files)}): keep one of them")
            features, labels = _read_source(source)
        except InputError as error:
            found.problems[source.model] = str(error)
        else:
            found.features[source.model], found.labels[source.model] = features, labels
    if not found.features:
        model, reason = next(iter(found.problems.items()))
        counted = f"none of its {len(found.problems)} models can be read, for example "
        raise InputError(
            f"{directory}: {counted if len(found.problems) > 1 else ''}{model}: {reason}"
        )
    return found


def _sources(directory: Path, dataset: str | None) -> Iterator[_Source]:
    """Which models the directory holds, judged by file names alone."""
    files = [f for f in directory.iterdir() if f.is_file() and not f.name.startswith(".")]
    paired = [file for file in files if file.name.endswith(_FEATURE)]
    if dataset is not None:
        ending = f"_{dataset}{_FEATURE}"
        paired = [file for file in paired if file.name.endswith(ending)]
        if not paired:
            raise InputError(f"{directory} holds no <model>{ending}: check the data set's name")
    stems = {file: file.name.removesuffix(_FEATURE) for file in paired}
    datasets = sorted({stem.rpartition("_")[2] for stem in stems.values() if "_" in stem})
    if dataset is None and len(datasets) > 1:
        raise InputError(
            f"{directory} holds several data sets ({', '.join(datasets)}): choose one (--dataset)"
        )
    for file, stem in stems.items():
        model = stem.removesuffix(f"_{dataset or ''.join(datasets)}")
        yield _Source(model, file, file.with_name(stem + _LABEL))
    if dataset is not None:
        return
    kin = tuple(f"{stem}_" for stem in stems.values())  # labels, logits and the like of the above
    for file in files:
        if file.suffix == ".npz":
            yield _Source(file.stem, file, None)
        elif (
            file.suffix == ".npy" and file.name != _SHARED_LABELS and not file.name.startswith(kin)
        ):
            yield _Source(file.stem, file, file.with_name(_SHARED_LABELS))


def _read_source(source: _Source) -> tuple[np.ndarray, np.ndarray]:
    """The features and labels of one model, checked against each other."""
    labels: np.ndarray | None = None
    if source.labels is None:
        features, labels = _load_npz(source.features)
    else:
        features = _load_npy(source.features)
    if labels is None:
        path = source.labels or source.features.with_name(_SHARED_LABELS)
        if not path.is_file():
            raise InputError(f"no {path.name} beside {source.features.name}: save the labels there")
        labels = _load_npy(path)
        where = path.name
    else:
        where = source.features.name
    features = _numeric(features, source.features.name, "features")
    labels = _numeric(labels, where, "labels")
    if features.ndim != 2:
        raise InputError(
            f"{source.features.name} holds features of shape {list(features.shape)}, not [n, d]: "
            "pool or flatten them to one row per image"
        )
    if labels.ndim not in (1, 2):
        raise InputError(f"{where} holds labels of shape {list(labels.shape)}, not [n] or [n, k]")
    if len(features) != len(labels):
        raise InputError(
            f"{source.features.name} has {len(features)} rows but {where} {len(labels)} labels: "
            "save one label per row"
        )
    if features.size == 0:
        raise InputError(f"{source.features.name} is empty, of shape {list(features.shape)}")
    return features, labels


def _load_npy(path: Path) -> np.ndarray:
    """One array, memory-mapped; never unpickles."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    if isinstance(loaded, np.ndarray):
        return loaded
    loaded.close()
    raise InputError(f"{path.name} is an .npz archive by its content: rename it to .npz")


def _load_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The features and, where the archive has them, the labels; never unpickles."""
    try:
        # Opened here, because NumPy leaves the file open when the archive turns out damaged.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError(f"{path.name} is a plain .npy by its content: rename it to .npy")
            if "features" not in archive.files:
                keys = ", ".join(archive.files) or "nothing"
                raise InputError(f"{path.name} holds {keys}: it needs features and labels")
            labels = archive["labels"] if "labels" in archive.files else None
            return archive["features"], labels
    except InputError:
        raise
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"{path.name} may not be read: check its permissions")
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


def _numeric(array: np.ndarray, where: str, what: str) -> np.ndarray:
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
