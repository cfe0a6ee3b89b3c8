"""`jaxte rank DIR`: anybody's stored features, ranked."""

from __future__ import annotations

import itertools
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxte import _progress
from jaxte.cli import _cache, _output, processes
from jaxte.cli import _options as options
from jaxte.cli._accuracies import Truth, csv_of, draw, json_of
from jaxte.cli._errors import one_line_errors, warn
from jaxte.cli._output import Destination, Format
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxte.evaluate import Evaluation
    from jaxte.ranking import Ranking


@options.command
def rank(
    *,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory of features.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Comma-separated or repeated, by default ridge_probe,logme,sfda,face; "
            "`jaxte metrics` lists them.",
        ),
    ] = None,
    output: options.Output,
    dataset: Annotated[
        str | None,
        typer.Option(help="Which data set, where DIR or --accuracies has several."),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="DIR holds a directory for each data set: rank them all.")
    ] = False,
    perturb: Annotated[
        str | None,
        typer.Option(help="Perturb the features: spread, attract, spread_attract, ped or pca."),
    ] = None,
    accuracies: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="What the models reached, as `jaxte evaluate` reads it; compare."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or float64.")] = "auto",
    normalize: options.Normalize = "sum",
    settings: options.Settings = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Of a store with several: each (by default), joined into one model, the best or "
            "the mean of their scores."
        ),
    ] = None,
    trust: options.Trust,
    sharing: options.Sharing,
) -> None:
    """Rank the models whose features lie in DIR.

    DIR holds stores, as `jaxte extract` writes them (DIR itself, <model>/ or <model>/<data set>/;
    the layers of one are ranked as <model>@<layer>); or <model>.npz (arrays features and labels),
    or <model>.npy beside labels.npy, or <model>_<dataset>_feature.npy beside
    <model>_<dataset>_label.npy, or <model>/ with shards (features-*.npy or any *.npy, and
    labels.npy there or in DIR; or *.npz with features and labels); or files of other tools, see
    jaxte.store.read_features. What is too large for the memory is read in batches. Pickled arrays
    are refused. Metrics that are label-free need no labels.
    With --accuracies the scores are compared with what fine-tuning reached; where DIR has
    directories that are named as the data sets of that file, over all of these.
    A model that cannot be read or scored is listed with the reason and does not stop the others;
    the exit code is 2 if none is left.
    """
    with one_line_errors():
        from jaxte.intake import disk
        from jaxte.intake.checks import choose
        from jaxte.metrics import DEFAULT_METRICS
        from jaxte.ranking.layers import LAYERS
        from jaxte.ranking.options import checked

        to = _output.checked(*output)
        how: dict[str, Any] = {
            "metrics": DEFAULT_METRICS if metrics is None else options.names(metrics),
            "options": options.parse_settings(settings),
            "perturb": perturb,
            "precision": precision,
            "normalize": normalize,
            **trust.options(),
        }
        checked(**how)
        how["layers"] = None if layers is None else choose("layers", layers, LAYERS)
        truth = None if accuracies is None else Truth.read(accuracies)
        if each and dataset is not None:
            raise InputError("--each ranks all data sets: leave out --dataset, or --each")
        group = processes.checked(*sharing, perturb)
        if group.starts_all:
            processes.run_all(
                group, directory, metrics=metrics, format=to.form, out=to.out, plot=to.plot,
                set=settings, dataset=dataset, precision=precision, normalize=normalize,
                layers=layers, each=each or None, devices=sharing.devices, accuracies=accuracies,
                **trust.flags(),
            )  # fmt: skip
            return
        _cache.turn_on()
        with processes.joined(group):
            places = truth.directories(directory) if truth and dataset is None else []
            if each:
                places = [place for place in disk.listing(Path(directory)) if place.is_dir()]
                if not places:
                    raise InputError(f"{directory} has no directories, which --each ranks")
            if places:
                _rank_each(places, truth, group, how, to)
            else:
                _rank_one(directory, dataset, truth, group, how, to)


def _rank_one(
    directory: str,
    dataset: str | None,
    truth: Truth | None,
    group: processes.Processes,
    how: dict[str, Any],
    to: Destination,
) -> None:
    """One data set."""
    from jaxte.store.layouts import has_dataset

    own = truth.dataset(directory, dataset) if truth else None
    if truth and dataset in truth.datasets and not has_dataset(directory, own or ""):
        dataset = None  # it names the accuracies: the files are of one data set, however called
    if group.is_primary:
        _warn_of_parts(Path(directory))  # what is read may also not go together
    one = _rank(directory, dataset, group, how)
    scored = any(one.ranking.order(metric) for metric in one.ranking.metrics)
    if group.is_primary:
        evaluation = truth.compare(one.ranking, own) if truth and scored else None
        _show(one, evaluation, to)
        draw(one.ranking, evaluation, to.plot)
    else:
        processes.warn_of_failures(one.ranking, group)
    if not scored:
        raise InputError(f"{directory}: no model could be scored, the reasons are above")


def _warn_of_parts(directory: Path) -> None:
    """Say so where parts of one model look like models of one data set."""
    from jaxte.intake import disk
    from jaxte.intake.sources import probe_files, shard_files

    for place in disk.listing(directory) if directory.is_dir() else ():
        parts = place.is_dir() and not probe_files(place)
        names = [file.stem for file in shard_files(place)] if parts else []
        stems = {re.sub(r"\d+", "", name) for name in names}
        numbers = sorted(int(last) for name in names for last in re.findall(r"\d+", name)[-1:])
        steps = {after - before for before, after in itertools.pairwise(numbers)}
        counted = len(steps) == 1 and numbers[0] in (0, 1, *steps)
        if len(stems) > 1 or (len(names) > 1 and not counted):
            warn(
                f"{place.name}: {', '.join(names[:3])} are read as parts of one model; if each is "
                "a model, --each ranks them"
            )
            break


def _rank_each(
    places: Sequence[Path],
    truth: Truth | None,
    group: processes.Processes,
    how: dict[str, Any],
    to: Destination,
) -> None:
    """Several directories, each a data set; one that cannot be ranked is named and left out."""
    done = {}
    for place in places:
        try:
            done[place.name] = _rank(place, None, group, how)
        except InputError as error:
            warn(f"{place.name}: {error}")
    if not done:
        raise InputError("no data set could be ranked, the reasons are above")
    if group.is_primary:
        _show_all(done, truth, to)


class _Ranked(NamedTuple):
    """The ranking of a directory, the files that cannot be read, and how long it took."""

    ranking: Ranking
    problems: dict[str, str]
    seconds: float


def _rank(
    directory: str | Path, dataset: str | None, group: processes.Processes, how: dict[str, Any]
) -> _Ranked:
    import jaxte
    from jaxte.ranking.options import checked
    from jaxte.store import read_features

    asked = checked(how["metrics"], options=how["options"])
    label_free = all(metric.label_free for metric in asked.metrics)
    files = read_features(directory, dataset=dataset, label_free=label_free)
    files = processes.share(files, group, outputs=asked.read_outputs)
    start = time.perf_counter()
    with processes.quiet(group), _progress.bar("scoring", unit="") as progress:
        ranking = jaxte.rank(
            files.features, files.labels, progress=progress, mesh=processes.mesh(group), **how
        )
    ranking = replace(ranking, meta={**ranking.meta, "source": files.dataset})
    return _Ranked(ranking, files.problems, time.perf_counter() - start)


def _show_all(done: dict[str, _Ranked], truth: Truth | None, to: Destination) -> None:
    """The evaluation over several data sets, and the rankings that are not in it.

    CSV and JSON have all the scores.
    """
    from jaxte import report

    form, out, plot = to
    evaluation = truth.compare({n: one.ranking for n, one in done.items()}, None) if truth else None
    tables = {name: report.table(one.ranking, problems=one.problems) for name, one in done.items()}
    compared = evaluation.evaluated() if evaluation else []
    rest = {name: one.ranking for name, one in done.items() if name not in compared}
    if form in _output.PAGES:
        page: list[Any] = [*evaluation.tables()] if evaluation else []
        for name, ranking in rest.items():
            page += [f"{name}: {_output.answer(ranking)}", tables[name]]
        seconds = sum(one.seconds for one in done.values())
        page.append(f"{len(done)} data sets ranked in {seconds:.1f} s.")
        _output.write_page(page, out, form)
    elif form is Format.MARKDOWN:
        pieces = [evaluation.to_markdown()] if evaluation else []
        pieces += [f"## {name}\n\n{report.to_markdown(tables[name])}" for name in rest]
        _output.write("\n".join(pieces), out)
    else:
        as_text = report.to_csv if form is Format.CSV else report.to_json
        texts = {n: as_text(one.ranking, problems=one.problems) for n, one in done.items()}
        _output.write(_with_accuracies(texts, evaluation, form), out)
    for note in evaluation.notes if evaluation and form is Format.CSV else ():
        warn(note)  # the other forms have them
    for name, table in tables.items():
        for failure in table.failures:
            warn(f"{name}: {failure}")
    if evaluation is not None:
        draw(evaluation, evaluation, plot)
    for name, ranking in rest.items():
        draw(ranking, None, plot and plot.with_stem(f"{plot.stem}-{name}"))


def _with_accuracies(texts: dict[str, str], evaluation: Evaluation | None, form: Format) -> str:
    from jaxte import report

    if form is Format.JSON:
        return json_of(texts, evaluation)
    records = [r for name, text in texts.items() for r in csv_of(text, evaluation, name)]
    return report.csv_text(records)


def _show(one: _Ranked, evaluation: Evaluation | None, to: Destination) -> None:
    from jaxte import report

    form, out, _ = to
    table = report.table(one.ranking, problems=one.problems)
    tables = [table, *(evaluation.tables() if evaluation else [])]
    if form in _output.PAGES:
        took = f"{len(one.ranking.models)} models scored in {one.seconds:.1f} s."
        verdict = _output.answer(one.ranking)
        _output.write_page([*tables, *([verdict] if verdict else []), took], out, form)
    elif form is Format.MARKDOWN:
        _output.write("\n".join(map(report.to_markdown, tables)), out)
    else:
        as_text = report.to_csv if form is Format.CSV else report.to_json
        text = as_text(one.ranking, problems=one.problems)
        if evaluation:
            text = _with_accuracies({evaluation.datasets[0]: text}, evaluation, form)
        _output.write(text, out)
    if out is not None or form is not Format.TABLE or not sys.stdout.isatty():
        for failure in table.failures:  # a terminal has just shown them under the table
            warn(failure)
