"""Does it pick the right model? The benchmark pool's scores against measured fine-tuning.

Scores are made once, from the pool's weights and images (`collect`), and lie beside this file; what
compares them with the accuracies that ship needs neither.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.settings import say
from jaxte.intake import disk

FOLDER = Path(__file__).parent / "results" / "proof"
KEYS = ("dataset", "model")
PROBE, JOINED = "ridge_probe", "ridge_probe, all layers"
HISTORY = " + history"
CHOSEN, CHOSEN_RULE = "score chosen on the other targets", "rule chosen on the other targets"
PUBLISHED = ("logme", "sfda", "face", "hscore", "nleep", "parc", "ncti", "knn")
HEADLINE = (
    JOINED,
    PROBE,
    JOINED + HISTORY,
    "logme" + HISTORY,
    *PUBLISHED,
    CHOSEN,
    CHOSEN_RULE,
    "parameters",
)
FOLDED = ("sfda", "lda", "hscore", "nearest_class_mean", "nleep")  # fit what they score
MOVED = ("logme", "sfda")  # with a perturbation
PERTURBATIONS = ("spread_attract", "ped")
STAGES = ("finetune", "probe", "finetune_shifted", "probe_shifted")

Table = dict[str, dict[str, dict[str, float]]]  # data set -> metric -> model -> score


class Pool(NamedTuple):
    """Where scores lie, and the accuracies that they are compared with."""

    scores: Path
    accuracies: Path | None  # None: those that ship
    least: int  # models that a target has to have


POOLS = {
    "zoo": Pool(FOLDER / "scores.csv", None, 10),
    "encoders": Pool(FOLDER / "encoders.csv", FOLDER / "encoders.jsonl", 6),
}


# --- scores ---------------------------------------------------------------------------------------


def collect(folder: Path, path: Path) -> None:
    """Score every model on the training images of every target; what the file has is kept.

    Args:
        folder: where `jaxte zoo build --pool benchmark` wrote targets and weights.
        path: the file of scores, a row for each model and target and a column for each metric.
    """
    from jaxte import zoo
    from jaxte.zoo import benchmark
    from jaxte.zoo.benchmark.build import load_cut

    table = read(path)
    roots = benchmark.models(root=folder)
    for dataset in benchmark.targets():
        scored = {model for models in table.get(dataset, {}).values() for model in models}
        if scored >= set(roots):
            continue
        train = load_cut(dataset, folder).train
        models = {name: zoo.load(name, root=root) for name, root in roots.items()}
        pool = {name: layers_of(one, train.images, train.labels) for name, one in models.items()}
        table[dataset] = scores_of(pool, train.labels)
        table[dataset]["parameters"] = {
            name: float(model.card["parameters"]) for name, model in models.items()
        }
        write(path, table)
        say(dataset)


def scores_of(
    pool: Mapping[str, Mapping[str, Any]], labels: np.ndarray, metrics: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Metric -> model -> score: every metric on the last layer, and the ridge probe on all.

    Args:
        pool: model -> what `layers_of` makes of it, perhaps with "logits" of its own head.
        labels: of the rows.
        metrics: only these.
    """
    import jaxte

    task = "classification" if labels.ndim == 1 else "regression"
    registry = {
        name: metric
        for name, metric in jaxte.metrics.REGISTRY.items()
        if (task in metric.tasks or metric.label_free) and name in (metrics or (name,))
    }
    of_outputs = [m for m, one in registry.items() if {"probabilities", "logits"} & one.needed({})]
    usual = [metric for metric in registry if metric not in of_outputs]
    last = {name: one["features"] for name, one in pool.items()}
    runs: list[tuple[str, Any, Sequence[str], dict[str, Any]]] = [("", last, usual, {})]
    runs.append((", all layers", pool, ("ridge_probe",), {}))
    folded = [name for name in FOLDED if name in usual]
    if folded:
        folds = {"options": {name: {"folds": 5} for name in folded}}
        runs.append((", 5 folds", last, folded, folds))
    moved = [name for name in MOVED if name in usual]
    for perturbation in PERTURBATIONS if moved and task == "classification" else ():
        runs.append((f" + {perturbation}", last, moved, {"perturb": perturbation}))
    headed = {name: one for name, one in pool.items() if "logits" in one}
    if headed and of_outputs:
        outputs = {
            name: {key: one[key] for key in ("features", "logits")} for name, one in headed.items()
        }
        runs.append(("", outputs, of_outputs, {}))
    scores: dict[str, dict[str, float]] = {}
    for suffix, features, names, options in runs:
        ranking = jaxte.rank(features, labels, metrics=names, **options)
        for metric in names:
            scores[metric + suffix] = {name: ranking.score(name, metric) for name in features}
    scores["width"] = {name: float(features.shape[1]) for name, features in last.items()}
    return scores


def layers_of(model: Any, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Features of the last layer and of all, as `jaxte.rank` takes them."""
    store = extracted(model, images, labels, "all", logits=False)
    layers = {layer: np.asarray(store[layer].features()) for layer in store.layers}
    return {"features": model.features(images), "layers": layers}


def extracted(
    model: Any, images: np.ndarray, labels: np.ndarray, layers: Any, **options: Any
) -> Any:
    """A store in memory of layers of a model, made in batches."""
    import jaxte

    batches = [(images[i : i + 256], labels[i : i + 256]) for i in range(0, len(images), 256)]
    return jaxte.extract(model, batches, layers=layers, **options)


def read(path: Path) -> Table:
    """A file of scores; a metric has no scores of the models whose cells are empty."""
    table: Table = {}
    for row in csv.DictReader(path.read_text().splitlines()) if path.is_file() else ():
        metrics = table.setdefault(row["dataset"], {})
        for metric, cell in row.items():
            if metric not in KEYS and cell:
                metrics.setdefault(metric, {})[row["model"]] = float(cell)
    return table


def write(path: Path, table: Table) -> None:
    """Write a file of scores in one step."""
    metrics = sorted({metric for scores in table.values() for metric in scores})
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*KEYS, *metrics))
    for dataset, scores in sorted(table.items()):
        for model in sorted({model for values in scores.values() for model in values}):
            cells = [scores.get(metric, {}).get(model, "") for metric in metrics]
            shown = (f"{cell:.7g}" if cell != "" else "" for cell in cells)
            writer.writerow((dataset, model, *shown))
    disk.replace(path, text.getvalue())


# --- comparison -----------------------------------------------------------------------------------


def tables(
    pool: Pool, stage: str, least: int, without: Sequence[str] = ()
) -> tuple[Table, dict[str, dict[str, Any]]]:
    """Scores and accuracies of the targets on which so many models were measured, but some.

    To the scores come the recommended orders, without and with a history, which is what the same
    models reached on the other targets; and what choosing among single scores, or among rules for
    the recommended order, comes to where the choice is made on the other targets alone.
    """
    from jaxte.zoo import benchmark

    truth = benchmark.by_target(benchmark.results(pool.accuracies), stage)
    truth = {
        dataset: models
        for dataset, models in truth.items()
        if len(models) >= least and dataset not in without
    }
    scores = {
        dataset: {
            metric: {m: s for m, s in values.items() if m in truth[dataset] and math.isfinite(s)}
            for metric, values in metrics.items()
        }
        for dataset, metrics in read(pool.scores).items()
        if dataset in truth
    }
    accuracies = {dataset: truth[dataset] for dataset in scores}
    single = {m for metrics in scores.values() for m in metrics if m not in ("parameters", "width")}
    rules = _add_rules(scores, truth)
    _add_choice(scores, accuracies, sorted(single), CHOSEN)
    _add_choice(scores, accuracies, rules, CHOSEN_RULE)
    for metrics in scores.values():
        for rule in set(rules) - {f"{JOINED}{HISTORY}", f"logme{HISTORY}"}:
            metrics.pop(rule, None)
    return scores, accuracies


def _add_rules(scores: Table, truth: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Add orders made of the ridge probe and the history; returns their names."""
    from jaxte.evaluate import static_ranking
    from jaxte.ranking.verdict import HISTORY_WEIGHT, recommended

    weights = (0.0, 0.25, HISTORY_WEIGHT, 1.0, 2.0)
    bases: tuple[tuple[str, ...], ...] = ((PROBE,), (JOINED,), (PROBE, JOINED))
    pasts = {dataset: static_ranking(truth, dataset) for dataset in scores}
    names = []
    for base, weight in [*itertools.product(bases, weights), (("logme",), HISTORY_WEIGHT)]:
        usual = weight == HISTORY_WEIGHT
        name = f"{' and '.join(base)}{HISTORY}{'' if usual else f' times {weight:g}'}"
        names.append(name)
        for dataset, metrics in scores.items():
            orders = [
                recommended(metrics.get(one, {}), pasts[dataset], weight=weight) for one in base
            ]
            both = set.intersection(*map(set, orders))
            metrics[name] = {model: sum(order[model] for order in orders) for model in both}
    return names[:-1]


def _add_choice(
    scores: Table, accuracies: Mapping[str, Mapping[str, Any]], candidates: Sequence[str], name: str
) -> None:
    """Add the order of the candidate whose mean weighted tau on the other targets is largest."""
    from jaxte.evaluate import weighted_tau

    taus: dict[str, dict[str, float]] = {metric: {} for metric in candidates}
    for dataset, metrics in scores.items():
        for metric in candidates:
            values = metrics.get(metric, {})
            if len(values) > 2 and len(values) >= 0.9 * len(accuracies[dataset]):
                reached = [float(np.mean(accuracies[dataset][m])) for m in values]
                taus[metric][dataset] = weighted_tau(list(values.values()), reached)
    chosen = {}
    for dataset in scores:
        means = {
            metric: float(np.mean([tau for other, tau in of.items() if other != dataset]))
            for metric, of in taus.items()
            if dataset in of and len(of) > 1
        }
        if means:
            chosen[dataset] = max(means, key=means.__getitem__)
    for dataset, metric in chosen.items():
        scores[dataset][name] = scores[dataset][metric]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks proof``."""
    parser.add_argument("--collect", metavar="DIR", help="make the scores, from what a build wrote")
    parser.add_argument(
        "--pool", choices=POOLS, default="zoo", help="jaxte's own models, or ImageNet encoders"
    )
    parser.add_argument("--scores", metavar="FILE", help="where they lie")
    parser.add_argument("--stage", choices=STAGES, default=STAGES[0], help="which accuracies")
    parser.add_argument("--least", type=int, help="models a target has to have (zoo 10, else 6)")
    parser.add_argument("--metrics", nargs="+", default=HEADLINE, help="which; all for every one")
    parser.add_argument(
        "--without", nargs="+", default=(), metavar="TARGET", help="as if these did not exist"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw it, too")
    parser.add_argument("--curve", metavar="FILE", help="draw regret against compute")


def run(options: argparse.Namespace) -> int:
    """Collect, or compare and print."""
    from jaxte.evaluate import evaluate

    pool = POOLS[options.pool]
    if options.scores:
        pool = pool._replace(scores=Path(options.scores))
    if options.collect:
        collect(Path(options.collect), pool.scores)
        return 0
    least = pool.least if options.least is None else options.least
    scores, accuracies = tables(pool, options.stage, least, options.without)
    shown = scores
    if "all" not in options.metrics:
        shown = {
            dataset: {metric: values for metric, values in of.items() if metric in options.metrics}
            for dataset, of in scores.items()
        }
    result = evaluate(shown, accuracies)
    print(result)  # noqa: T201
    if options.plot:
        result.plot(options.plot)
    if options.curve:
        from benchmarks import proof_curve

        made, count = proof_curve.points(scores, accuracies)
        proof_curve.draw(made, options.curve, count)
    return 0
