"""Pictures of scores against the number of rows. Needs Matplotlib, as `jaxte.report.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxte.report.plots import Chart

if TYPE_CHECKING:
    from os import PathLike

    from jaxte.ranking.curve import ScoreCurve

__all__ = ["plot_curve"]

# The Okabe-Ito palette, and line styles for more models than it has colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")


def plot_curve(curve: ScoreCurve, path: str | PathLike[str] | None = None) -> Chart:
    """Draw the score of every model against the number of rows: a panel per metric.

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
    metrics = last.metrics
    chart = Chart(1.2 + 3.4 * len(metrics) + 0.08 * max(map(len, last.models)), 3.6)
    panels = chart.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        order = last.order(metric)
        for model in [*order, *(m for m in last.models if m not in order)]:
            index = last.models.index(model)
            panel.plot(
                curve.rows, np.array(curve.scores(model, metric)), label=model, marker="o",
                markersize=3.5, color=_COLOURS[index % len(_COLOURS)],
                linestyle=_STYLES[index // len(_COLOURS) % len(_STYLES)],
            )  # fmt: skip
        panel.set_title(metric, fontsize=11)
        panel.set_xscale("log")
        panel.set_xticks(curve.rows, list(map(str, curve.rows)), fontsize=8)
        panel.minorticks_off()
        panel.set_xlabel("rows", fontsize=9)
        panel.tick_params(axis="y", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    chart.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return chart.saved(path)
