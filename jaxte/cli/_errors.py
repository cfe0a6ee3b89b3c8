"""Errors of the command line: one line each on standard error, and exit code 2."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_counts", "one_line_errors", "system_message", "warn"]


def warn(message: str) -> None:
    """One line on standard error."""
    typer.echo(f"jaxte: {' '.join(message.split())}", err=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line on standard error and exit code 2."""
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
        warn(system_message(error))
    else:
        return
    raise typer.Exit(2)


def system_message(error: OSError) -> str:
    """What the system said of a file, without its number."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror}" if error.strerror else str(error)


def check_counts(least: int = 1, /, **options: float | None) -> None:
    """Raise `InputError` for a number below the least; a name stands for its --option."""
    for name, value in options.items():
        if value is not None and not least <= value < 1 << 62:
            kind = "positive number" if least else "number from 0 on"
            raise InputError(f"--{name.replace('_', '-')} {value}: it must be a {kind}")
