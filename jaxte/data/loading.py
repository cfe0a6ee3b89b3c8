"""`load`: from a specification, or what a user already has, to a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jaxte.data import huggingface, records, tables, tensorflow_datasets
from jaxte.data._columns import Columns, Request
from jaxte.data._specs import Spec, parse
from jaxte.data._targets import label_spec
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
        label: the column of labels, or several of them. Columns that are not named are those
            of usual names, or that hold the like.
        task: one of `TASKS`, where the labels would say another.
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
        InputError: if it cannot be read, or has no such column or option.
        ImportError: if a package is missing.

    Example:
        >>> from jaxte import data
        >>> digits = data.load("zoo:digits/test?subset=100")
        >>> image, label = digits[0]
        >>> digits.task, digits.num_classes, image.shape
        ('classification', 10, (8, 8, 1))
    """
    label = (label,) if isinstance(label, str) else label
    arguments: dict[str, Any] = {
        "image": image, "text": text, "words": words, "label": label, "task": task,
        "classes": classes, "ignore": ignore, "subset": subset, "seed": seed,
        "data_dir": data_dir, "encoding": encoding,
    }  # fmt: skip
    options = {key: value for key, value in arguments.items() if value is not None}
    parsed = parse(spec) if isinstance(spec, str) else None
    if parsed is not None:
        if twice := sorted(options.keys() & parsed.options.keys()):
            raise InputError(f"{spec!r} has {', '.join(twice)} already: give it once")
        options |= parsed.options
    size, draw = options.pop("subset", None), options.pop("seed", None)
    if size is None and draw is not None:
        raise InputError(f"seed is {draw}, but no subset is asked for")
    skip = choose("on_error", on_error, ("raise", "skip")) == "skip"
    whole = _of_value(spec, options, skip) if parsed is None else _of_spec(parsed, options, skip)
    return whole if size is None else whole.subset(size, seed=draw or 0)


def _of_spec(spec: Spec, options: dict[str, Any], skip: bool) -> Dataset:
    """The data set of a specification."""
    data_dir, encoding = options.pop("data_dir", None), options.pop("encoding", None)
    if data_dir is not None and spec.kind != "tfds":
        raise InputError(f"data_dir is for tfds:, not {spec.kind}:")
    if encoding is not None and spec.kind not in ("csv", "jsonl"):
        raise InputError(f"encoding is for csv: and jsonl:, not {spec.kind}:")
    request = _request(spec.name, options, skip)
    if spec.kind == "tfds":
        return tensorflow_datasets.tfds(spec.where, request, data_dir)
    if spec.kind in ("csv", "parquet", "jsonl"):
        return tables.table_file(spec.kind, spec.where, request, encoding)
    if spec.kind == "hf":
        return huggingface.hugging_face(spec.where, request)
    if spec.kind == "npz":
        return records.npz(spec.where, request)
    if request.columns != Columns():
        raise InputError(f"{spec.name} has no columns to choose: leave out image=, label= and such")
    if spec.kind == "folder":
        return records.folder(spec.where, request)
    return records.zoo_target(spec.where, request)


def _of_value(value: Any, options: dict[str, Any], skip: bool) -> Dataset:
    """The data set that a user's value stands for."""
    if isinstance(value, Dataset):
        if options:
            raise InputError(
                f"{value.name} is a data set already: it takes no {', '.join(options)}"
            )
        return value
    for option, kinds in (("data_dir", "tfds:"), ("encoding", "csv: and jsonl:")):
        if option in options:
            raise InputError(f"{option} is for {kinds}")
    library = type(value).__module__.partition(".")[0]
    request = _request("table" if library in ("pandas", "pyarrow") else library, options, skip)
    if isinstance(value, tuple) and len(value) == 2 and request.columns == Columns():
        return as_dataset(*value, **_of_labels(options))
    if library == "datasets":
        return huggingface.of_object(value, request, library)
    if request.name == "table":
        return tables.table(value, request)
    raise InputError(
        f"a {type(value).__name__} is no data set: give a specification as 'folder:DIR', (inputs, "
        "labels), a datasets.Dataset or a table; batches go to jaxte.extract as they are"
    )


def _request(name: str, options: dict[str, Any], skip: bool) -> Request:
    columns = {key: options[key] for key in ("image", "text", "words") if key in options}
    labels = label_spec(f"the labels of {name}", **_of_labels(options))
    return Request(name, Columns(**columns, label=tuple(options.get("label", ()))), labels, skip)


def _of_labels(options: dict[str, Any]) -> dict[str, Any]:
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
    spec = label_spec(f"the labels of {name}", task=task, classes=classes, ignore=ignore)
    return records.arrays(inputs, labels, spec, name, {"source": "arrays"})
