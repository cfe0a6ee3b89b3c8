"""`jaxte cite`: the BibTeX of what was used."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

import typer

from jaxte import __version__
from jaxte.cli import _options as options
from jaxte.cli import _output
from jaxte.cli._errors import one_line_errors
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


def cite(
    metrics: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METRIC]...", help="Metrics and perturbations; else jaxte itself."),
    ] = None,
) -> None:
    """Print the BibTeX of the papers behind metrics and perturbations."""
    with one_line_errors():
        _output.write(bibtex(options.names(metrics or ())), None)


def bibtex(names: Iterable[str] = ()) -> str:
    """The entries of metrics and perturbations of these names; jaxte's own without any.

    Raises:
        InputError: for an unknown name, or a metric of which no paper is known.

    Example:
        >>> from jaxte.cli.cite import bibtex
        >>> print(bibtex(["LogME"]).partition(",")[0])
        @inproceedings{you2021logme
    """
    wanted = {_known(name) for name in names} or {"jaxte"}
    return "\n\n".join(text for text, cited in entries() if wanted & cited) + "\n"


@cache
def entries() -> tuple[tuple[str, frozenset[str]], ...]:
    """Each entry, and the names of what it is cited for."""
    text = files("jaxte.metrics").joinpath("references.bib").read_text(encoding="utf-8")
    parts = []
    for entry in re.findall(r"^@.*?^}", text, re.M | re.S):
        before, names, after = re.split(r"^ *keywords = {(.*)},\n", entry, flags=re.M)
        version = f"  version = {{{__version__}}},\n" if names == "jaxte" else ""
        parts.append((before + version + after, frozenset(names.split(", "))))
    return tuple(parts)


def _known(name: str) -> str:
    from jaxte.metrics import get_metric
    from jaxte.metrics.registry import spelling

    known = spelling(name, {one for _, cited in entries() for one in cited})
    if known is None:
        metric = get_metric(name).name  # or an error that names those spelt alike
        raise InputError(f"no paper of {metric!r} is known: cite what its package says")
    return known
