"""``shortlist``: whether `jaxte.shortlist` keeps the best of a large hub, and what that saves.

Hubs are made up: models see parts of one latent signal, in widths of their own, with noise of their
own, so that they differ in how soon their scores settle. The truth is the order on all rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import table

WIDTHS = (16, 32, 64, 128)
LATENT = 24  # directions of the signal
METRICS = ("ridge_probe", "logme", "hscore_shrinkage", "knn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks shortlist``."""
    parser.add_argument("--hubs", type=int, default=20, help="for each metric (20)")
    parser.add_argument("--models", type=int, default=500, help="of a hub (500)")
    parser.add_argument("--rows", type=int, default=2000, help="of the data set (2000)")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", metavar="FILE", help="also write the table, as Markdown")


def run(options: argparse.Namespace) -> int:
    """Measure, and print each line when it is done."""
    text = ""
    for part in report(options):
        print(part, flush=True)  # noqa: T201
        text += part + "\n"
        if options.out:
            Path(options.out).write_text(text)
    return 0


class Trial(NamedTuple):
    """One hub: whether the best was kept, what it cost, and by how much the choice falls short.

    ``short`` is in standard deviations of the scores over the hub, ``seconds`` are of the processor
    for the shortlist and for the scores of all.
    """

    kept: bool
    cost: float
    short: float
    left: int
    seconds: tuple[float, float]


def report(options: argparse.Namespace) -> Iterator[str]:
    """The table as Markdown, line by line."""
    yield (
        f"# Shortlists of simulated hubs\n\n{options.hubs} hubs of {options.models} models, "
        f"{options.rows} rows, {options.classes} classes, confidence {options.confidence}.\n"
    )
    head = (
        "metric", "best one kept", "forward passes", "fewer by", "models left", "short by, sd",
        "processor s", "of all",
    )  # fmt: skip
    yield "\n".join(table(head, [])[:2])
    for metric in options.metrics:
        trials = [trial(options, metric, options.seed + turn) for turn in range(options.hubs)]
        cost = np.mean([one.cost for one in trials])
        spent = np.mean([one.seconds for one in trials], axis=0)
        row = (
            metric, f"{np.mean([one.kept for one in trials]):.2f}", f"{cost:.1%}",
            f"{1 / cost:.1f}", f"{np.mean([one.left for one in trials]):.0f}",
            f"{np.mean([one.short for one in trials]):.3f}", *(f"{s:.0f}" for s in spent),
        )  # fmt: skip
        yield "\n".join(table(head, [row])[2:-1])


def trial(options: argparse.Namespace, metric: str, seed: int) -> Trial:
    """One hub, by shortlist and as a whole."""
    import jaxte

    models, labels = hub(options.models, options.rows, options.classes, seed)
    begun = time.process_time()
    own = jaxte.shortlist(models, labels, metric=metric, confidence=options.confidence, seed=seed)
    middle = time.process_time()
    scores: dict[str, float] = {}
    names, every = list(models), np.arange(options.rows)
    for first in range(0, len(names), 50):
        part = {name: models[name](every) for name in names[first : first + 50]}
        ranking = jaxte.rank(part, labels, metrics=metric)
        scores |= {name: ranking.score(name, metric) for name in part}
    best = max(scores, key=lambda name: scores[name])
    return Trial(
        best not in own.dropped,
        own.cost,
        (scores[best] - scores[own.best]) / float(np.std(list(scores.values()))),
        len(own.ranking.models),
        (middle - begun, time.process_time() - middle),
    )


def hub(
    models: int, rows: int, classes: int, seed: int
) -> tuple[dict[str, Callable[[np.ndarray], np.ndarray]], np.ndarray]:
    """Model -> a function of rows that gives its features; and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    signal = 0.7 * rng.normal(size=(classes, LATENT))[labels] + rng.normal(size=(rows, LATENT))
    made: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for number in range(models):
        width = int(rng.choice(WIDTHS))
        seen = rng.integers(LATENT // 4, LATENT + 1)  # directions, which ever more models share
        mixing = rng.normal(size=(LATENT, width)) / LATENT**0.5
        mixing[rng.permutation(LATENT)[seen:]] = 0
        noise = float(np.exp(rng.normal(0, 0.5)))
        own: dict[str, Any] = {"mixing": mixing, "noise": noise, "seed": [seed, number]}
        made[f"model {number}"] = partial(_features, signal, **own)
    return made, labels


def _features(
    signal: np.ndarray, rows: np.ndarray, *, mixing: np.ndarray, noise: float, seed: list[int]
) -> np.ndarray:
    own = np.random.default_rng(seed).normal(size=(len(signal), mixing.shape[1]))
    return np.asarray(np.tanh(signal @ mixing + noise * own)[rows])
