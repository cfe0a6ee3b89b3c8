"""Does it pick the right model? The benchmark pool's scores against measured fine-tuning.

Scores are made once, from the pool's weights and images (`collect`), and lie beside this file; what
compares them with the accuracies that ship needs neither.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.settings import say

SCORES = Path(__file__).parent / "results" / "proof" / "scores.csv"
COLUMNS = ("dataset", "model", "metric", "score")
PUBLISHED = ("logme", "sfda", "face", "hscore")
LAST, JOINED = "ridge_probe, last layer", "ridge_probe, all layers"
STAGES = ("finetune", "probe", "finetune_shifted", "probe_shifted")

Table = dict[str, dict[str, dict[str, float]]]  # data set -> metric -> model -> score


class Pair(NamedTuple):
    """A model and a target."""

    dataset: str
    model: str


# --- scores ---------------------------------------------------------------------------------------


def collect(folder: Path, path: Path = SCORES) -> None:
    """Score every model on the training images of every target; what the file has is kept.

    Args:
        folder: where `jaxte zoo build --pool benchmark` wrote targets and weights.
        path: the file of scores.
    """
    from jaxte.zoo import benchmark
    from jaxte.zoo.benchmark.build import load_cut

    done = {Pair(row["dataset"], row["model"]) for row in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for dataset in benchmark.targets():
        cut = load_cut(dataset, folder)
        for model, root in benchmark.models(root=folder).items():
            if Pair(dataset, model) in done:
                continue
            rows = list(scores_of(model, root, cut.train.images, cut.train.labels))
            _append(path, [{"dataset": dataset, "model": model, **row} for row in rows])
            say(f"{model} on {dataset}")


def scores_of(
    name: str, root: Path, images: np.ndarray, labels: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Every score of one model, from one forward pass."""
    import jaxte
    from jaxte import zoo

    model = zoo.load(name, root=root)
    store = jaxte.extract(model, zip_batches(images, labels), layers="all", logits=False)
    layers = {layer: np.asarray(store[layer].features()) for layer in store.layers}
    last = model.features(images)
    classes = labels.ndim == 1
    metrics = ("ridge_probe", *(PUBLISHED if classes else ("logme",)))
    alone = jaxte.rank({name: last}, labels, metrics=metrics)
    for metric in metrics:
        label = LAST if metric == "ridge_probe" else metric
        yield {"metric": label, "score": alone.score(name, metric)}
    model_of_layers = {name: {"features": last, "layers": layers}}
    joined = jaxte.rank(model_of_layers, labels, metrics="ridge_probe")
    yield {"metric": JOINED, "score": joined.score(name, "ridge_probe")}
    yield {"metric": "parameters", "score": float(model.card["parameters"])}
    yield {"metric": "width", "score": float(last.shape[1])}


def zip_batches(images: np.ndarray, labels: np.ndarray, size: int = 256) -> list[Any]:
    """Batches of (images, labels)."""
    starts = range(0, len(images), size)
    return [(images[start : start + size], labels[start : start + size]) for start in starts]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file of scores, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({**row, "score": f"{row['score']:.10g}"} for row in rows)


# --- comparison -----------------------------------------------------------------------------------


def tables(path: Path, stage: str, least: int) -> tuple[Table, dict[str, dict[str, Any]]]:
    """Scores and accuracies of the targets on which so many models were measured.

    To the scores come the recommended orders: of the ridge probe on all layers, and joined with the
    history, which is what the same models reached on the other targets.
    """
    from jaxte.evaluate import static_ranking
    from jaxte.ranking.verdict import recommended
    from jaxte.zoo import benchmark

    truth = benchmark.by_target(benchmark.results(), stage)
    truth = {dataset: models for dataset, models in truth.items() if len(models) >= least}
    scores: Table = {}
    for row in read(path):
        if row["model"] in truth.get(row["dataset"], {}):
            of_metric = scores.setdefault(row["dataset"], {}).setdefault(row["metric"], {})
            of_metric[row["model"]] = float(row["score"])
    for dataset, of_dataset in scores.items():
        past = static_ranking(truth, dataset)
        for metric in (JOINED, "logme"):
            finite = {m: s for m, s in of_dataset[metric].items() if math.isfinite(s)}
            of_dataset[f"{metric} + history"] = recommended(finite, past)
    accuracies = {dataset: truth[dataset] for dataset in scores}
    _add_choice(scores, accuracies)
    return scores, accuracies


def _add_choice(scores: Table, accuracies: Mapping[str, Mapping[str, Any]]) -> None:
    """Of each target the scores, without history, that ranked the other targets best.

    What the choice of a rule is worth where it was not made.
    """
    from jaxte.evaluate import weighted_tau

    candidates = (*PUBLISHED, LAST, JOINED)
    taus: dict[str, dict[str, float]] = {metric: {} for metric in candidates}
    for dataset, of_dataset in scores.items():
        for metric in candidates:
            values = of_dataset.get(metric, {})
            models = [m for m in values if math.isfinite(values[m])]
            if len(models) > 2:
                reached = [float(np.mean(accuracies[dataset][m])) for m in models]
                taus[metric][dataset] = weighted_tau([values[m] for m in models], reached)
    chosen = {}
    for dataset in scores:
        means = {
            metric: float(np.mean([tau for name, tau in of.items() if name != dataset]))
            for metric, of in taus.items()
            if dataset in of and len(of) > 1
        }
        if means:
            chosen[dataset] = max(means, key=means.__getitem__)
    for dataset, metric in chosen.items():
        scores[dataset]["chosen on the other targets"] = scores[dataset][metric]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks proof``."""
    parser.add_argument("--collect", metavar="DIR", help="make the scores, from what a build wrote")
    parser.add_argument("--scores", default=str(SCORES), metavar="FILE", help="where they lie")
    parser.add_argument("--stage", choices=STAGES, default=STAGES[0], help="which accuracies")
    parser.add_argument("--least", type=int, default=10, help="models a target has to have (10)")
    parser.add_argument("--plot", metavar="FILE", help="draw it, too")
    parser.add_argument("--curve", metavar="FILE", help="draw regret against compute")


def run(options: argparse.Namespace) -> int:
    """Collect, or compare and print."""
    from jaxte.evaluate import evaluate

    path = Path(options.scores)
    if options.collect:
        collect(Path(options.collect), path)
        return 0
    scores, accuracies = tables(path, options.stage, options.least)
    result = evaluate(scores, accuracies)
    print(result)  # noqa: T201
    if options.plot:
        result.plot(options.plot)
    if options.curve:
        from benchmarks import proof_curve

        made = proof_curve.points(scores, accuracies)
        proof_curve.draw(made, options.curve, len(accuracies))
    return 0
