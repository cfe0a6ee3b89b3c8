"""`jaxte extract`: the features of one model on one data set, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxte.cli import _cache, _common, _options, processes
from jaxte.cli._options import (
    BatchOption,
    BudgetOption,
    ComputeOption,
    DataOption,
    DevicesOption,
    DirOption,
    DryOption,
    DtypeOption,
    LayersOption,
    LengthOption,
    LimitOption,
    LogitsOption,
    PixelsOption,
    PoolOption,
    SeedOption,
    StoreFlag,
    SubsetOption,
    TraceOption,
    WorkersOption,
)


def extract(
    data: DataOption,
    model: Annotated[
        str,
        typer.Option(
            metavar="SPEC", help="zoo:NAME, hf:PATH_OR_NAME, timm:NAME or python:MODULE:ATTRIBUTE."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the store; again to resume.")
    ] = None,
    layers: LayersOption = None,
    pool: PoolOption = None,
    name: Annotated[str | None, typer.Option(help="Of the model; by default its own.")] = None,
    batch_size: BatchOption = None,
    dtype: DtypeOption = "float32",
    compute_dtype: ComputeOption = None,
    max_length: LengthOption = None,
    logits: LogitsOption = True,
    subset: SubsetOption = None,
    seed: SeedOption = 0,
    limit: LimitOption = None,
    data_dir: DirOption = None,
    pixels: PixelsOption = None,
    pixel_budget: BudgetOption = None,
    workers: WorkersOption = 0,
    devices: DevicesOption = None,
    store: StoreFlag = True,
    dry_run: DryOption = False,
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
    trace: TraceOption = False,
) -> None:
    """Run a data set through a model and store the features, labels and source logits in DIR.

    Interrupted, it goes on where it stopped when it is called again; completed, it returns at
    once. DIR may be ranked with `jaxte rank DIR`. With --no-store nothing is kept: LogME and FaCe
    of the model are shown. The exit code is 2 if it fails, and if --check finds damaged examples.
    """
    with _common.one_line_errors():
        from jaxte import InputError, report
        from jaxte.cli import _jobs, _scores, _summary

        if store and out is None and not check:
            raise InputError("say where to store the features: --out DIR (or --no-store)")
        _options.check(
            dtype=dtype, compute_dtype=compute_dtype, pool=pool, pixels=pixels, seed=seed,
            workers=workers, batch_size=batch_size, max_length=max_length, subset=subset,
            limit=limit, pixel_budget=pixel_budget,
        )  # fmt: skip
        of_models = _options.of_models(layers, pool, compute_dtype, max_length)
        more = {"name": name, "layout": layout}
        jobs = _jobs.given_jobs([model], {**of_models, **more}, batch_size)
        team = _options.team_of(devices, store)
        _cache.turn_on()
        with processes.joined(team):
            dataset = _jobs.read_data(
                data,
                subset=subset,
                seed=seed,
                limit=limit,
                data_dir=data_dir,
                skip=check or skip_damaged,
            )
            if check:
                damaged = _jobs.damaged(dataset, workers)
                _common.write_page([_summary.damage(dataset, damaged)], None)
                raise typer.Exit(2 if damaged else 0)
            options = _jobs.Options(
                dtype=dtype,
                logits=logits,
                pixels=pixels,
                pixel_budget=pixel_budget,
                seed=seed,
                workers=workers,
                mesh=processes.mesh(team),
                store=store,
                precision="auto",
                traceback=trace,
                on_error="skip" if skip_damaged else "raise",
            )
            if dry_run:
                found = _jobs.plans(jobs, dataset, lambda _: out, options)
                _common.write_page([_summary.forecast(found)], None)
                raise typer.Exit(0 if _summary.usable(found[0][1]) else 2)
            outcomes = _jobs.work(jobs, dataset, lambda _: out, options)
            if outcomes[0].status == _jobs.FAILED:
                raise typer.Exit(2)
            page = [_summary.summary(outcomes)]
            if not store:
                metrics = _scores.chosen(None, dataset)
                page.append(report.table(_scores.ranked(outcomes, metrics)))
            _common.write_page(page, None)
