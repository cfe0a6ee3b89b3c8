"""`jaxte run`: from models and a data set to a ranking, extracting what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxte.cli import _cache, _output, processes
from jaxte.cli import _options as options
from jaxte.cli._errors import one_line_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxte.cli._extraction import Job, Outcome
    from jaxte.ranking import Ranking


def run(
    data: options.Data,
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
        typer.Option(
            help="Comma-separated; by default of ridge_probe,logme,sfda,face those for the task."
        ),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where stores are kept (OUT/features).")
    ] = None,
    layers: options.Layers = None,
    pool: options.Pool = None,
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
    precision: Annotated[str, typer.Option(help="Of scores: auto, float32 or float64.")] = "auto",
    normalize: options.Normalize = "sum",
    settings: options.Settings = None,
    store: options.Store = True,
    dry_run: options.DryRun = False,
    trace: options.Traceback = False,
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
    with one_line_errors():
        from jaxte.cli import _extraction, _ranking, _tables
        from jaxte.errors import InputError
        from jaxte.intake.checks import choose
        from jaxte.ranking.options import NORMALIZATIONS, PRECISIONS, checked

        how = _extraction.Options(
            dtype, logits, pixels, pixel_budget, seed, workers, store, trace, precision
        )
        how.check(devices, batch_size=batch_size, max_length=max_length, subset=subset, limit=limit)
        of_models = _extraction.model_options(layers, pool, compute_dtype, max_length)
        jobs = _extraction.jobs_of_file(models, of_models, batch_size) if models else []
        jobs += _extraction.jobs_of_specs(model or [], of_models, batch_size)
        if not jobs:
            raise InputError("name the models: --models FILE, or --model SPEC once or more")
        _check_names(jobs)
        of_metrics = options.parse_settings(settings)
        choose("precision", precision, PRECISIONS)
        choose("normalize", normalize, NORMALIZATIONS)
        group = processes.checked(devices)
        _cache.turn_on()
        with processes.joined(group):
            dataset = _extraction.read_data(
                data, subset=subset, seed=seed, limit=limit, data_dir=data_dir
            )
            named = None if metrics is None else options.names(metrics)
            names = _ranking.choose_metrics(named, dataset)
            for name in of_metrics:
                if name not in names:
                    raise InputError(f"--set {name}...: the metrics are {', '.join(names)}")
            checked(names, options=of_metrics)
            folder = _extraction.directory_name(dataset.name)
            root = out / "features" if features is None else features
            before = _ranking.earlier_report(out, dataset)

            def where(name: str) -> Path:
                return root / _extraction.directory_name(name) / folder

            how = how._replace(mesh=processes.mesh(group))
            if dry_run:
                plans = _extraction.make_plans(jobs, dataset, where, how)
                _output.write_page([_tables.plans(plans)], None)
                good = sum(_tables.is_usable(plan) for _, plan in plans)
                raise typer.Exit(_exit_code(good, len(plans)))
            expected = [job.expected for job in jobs]
            if None not in expected:  # else it is seen at the end
                others = _ranking.stored_models(root, folder, dataset, ())
                before.check([*(name for name in expected if name), *(one.name for one in others)])
            out.mkdir(parents=True, exist_ok=True)
            outcomes = _extraction.run_jobs(jobs, dataset, where, how)
            usable = [one for one in outcomes if one.features]
            if not usable:
                _output.write_page([_tables.outcomes(outcomes)], None)
                raise InputError("no model could be extracted, the reasons are above")
            extracted = [one.name for one in outcomes]
            every = [*outcomes, *_ranking.stored_models(root, folder, dataset, extracted)]
            ranking = _ranking.rank_models(
                every, names, precision=precision, normalize=normalize, options=of_metrics,
                layers="joined" if layers == "all" else "each",
            )  # fmt: skip
            _ranking.write_report(ranking, every, before, dataset.name)
            good = sum(_is_scored(one, ranking) for one in usable)
            raise typer.Exit(_exit_code(good, len(outcomes)))


def _check_names(jobs: Sequence[Job]) -> None:
    from jaxte.errors import InputError

    names = [job.expected or job.source for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name}: give each a name, NAME=SPEC")


def _exit_code(good: int, total: int) -> int:
    return 0 if good == total else 1 if good else 2


def _is_scored(outcome: Outcome, ranking: Ranking) -> bool:
    """Whether a layer of the model has a score at all."""
    name = outcome.name
    layers = [m for m in ranking.models if m == name or m.startswith(f"{name}@")]
    return any(ranking.status(m, metric) == "ok" for m in layers for metric in ranking.metrics)
