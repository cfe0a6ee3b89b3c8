"""`jaxte rank DIR`: anybody's stored features, ranked."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxte.cli import _cache, _common, processes
from jaxte.cli._common import Format, FormatOption, OutOption, PlotOption

if TYPE_CHECKING:
    from pathlib import Path

    from jaxte.ranking import Ranking


def rank(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory of features.")],
    metrics: Annotated[
        str, typer.Option(help="Comma-separated names; `jaxte metrics` lists them.")
    ] = "logme,sfda,face",
    form: FormatOption = None,
    out: OutOption = None,
    plot: PlotOption = None,
    dataset: Annotated[
        str | None, typer.Option(help="Which data set, where DIR holds features of several.")
    ] = None,
    perturb: Annotated[
        str | None,
        typer.Option(help="Perturb the features first: spread, attract, spread_attract or pca."),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or float64.")] = "auto",
    normalize: Annotated[
        str, typer.Option(help="How the terms of a score are combined: sum, minmax or zscore.")
    ] = "sum",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METRIC.OPTION=VALUE", help="An option of one metric."),
    ] = None,
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
    with _common.one_line_errors():
        import jaxte
        from jaxte.ranking.options import checked
        from jaxte.store import read_features

        form = _common.checked_format(form, out, plot)
        names = _common.names(metrics)
        options = _parse_settings(settings or [])
        checked(names, options=options, perturb=perturb, precision=precision, normalize=normalize)
        team = processes.checked(devices, number, coordinator, process_id, perturb)
        if team.starts_all:
            given = {"metrics": metrics, "format": form, "out": out, "plot": plot, "set": settings}
            given |= {"dataset": dataset, "precision": precision, "normalize": normalize}
            processes.run_all(team, directory, given | {"devices": devices})
            return
        _cache.turn_on()
        with processes.joined(team):
            found = processes.share(read_features(directory, dataset=dataset), team)
            start = time.perf_counter()
            with processes.quiet(team), _common.progress_bar("scoring") as progress:
                ranking = jaxte.rank(
                    found.features,
                    found.labels,
                    metrics=names,
                    perturb=perturb,
                    precision=precision,
                    normalize=normalize,
                    options=options,
                    progress=progress,
                    mesh=processes.mesh(team),
                )
            seconds = time.perf_counter() - start
            if team.speaks:
                _show(ranking, found.problems, form, out, seconds)
                if plot is not None:
                    ranking.plot(plot)
                    _common.warn(f"wrote {plot}")
            else:
                processes.complain(ranking, team)
            if not any(ranking.order(metric) for metric in names):
                raise jaxte.InputError(
                    f"{directory}: no model could be scored, the reasons are above"
                )


def _parse_settings(settings: list[str]) -> dict[str, dict[str, Any]]:
    """`["sfda.variant=paper"]` as `{"sfda": {"variant": "paper"}}`, numbers as numbers."""
    from jaxte.errors import InputError

    options: dict[str, dict[str, Any]] = {}
    words = {"true": True, "false": False, "none": None}
    for setting in settings:
        name, equals, text = setting.partition("=")
        metric, dot, option = name.partition(".")
        if not (equals and dot and metric and option):
            raise InputError(f"--set {setting}: write METRIC.OPTION=VALUE, as sfda.variant=paper")
        try:
            value = words[text.lower()] if text.lower() in words else json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if option in options.setdefault(metric, {}):
            raise InputError(f"--set {setting}: {name} is set twice")
        options[metric][option] = value
    return options


def _show(
    ranking: Ranking, problems: dict[str, str], form: Format, out: Path | None, seconds: float
) -> None:
    from jaxte import report

    table = report.table(ranking, problems=problems)
    if form in (Format.TABLE, Format.HTML):
        took = f"{len(ranking.models)} models scored in {seconds:.1f} s."
        _common.write_page([table, took], out, form)
    elif form is Format.MARKDOWN:
        _common.write(report.to_markdown(table), out)
    else:
        as_text = report.to_csv if form is Format.CSV else report.to_json
        _common.write(as_text(ranking, problems=problems), out)
    if out is not None or form is not Format.TABLE or not sys.stdout.isatty():
        for failure in table.failures:  # a terminal has just shown them under the table
            _common.warn(failure)
