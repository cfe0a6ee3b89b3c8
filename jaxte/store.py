"""Features on disk: reading a directory of arrays, in the layouts that people already have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxte import _files
from jaxte._inputs import InputError
from jaxte.sources import Shards, shard_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

__all__ = ["FeatureSet", "read_features"]

_FEATURE, _LABEL = "_feature.npy", "_label.npy"
_SHARED_LABELS = "labels.npy"


class FeatureSet(NamedTuple):
    """What a directory of features holds.

    Attributes:
        features: model name -> array [n, d]; `.npy` files stay memory-mapped, and directories of
            shards unread.
        labels: model name -> array [n], or [n, k] for several regression targets.
        problems: model name -> why it could not be read, with the file and what to do.
    """

    features: dict[str, np.ndarray | Shards]
    labels: dict[str, np.ndarray]
    problems: dict[str, str]


class _Source(NamedTuple):
    """The files of one model: `labels` is None where they should lie with the features."""

    model: str
    features: Path
    labels: Path | None


def read_features(directory: str | PathLike[str], *, dataset: str | None = None) -> FeatureSet:
    """Read the features and labels of every model stored in a directory.

    Four layouts are understood, also side by side:

    - `<model>.npz` with the arrays `features` and `labels`;
    - `<model>.npy` (or an `.npz` without `labels`) beside one `labels.npy`;
    - `<model>_<dataset>_feature.npy` beside `<model>_<dataset>_label.npy`, as the scripts of the
      SFDA family write them (what else they write there, as `_output.npy`, is passed over);
    - `<model>/` with shards of features, as `jaxte.sources.Shards` reads them, and labels there
      or in one `labels.npy` beside it.

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
            f"<model>.npy beside {_SHARED_LABELS}, <model>_<dataset>{_FEATURE}, or <model>/ with "
            "shards"
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
    visible = [f for f in directory.iterdir() if not f.name.startswith(".")]
    files = [f for f in visible if f.is_file()]
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
    for folder in visible:
        if folder.is_dir() and shard_files(folder):
            yield _Source(folder.name, folder, None)


def _read_source(source: _Source) -> tuple[np.ndarray | Shards, np.ndarray]:
    """The features and labels of one model, checked against each other."""
    labels: np.ndarray | None = None
    features: np.ndarray | Shards
    if source.features.is_dir():
        features = Shards(source.features)
        labels, rows = features.labels(), features.rows
    else:
        if source.labels is None:
            array, labels = _files.load_npz(source.features)
            assert array is not None
        else:
            array = _files.load_npy(source.features, "features")
        _files.check_matrix(array, source.features.name)
        features, rows = array, len(array)
    where = source.features.name + ("/labels" if source.features.is_dir() else "")
    if labels is None:
        path = source.labels or source.features.with_name(_SHARED_LABELS)
        if not path.is_file():
            raise InputError(f"no {path.name} beside {source.features.name}: save the labels there")
        labels, where = _files.load_npy(path, "labels"), path.name
    if rows is not None:  # sizes of .npz shards are known once they are read
        _files.check_labels(labels, where, rows, source.features.name)
    return features, labels
