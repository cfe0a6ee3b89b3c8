"""Which columns of a data set are the example and the label, and what else a user says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxte.data._targets import LabelSpec
from jaxte.errors import InputError

# Names that are taken where the user names none, and no two of them occur.
_USUAL = {
    "image": ("image", "images", "img", "path", "file"),
    "text": ("text", "texts", "sentence"),
    "words": ("words", "tokens"),
    "": ("inputs", "features", "x"),
}
_USUAL_LABELS = ("label", "labels", "target", "targets", "y")
_LABEL_KINDS = ("class", "classes")


class Choice(NamedTuple):
    """The column of the examples, what they are (image, text or words), and those of the labels."""

    input: str
    kind: str
    labels: tuple[str, ...]

    def card(self) -> dict[str, str | list[str]]:
        """As the card of the data set has it."""
        label = self.labels[0] if len(self.labels) == 1 else list(self.labels)
        return {self.kind or "inputs": self.input, "label": label}


@dataclass(frozen=True)
class Columns:
    """Columns that the user names; at most one of image, text and words."""

    image: str | None = None
    text: str | None = None
    words: str | None = None
    label: tuple[str, ...] = ()

    def choose(self, kinds: Mapping[str, str], where: str) -> Choice:
        """The columns, as they are named or by what they hold.

        ``kinds`` says that of each column: image, text, words, class, classes (a list of them),
        anything else, or "" where it cannot be said.
        """
        listed = ", ".join(f"{name} ({kind})" if kind else name for name, kind in kinds.items())
        listed = listed or "none"
        named = {k: c for k in ("image", "text", "words") if (c := getattr(self, k)) is not None}
        if len(named) > 1:
            raise InputError(f"{where}: choose one of {' and '.join(named)} for the examples")
        for column in (*named.values(), *self.label):
            if self.label.count(column) > 1:
                raise InputError(f"{where}: {column!r} is named twice as a label: name it once")
            if column not in kinds:
                raise InputError(f"{where} has no column {column!r}: there are {listed}")
        label = self.label or _label([name for name in kinds if name not in named.values()], kinds)
        if not label:
            raise InputError(f"{where}: say which column is the label=; there are {listed}")
        example = next(iter(named.items()), None)
        example = example or _input({c: k for c, k in kinds.items() if c not in label})
        if example is None:
            raise InputError(
                f"{where}: say which column has the examples, image=, text= or words=; there are "
                f"{listed}"
            )
        return Choice(example[1], example[0], label)


class Request(NamedTuple):
    """What a user says of a data set."""

    name: str
    columns: Columns
    labels: LabelSpec
    skip: bool = False  # whether files that are missing or empty are left for whoever reads them


def _label(names: list[str], kinds: Mapping[str, str]) -> tuple[str, ...]:
    """The only column that is named, or else that holds something, like labels."""
    usual = [name for name in names if name in _USUAL_LABELS]
    of_kind = [name for name in names if kinds[name] in _LABEL_KINDS]
    return next((tuple(columns) for columns in (usual, of_kind) if len(columns) == 1), ())


def _input(kinds: Mapping[str, str]) -> tuple[str, str] | None:
    """Kind and column of the examples, by its name or else by what it holds."""
    usual = [(kind, name) for kind, names in _USUAL.items() for name in names if name in kinds]
    if len(usual) == 1:
        return usual[0][0] or kinds[usual[0][1]], usual[0][1]
    for kind in ("image", "words", "text") if not usual else ():
        columns = [column for column in kinds if kinds[column] == kind]
        if len(columns) == 1:
            return kind, columns[0]
    return None
