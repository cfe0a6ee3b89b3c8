"""Pictures of rankings. They need Matplotlib; nothing here touches pyplot."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from jaxte.metrics.options import percent
from jaxte.report.agreement import plot_agreement, plot_measures
from jaxte.report.chart import (
    BLUE,
    GREY,
    LINE,
    PALE,
    VERMILION,
    WIDTH,
    Chart,
    dataset_of,
    fit_axis,
    marker,
    name_width,
    plain_axis,
    shown_names,
)
from jaxte.report.provenance import sentence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from matplotlib.axes import Axes

    from jaxte.ranking import Ranking

__all__ = ["Chart", "plot_agreement", "plot_measures", "plot_ranking"]


def plot_ranking(ranking: Ranking, path: str | PathLike[str] | None = None) -> Chart:
    """Draw every score: a row per model, a panel per metric, the rank written at each point.

    Models stand in the order of the first metric. The best of each metric is an orange diamond;
    a model that could not be scored is named in grey. Notes are written under the panels. Where
    they are known, a line is the 90 % interval of a score, a grey band what permuted targets give
    (mean and two standard deviations), and bars show who leads on other samples.

    Args:
        ranking: what `jaxte.rank` returned.
        path: where to save it too; the ending chooses the format (png, svg, pdf).

    Returns:
        The figure; a notebook shows it.

    Example:
        >>> import jax, jaxte
        >>> x, y = jax.random.normal(jax.random.key(0), (90, 8)), jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
        >>> figure = plot_ranking(jaxte.rank(models, y, metrics="logme"))
        >>> [panel.get_title() for panel in figure.axes]
        ['logme']
    """
    top = ranking.order(ranking.metrics[0])
    models = [*top, *(model for model in ranking.models if model not in top)]
    said = [*ranking.notes, *filter(None, [sentence(ranking.meta)])]
    notes = [textwrap.fill(note, 110) for note in said]
    likely = bool(ranking.decisive and ranking.p_best())
    shown = shown_names(models)
    names = name_width([*shown.values()])
    count = len(ranking.metrics) + likely
    columns = max(1, min(count, int((WIDTH - names) / 1.6)))
    rows = math.ceil(count / columns)
    lines = sum(note.count("\n") + 1 for note in notes)
    height = rows * (0.8 + 0.22 * len(models)) + LINE * lines + 0.4
    chart = Chart(max(WIDTH, names + 2.4), height, dataset_of(ranking.meta))
    grid = chart.subplots(rows, columns, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for panel, metric in zip(panels, ranking.metrics, strict=False):
        _ranking_panel(panel, ranking, metric, models)
        tested = any(ranking.chance(model, metric) for model in models)
        panel.set_xlabel("score (grey: by chance)" if tested else "score", fontsize=9)
    if likely:
        _chance_panel(panels[count - 1], ranking, models)
    for panel in panels[count:]:
        panel.remove()
    panels[0].set_yticks(range(len(models)), [shown[model] for model in models])
    panels[0].set_ylim(len(models) - 0.4, -0.6)
    if notes:
        chart.supxlabel("\n".join(notes), fontsize=8, color=GREY, x=0.01, ha="left")
    return chart.saved(path)


def _ranking_panel(panel: Axes, ranking: Ranking, metric: str, models: Sequence[str]) -> None:
    order = ranking.order(metric)
    panel.set_title(metric, fontsize=10)
    plain_axis(panel)
    scores = np.array([ranking.score(model, metric) for model in order])
    spans = [_spans(ranking, model, metric) for model in order]
    drawn = fit_axis(panel, scores, [end for pair in spans for span in pair for end in span])
    alone = sum(ranking.place(model, metric) == 1 for model in order) == 1
    for row, model in enumerate(models):
        if model not in order:
            panel.text(
                0.5, row, "not scored", color=GREY, fontsize=8, ha="center", va="center",
                transform=panel.get_yaxis_transform(),
            )  # fmt: skip
            continue
        index, place = order.index(model), ranking.place(model, metric)
        colour, usual, size = (VERMILION, "D", 8) if place == 1 and alone else (BLUE, "o", 7)
        at = float(drawn[index])
        shape, value = marker(scores[index], at, usual)
        interval, null = spans[index]
        if null:
            panel.plot(null, [row, row], color=PALE, linewidth=7, solid_capstyle="butt")
        if interval:
            panel.plot(interval, [row, row], color=colour, linewidth=1.5)
        panel.plot(at, row, shape, color=colour, markersize=size)
        end = float(np.clip(interval[1], at, panel.get_xlim()[1])) if interval else at
        panel.annotate(
            f"{place}{value}", (max(end, at), row), (7, 0), textcoords="offset points",
            fontsize=8, va="center",
            color=VERMILION if place == 1 and alone else "black",
        )  # fmt: skip


def _spans(
    ranking: Ranking, model: str, metric: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The ends of the interval of a score, and of what chance gives: two standard deviations."""
    interval, chance = ranking.interval(model, metric), ranking.chance(model, metric)
    null: tuple[float, ...] = ()
    if chance is not None:
        null = (
            chance.null_mean - 2 * chance.null_sd,
            chance.null_mean + 2 * chance.null_sd,
        )
    return () if interval is None else interval[:2], null


def _chance_panel(panel: Axes, ranking: Ranking, models: Sequence[str]) -> None:
    """The chance of each model to lead on other samples, as bars."""
    chances = ranking.p_best()
    panel.set_title("best on other samples", fontsize=10)
    plain_axis(panel)
    likely = ranking.credible_set()
    for row, model in enumerate(models):
        if model not in chances:
            continue
        colour = VERMILION if model in likely else GREY
        panel.barh(row, chances[model], 0.55, color=colour)
        panel.annotate(
            percent(chances[model]), (chances[model], row), (4, 0), textcoords="offset points",
            fontsize=8, va="center",
        )  # fmt: skip
    panel.set_xlim(0, 1.15)
    panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
