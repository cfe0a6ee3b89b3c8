"""A race drawn: how the chance of every model went, and how far each was taken."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from jaxte.metrics.options import percent
from jaxte.report.chart import BLUE, VERMILION, WIDTH, Chart, dataset_of, name_width, plain_axis

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

    from jaxte.race.result import Race

__all__ = ["plot_race"]

_REST = "#8a8a8a"


def plot_race(race: Race, path: str | PathLike[str] | None = None) -> Chart:
    """Draw what was tried when, who was left behind when, and what is known in the end.

    Left a row per model: a point for every trial where it was paid for, hollow for frozen features,
    on a line whose width is the model's chance to be the best; a cross where it was left behind,
    with its chance then. Right the expected final score less the best's, with two standard
    deviations, and how far the model was trained. The best is orange, what cannot be told apart
    from it blue.

    Args:
        race: what `jaxte.race` returned.
        path: where to save it too; the ending chooses the format (png, svg, pdf).
    """
    order = race.order()
    order += [name for name in race.models if name not in order]
    width = max(WIDTH, 4.8 + name_width(order))
    chart = Chart(width, 1.3 + 0.24 * len(order), dataset_of(race.meta))
    left, right = chart.subplots(1, 2, sharey=True, width_ratios=(1.2, 1.0))
    for panel in (left, right):
        plain_axis(panel)
    left.set_yticks(range(len(order)), order)
    left.set_ylim(len(order) - 0.4, -0.6)
    _course(left, race, order)
    _behind(right, race, order)
    return chart.saved(path)


def _colour(race: Race, name: str) -> str:
    if name == race.best:
        return VERMILION
    return BLUE if name in race.apart() else _REST


def _course(panel: Axes, race: Race, order: list[str]) -> None:
    for row, name in enumerate(order):
        colour, stop = _colour(race, name), race.stop(name)
        end = stop.spent if stop.reason in ("behind", "failed") else race.cost
        steps = [(at, of[name]) for at, of in race.course if at <= end * (1 + 1e-9)]
        for (at, chance), (until, _) in pairwise([*steps, (end, 0.0)]):
            width = 0.6 + 9 * chance
            panel.plot([100 * at, 100 * until], [row, row], color=colour, lw=width, alpha=0.6,
                       solid_capstyle="butt")  # fmt: skip
        for model, trained, at in race.trials:
            if model == name:
                face = colour if trained else "white"
                panel.plot(100 * at, row, "o", color=colour, markerfacecolor=face, markersize=5)
        if stop.reason in ("behind", "failed"):
            panel.plot(100 * stop.spent, row, "x", color="#404040", markersize=7)
        chance = stop.p_best if stop.reason == "behind" else race.p_best[name]
        panel.annotate(
            "failed" if stop.reason == "failed" else percent(chance), (100 * end, row), (7, 0),
            textcoords="offset points", fontsize=8, va="center", color="#404040",
        )  # fmt: skip
    panel.margins(x=0.12)
    panel.set_xlabel("spent, % of fine-tuning all", fontsize=9)
    panel.set_title("● trial  ○ frozen features  × left behind", fontsize=9)


def _behind(panel: Axes, race: Race, order: list[str]) -> None:
    for row, name in enumerate(order):
        stop, colour = race.stop(name), _colour(race, name)
        if race.status[name] != "ok":
            panel.text(
                0.5, row, "failed", color=_REST, fontsize=8, ha="center", va="center",
                transform=panel.get_yaxis_transform(),
            )  # fmt: skip
            continue
        panel.errorbar(
            race.mean[name], row, xerr=2 * race.sd[name], fmt="o", color=colour, markersize=5,
            capsize=2,
        )  # fmt: skip
        trained = stop.trained
        text = "untried" if trained is None else f"{trained:.0%}" if trained else "frozen"
        panel.text(
            1.01, row, text, fontsize=8, va="center", color=colour,
            transform=panel.get_yaxis_transform(),
        )  # fmt: skip
    panel.locator_params(axis="x", nbins=4)
    panel.axvline(0, color="#d0d0d0", lw=0.8, zorder=0)
    panel.set_xlabel("final score, less the best's (± 2 sd)", fontsize=9)
    panel.set_title("expected, and share trained", fontsize=9)
