"""Ensembles of the zoo's models: the chosen ones against the best single model and random ones.

::

    python -m benchmarks ensembles --out DIR

Every ensemble of two and of three models is judged by the test accuracy of one head on its stacked
features: ridge regression of the classes, its penalty from leave-one-out errors on the train part.
The selection sees the train part alone.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import say

Features = Mapping[str, NDArray[Any]]
PENALTIES = 10.0 ** np.arange(-6, 2.1, 0.5)  # of features of total variance 1 a model
RATIOS = (0.5, 1.0)  # the paper's, and SFDA alone


class Judge:
    """Test accuracies of all ensembles, from products of rows that are added up.

    Args:
        train: model -> features [n, d].
        test: model -> features [m, d].
        labels: [n] and [m].
    """

    def __init__(self, train: Features, test: Features, labels: Sequence[NDArray[Any]]) -> None:
        self.labels = labels
        self.own: dict[str, NDArray[Any]] = {}
        self.other: dict[str, NDArray[Any]] = {}
        for name, features in train.items():
            x = np.asarray(features, float)
            mean = x.mean(axis=0)
            scale = np.sqrt(x.var(axis=0).sum())
            x, z = (x - mean) / scale, (np.asarray(test[name], float) - mean) / scale
            self.own[name], self.other[name] = x @ x.T, z @ x.T

    def accuracy(self, members: Sequence[str]) -> float:
        """Of the head on these models."""
        y, expected = self.labels
        classes = np.eye(y.max() + 1)[y]
        mean = classes.mean(axis=0)
        values, vectors = np.linalg.eigh(sum(self.own[name] for name in members))
        along = vectors.T @ (classes - mean)
        n = len(y)
        best, chosen = np.inf, 0.0
        for penalty in n * PENALTIES:
            shrunk = values / (values + penalty)
            left = 1 - 1 / n - vectors**2 @ shrunk
            residuals = (classes - mean - vectors @ (shrunk[:, None] * along)) / left[:, None]
            if (residuals**2).sum() < best:
                best, chosen = (residuals**2).sum(), penalty
        dual = vectors @ (along / (values + chosen)[:, None])
        predicted = sum(self.other[name] for name in members) @ dual + mean
        return float((predicted.argmax(axis=1) == expected).mean())


def selections(size: int) -> dict[str, Callable[[Features, NDArray[Any]], tuple[str, ...]]]:
    """Ways to select so many models, by name."""
    from jaxte.ensemble import complementary, greedy

    def best_singles(train: Features, y: NDArray[Any]) -> tuple[str, ...]:
        (scores,) = greedy(train, y, size=1).candidates
        return tuple(sorted(scores, key=lambda name: -scores[name])[:size])

    ways: dict[str, Any] = {
        "greedy, ridge probe": lambda train, y: greedy(train, y, size=size).members,
        "greedy, LogME": lambda train, y: greedy(train, y, size=size, metric="logme").members,
        "best singles by ridge probe": best_singles,
    }
    for ratio in RATIOS:
        ways[f"SFDA and complementarity, r = {ratio:g}"] = lambda train, y, ratio=ratio: (
            complementary(train, y, size=size, ratio=ratio).members
        )
    return ways


def compare(name: str, train: Features, test: Features, labels: Sequence[Any]) -> list[list[Any]]:
    """Rows of the table: target, size, way, members, test accuracy, share of ensembles below."""
    judge = Judge(train, test, labels)
    singles = {model: judge.accuracy([model]) for model in train}
    (probe,) = selections(1)["greedy, ridge probe"](train, labels[0])
    rows: list[list[Any]] = [
        [name, 1, "best single by ridge probe", probe, singles[probe], ""],
        [name, 1, "best single in hindsight", *max(singles.items(), key=lambda one: one[1]), ""],
    ]
    for size in (2, 3):
        every = {one: judge.accuracy(one) for one in itertools.combinations(sorted(train), size)}
        values = np.array(list(every.values()))
        for way, select in selections(size).items():
            members = select(train, labels[0])
            accuracy = every[tuple(sorted(members))]
            below = (values < accuracy).mean() + (values == accuracy).mean() / 2
            rows.append([name, size, way, " ".join(members), accuracy, f"{below:.2f}"])
        rows.append([name, size, f"random: mean of all {len(values)}", "", values.mean(), "0.50"])
        best = max(every, key=lambda one: every[one])
        rows.append([name, size, "best in hindsight", " ".join(best), every[best], "1.00"])
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks ensembles``."""
    parser.add_argument("--out", metavar="DIR", help="also write the table, as Markdown")
    parser.add_argument("--targets", nargs="*", help="of the zoo; all by default")
    parser.add_argument("--models", nargs="*", help="of the zoo; all by default")


def run(options: argparse.Namespace) -> int:
    """Compare, and print each line when it is done."""
    from jaxte import zoo

    lines = [
        "| target | models | selection | members | test accuracy | above so many ensembles |",
        "|---|---|---|---|--:|--:|",
    ]
    pool = {name: zoo.load(name) for name in options.models or zoo.names()}
    for target in options.targets or zoo.targets():
        data = zoo.load_target(target)
        train, test = (
            {name: model.features(images) for name, model in pool.items()}
            for images in (data.train_images, data.test_images)
        )
        for row in compare(target, train, test, (data.train_labels, data.test_labels)):
            row[4] = f"{100 * row[4]:.1f} %"
            lines.append(f"| {' | '.join(map(str, row))} |")
            say(lines[-1])
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        (Path(options.out) / "ensembles.md").write_text("\n".join(lines) + "\n")
    return 0
