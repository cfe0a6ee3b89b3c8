"""`jaxte race`: a few real fine-tuning steps of the zoo's models on a target, or on one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxte.cli import _cache, _output
from jaxte.cli import _options as options
from jaxte.cli._errors import RESUMES, one_line_errors, warn
from jaxte.cli._output import Format
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxte.race import Race


@options.command
def race(
    *,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="A target set of the zoo, as digits."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SPEC", help="Instead: a data set, as folder:DIR."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Of the zoo, or zoo:NAME, python:MODULE:ATTRIBUTE; "
            "repeatable, or comma-separated; by default all of the zoo.",
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Share, up to 1, of the cost of fine-tuning all models once.")
    ] = 0.05,
    confidence: Annotated[
        float, typer.Option(help="Chance of the leader at which the race is over.")
    ] = 0.9,
    history: Annotated[
        Path | None,
        typer.Option(help="CSV of model, dataset, accuracy: what models reached elsewhere."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds, shuffles and draws.")] = 0,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep finished trials here, and go on with those kept."),
    ] = None,
    output: options.Output,
) -> None:
    """Fine-tune models a little, where it decides, and say which to fine-tune in full.

    Every model is judged by a head on its frozen features, cross-fitted; the rest of the budget
    goes to short runs of full fine-tuning of those that may be the best. A budget of 0.05 costs a
    twentieth of fine-tuning all of them once. The exit code is 1 if all models but one failed.
    """
    # small factorisations: BLAS threads would only wait for each other; read at first import
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with one_line_errors(RESUMES if resume else "with --resume DIR finished trials are kept"):
        import jaxte
        from jaxte import zoo

        form, out, plot = _output.checked(*output)
        if budget > 1:  # a share, which a percentage was taken for
            raise InputError(f"--budget is {budget:g}: give a share up to 1, as 0.05")
        data = _checked_data(options.names(targets or ()), data)
        names = options.models(models or zoo.names())
        pool = {name: name if ":" in name else f"zoo:{name}" for name in names}
        _cache.turn_on()
        result = jaxte.race(
            pool, data, budget=budget, confidence=confidence,
            history=history, seed=seed, resume=resume, progress=True,
        )  # fmt: skip
        if plot is not None:
            result.plot(plot)
            warn(f"wrote {plot}")
        _show(result, form, out)
    if len(result.order()) < 2:
        raise typer.Exit(1)


def _checked_data(targets: Sequence[str], data: str | None) -> str:
    """The one data set to race on."""
    from jaxte import zoo
    from jaxte.zoo.catalog import check_names

    if len(targets) + (data is not None) != 1:
        raise InputError("say what to race on: --target NAME of the zoo, or --data SPEC, once")
    check_names("target", targets, zoo.targets())
    return data or f"zoo:{targets[0]}/train"


def _show(result: Race, form: Format, out: Path | None) -> None:
    from jaxte import report

    if form is Format.CSV:
        _output.write(report.csv_text(result.to_records()), out)
    elif form is Format.JSON:
        _output.write(result.to_json(), out)
    elif form is Format.MARKDOWN:
        _output.write(f"{report.to_markdown(result.table())}\n{result.sentence()}", out)
    else:
        seconds = f"{result.meta['trials']} trials, {result.meta['seconds']:.0f} s."
        _output.write_page([result.table(), f"{result.sentence()} {seconds}"], out, form)
