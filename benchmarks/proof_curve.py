"""Regret against compute: what each way to choose a model costs, and what it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.proof import Table
from jaxte.evaluate import top1_regret
from jaxte.intake.lines import read_lines

RACES = Path(__file__).parent / "results" / "proof" / "races.jsonl"
FREE = ("parameters", "width")  # no look at the target


class Point(NamedTuple):
    """Mean over targets: share of the cost of fine-tuning all models once, regret in points."""

    cost: float
    regret: float
    error: float  # standard error over targets


def points(
    scores: Table, accuracies: Mapping[str, Mapping[str, Any]], races: Path = RACES
) -> dict[str, Point]:
    """Each way to choose, over the targets of the tables."""
    means = {
        dataset: {model: float(np.mean(values)) for model, values in models.items()}
        for dataset, models in accuracies.items()
    }
    forward = float(np.mean([_forward(dataset) for dataset in means]))
    found: dict[str, list[float]] = {"at random": [], "fine-tuning all, one seed each": []}
    for dataset, reached in means.items():
        best = max(reached.values())
        found["at random"].append(best - float(np.mean(list(reached.values()))))
        found["fine-tuning all, one seed each"].append(_brute_force(accuracies[dataset]))
        for metric, values in scores[dataset].items():
            models = [m for m in values if np.isfinite(values[m]) and m in reached]
            chosen = [values[m] for m in models], [reached[m] for m in models]
            found.setdefault(metric, []).append(float(top1_regret(*chosen)))
    cost = {"at random": 0.0, "fine-tuning all, one seed each": 1.0} | dict.fromkeys(FREE, 0.0)
    made = {name: _point(cost.get(name, forward), 100 * np.array(r)) for name, r in found.items()}
    return made | _of_races(races, set(means))


def _point(cost: float, regrets: np.ndarray) -> Point:
    error = regrets.std(ddof=1) / len(regrets) ** 0.5 if len(regrets) > 1 else float("nan")
    return Point(cost, float(regrets.mean()), float(error))


def _forward(dataset: str) -> float:
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


def _of_races(path: Path, datasets: set[str]) -> dict[str, Point]:
    """Races by budget, without and with a history."""
    lines = [one for one in read_lines(path).values() if one["target"] in datasets]
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
    """Save the picture; what costs nothing stands at the left edge."""
    from jaxte.report.plots import Chart

    chart = Chart(9.0, 5.4)
    axes = chart.subplots()
    edge = min(point.cost for point in made.values() if point.cost > 0) / 6
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1, linscale=1.5)
    axes.set_xlim(edge / 1.5, 8)
    axes.set_ylim(-0.1, 1.6 * max(point.regret for point in made.values()))
    axes.set_xlabel("share of what fine-tuning all models costs (left edge: nothing)")
    axes.set_ylabel("points of accuracy lost")
    axes.set_title(f"mean over {count} targets, standard error", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    columns: dict[float, list[str]] = {}
    for name, point in made.items():
        x = point.cost or edge
        columns.setdefault(x, []).append(name)
        error = [[min(point.error, point.regret)], [point.error]]
        colour = _colour(name)
        axes.errorbar(x, point.regret, error, fmt="o", color=colour, elinewidth=0.8, markersize=5)
    chart.draw_without_rendering()
    for x, names in columns.items():
        low = -math.inf  # labels of one column stand above each other
        for name in sorted(names, key=lambda name: made[name].regret):
            y = axes.transData.transform((x, made[name].regret))[1]
            low = max(y, low + 11)
            axes.annotate(
                name, (x, made[name].regret), (8, (low - y) * 72 / chart.dpi), fontsize=7,
                textcoords="offset points", va="center", color=_colour(name),
                arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5},
            )  # fmt: skip
    chart.saved(path)


def _colour(name: str) -> str:
    if name.startswith("ridge_probe, all"):
        return "#D55E00"
    return "#00785a" if name.startswith("race") else "#0072B2"
