"""Reading a directory of features, in the layouts that people already have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from jaxte.errors import InputError
from jaxte.intake import clean_labels, disk, sources
from jaxte.intake.sources import Rows, Source, probe_files, shard_files
from jaxte.store import formats
from jaxte.store.formats import FEATURE, LABEL, OF_OTHERS, SHARED_LABELS
from jaxte.store.imports import read_arrays
from jaxte.store.manifest import Manifest, is_store
from jaxte.store.reader import FeatureStore, layer_names

__all__ = ["FeatureSet", "has_dataset", "read_features"]

_Result = TypeVar("_Result")


class FeatureSet(NamedTuple):
    """What a directory of features holds.

    Attributes:
        features: model name -> array [n, d]; `.npy` files stay memory-mapped, and stores and
            directories of shards unread; beside logits it is a `Source`, too.
        labels: model name -> array [n], or [n, k] for several regression targets.
        problems: model name -> why it could not be read, with the file and what to do.
        dataset: of which data set they are, where the files say so; else the directory's name.
    """

    features: dict[str, np.ndarray | Source]
    labels: dict[str, np.ndarray]
    problems: dict[str, str]
    dataset: str = ""


class _ModelFiles(NamedTuple):
    """The files of one model: `labels` is None where they should lie with the features.

    `datasets` are the names by which its data set can be chosen, the first is shown.
    """

    model: str
    features: Path
    labels: Path | None = None
    datasets: tuple[str, ...] = ()


def read_features(
    directory: str | PathLike[str], *, dataset: str | None = None, label_free: bool = False
) -> FeatureSet:
    """Read the features and labels of every model stored in a directory.

    These layouts are understood, also side by side:

    - stores, as `jaxte extract` and `jaxte.store.Writer` write them: the directory itself,
      `<model>/` or `<model>/<data set>/`; one of several layers gives `<model>@<layer>` each;
    - `<model>.npz` with the arrays `features` and `labels`;
    - `<model>.npy` (or an `.npz` without `labels`) beside one `labels.npy`;
    - `<model>_<dataset>_feature.npy` beside `<model>_<dataset>_label.npy`, as the scripts of the
      SFDA family write them (what else they write there, as `_output.npy`, is passed over);
    - `<model>/<dataset>.npz` beside `<model>/<dataset>.json`, the probes of TE-Bench;
    - `<model>/` with shards of features, as `jaxte.intake.sources.Shards` reads them, and labels
      there or in one `labels.npy` beside it;
    - `<model>.parquet`, or `<model>.safetensors` with a tensor `features`, as
      `jaxte.store.import_features` reads them.

    A file that cannot be used (truncated, pickled, not numeric, of another shape or length, a
    store that is unfinished) becomes an entry of `problems` and does not stop the others. Pickled
    arrays are never loaded.

    Args:
        directory: where the files are; other kinds of file in it are ignored.
        dataset: which data set to read, where a directory holds several: as the manifest of a
            store names it (or the name of the store's directory), or as the names of files do.
        label_free: whether models that have no labels will do; `labels` then lacks them.

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
        ...     pool = read_features(directory)
        >>> pool.features["tiny"].shape, pool.problems
        ((4, 4), {})
    """
    directory = Path(directory)
    if not directory.is_dir():
        state = "is not a directory" if directory.exists() else "does not exist"
        raise InputError(f"{directory} {state}: name a directory with <model>.npz or .npy files")
    models = sorted(_chosen(directory, dataset), key=lambda one: one.model)
    if not models:
        raise InputError(
            f"{directory} holds no features: expected <model>.npz (arrays features and labels), "
            f"<model>.npy beside {SHARED_LABELS}, <model>_<dataset>{FEATURE}, stores, or <model>/ "
            "with shards"
        )
    known = [one.datasets[0] for one in models if one.datasets]
    pool = FeatureSet({}, {}, {}, (known or [directory.resolve().name])[0])
    for one in models:
        try:
            same = [other.features for other in models if other.model == one.model]
            if len(same) > 1:
                files = ", ".join(sorted(str(file.relative_to(directory)) for file in same))
                raise InputError(f"stored more than once ({files}): keep one of them")
            features, labels = _read(one, label_free)
            if twice := [name for name in features if name in pool.features]:
                raise InputError(f"{twice[0]} is stored more than once: keep one of them")
        except (InputError, ImportError, OSError) as error:
            pool.problems[one.model] = str(error)
        else:
            pool.features.update(features)
            if labels is not None:
                pool.labels.update(dict.fromkeys(features, labels))
    if not pool.features:
        model, reason = next(iter(pool.problems.items()))
        counted = f"none of its {len(pool.problems)} models can be read, for example "
        raise InputError(
            f"{directory}: {counted if len(pool.problems) > 1 else ''}{model}: {reason}"
        )
    return pool


def has_dataset(directory: str | PathLike[str], dataset: str) -> bool:
    """Whether features in a directory are named as those of a data set."""
    try:
        return bool(_chosen(Path(directory), dataset))
    except InputError:
        return False


def _stores_in(directory: Path) -> Iterator[Path]:
    """The stores in a directory: itself, or one or two floors below."""
    if is_store(directory):
        yield directory
        return
    for folder in _folders(directory):
        if is_store(folder):
            yield folder
        else:
            yield from (inner for inner in _folders(folder) if is_store(inner))


def _folders(directory: Path) -> list[Path]:
    """Those in a directory; none in one that cannot be read."""
    nothing: list[Path] = []
    return [file for file in _tried(disk.listing, directory, nothing) if os.path.isdir(file)]


def _tried(read: Callable[[Path], _Result], path: Path, otherwise: _Result) -> _Result:
    """What a function reads; where it cannot, reading the features will say why."""
    try:
        return read(path)
    except InputError:
        return otherwise


def _chosen(directory: Path, dataset: str | None) -> list[_ModelFiles]:
    """Which models the directory holds, of one data set, judged by names and manifests alone."""
    stores = [_as_store(folder, directory) for folder in _stores_in(directory)]
    if stores and stores[0].features == directory:
        return stores
    visible = disk.listing(directory)
    folders = [f for f in visible if os.path.isdir(f)]
    # whatever is named like a file of features, so that a pipe or a dead link is not lost
    files = [f for f in visible if f not in folders or _is_misnamed(f)]
    models = [*stores, *_pairs(files, dataset)]
    models += [
        _ModelFiles(folder.name, file, None, (target,))
        for folder in folders
        for target, file in probe_files(folder).items()
    ]
    names = sorted({one.datasets[0] for one in models if one.datasets})
    if dataset is not None:
        models = [one for one in models if dataset in one.datasets]
        if not models:
            raise InputError(
                f"{directory} holds no <model>_{dataset}{FEATURE}, and no store or probe of that "
                f"data set: there is {', '.join(names) or 'no other'}"
            )
    elif len(names) > 1:
        raise InputError(
            f"{directory} holds several data sets ({', '.join(names)}): choose one (--dataset)"
        )
    else:
        shards = [f for f in folders if not probe_files(f) and _tried(shard_files, f, [f])]
        models += [*_files_of(files), *(_ModelFiles(folder.name, folder) for folder in shards)]
    stored = [one.model for one in models if one in stores]
    return [  # one model in several stores is called by their directories
        one._replace(model=one.features.relative_to(directory).as_posix())
        if one in stores and stored.count(one.model) > 1
        else one
        for one in models
    ]


def _as_store(folder: Path, directory: Path) -> _ModelFiles:
    outer = folder.parent if folder.parent != directory and folder != directory else folder
    try:
        manifest = Manifest.read(folder)
    except InputError:  # reading it will say why
        name = folder.name if outer == folder else f"{outer.name}/{folder.name}"
        return _ModelFiles(name, folder)
    model, data = manifest.model.get("name"), manifest.data.get("name")
    datasets = [data, folder.name] if isinstance(data, str) else [folder.name]
    if not isinstance(data, str) and outer == folder:  # its directory is named after the model
        datasets = []
    return _ModelFiles(
        model if isinstance(model, str) else outer.name, folder, None, tuple(datasets)
    )


def _pairs(files: list[Path], dataset: str | None) -> Iterator[_ModelFiles]:
    """`<model>_<dataset>_feature.npy`: where a name is cut, the chosen data set decides."""
    for file in files:
        if not file.name.endswith(FEATURE):
            continue
        stem = file.name.removesuffix(FEATURE)
        model, cut, last = stem.rpartition("_")
        if dataset is not None and stem.endswith(f"_{dataset}"):
            model, last = stem.removesuffix(f"_{dataset}"), dataset
        named = (last,) if cut else ()
        yield _ModelFiles(model if cut else stem, file, file.with_name(stem + LABEL), named)


def _files_of(files: list[Path]) -> Iterator[_ModelFiles]:
    """Models in one file each."""
    # labels, logits and the like of models whose features lie beside them
    stems = [f.name.removesuffix(FEATURE) for f in files if f.name.endswith(FEATURE)]
    kin = tuple(f"{stem}_" for stem in stems)
    for file in files:
        beside = file.with_name(SHARED_LABELS)
        if file.suffix == ".npz":
            yield _ModelFiles(file.stem, file)
        elif file.suffix == ".npy":
            if file.name != SHARED_LABELS and not file.name.startswith(kin):
                yield _ModelFiles(file.stem, file, beside)
        elif file.suffix == ".parquet" or (
            file.suffix == ".safetensors"  # of features, not of a model's weights
            and "features" in _tried(formats.safetensors, file, {"features": np.zeros(0)})
        ):
            yield _ModelFiles(file.stem, file, beside if os.path.lexists(beside) else None)


def _is_misnamed(folder: Path) -> bool:
    """Whether a directory has the name of a file, and is neither a store nor one of shards."""
    named = folder.suffix in formats.READERS and folder.name != SHARED_LABELS
    return named and not is_store(folder) and not _tried(shard_files, folder, [folder])


def _read(
    one: _ModelFiles, label_free: bool
) -> tuple[Mapping[str, np.ndarray | Source], np.ndarray | None]:
    """The features of one model, by name, and its labels, checked against each other."""
    path = one.features
    if is_store(path):
        store = FeatureStore.open(path)
        return store.sources(one.model), store.labels
    if path.suffix in OF_OTHERS and not path.is_dir():
        arrays = read_arrays(path, labels=one.labels)
        if arrays.labels is None and not label_free:
            raise InputError(f"no labels in {path.name}, and no {SHARED_LABELS} beside it")
        names = layer_names(one.model, arrays.layers)
        layers = arrays.layers.items()
        if arrays.logits is None:
            return {names[layer]: x for layer, x in layers}, arrays.labels
        return {names[layer]: Rows(x, None, arrays.logits) for layer, x in layers}, arrays.labels
    source = sources.of(path)
    array = source.array if isinstance(source, Rows) and source.logits() is None else source
    labels, where = source.labels(), path.name + ("/labels" if path.is_dir() else "")
    if labels is None:
        file = one.labels or path.with_name(SHARED_LABELS)
        if not os.path.lexists(file):
            if label_free:
                return {one.model: array}, None
            raise InputError(f"no {file.name} beside {path.name}: save the labels there")
        labels, where = disk.load_npy(file, "labels"), file.name
    labels = clean_labels(labels, f"labels of {where}")
    if source.rows is not None:  # of .npz shards only reading them shows it
        disk.check_labels(labels, where, source.rows, path.name)
    return {one.model: array}, labels
