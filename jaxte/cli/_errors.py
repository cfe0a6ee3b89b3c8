"""Errors of the command line: one line each on standard error, and exit code 2."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RESUMES", "check_counts", "one_line_errors", "system_message", "warn"]

RESUMES = "what is complete is kept, and the same command goes on from there"


def warn(message: str) -> None:
    """One line on standard error."""
    typer.echo(f"jaxte: {' '.join(message.split())}", err=True)


@contextmanager
def one_line_errors(kept: str = "nothing is written") -> Iterator[None]:
    """Turn what a user can mend into one line on standard error and exit code 2.

    Args:
        kept: what is left of the work where it is interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        warn(f"interrupted: {kept}")
        raise typer.Exit(130) from None
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
