"""The grammar of a data set's specification: ``KIND:WHERE[?OPTION=VALUE[&OPTION=VALUE...]]``."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import unquote

from jaxte.errors import InputError

FORMS = {
    "tfds": "tfds:NAME[/CONFIG][:VERSION]/SPLIT",
    "hf": "hf:NAME_OR_DIR[:CONFIG]/SPLIT",
    "folder": "folder:DIR",
    "csv": "csv:FILE",
    "parquet": "parquet:FILE",
    "jsonl": "jsonl:FILE",
    "npz": "npz:FILE",
    "zoo": "zoo:TARGET[/train or /test]",
}
_TEXTS = ("image", "text", "words", "task", "data_dir", "encoding")
_LISTS = ("label", "classes")
_NUMBERS = ("ignore", "subset", "seed")


class Spec(NamedTuple):
    """A parsed specification: kind, place and options, and it all less subset and seed."""

    kind: str
    where: str
    options: dict[str, Any]
    name: str


def parse(spec: str) -> Spec:
    """Take a specification apart; values of options may be percent-encoded.

    Example:
        >>> parse("csv:reviews.csv?text=body&label=stars&subset=500")
        Spec(kind='csv', where='reviews.csv', options={'text': 'body', 'label': ('stars',),
             'subset': 500}, name='csv:reviews.csv?text=body&label=stars')
    """
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in FORMS:
        forms = ", ".join(FORMS.values())
        raise InputError(f"{spec!r} is no data set: the forms are {forms}")
    where, _, query = rest.partition("?")
    if not where:
        raise InputError(f"{spec!r} does not say which: write {FORMS[kind]}")
    options: dict[str, Any] = {}
    kept = []
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not equals or not value or key in options:
            raise InputError(f"{spec!r}: {part!r} must be OPTION=VALUE, each option once")
        options[key] = _value(spec, key, value)
        kept += [] if key in ("subset", "seed") else [part]
    name = f"{kind}:{where}"
    return Spec(kind, where, options, f"{name}?{'&'.join(kept)}" if kept else name)


def _value(spec: str, key: str, value: str) -> Any:
    if key in _TEXTS:
        return unquote(value)
    if key in _NUMBERS or (key == "classes" and value.isdecimal()):
        try:
            return int(value)
        except ValueError as error:
            raise InputError(f"{spec!r}: {key} is {value!r}, not an integer") from error
    if key in _LISTS:
        return tuple(unquote(part) for part in value.split(","))
    options = ", ".join((*_TEXTS, *_LISTS, *_NUMBERS))
    raise InputError(f"{spec!r} has no option {key!r}: there are {options}")


def split_off(where: str) -> tuple[str, str | None]:
    """Name and split; slices belong to the split.

    Example:
        >>> split_off("glue/sst2/train[:10%]")
        ('glue/sst2', 'train[:10%]')
    """
    head, bracket, tail = where.partition("[")
    name, slash, split = head.rpartition("/")
    return (name, split + bracket + tail) if slash else (where, None)
