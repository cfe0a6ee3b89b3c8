"""`jaxte zoo`: what ships with jaxte, and how it was made."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="The models and target sets that ship with jaxte.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
