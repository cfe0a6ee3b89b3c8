"""`load`: from a specification, or what a user already has, to a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jaxte.data import folders, huggingface, records, tables, tensorflow_datasets
from jaxte.data._columns import Columns
from jaxte.data._specs import Spec, parse
from jaxte.data._targets import Known, known_of
from jaxte.data.dataset import Dataset
from jaxte.errors import InputError
from jaxte.intake.checks import choose

__all__ = ["as_dataset", "load"]


def load(
    spec: Any,
    *,
    image: str | None = None,
    text: str | None = None,
    words: str | None = None,
    label: str | Sequence[str] | None = None,
    task: str | None = None,
    classes: int | Sequence[str] | None = None,
    ignore: int | None = None,
    subset: int | None = None,
    seed: int | None = None,
    data_dir: str | None = None,
    encoding: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Dataset:
    """Load a data set: ``"tfds:cifar10/train[:5000]"``, ``"csv:mail.csv?text=body&label=spam"``.

    Every option may stand in the specification too, percent-encoded where it has ``& = , %``, and
    lists with commas: ``label=a,b``. See `jaxte.data` for all forms.

    Labels that are texts become classes in the order of the alphabet; integers are classes, and
    those that are not 0, 1, ... are counted through in their order; floats are regression, and
    several columns of them multi-output; rows of 0 and 1, and lists of tags, are multilabel; lists
    of tags beside words are tokens; label maps are segmentation.

    Args:
        spec: a specification; or a `Dataset`, which is returned; a `datasets.Dataset`; a pandas
            data frame or a pyarrow table; a pair (inputs, labels).
        image: the column of images, or of their paths.
        text: the column of texts.
        words: the column of lists of words.
        label: the column of labels, or several of them. Columns that are not named are found by
            what they hold and by usual names.
        task: one of `TASKS`, where it is not what the labels look like.
        classes: the names of the classes, in the order of their numbers, or how many there are.
        ignore: the label of words or pixels that do not count; -100 and 255 by default.
        subset: draw so many rows, as `Dataset.subset` does.
        seed: of the subset, 0 by default.
        data_dir: the directory of tensorflow-datasets, if it is not the usual one.
        encoding: of a CSV or JSON lines file without a byte order mark that is not UTF-8, as
            "latin-1".
        on_error: "skip" loads what has image files that are missing or empty, too, to be left out
            by `jaxte.extract` with the same option.

    Returns:
        The data set.

    Raises:
        InputError: if it cannot be found or read, or has no such column or option.
        ImportError: if a package is missing.

    Example:
        >>> from jaxte import data
        >>> digits = data.load("zoo:digits/test?subset=100")
        >>> image, label = digits[0]
        >>> digits.task, digits.num_classes, image.shape
        ('classification', 10, (8, 8, 1))
    """
    given: dict[str, Any] = {
        "image": image,
        "text": text,
        "words": words,
        "label": (label,) if isinstance(label, str) else label,
        "task": task,
        "classes": classes,
        "ignore": ignore,
        "subset": subset,
        "seed": seed,
        "data_dir": data_dir,
        "encoding": encoding,
    }
    options = {key: value for key, value in given.items() if value is not None}
    parsed = parse(spec) if isinstance(spec, str) else None
    if parsed is not None:
        if twice := sorted(options.keys() & parsed.options.keys()):
            raise InputError(f"{spec!r} has {', '.join(twice)} already: give it once")
        options |= parsed.options
    size, draw = options.pop("subset", None), options.pop("seed", None)
    if size is None and draw is not None:
        raise InputError(f"seed is {draw}, but no subset is asked for")
    skip = choose("on_error", on_error, ("raise", "skip")) == "skip"
    whole = _given(spec, options, skip) if parsed is None else _named(parsed, options, skip)
    return whole if size is None else whole.subset(size, seed=draw or 0)


def _named(spec: Spec, options: dict[str, Any], skip: bool) -> Dataset:
    """The data set of a specification."""
    data_dir = options.pop("data_dir", None)
    if data_dir is not None and spec.kind != "tfds":
        raise InputError(f"data_dir is for tfds:, not {spec.kind}:")
    encoding = options.pop("encoding", None)
    if encoding is not None and spec.kind not in ("csv", "jsonl"):
        raise InputError(f"encoding is for csv: and jsonl:, not {spec.kind}:")
    columns, known = _split(options, spec.name)
    if spec.kind == "tfds":
        return tensorflow_datasets.tfds(spec.where, columns, known, spec.name, data_dir)
    if spec.kind in ("csv", "parquet", "jsonl"):
        where = (spec.kind, spec.where, columns, known, spec.name)
        return tables.table_file(*where, encoding=encoding, skip=skip)
    if spec.kind == "hf":
        return huggingface.hugging_face(spec.where, columns, known, spec.name)
    if spec.kind == "npz":
        return records.npz(spec.where, columns, known, spec.name)
    if columns != Columns():
        raise InputError(f"{spec.name} has no columns to choose: leave out image=, label= and such")
    if spec.kind == "folder":
        return folders.folder(spec.where, known, spec.name, skip=skip)
    return records.zoo_target(spec.where, known, spec.name)


def _given(value: Any, options: dict[str, Any], skip: bool) -> Dataset:
    """The data set that a user's value stands for."""
    if isinstance(value, Dataset):
        if options:
            raise InputError(
                f"{value.name} is a data set already: it takes no {', '.join(options)}"
            )
        return value
    if options.pop("data_dir", None) is not None:
        raise InputError("data_dir is for tfds:")
    if options.pop("encoding", None) is not None:
        raise InputError("encoding is for csv: and jsonl:")
    library = type(value).__module__.partition(".")[0]
    columns, known = _split(options, "pair" if isinstance(value, tuple) else library)
    if isinstance(value, tuple) and len(value) == 2 and columns == Columns():
        return as_dataset(*value, **_about(options))
    if library == "datasets":
        return huggingface.of_object(value, columns, known, "datasets", "datasets")
    if library in ("pandas", "pyarrow"):
        return tables.table(value, columns, known, skip=skip)
    raise InputError(
        f"a {type(value).__name__} is no data set: give a specification as 'folder:DIR', (inputs, "
        "labels), a datasets.Dataset or a table; batches go to jaxte.extract as they are"
    )


def _split(options: dict[str, Any], where: str) -> tuple[Columns, Known]:
    """Options that choose columns, and those that tell about labels."""
    columns = {key: options[key] for key in ("image", "text", "words") if key in options}
    label = tuple(options.get("label", ()))
    return Columns(**columns, label=label), known_of(f"the labels of {where}", **_about(options))


def _about(options: dict[str, Any]) -> dict[str, Any]:
    """Options that tell about labels."""
    return {key: options[key] for key in ("task", "classes", "ignore") if key in options}


def as_dataset(
    inputs: Any,
    labels: Any,
    *,
    name: str = "arrays",
    task: str | None = None,
    classes: int | Sequence[str] | None = None,
    ignore: int | None = None,
) -> Dataset:
    """Examples and labels in memory as a `Dataset`.

    Args:
        inputs: one row per example: images uint8 [n, h, w, c] or [n, h, w], other arrays, texts,
            lists of words, or a list of images of different sizes.
        labels: one per example, of any of the forms that `load` takes.
        name: names it in messages and in the card.
        task: as in `load`.
        classes: as in `load`.
        ignore: as in `load`.

    Returns:
        The data set.

    Raises:
        InputError: if labels do not fit the examples.

    Example:
        >>> from jaxte import data
        >>> mail = data.as_dataset(["buy now", "see you", "cheap!"], ["spam", "ham", "spam"])
        >>> mail.class_names, mail[1]
        (('ham', 'spam'), ('see you', 0))
    """
    known = known_of(f"the labels of {name}", task=task, classes=classes, ignore=ignore)
    return records.arrays(inputs, labels, known, name, {"source": "arrays"})
