"""`jaxte run`: from models and a data set to a ranking, extracting what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from jaxte.cli.rank import _parse_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxte.cli._jobs import Job, Outcome
    from jaxte.ranking import Ranking


def run(
    data: DataOption,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the report; made if missing.")
    ],
    models: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file with a [[model]] table for each model."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SPEC", help="A model as `jaxte extract` takes it; repeatable."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Comma-separated; by default of logme,sfda,face those for the task."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where stores are kept (OUT/features).")
    ] = None,
    layers: LayersOption = None,
    pool: PoolOption = None,
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
    precision: Annotated[str, typer.Option(help="Of scores: auto, float32 or float64.")] = "auto",
    normalize: Annotated[
        str, typer.Option(help="How the terms of a score are combined: sum, minmax or zscore.")
    ] = "sum",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METRIC.OPTION=VALUE", help="An option of one metric."),
    ] = None,
    store: StoreFlag = True,
    dry_run: DryOption = False,
    trace: TraceOption = False,
) -> None:
    """Extract the features of every model that are not there yet, rank, and write a report.

    Features lie in OUT/features/<model>/<data set>/; what is complete there is used, what was
    interrupted goes on. OUT gets ranking.csv, .json, .md, .html and, where Matplotlib is
    installed, .png. Models whose features of the data set lie there from earlier calls are ranked
    too; a report on another data set is not overwritten.
    With --no-store no features are kept: LogME and FaCe are made from moments.

    A table of models.toml: source = "hf:...", and if wanted name, layers, pool, level, prepare,
    compute_dtype, max_length, batch_size.

    A model that fails is named and does not stop the others. The exit code is 1 if some failed,
    2 if none is left or the call cannot be.
    """
    with _common.one_line_errors():
        from jaxte.cli import _jobs, _report, _scores, _summary
        from jaxte.errors import InputError
        from jaxte.intake.checks import choose
        from jaxte.ranking.options import NORMALIZATIONS, PRECISIONS, checked

        _options.check(
            dtype=dtype, compute_dtype=compute_dtype, pool=pool, pixels=pixels, seed=seed,
            workers=workers, batch_size=batch_size, max_length=max_length, subset=subset,
            limit=limit, pixel_budget=pixel_budget,
        )  # fmt: skip
        of_models = _options.of_models(layers, pool, compute_dtype, max_length)
        jobs = _jobs.file_jobs(models, of_models, batch_size) if models is not None else []
        jobs += _jobs.given_jobs(model or [], of_models, batch_size)
        if not jobs:
            raise InputError("name the models: --models FILE, or --model SPEC once or more")
        _check_names(jobs)
        options_of = _parse_settings(settings or [])
        choose("precision", precision, PRECISIONS)
        choose("normalize", normalize, NORMALIZATIONS)
        team = _options.team_of(devices, store)
        _cache.turn_on()
        with processes.joined(team):
            dataset = _jobs.read_data(
                data, subset=subset, seed=seed, limit=limit, data_dir=data_dir
            )
            names = _scores.chosen(None if metrics is None else _common.names(metrics), dataset)
            _check_settings(list(options_of), names)
            checked(names, options=options_of)
            folder = _jobs.directory_name(dataset.name)
            root = out / "features" if features is None else features
            before = _report.earlier(out, dataset)

            def where(name: str) -> Path:
                return root / _jobs.directory_name(name) / folder

            options = _jobs.Options(
                dtype=dtype,
                logits=logits,
                pixels=pixels,
                pixel_budget=pixel_budget,
                seed=seed,
                workers=workers,
                mesh=processes.mesh(team),
                store=store,
                precision=precision,
                traceback=trace,
            )
            if dry_run:
                found = _jobs.plans(jobs, dataset, where, options)
                _common.write_page([_summary.forecast(found)], None)
                raise typer.Exit(_code(sum(_summary.usable(one) for _, one in found), len(found)))
            expected = [job.expected for job in jobs]
            if None not in expected:  # else it is seen at the end
                kept = _report.stored(root, folder, dataset, ())
                before.check([*(name for name in expected if name), *(one.name for one in kept)])
            out.mkdir(parents=True, exist_ok=True)
            outcomes = _jobs.work(jobs, dataset, where, options)
            usable = [one for one in outcomes if one.features]
            if not usable:
                _common.write_page([_summary.summary(outcomes)], None)
                raise InputError("no model could be extracted, the reasons are above")
            kept = _report.stored(root, folder, dataset, [one.name for one in outcomes])
            every = [*outcomes, *kept]
            ranking = _scores.ranked(
                every, names, precision=precision, normalize=normalize, options=options_of
            )
            _report.write(ranking, every, _scores.problems(every), before, dataset.name)
            scored = [one for one in usable if _is_scored(one, ranking)]
            raise typer.Exit(_code(len(scored), len(outcomes)))


def _check_names(jobs: Sequence[Job]) -> None:
    from jaxte.errors import InputError

    names = [job.expected or job.source for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name}: give each a name, NAME=SPEC")


def _check_settings(given: Sequence[str], metrics: Sequence[str]) -> None:
    from jaxte.errors import InputError

    for name in given:
        if name not in metrics:
            raise InputError(f"--set {name}...: the metrics are {', '.join(metrics)}")


def _code(good: int, total: int) -> int:
    return 0 if good == total else 1 if good else 2


def _is_scored(outcome: Outcome, ranking: Ranking) -> bool:
    """Whether a layer of the model has a score at all."""
    own = [m for m in ranking.models if m == outcome.name or m.startswith(f"{outcome.name}@")]
    return any(ranking.status(model, metric) == "ok" for model in own for metric in ranking.metrics)
