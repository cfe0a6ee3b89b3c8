"""`jaxte extract`: the features of one model on one data set, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxte.cli import _cache, _output, processes
from jaxte.cli import _options as options
from jaxte.cli._errors import one_line_errors


def extract(
    data: options.Data,
    model: Annotated[
        str,
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
    batch_size: options.BatchSize = None,
    dtype: options.Dtype = "float32",
    compute_dtype: options.ComputeDtype = None,
    max_length: options.MaxLength = None,
    logits: options.Logits = True,
    subset: options.Subset = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    data_dir: options.DataDir = None,
    pixels: options.Pixels = None,
    pixel_budget: options.PixelBudget = None,
    workers: options.Workers = 0,
    devices: options.Devices = None,
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
    with one_line_errors():
        from jaxte import InputError, report
        from jaxte.cli import _extraction, _ranking, _tables

        if store and out is None and not check:
            raise InputError("say where to store the features: --out DIR (or --no-store)")
        how = _extraction.Options(
            dtype, logits, pixels, pixel_budget, seed, workers, store, traceback=trace,
            on_error="skip" if skip_damaged else "raise",
        )  # fmt: skip
        how.check(devices, batch_size=batch_size, max_length=max_length, subset=subset, limit=limit)
        of_model = _extraction.model_options(layers, pool, compute_dtype, max_length)
        of_model |= {k: v for k, v in {"name": name, "layout": layout}.items() if v is not None}
        jobs = _extraction.jobs_of_specs([model], of_model, batch_size)
        group = processes.checked(devices)
        _cache.turn_on()
        with processes.joined(group):
            dataset = _extraction.read_data(
                data, subset=subset, seed=seed, limit=limit, data_dir=data_dir,
                skip=check or skip_damaged,
            )  # fmt: skip
            if check:
                damaged = dataset.damaged(workers=workers, progress=True)
                _output.write_page([_tables.damaged_rows(dataset, damaged)], None)
                raise typer.Exit(2 if damaged else 0)
            how = how._replace(mesh=processes.mesh(group))
            if dry_run:
                plans = _extraction.make_plans(jobs, dataset, lambda _: out, how)
                _output.write_page([_tables.plans(plans)], None)
                raise typer.Exit(0 if _tables.is_usable(plans[0][1]) else 2)
            outcomes = _extraction.run_jobs(jobs, dataset, lambda _: out, how)
            if outcomes[0].status == _extraction.FAILED:
                raise typer.Exit(2)
            page = [_tables.outcomes(outcomes)]
            if not store:
                metrics = _ranking.choose_metrics(None, dataset)
                page.append(report.table(_ranking.rank_models(outcomes, metrics)))
            _output.write_page(page, None)
