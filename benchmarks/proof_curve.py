"""Regret against compute: what each way to choose a model costs, and what it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.proof import JOINED, Table
from jaxte.evaluate import static_ranking, top1_regret
from jaxte.intake.lines import read_lines

RACES = Path(__file__).parent / "results" / "proof" / "races.jsonl"
RACE = "jaxte's race"
RANDOM, STATIC, ALL = "at random", "static ranking", "fine-tuning all, one seed each"
FREE = ("parameters", "width", RANDOM, STATIC)  # no pass over the target
VERDICT = {JOINED: "jaxte's order", f"{JOINED} + history": "jaxte's order, with a history"}
NAMED = (RANDOM, "parameters", STATIC, ALL, "logme", "sfda", "face", *VERDICT)


class Point(NamedTuple):
    """Mean over targets: share of the cost of fine-tuning all models once, regret in points."""

    cost: float
    regret: float
    error: float  # standard error over targets


def points(
    scores: Table, accuracies: Mapping[str, Mapping[str, Any]], races: Path = RACES
) -> tuple[dict[str, Point], int]:
    """Each way to choose, and the number of targets: those that were raced at every budget.

    Races on fewer than nine tenths of the models of a target do not count: they chose among others.
    """
    lines = [
        one
        for one in read_lines(races).values()
        if one["target"] in scores and one["models"] >= 0.9 * len(accuracies[one["target"]])
    ]
    settings = {(one["prior"], one["budget"]) for one in lines}
    raced = {
        dataset
        for dataset in scores
        if settings <= {(one["prior"], one["budget"]) for one in lines if one["target"] == dataset}
    }
    lines = [one for one in lines if one["target"] in raced]
    means = {
        dataset: {model: float(np.mean(values)) for model, values in models.items()}
        for dataset, models in accuracies.items()
        if dataset in raced
    }
    forward = float(np.mean([forward_share(dataset) for dataset in means]))
    regrets: dict[str, list[float]] = {RANDOM: [], ALL: []}
    for dataset, reached in means.items():
        best = max(reached.values())
        regrets[RANDOM].append(best - float(np.mean(list(reached.values()))))
        regrets[ALL].append(_brute_force(accuracies[dataset]))
        ways = {**scores[dataset], STATIC: static_ranking(accuracies, dataset)}
        for name, values in ways.items():
            models = [m for m in values if np.isfinite(values[m]) and m in reached]
            if models:
                chosen = [values[m] for m in models], [reached[m] for m in models]
                regrets.setdefault(name, []).append(float(top1_regret(*chosen)))
    cost = dict.fromkeys(regrets, forward) | {ALL: 1.0} | dict.fromkeys(FREE, 0.0)
    made = {name: _point(cost[name], 100 * np.array(r)) for name, r in regrets.items()}
    return made | _of_races(lines), len(means)


def _point(cost: float, regrets: np.ndarray) -> Point:
    error = regrets.std(ddof=1) / len(regrets) ** 0.5 if len(regrets) > 1 else float("nan")
    return Point(cost, float(regrets.mean()), float(error))


def forward_share(dataset: str) -> float:
    """Share of a full fine-tuning that one forward pass over the train part costs."""
    from jaxte.race.steps import Recipe
    from jaxte.zoo import benchmark

    n = benchmark.targets()[dataset]["train"]
    return float(n / 3 / Recipe().images(n))


def _brute_force(models: Mapping[str, Any]) -> float:
    """Mean regret of choosing by one seed of each model, judged by the others."""
    values = np.stack([np.asarray(seeds) for seeds in models.values()])
    losses = []
    for seed in range(values.shape[1]):
        rest = np.delete(values, seed, axis=1).mean(axis=1)
        losses.append(rest.max() - rest[values[:, seed].argmax()])
    return float(np.mean(losses))


def _of_races(lines: Sequence[Mapping[str, Any]]) -> dict[str, Point]:
    """Races by budget, without and with a history."""
    made = {}
    for prior, budget in sorted({(one["prior"], one["budget"]) for one in lines}):
        own: dict[str, list[float]] = {}
        for one in lines:
            if (one["prior"], one["budget"]) == (prior, budget):
                own.setdefault(one["target"], []).append(one["regret"])
        name = f"race, {100 * budget:g} %" + (" + history" if prior == "history" else "")
        made[name] = _point(budget, np.array([np.mean(values) for values in own.values()]))
    return made


def draw(made: Mapping[str, Point], path: str, count: int) -> None:
    """Save the picture: what costs nothing at the left edge, scores without a name in grey."""
    from jaxte.report.plots import Chart

    chart = Chart(8.0, 4.8)
    axes = chart.subplots()
    edge = min(point.cost for point in made.values() if point.cost > 0) / 5
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1, linscale=1.2)
    axes.set_xlim(edge / 1.5, 6)
    axes.set_ylim(-0.1, 1.5 * max(point.regret for point in made.values()))
    axes.set_xticks([edge, 0.01, 0.1, 1], ["nothing", "1 %", "10 %", "100 %"])
    axes.set_yticks([0, 1, 2, 5, 10, 20], ["0", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.set_xlabel("cost, of fine-tuning all models once")
    axes.set_ylabel("points of accuracy lost by the choice")
    axes.set_title(f"mean over {count} targets, standard error", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    others = [p for name, p in made.items() if p.cost > 0 and _kind(name) is None]
    axes.scatter([p.cost for p in others], [p.regret for p in others], 14, "#bbbbbb")
    labels: dict[float, list[tuple[float, str, str]]] = {}
    for kind, colour in COLOURS.items():
        named = {name: point for name, point in made.items() if _kind(name) == kind}
        x = [point.cost or edge for point in named.values()]
        y = [point.regret for point in named.values()]
        low = [min(point.error, point.regret) for point in named.values()]
        error = [low, [point.error for point in named.values()]]
        line = "-" if kind.startswith(RACE) else ""
        axes.errorbar(x, y, error, fmt="o", ls=line, color=colour, elinewidth=0.7, markersize=5)
        ends = list(named.items())
        if line:  # a curve is named at its end
            ends = [(kind, point) for _, point in ends[-1:]]
        for name, point in ends:
            labels.setdefault(point.cost or edge, []).append((point.regret, name, colour))
    if others:
        labels.setdefault(others[0].cost, []).append(
            (max(p.regret for p in others), f"{len(others)} other scores", "#888888")
        )
    chart.draw_without_rendering()
    for at, column in labels.items():
        # labels of one column and side stand above each other
        highest = dict.fromkeys((-1, 1), -math.inf)
        for regret, name, colour in sorted(column):
            side = -1 if name in (*VERDICT, ALL) else 1
            height = axes.transData.transform((at, regret))[1]
            highest[side] = max(height, highest[side] + 13)
            above = (highest[side] - height) * 72 / chart.dpi
            axes.annotate(
                VERDICT.get(name, name), (at, regret), (9 * side, above), fontsize=8,
                textcoords="offset points", va="center", color=colour,
                ha="left" if side > 0 else "right",
            )  # fmt: skip
    chart.saved(path)


COLOURS = {
    "jaxte": "#D55E00",
    RACE: "#00785a",
    f"{RACE} with a history": "#5a3d99",
    "other": "#0072B2",
}


def _kind(name: str) -> str | None:
    """Colour of a way to choose; None for scores that are drawn without a name."""
    if name.startswith("race, "):
        return f"{RACE} with a history" if name.endswith("history") else RACE
    return "jaxte" if name in VERDICT else "other" if name in NAMED else None
