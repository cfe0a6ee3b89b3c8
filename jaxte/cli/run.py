"""`jaxte run`: from models and a data set to a ranking, extracting what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxte.cli import _cache, _output, processes
from jaxte.cli import _options as options
from jaxte.cli._errors import RESUMES, one_line_errors
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxte.cli._extraction import Job, Options, Outcome
    from jaxte.cli._ranking import EarlierReport
    from jaxte.data import Dataset
    from jaxte.ranking import Ranking


def _show_example(wanted: bool) -> None:
    if wanted:
        typer.echo(Path(__file__).with_name("models.toml").read_text(encoding="utf-8"), nl=False)
        raise typer.Exit


@options.command
def run(
    *,
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
            metavar="[NAME=]SPEC",
            help="A model as `jaxte extract` takes it; repeatable, or comma-separated.",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Comma-separated or repeated; by default of ridge_probe,logme,sfda,face those "
            "for the task.",
        ),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where stores are kept (OUT/features).")
    ] = None,
    layers: options.Layers = None,
    pool: options.Pool = None,
    shared: options.Extraction,
    precision: Annotated[str, typer.Option(help="Of scores: auto, float32 or float64.")] = "auto",
    normalize: options.Normalize = "sum",
    settings: options.Settings = None,
    trust: options.Trust,
    store: options.Store = True,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only extract every N-th model, from the I-th on: N jobs share the work.",
        ),
    ] = None,
    dry_run: options.DryRun = False,
    trace: options.Traceback = False,
    example: Annotated[
        bool,
        typer.Option(
            "--example",
            is_eager=True,
            callback=_show_example,
            help="Print a complete models.toml, and do nothing else.",
        ),
    ] = False,
) -> None:
    """Extract the features of every model that are not there yet, rank, and write a report.

    Features lie in OUT/features/<model>/<data set>/; what is complete there is used, what was
    interrupted goes on. OUT gets ranking.csv, .json, .md, .html and, where Matplotlib is
    installed, .png. Models whose features of the data set lie there from earlier calls are ranked
    too; a report on another data set is not overwritten.
    With --no-store no features are kept: LogME and FaCe are made from moments.
    With --part 1/4 ... 4/4 four jobs, on one machine or on many that share OUT, extract a part of
    the models each and rank none; the same call without it ranks, once they are all there.

    A table of models.toml: source = "hf:...", and if wanted name, layers, pool, level, layout,
    prepare, compute_dtype, max_length, batch_size; --example prints one.

    A model that fails is named and does not stop the others. The exit code is 1 if some failed,
    2 if none is left or the call cannot be.
    """
    with one_line_errors(RESUMES):
        from jaxte.cli import _extraction, _ranking
        from jaxte.intake.checks import choose
        from jaxte.ranking.options import NORMALIZATIONS, PRECISIONS

        how = _extraction.Options(shared, store, trace, precision)
        how.check()
        jobs = _jobs(models, model, _extraction.model_options(layers, pool, shared), shared)
        if part is not None:
            jobs = _share(jobs, part, store)
        scoring: dict[str, Any] = {
            "options": options.parse_settings(settings),
            "precision": choose("precision", precision, PRECISIONS),
            "normalize": choose("normalize", normalize, NORMALIZATIONS),
            **trust.options(),
            "layers": "joined" if options.names(layers or ()) == ("all",) else "each",
        }
        group = processes.checked(shared.devices)
        _cache.turn_on()
        with processes.joined(group):
            dataset = _extraction.read_data(data, shared)
            scoring["metrics"] = _checked_metrics(
                metrics, scoring["options"], dataset, trust.options()
            )
            before = _ranking.earlier_report(out, dataset)
            root = features or out / "features"
            how = how._replace(mesh=processes.mesh(group))
            whole = _extract_and_rank if part is None else _extract_only
            act = _show_plans if dry_run else whole
            raise typer.Exit(act(jobs, dataset, root, how, before, scoring))


def _jobs(
    file: Path | None,
    texts: Sequence[str] | None,
    of_models: Mapping[str, Any],
    shared: options.Extraction,
) -> list[Job]:
    """The models of --models and --model, no two of one name."""
    from jaxte.cli import _extraction

    jobs = [] if file is None else _extraction.jobs_of_file(file, of_models, shared.batch_size)
    jobs += _extraction.jobs_of_specs(texts or (), of_models, shared.batch_size)
    if not jobs:
        raise InputError("name the models: --models FILE, or --model SPEC once or more")
    jobs = [job.named() for job in jobs]  # two attributes of Python may be of one class
    names = [job.title for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name}: give each a name, NAME=SPEC")
    return jobs


def _checked_metrics(
    texts: Sequence[str] | None,
    settings: Mapping[str, Any],
    dataset: Dataset,
    trust: Mapping[str, Any],
) -> tuple[str, ...]:
    """The metrics for a data set, once it is sure that they can be had with these options."""
    from jaxte.cli import _ranking
    from jaxte.ranking.options import checked

    names = _ranking.choose_metrics(None if texts is None else options.names(texts), dataset)
    checked(names, options=settings, **trust)
    return names


def _show_plans(jobs: Sequence[Job], dataset: Dataset, root: Path, how: Options, *_: Any) -> int:
    """Show what would be done, and return the exit code."""
    from jaxte.cli import _extraction, _tables

    plans = _extraction.make_plans(jobs, dataset, _extraction.places(root, dataset), how)
    _output.write_page([_tables.plans(plans)], None)
    return _exit_code(sum(_tables.is_usable(plan) for _, plan in plans), len(plans))


def _extract_and_rank(
    jobs: Sequence[Job],
    dataset: Dataset,
    root: Path,
    how: Options,
    before: EarlierReport,
    scoring: Mapping[str, Any],
) -> int:
    """Extract what is missing, rank all models that are there, and return the exit code."""
    from jaxte.cli import _extraction, _ranking, _tables

    others = _ranking.stored_models(root, dataset, ())
    before.check([*(job.title for job in jobs), *(one.name for one in others)])
    before.directory.mkdir(parents=True, exist_ok=True)
    outcomes = _extraction.run_jobs(jobs, dataset, _extraction.places(root, dataset), how)
    usable = [one for one in outcomes if one.features]
    if not usable:
        _output.write_page([_tables.outcomes(outcomes)], None)
        raise InputError("no model could be extracted, the reasons are above")
    others = _ranking.stored_models(root, dataset, [one.name for one in outcomes])
    ranking = _ranking.rank_models([*outcomes, *others], **scoring)
    _ranking.write_report(ranking, [*outcomes, *others], before, dataset.name)
    return _exit_code(sum(_is_scored(one, ranking) for one in usable), len(outcomes))


def _extract_only(jobs: Sequence[Job], dataset: Dataset, root: Path, how: Options, *_: Any) -> int:
    """Extract what is missing of a part of the models, and return the exit code."""
    from jaxte.cli import _extraction, _tables

    outcomes = _extraction.run_jobs(jobs, dataset, _extraction.places(root, dataset), how)
    after = "when all parts are done, the same call without --part ranks the models"
    _output.write_page([_tables.outcomes(outcomes), f"Extracted only: {after}."], None)
    return _exit_code(sum(bool(one.features) for one in outcomes), len(outcomes))


def _share(jobs: Sequence[Job], part: str, store: bool) -> list[Job]:
    """The jobs of one part, I/N: each N-th, so that models of one family spread over the parts."""
    first, _, number = part.partition("/")
    if not (first.isdecimal() and number.isdecimal() and 1 <= int(first) <= int(number)):
        raise InputError(f"--part {part}: give I/N with I from 1 to N, as 2/4")
    if not store:
        raise InputError("--part extracts for a later ranking: leave out --no-store")
    own = list(jobs[int(first) - 1 :: int(number)])
    if not own:
        raise InputError(f"--part {part}: there are {len(jobs)} models, so that it has none")
    return own


def _exit_code(good: int, total: int) -> int:
    return 0 if good == total else 1 if good else 2


def _is_scored(outcome: Outcome, ranking: Ranking) -> bool:
    """Whether a layer of the model has a score at all."""
    name = outcome.name
    layers = [m for m in ranking.models if m == name or m.startswith(f"{name}@")]
    return any(ranking.status(m, metric) == "ok" for m in layers for metric in ranking.metrics)
