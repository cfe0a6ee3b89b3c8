"""A race drawn: how the chance of every model went, and how far each was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxte.report.plots import Chart

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

    from jaxte.race.result import Race

__all__ = ["plot_race"]

_BEST, _AMONG, _REST = "#D55E00", "#0072B2", "#B0B0B0"


def plot_race(race: Race, path: str | PathLike[str] | None = None) -> Chart:
    """Draw the chance of each model to be the best over what was spent, and where each stopped.

    Left the chances after every trial; right the expected final score behind the best, with two
    standard deviations, and how far each model was trained. The best is orange, what cannot be
    told apart from it blue.

    Args:
        race: what `jaxte.race` returned.
        path: where to save it too; the ending chooses the format (png, svg, pdf).
    """
    order = race.order()
    order += [name for name in race.models if name not in order]
    chart = Chart(5.2 + 4.2 + 0.07 * max(map(len, order)), 1.4 + 0.3 * len(order))
    left, right = chart.subplots(1, 2, width_ratios=(1.0, 1.1))
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    _chances(left, race, order)
    _behind(right, race, order)
    return chart.saved(path)


def _colour(race: Race, name: str) -> str:
    if name == race.best:
        return _BEST
    return _AMONG if name in race.apart() else _REST


def _chances(panel: Axes, race: Race, order: list[str]) -> None:
    spent = [100 * share for share, _ in race.course]
    for name in reversed(order):
        chances = [100 * of[name] for _, of in race.course]
        colour = _colour(race, name)
        panel.step(spent, chances, where="post", color=colour, lw=1.0 if colour == _REST else 2.0)
        panel.plot(spent[-1], chances[-1], "o", color=colour, markersize=4)
    for stop in race.stops:
        if stop.reason == "behind":
            panel.plot(100 * stop.spent, 100 * stop.p_best, "x", color="#606060", markersize=5)
    panel.set_ylim(-3, 103)
    panel.set_xlabel("spent, % of fine-tuning all", fontsize=9)
    panel.set_ylabel("chance to be the best, %", fontsize=9)
    panel.set_title("× left behind", fontsize=9, loc="right", color="#606060")


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
    panel.axvline(0, color="#d0d0d0", lw=0.8, zorder=0)
    panel.set_yticks(range(len(order)), order)
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.set_xlabel("expected final score, less the best's (± 2 sd)", fontsize=9)
    panel.set_title("trained", fontsize=9, loc="right", color="#606060")
