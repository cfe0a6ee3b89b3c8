"""What the commands share: output formats, one-line errors, progress."""

from __future__ import annotations

import html
import os
import sys
import textwrap
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jaxte.report import Table


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


_PICTURES = (".png", ".svg", ".pdf")
_ENDINGS = {
    "": Format.TABLE,
    ".txt": Format.TABLE,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".md": Format.MARKDOWN,
    ".html": Format.HTML,
}
_PAGE = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>jaxte</title>\n{}\n</html>'

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Form of the output; by default from the ending of --out, else a table."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write to this file instead of standard output.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Save a picture too (png, svg or pdf).")
]


def names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def warn(message: str) -> None:
    """One line on standard error."""
    typer.echo(f"jaxte: {' '.join(message.split())}", err=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line on standard error and exit code 2."""
    from jaxte.errors import InputError

    try:
        yield
    except ImportError as error:
        if "pip install" not in str(error):  # not an extra that is missing, but a fault
            raise
        warn(str(error))
    except InputError as error:
        warn(str(error))
    except MemoryError as error:
        warn(f"out of memory ({error}): use fewer or smaller batches")
    except OSError as error:
        warn(of_system(error))
    else:
        return
    raise typer.Exit(2)


def of_system(error: OSError) -> str:
    """What the system said of a file, without its number."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror}" if error.strerror else str(error)


def check_counts(least: int = 1, /, **options: float | None) -> None:
    """Raise `InputError` for a number below the least; a name stands for its --option."""
    from jaxte.errors import InputError

    for name, value in options.items():
        if value is not None and not least <= value < 1 << 62:
            wanted = "positive number" if least else "number from 0 on"
            raise InputError(f"--{name.replace('_', '-')} {value}: it must be a {wanted}")


def checked_format(form: Format | None, out: Path | None, plot: Path | None = None) -> Format:
    """The format to write, after a look at both paths so that no work is lost on a bad one."""
    from jaxte.errors import InputError

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
    if form is not None:
        return form
    ending = "" if out is None else out.suffix.lower()
    if ending not in _ENDINGS:
        known = ", ".join(name for name in _ENDINGS if name)
        raise InputError(f"--out {out}: end the name in {known}, or choose with --format")
    return _ENDINGS[ending]


def write(text: str, out: Path | None) -> None:
    """The text to a file, or to standard output."""
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        text = text if text.endswith("\n") else f"{text}\n"
        out.write_text(text, encoding="utf-8", errors="backslashreplace")
        warn(f"wrote {out}")


def write_page(parts: Sequence[str | Table], out: Path | None, form: Format = Format.TABLE) -> None:
    """Tables and paragraphs for people: in colour on a terminal, plain elsewhere, or as HTML."""
    from jaxte import report

    if form is Format.HTML:
        write(as_html(parts), out)
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
    """Tables and paragraphs as a page of its own."""
    from jaxte import report

    pieces = (
        f"<p>{html.escape(part)}</p>" if isinstance(part, str) else report.to_html(part)
        for part in parts
    )
    return _PAGE.format("\n".join(pieces))


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """A bar on standard error, where that is a terminal, fed as `update(done, total, label)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[label]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=None, label="")

        def update(done: int, total: int | None, label: str) -> None:
            bar.tasks[0].total = total  # update() takes None for no change
            bar.update(task, completed=done, label=label)

        yield update
