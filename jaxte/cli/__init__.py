"""The command line: `jaxte demo`, `race`, `run`, `rank`, `metrics`, `cite` and others.

Each command imports what it needs when it runs, so that `jaxte --help` loads neither JAX nor rich.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from jaxte import __version__
from jaxte.cli import _cache, cite, demo, evaluate, extract, metrics, race, rank, run, zoo
from jaxte.cli._errors import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]


# click's UsageError, which typer may bring along itself
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)


class _OneLine(TyperGroup):
    """Commands whose wrong calls are answered in one line, as all that a user can mend."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and, standing alone, end the process."""
        options = (prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(args, *options, **extra)
        try:
            code = super().main(args, *options, **extra)
        except _UsageError as caught:
            error: Any = caught
            message = error.format_message()
            if "\n" in message:  # the help, where nothing else was asked
                error.show()
            else:
                where = error.ctx.command_path if error.ctx else "jaxte"
                end = "" if message.endswith((".", "?")) else "."
                warn(f"{message}{end} Try '{where} -h' for help.")
            code = error.exit_code
        except typer.Abort:
            code = 130
        sys.exit(code)


app = typer.Typer(
    cls=_OneLine,
    help="Which of these pre-trained models should I fine-tune on my data?",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo", short_help="Rank the models that ship with jaxte; compare with fine-tuning.")(
    demo.demo
)
app.command("race", short_help="Fine-tune models a little; say which to fine-tune in full.")(
    race.race
)
app.command("run", short_help="Extract what is missing, rank the models, write a report.")(run.run)
app.command("extract", short_help="Store the features of a model on a data set.")(extract.extract)
app.command("rank", short_help="Rank the models whose features lie in a directory.")(rank.rank)
app.command("evaluate", short_help="Compare scores with the accuracies that fine-tuning reached.")(
    evaluate.evaluate
)
app.command("metrics", short_help="List the metrics and what each measures.")(metrics.metrics)
app.command("cite", short_help="Print the BibTeX of metrics, or of jaxte.")(cite.cite)
app.add_typer(zoo.app, name="zoo")


def _print_version(version: bool) -> None:
    if version:
        typer.echo(f"jaxte {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            help="Keep compiled code for the next run; by default as JAXTE_CACHE says (a "
            "directory, or off), else in the user's cache directory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Which of these pre-trained models should I fine-tune on my data?"""
    _cache.choose(cache)


def main() -> None:
    """Run the command line (the `jaxte` console script)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show "±" shows "?"
    app()
