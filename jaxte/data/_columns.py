"""Which columns of a data set are the example and the label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxte.errors import InputError

__all__ = ["Choice", "Columns"]

# Names that are taken where none is given, and no two of them occur.
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

    def named(self) -> dict[str, str | list[str]]:
        """For the card."""
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
        """The columns, given or found.

        Args:
            kinds: of each column what it holds: image, text, words, class, classes (a list of
                them), anything else, or "" where it is not known.
            where: names the data set in messages.

        Raises:
            InputError: if a column does not exist, or which is meant cannot be told.
        """
        given = {
            kind: column
            for kind, column in (("image", self.image), ("text", self.text), ("words", self.words))
            if column is not None
        }
        if len(given) > 1:
            raise InputError(f"{where}: choose one of {' and '.join(given)} for the examples")
        for column in (*given.values(), *self.label):
            if column not in kinds:
                raise InputError(f"{where} has no column {column!r}: there are {_listed(kinds)}")
        labels = self.label or (_label(kinds, where, set(given.values())),)
        if given:
            ((kind, column),) = given.items()
        else:
            kind, column = _input({c: k for c, k in kinds.items() if c not in labels}, kinds, where)
        return Choice(column, kind, labels)


def _label(kinds: Mapping[str, str], where: str, taken: set[str]) -> str:
    left = [column for column in kinds if column not in taken]
    for found in (
        [column for column in left if column in _USUAL_LABELS],
        [column for column in left if kinds[column] in _LABEL_KINDS],
    ):
        if len(found) == 1:
            return found[0]
    raise InputError(f"{where}: say which column is the label=; there are {_listed(kinds)}")


def _input(left: Mapping[str, str], kinds: Mapping[str, str], where: str) -> tuple[str, str]:
    usual = [(kind, column) for kind, names in _USUAL.items() for column in names if column in left]
    if len(usual) == 1:
        ((kind, column),) = usual
        return kind or left[column], column
    for sought in ("image", "words", "text"):
        found = [column for column, kind in left.items() if kind == sought]
        if len(found) == 1 and not usual:
            return sought, found[0]
    raise InputError(
        f"{where}: say which column has the examples, image=, text= or words=; there are "
        f"{_listed(kinds)}"
    )


def _listed(kinds: Mapping[str, str]) -> str:
    named = (f"{name} ({kind})" if kind else name for name, kind in kinds.items())
    return ", ".join(named) or "none"
