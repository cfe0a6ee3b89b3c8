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


@options.command
def demo(
    *,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="Which shipped target sets; repeatable, or comma-separated; by default all.",
        ),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="A table of all models and scores per target, too.")
    ] = False,
    output: options.Output,
) -> None:
    """Say which of the models that ship to fine-tune, beside what fine-tuning them reached.

    Every model of the zoo turns the training images of each target set into the features of its
    layers, which the ridge probe scores, and LogME, SFDA and FaCe the last of them. Shown is what
    the first choice of each loses, in points of accuracy, against the model that really was the
    best when all were fine-tuned on the same images.

    With --details also every score beside the test accuracy of each model (mean and standard
    deviation over seeds), and the weighted Kendall tau between them.
    """
    start = time.perf_counter()
    # Many small factorisations: BLAS threads would only wait for each other. Read at first import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with one_line_errors():
        form, out, plot = _output.checked(*output)
        _cache.turn_on()
        with _progress.bar("features", unit="") as progress:
            results, seconds = _run(options.names(targets or ()), progress)
        if plot is not None:
            from jaxte.report.plots import plot_agreement

            plot_agreement(
                {result.target.name: result.ranking for result in results},
                {result.target.name: result.accuracies for result in results},
                plot,
            )
            warn(f"wrote {plot}")
        seconds["in all"] = time.perf_counter() - start
        _show(results, seconds, form, out, details=details)


def _run(
    names: Sequence[str], progress: Callable[[int, int | None, str], None]
) -> tuple[list[_Result], dict[str, float]]:
    """Features, then scores; with the seconds that each took."""
    import jaxte
    from jaxte import evaluate, zoo

    targets = [zoo.load_target(name) for name in dict.fromkeys(names or zoo.targets())]
    begun = time.perf_counter()
    features = _layers_of_all(targets, progress)
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


def _layers_of_all(
    targets: Sequence[Target], progress: Callable[[int, int | None, str], None]
) -> dict[str, dict[str, Any]]:
    """Target -> model -> the features of all its layers, from one forward pass."""
    from jaxte import data, zoo
    from jaxte.extraction import extract_many

    stores = extract_many(
        [zoo.load(name) for name in zoo.names()],
        {target.name: data.load(f"zoo:{target.name}/train") for target in targets},
        layers="all", logits=False, batch_size=250, progress=progress,
    )  # fmt: skip
    return {
        target: {
            name: {"layers": {layer: store[layer].features() for layer in store.layers}}
            for name, store in models.items()
        }
        for target, models in stores.items()
    }


def _show(
    results: Sequence[_Result],
    seconds: Mapping[str, float],
    form: Format,
    out: Path | None,
    *,
    details: bool,
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
        parts = [report.to_markdown(_answers(results))]
        if details:
            parts += [f"## {_heading(r)}\n\n{report.to_markdown(_table(r))}" for r in results]
        _output.write("\n".join([*parts, *_meaning(results, seconds, details)]), out)
    else:
        page: list[str | Table] = [_answers(results)]
        for result in results if details else ():
            page += [_heading(result), _table(result)]
        _output.write_page([*page, *_meaning(results, seconds, details)], out, form)


def _losses(result: _Result) -> dict[str, float]:
    """What a first choice loses against the best model, in points: by metric, and at random."""
    import numpy as np

    reached = {model: 100 * a.finetune_mean for model, a in result.accuracies.items()}
    best = max(reached.values())
    losses = {metric: best - reached[result.ranking.best(metric)] for metric in result.taus}
    return losses | {"random": best - float(np.mean(list(reached.values())))}


def _answers(results: Sequence[_Result]) -> Table:
    """What to fine-tune for each target, and what that and other choices lose."""
    from jaxte import report

    records = []
    for result in results:
        chosen, reached = result.ranking.best(), result.accuracies
        best = max(one.finetune_mean for one in reached.values())
        losses = {name: round(loss, 1) for name, loss in _losses(result).items()}
        records.append(
            {
                "target": result.target.name,
                "fine-tune": chosen,
                "reaches": f"{reached[chosen].finetune_mean:.3f}",
                "best": f"{best:.3f}",
                **losses,
            }
        )
    return report.plain_table(
        records, ["under each score: points of accuracy that fine-tuning its first choice loses"]
    )


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


def _meaning(results: Sequence[_Result], seconds: Mapping[str, float], details: bool) -> list[str]:
    """What the numbers say and how far they can be trusted."""
    count = len(results[0].ranking.models)
    took = ", ".join(f"{what} {spent:.1f} s" for what, spent in seconds.items())
    tau = (
        "Weighted tau compares the order of a metric with the order after fine-tuning, errors "
        "among the best models counting most: 1 is the same order, 0 no relation. Over "
        f"{count} models it is a noisy number: one order in twenty drawn at random reaches "
        f"{_chance_tau(count):.2f}."
    )
    said = f"{count} models, {len(results)} targets: {took}."
    return [_answer(results), *([tau] if details else []), said]


def _answer(results: Sequence[_Result]) -> str:
    """The table in one sentence."""
    losses = [_losses(result) for result in results]
    mean = {name: sum(one[name] for one in losses) / len(losses) for name in losses[0]}
    own, random = mean.pop("ridge_probe"), mean.pop("random")
    others = ", ".join(f"{name} {loss:.1f}" for name, loss in mean.items())
    return (
        "Fine-tuning the model that jaxte recommends (the ridge probe on all layers) loses "
        f"{own:.1f} points of accuracy against the best of the pool, on average over "
        f"{len(results)} targets; the first choices of others lose {others}, a model at random "
        f"{random:.1f}."
    )


def _chance_tau(count: int) -> float:
    """The weighted tau that 5 % of random orders of so many models exceed."""
    import numpy as np

    from jaxte import evaluate

    random, truth = np.random.default_rng(0), np.arange(count)
    taus = [evaluate.weighted_tau(random.permutation(count), truth) for _ in range(500)]
    return float(np.quantile(taus, 0.95))
