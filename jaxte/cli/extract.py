"""`jaxte extract`: the features of one model on one data set, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxte.cli import _cache, _output, processes
from jaxte.cli import _options as options
from jaxte.cli._errors import RESUMES, one_line_errors
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxte.cli._extraction import Job, Options
    from jaxte.data import Dataset


@options.command
def extract(
    *,
    data: options.Data,
    model: Annotated[
        list[str],
        typer.Option(
            metavar="SPEC",
            help="zoo:NAME, encoder:DIR/NAME, hf:PATH_OR_NAME, timm:NAME or "
            "python:MODULE:ATTRIBUTE.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the store; again to resume.")
    ] = None,
    layers: options.Layers = None,
    pool: options.Pool = None,
    name: Annotated[str | None, typer.Option(help="Of the model; by default its own.")] = None,
    shared: options.Extraction,
    store: options.Store = True,
    dry_run: options.DryRun = False,
    layout: Annotated[
        str | None,
        typer.Option(help="NHWC or NCHW, of layers with four axes; by default the framework's."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only read the data, and list what cannot be read.")
    ] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out examples that cannot be read.")
    ] = False,
    trace: options.Traceback = False,
) -> None:
    """Run a data set through a model and store the features, labels and source logits in DIR.

    Interrupted, it goes on where it stopped when it is called again; completed, it returns at
    once. DIR may be ranked with `jaxte rank DIR`. With --no-store nothing is kept: LogME and FaCe
    of the model are shown. The exit code is 2 if it fails, and if --check finds damaged examples.
    """
    with one_line_errors(RESUMES):
        from jaxte.cli import _extraction

        if store and out is None and not check:
            raise InputError("say where to store the features: --out DIR (or --no-store)")
        if not store and out is not None:
            raise InputError("--no-store keeps nothing, --out says where: leave out one of them")
        on_error = "skip" if skip_damaged else "raise"
        how = _extraction.Options(shared, store, traceback=trace, on_error=on_error)
        how.check()
        of_model = _extraction.model_options(layers, pool, shared, name=name, layout=layout)
        jobs = _extraction.jobs_of_specs(model, of_model, shared.batch_size)
        if len(jobs) != 1:
            raise InputError(
                f"--model names {len(jobs)} models: name one, or extract several by jaxte run"
            )
        group = processes.checked(shared.devices)
        _cache.turn_on()
        with processes.joined(group):
            dataset = _extraction.read_data(data, shared, skip=check or skip_damaged)
            if check:
                _list_damaged(dataset, shared.workers)
            how = how._replace(mesh=processes.mesh(group))
            if dry_run:
                _show_plan(jobs, dataset, out, how)
            _extract(jobs, dataset, out, how)


def _list_damaged(dataset: Dataset, workers: int) -> None:
    """Show the examples that cannot be read, and end."""
    from jaxte.cli import _tables

    damaged = dataset.damaged(workers=workers, progress=True)
    _output.write_page([_tables.damaged_rows(dataset, damaged)], None)
    raise typer.Exit(2 if damaged else 0)


def _show_plan(jobs: Sequence[Job], dataset: Dataset, out: Path | None, how: Options) -> None:
    """Show what would be done, and end."""
    from jaxte.cli import _extraction, _tables

    plans = _extraction.make_plans(jobs, dataset, lambda _: out, how)
    _output.write_page([_tables.plans(plans)], None)
    raise typer.Exit(0 if _tables.is_usable(plans[0][1]) else 2)


def _extract(jobs: Sequence[Job], dataset: Dataset, out: Path | None, how: Options) -> None:
    """Extract the features, and show what became of them; without a store their scores, too."""
    from jaxte import report
    from jaxte.cli import _extraction, _ranking, _tables

    outcomes = _extraction.run_jobs(jobs, dataset, lambda _: out, how)
    if outcomes[0].status == _extraction.FAILED:
        raise typer.Exit(2)
    page = [_tables.outcomes(outcomes)]
    if not how.store:
        metrics = _ranking.choose_metrics(None, dataset)
        page.append(report.table(_ranking.rank_models(outcomes, metrics)))
    _output.write_page(page, None)
