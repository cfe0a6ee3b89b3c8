"""`jaxte demo`: the zoo that ships with jaxte, ranked, beside what fine-tuning really reached."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxte import _progress
from jaxte.cli import _cache, _output
from jaxte.cli import _options as options
from jaxte.cli._errors import one_line_errors, warn
from jaxte.cli._output import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jaxte.ranking import Ranking
    from jaxte.report import Table
    from jaxte.zoo import Accuracy, Target


class _Result(NamedTuple):
    """One target: its ranking, the measured accuracies, and the weighted tau of each metric."""

    target: Target
    ranking: Ranking
    accuracies: Mapping[str, Accuracy]
    taus: dict[str, float]


def demo(
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="Which shipped target set; repeatable, by default all."),
    ] = None,
    form: options.Form = None,
    out: options.Out = None,
    plot: options.Plot = None,
) -> None:
    """Rank the models that ship with jaxte, beside the accuracy that fine-tuning them reached.

    Every model of the zoo turns the training images of each target set into features, which LogME,
    SFDA and FaCe score. Beside the scores stands the test accuracy that the model really reached
    when it was fine-tuned on the same images (mean and standard deviation over seeds), under them
    the weighted Kendall tau between each metric and that accuracy.
    """
    start = time.perf_counter()
    # Many small factorisations: BLAS threads would only wait for each other. Read at first import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with one_line_errors():
        form = _output.checked_format(form, out, plot)
        _cache.turn_on()
        with _progress.bar("features", unit="") as progress:
            results, seconds = _run(targets, progress)
        if plot is not None:
            from jaxte.report.plots import plot_agreement

            plot_agreement(
                {result.target.name: result.ranking for result in results},
                {result.target.name: result.accuracies for result in results},
                plot,
            )
            warn(f"wrote {plot}")
        seconds["in all"] = time.perf_counter() - start
        _show(results, seconds, form, out)


def _run(
    names: Sequence[str] | None, progress: Callable[[int, int | None, str], None]
) -> tuple[list[_Result], dict[str, float]]:
    """Features, then scores; with the seconds that each took."""
    import jaxte
    from jaxte import evaluate, zoo

    targets = [zoo.load_target(name) for name in dict.fromkeys(names or zoo.targets())]
    begun = time.perf_counter()
    features = zoo.extract_all([target.name for target in targets], progress=progress)
    extracted = time.perf_counter()
    results = []
    for target in targets:
        ranking = jaxte.rank(features[target.name], target.train_labels, progress=progress)
        accuracies = zoo.accuracies(target.name)
        taus = {}
        for metric in ranking.metrics:
            models = ranking.order(metric)
            taus[metric] = evaluate.weighted_tau(
                [ranking.score(model, metric) for model in models],
                [accuracies[model].finetune_mean for model in models],
            )
        results.append(_Result(target, ranking, accuracies, taus))
    return results, {
        "features": extracted - begun,
        "scores": time.perf_counter() - extracted,
    }


def _show(
    results: Sequence[_Result], seconds: Mapping[str, float], form: Format, out: Path | None
) -> None:
    from jaxte import report

    if form is Format.CSV:
        records = [record for result in results for record in _records(result)]
        _output.write(report.csv_text(records), out)
    elif form is Format.JSON:
        content = {
            result.target.name: {
                "weighted_tau": result.taus,
                "notes": result.ranking.notes,
                "records": _records(result),
            }
            for result in results
        }
        _output.write(report.json_text({"seconds": seconds, "targets": content}), out)
    elif form is Format.MARKDOWN:
        parts = [f"## {_heading(r)}\n\n{report.to_markdown(_table(r))}" for r in results]
        _output.write("\n".join([*parts, *_meaning(results, seconds)]), out)
    else:
        page: list[str | Table] = []
        for result in results:
            page += [_heading(result), _table(result)]
        _output.write_page([*page, *_meaning(results, seconds)], out, form)


def _heading(result: _Result) -> str:
    target = result.target
    return (
        f"{target.name}: {len(target.train_labels)} training images of "
        f"{len(target.class_names)} classes"
    )


def _table(result: _Result) -> Table:
    """The ranking with the measured accuracies, most accurate model first."""
    from jaxte import report

    measured = result.accuracies
    order = sorted(result.ranking.models, key=lambda m: measured[m].finetune_mean, reverse=True)
    shown = {m: f"{a.finetune_mean:.3f} ± {a.finetune_std:.3f}" for m, a in measured.items()}
    return report.table(
        result.ranking,
        order=order,
        columns={"fine-tuned": shown},
        footer=("weighted tau", result.taus),
    )


def _records(result: _Result) -> list[dict[str, Any]]:
    """The ranking's records, with the target before and the measured accuracies behind."""
    return [
        {
            "target": result.target.name,
            **record,
            "finetune_mean": result.accuracies[record["model"]].finetune_mean,
            "finetune_std": result.accuracies[record["model"]].finetune_std,
        }
        for record in result.ranking.to_records()
    ]


def _meaning(results: Sequence[_Result], seconds: Mapping[str, float]) -> list[str]:
    """What the numbers say and how far they can be trusted, in two paragraphs."""
    count = len(results[0].ranking.models)
    took = ", ".join(f"{what} {spent:.1f} s" for what, spent in seconds.items())
    return [
        "Weighted tau compares the order of a metric with the order after fine-tuning, errors "
        "among the best models counting most: 1 is the same order, 0 no relation. Over "
        f"{count} models it is a noisy number: one order in twenty drawn at random reaches "
        f"{_chance_tau(count):.2f}.",
        f"{count} models, {len(results)} targets: {took}.",
    ]


def _chance_tau(count: int, draws: int = 500) -> float:
    """The weighted tau that 5 % of random orders of so many models exceed."""
    import numpy as np

    from jaxte import evaluate

    random, truth = np.random.default_rng(0), np.arange(count)
    taus = [evaluate.weighted_tau(random.permutation(count), truth) for _ in range(draws)]
    return float(np.quantile(taus, 0.95))
