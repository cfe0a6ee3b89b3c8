"""Pictures of scores against the number of rows. Needs Matplotlib, as `jaxte.report.plots`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from jaxte.report.chart import (
    LINE,
    WIDTH,
    Chart,
    dataset_of,
    fit_axis,
    marker,
    name_points,
    name_width,
    place_names,
    shown_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from jaxte.ranking.curve import ScoreCurve

__all__ = ["plot_curve"]

# The Okabe-Ito palette without its light colours, in which names could not be read.
_COLOURS = ("#0072B2", "#D55E00", "#00785A", "#AA4499", "#000000")


def plot_curve(curve: ScoreCurve, path: str | PathLike[str] | None = None) -> Chart:
    """Draw the score of every model against the number of rows: a panel per metric.

    A line ends at the name of its model; one far from the others runs along the edge.

    Args:
        curve: what `jaxte.score_curve` returned.
        path: where to save it too; the ending chooses the format (png, svg, pdf).

    Returns:
        The figure; a notebook shows it.

    Example:
        >>> import jax, jaxte
        >>> x, y = jax.random.normal(jax.random.key(0), (90, 8)), jax.numpy.arange(90) % 3
        >>> curve = jaxte.score_curve({"a": x, "b": x**2}, y, shares=(0.5, 1), metrics="logme")
        >>> [panel.get_title() for panel in plot_curve(curve).axes]
        ['logme']
    """
    last = curve.rankings[-1]
    shown = shown_names(last.models)
    metrics, needed = last.metrics, 1.9 + name_width([*shown.values()])
    columns = max(1, min(len(metrics), int(WIDTH / needed)))
    rows = math.ceil(len(metrics) / columns)
    height = max(2.2, LINE * len(last.models)) + 0.8
    chart = Chart(max(WIDTH, needed), 0.3 + height * rows, dataset_of(last.meta))
    panels = list(chart.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[len(metrics) :]:
        panel.remove()
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(last.models))]
    for panel, metric in zip(panels, metrics, strict=False):
        scores = np.array([curve.scores(model, metric) for model in last.models])
        near = scores[np.isfinite(scores)]
        drawn = np.full(scores.shape, np.nan)
        drawn[np.isfinite(scores)] = fit_axis(panel, near, along="y")
        for of_model, colour in zip(drawn, colours, strict=True):
            panel.plot(curve.rows, of_model, marker="o", markersize=3, linewidth=1, color=colour)
        panel.set_title(metric, fontsize=10)
        panel.set_xscale("log")
        panel.set_xticks(curve.rows, _apart(curve.rows))
        panel.minorticks_off()
        panel.set_xlabel("rows", fontsize=9)
        panel.set_ylabel("score", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        ends = np.full(len(scores), float(curve.rows[-1]))
        names = [
            shown[model] + marker(score, at, "")[1]
            for model, score, at in zip(last.models, scores[:, -1], drawn[:, -1], strict=True)
        ]
        name_points(panel, ends, drawn[:, -1], names, colours)
    place_names(chart)
    return chart.saved(path)


def _apart(rows: Sequence[int]) -> list[str]:
    """Numbers of rows for an axis of logarithms, none where it would touch the next."""
    at = np.log(rows) / (np.log(rows[-1] / rows[0]) or 1.0)
    labels = [""] * len(rows)
    right = math.inf
    for place in reversed(range(len(rows))):
        if right - at[place] > 0.16:
            labels[place], right = str(rows[place]), at[place]
    return labels
