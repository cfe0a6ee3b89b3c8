"""`jaxte rank DIR`: anybody's stored features, ranked."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxte import _progress
from jaxte.cli import _cache, _output, processes
from jaxte.cli import _options as options
from jaxte.cli._errors import one_line_errors, warn
from jaxte.cli._output import Format

if TYPE_CHECKING:
    from pathlib import Path

    from jaxte.ranking import Ranking


def rank(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory of features.")],
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names, logme,sfda,face by default; `jaxte metrics` lists them."
        ),
    ] = None,
    form: options.Form = None,
    out: options.Out = None,
    plot: options.Plot = None,
    dataset: Annotated[
        str | None, typer.Option(help="Which data set, where DIR holds features of several.")
    ] = None,
    perturb: Annotated[
        str | None,
        typer.Option(help="Perturb the features first: spread, attract, spread_attract or pca."),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or float64.")] = "auto",
    normalize: options.Normalize = "sum",
    settings: options.Settings = None,
    devices: Annotated[
        int | None, typer.Option(help="Share the samples between so many devices (or CPU cores).")
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--processes", help="Start so many processes, each with its share of rows."),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Process 0, where they run on several machines."),
    ] = None,
    process_id: Annotated[
        int | None, typer.Option(help="Which of the processes this one is, from 0.")
    ] = None,
) -> None:
    """Rank the models whose features lie in DIR.

    DIR holds stores, as `jaxte extract` writes them (DIR itself, <model>/ or <model>/<data set>/;
    the layers of one are ranked as <model>@<layer>); or <model>.npz (arrays features and labels),
    or <model>.npy beside labels.npy, or <model>_<dataset>_feature.npy beside
    <model>_<dataset>_label.npy, or <model>/ with shards (features-*.npy or any *.npy, and
    labels.npy there or in DIR; or *.npz with features and labels); or files of other tools, see
    jaxte.store.read_features. What is too large for the memory is read in batches. Pickled arrays
    are refused.
    A model that cannot be read or scored is listed with the reason and does not stop the others;
    the exit code is 2 if none is left.
    """
    with one_line_errors():
        import jaxte
        from jaxte.metrics import DEFAULT_METRICS
        from jaxte.ranking.options import checked
        from jaxte.store import read_features

        form = _output.checked_format(form, out, plot)
        names = DEFAULT_METRICS if metrics is None else options.names(metrics)
        of_metrics = options.parse_settings(settings)
        how: dict[str, Any] = {
            "options": of_metrics,
            "perturb": perturb,
            "precision": precision,
            "normalize": normalize,
        }
        checked(names, **how)
        group = processes.checked(devices, number, coordinator, process_id, perturb)
        if group.starts_all:
            command: dict[str, Any] = {"metrics": metrics, "format": form, "out": out, "plot": plot}
            command |= {"set": settings, "dataset": dataset, "precision": precision}
            command |= {"normalize": normalize, "devices": devices}
            processes.run_all(group, directory, command)
            return
        _cache.turn_on()
        with processes.joined(group):
            files = processes.share(read_features(directory, dataset=dataset), group)
            start = time.perf_counter()
            with processes.quiet(group), _progress.bar("scoring", unit="") as progress:
                ranking = jaxte.rank(
                    files.features, files.labels, metrics=names, progress=progress,
                    mesh=processes.mesh(group), **how,
                )  # fmt: skip
            seconds = time.perf_counter() - start
            if group.is_primary:
                _show(ranking, files.problems, form, out, seconds)
                if plot is not None:
                    ranking.plot(plot)
                    warn(f"wrote {plot}")
            else:
                processes.warn_of_failures(ranking, group)
            if not any(ranking.order(metric) for metric in names):
                raise jaxte.InputError(
                    f"{directory}: no model could be scored, the reasons are above"
                )


def _show(
    ranking: Ranking, problems: dict[str, str], form: Format, out: Path | None, seconds: float
) -> None:
    from jaxte import report

    table = report.table(ranking, problems=problems)
    if form in (Format.TABLE, Format.HTML):
        took = f"{len(ranking.models)} models scored in {seconds:.1f} s."
        _output.write_page([table, took], out, form)
    elif form is Format.MARKDOWN:
        _output.write(report.to_markdown(table), out)
    else:
        as_text = report.to_csv if form is Format.CSV else report.to_json
        _output.write(as_text(ranking, problems=problems), out)
    if out is not None or form is not Format.TABLE or not sys.stdout.isatty():
        for failure in table.failures:  # a terminal has just shown them under the table
            warn(failure)
