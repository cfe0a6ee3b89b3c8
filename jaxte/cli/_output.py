"""The formats in which the commands write their results."""

from __future__ import annotations

import html
import io
import os
import sys
import textwrap
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import typer

from jaxte.cli._errors import warn
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jaxte.ranking import Ranking
    from jaxte.report import Table


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    LATEX = "latex"


class Destination(NamedTuple):
    """Where results go, and in which form."""

    form: Format
    out: Path | None
    plot: Path | None


_PICTURES = (".png", ".svg", ".pdf")
_ENDINGS = {
    "": Format.TABLE,
    ".txt": Format.TABLE,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".md": Format.MARKDOWN,
    ".html": Format.HTML,
    ".tex": Format.LATEX,
    ".parquet": Format.CSV,  # its lines, written by pandas
    ".xlsx": Format.CSV,
}
PAGES = (Format.TABLE, Format.HTML, Format.LATEX)  # tables and paragraphs, as `write_page` has them
_BY_PANDAS = {".parquet": ("to_parquet", "pyarrow"), ".xlsx": ("to_excel", "openpyxl")}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>jaxte: {title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto }}
body {{ padding: 0 1rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; display: block }}
table {{ overflow-x: auto; white-space: nowrap; margin: 1rem 0 }}
th, td {{ padding: .2rem .7rem; border-bottom: 1px solid #8884 }}
.verdict {{ font-size: 1.2rem; font-weight: 600 }}
</style>
{body}
</html>"""
_LEGEND = {  # what the heads of a ranking's columns mean
    "#": "place",
    "+/-": "half the 90 % interval on new samples from the same population",
    "p": "share of random labellings that score as high",
    "best": "chance to lead on new samples",
}


def checked(form: Format | None, out: Path | None, plot: Path | None = None) -> Destination:
    """The same with the format to write; no work is to be lost on a path that will not do."""
    for path in (out, plot):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path.parent} is not a directory: create it first")
        if path is not None and path.is_dir():
            raise InputError(f"{path} is a directory: name a file in it")
        if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InputError(f"{path} may not be written: check the permissions")
    if plot is not None:
        import_module("jaxte.report.plots")  # or Matplotlib would be missed after the work
        if plot.suffix.lower() not in _PICTURES:
            raise InputError(f"--plot {plot}: end the name in {', '.join(_PICTURES)}")
    ending = "" if out is None else out.suffix.lower()
    if ending in _BY_PANDAS:
        if form not in (None, Format.CSV):
            raise InputError(f"--out {out} holds the lines of --format csv: leave out --format")
        needed = ("pandas", _BY_PANDAS[ending][1])
        if any(find_spec(package) is None for package in needed):
            raise InputError(f"--out {out} needs packages: pip install {' '.join(needed)}")
    if form is None and ending not in _ENDINGS:
        endings = ", ".join(name for name in _ENDINGS if name)
        raise InputError(f"--out {out}: end the name in {endings}, or choose with --format")
    return Destination(form or _ENDINGS[ending], out, plot)


def write(text: str, out: Path | None) -> None:
    """The text to a file, or to standard output."""
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        text = text if text.endswith("\n") else f"{text}\n"
        if (ending := out.suffix.lower()) in _BY_PANDAS:
            import pandas as pd

            names = dict.fromkeys(("model", "dataset", "metric"), str)  # "007" is no number
            frame = pd.read_csv(
                io.StringIO(text), keep_default_na=False, na_values=[""], dtype=names
            )
            getattr(frame, _BY_PANDAS[ending][0])(out, index=False)
        else:
            out.write_text(text, encoding="utf-8", errors="backslashreplace")
        warn(f"wrote {out}")


def answer(ranking: Ranking) -> str:
    """The verdict, or why there is none."""
    if ranking.decisive is not None:
        return ranking.verdict()
    return (
        f"No recommendation: none of {', '.join(ranking.metrics)} decides alone. Choose one, or "
        "have ridge_probe among --metrics."
    )


def write_page(parts: Sequence[str | Table], out: Path | None, form: Format = Format.TABLE) -> None:
    """Tables and paragraphs for people: in colour on a terminal, plain elsewhere, or as HTML."""
    from jaxte import report

    if form is Format.HTML:
        write(as_html(parts), out)
        return
    if form is Format.LATEX:
        write("\n".join(report.to_latex(one) for one in parts if not isinstance(one, str)), out)
        return
    if out is None and sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        for part in parts:
            if isinstance(part, str):
                console.print(part, markup=False)
            else:
                console.print(report.to_rich(part, width=console.width), soft_wrap=True, end="")
            if part is not parts[-1]:
                console.print()
        return
    texts = (
        textwrap.fill(part, 100) if isinstance(part, str) else report.to_text(part, width=100)
        for part in parts
    )
    write("\n\n".join(text.rstrip("\n") for text in texts), out)


def as_html(parts: Sequence[str | Table]) -> str:
    """Tables and paragraphs as a page of its own, which begins with the first paragraph."""
    from jaxte import report

    rest, first = list(parts), next((part for part in parts if isinstance(part, str)), "")
    if first:
        rest.remove(first)
    first = html.escape(first)
    pieces = [f'<p class="verdict">{first}</p>'] if first else []
    pieces += [
        f"<p>{html.escape(part)}</p>" if isinstance(part, str) else report.to_html(part)
        for part in rest
    ]
    heads = {head for part in parts if not isinstance(part, str) for head in part.columns}
    legend = "; ".join(f"<b>{head}</b> {text}" for head, text in _LEGEND.items() if head in heads)
    pieces.append(f"<p>{legend}</p>" if legend else "")
    return _PAGE.format(title=first.split(",")[0] or "tables", body="\n".join(pieces))
