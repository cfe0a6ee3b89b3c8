"""Pictures of how scores agree with accuracies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxte.report.chart import (
    BLUE,
    GREY,
    LINE,
    VERMILION,
    WIDTH,
    Chart,
    fit_axis,
    marker,
    name_points,
    name_width,
    place_names,
    plain_axis,
    shown_names,
    span_of,
    ticks_in_full,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from typing import Any

    from matplotlib.axes import Axes

    from jaxte.evaluate import Evaluation
    from jaxte.ranking import Ranking

__all__ = ["plot_agreement", "plot_measures"]


def plot_agreement(
    rankings: Mapping[str, Ranking | Mapping[str, Mapping[str, float]]],
    accuracies: Mapping[str, Mapping[str, Any]],
    path: str | PathLike[str] | None = None,
) -> Chart:
    """Draw scores against measured fine-tuned accuracy: a panel per target and metric.

    Every model is named at the right of the panel, with a line to its point; the first of the
    metric is orange. The vertical bar is one standard deviation of its accuracy over seeds. The
    title of a panel gives the weighted Kendall tau.

    Args:
        rankings: target -> what `jaxte.rank` returned for it, or {metric: {model: score}}.
        accuracies: target -> model -> its accuracy, as a number, as (mean, standard deviation), or
            as `jaxte.zoo.accuracies` gives it.
        path: where to save it too; the ending chooses the format (png, svg, pdf).

    Returns:
        The figure; a notebook shows it.

    Example:
        >>> scores = {"pets": {"logme": {"resnet": 0.4, "vit": 0.9}}}
        >>> figure = plot_agreement(scores, {"pets": {"resnet": 0.81, "vit": (0.88, 0.01)}})
        >>> figure.axes[0].get_xlabel()
        'logme score'
    """
    pools = {target: _scores(ranking) for target, ranking in rankings.items()}
    models = _union(scores for pool in pools.values() for scores in pool.values())
    headings = [f"{target}: {metric}" for target, pool in pools.items() for metric in pool]
    # by a panel
    needed = max(1.9 + name_width([*shown_names(models).values()]), 0.9 + name_width(headings))
    columns = max(1, min(int(WIDTH / needed), *map(len, pools.values()), 3))
    rows = {target: math.ceil(len(pool) / columns) for target, pool in pools.items()}
    height = max(1.8, LINE * len(models)) + 0.95
    chart = Chart(max(WIDTH, needed), 0.1 + height * max(sum(rows.values()), 1))
    grid = iter(chart.subplots(sum(rows.values()), columns, squeeze=False).flat)
    for target, pool in pools.items():
        measured = {model: _mean_and_sd(one) for model, one in accuracies[target].items()}
        for place in range(rows[target] * columns):
            panel = next(grid)
            if place >= len(pool):
                panel.remove()
                continue
            metric = list(pool)[place]
            _agreement_panel(panel, pool[metric], f"{target}: {metric}", measured)
            panel.set_xlabel(f"{metric} score", fontsize=9)
            if place % columns == 0:
                panel.set_ylabel("fine-tuned accuracy", fontsize=9)
    place_names(chart)
    return chart.saved(path)


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _scores(ranking: Ranking | Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Metric -> model -> score; NaN for models that a ranking could not score."""
    if isinstance(ranking, Mapping):
        return {metric: dict(scores) for metric, scores in ranking.items()}
    return {
        metric: {model: ranking.score(model, metric) for model in ranking.models}
        for metric in ranking.metrics
    }


def _mean_and_sd(accuracy: Any) -> tuple[float, float]:
    if hasattr(accuracy, "finetune_mean"):
        return accuracy.finetune_mean, accuracy.finetune_std
    mean, sd = accuracy if np.ndim(accuracy) else (accuracy, 0.0)
    return float(mean), float(sd)


def _agreement_panel(
    panel: Axes,
    scored: Mapping[str, float],
    heading: str,
    measured: Mapping[str, tuple[float, float]],
) -> None:
    models = [m for m, score in scored.items() if m in measured and not math.isnan(score)]
    scores = np.array([scored[model] for model in models])
    means, spread = np.array([measured[model] for model in models]).reshape(-1, 2).T
    tau = math.nan
    if len(models) > 1:
        from scipy.stats import weightedtau  # half a second, and some pictures have none

        tau = round(float(weightedtau(scores, means).statistic), 2) + 0.0
    panel.set_title(f"{heading}\nweighted tau {tau:.2f}", fontsize=9, loc="left", pad=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    drawn = fit_axis(panel, scores)
    if spread.any():
        panel.errorbar(drawn, means, yerr=spread, fmt="none", ecolor="#b0b0b0", capsize=2)
    names, colours = [], []
    shown = shown_names(models)
    for model, score, x, y in zip(models, scores, drawn, means, strict=True):
        shape, value = marker(score, x, "o")
        colours.append(VERMILION if score == scores.max() else BLUE)
        names.append(shown[model] + value)
        panel.plot(x, y, shape, color=colours[-1], markersize=4.5)
    panel.margins(y=0.06)
    dark = ["black" if colour == BLUE else colour for colour in colours]
    name_points(panel, drawn, means, names, dark)


def plot_measures(evaluation: Evaluation, path: str | PathLike[str] | None = None) -> Chart:
    """Draw how well metrics agree with accuracies: a row per metric, weighted tau and regret.

    The point is the mean over data sets (or the value on the only one) and the bar its 95 %
    interval; the grey cross is what one random order in twenty reaches, the dashed line the noise
    ceiling of the seeds. The static ranking is an orange diamond.

    Args:
        evaluation: what `jaxte.evaluate.evaluate` returned.
        path: where to save it too; the ending chooses the format (png, svg, pdf).

    Returns:
        The figure; a notebook shows it.

    Example:
        >>> from jaxte.evaluate import evaluate
        >>> accuracies = {"a": 0.9, "b": 0.8, "c": 0.7}
        >>> figure = plot_measures(evaluate({"a": 3.0, "b": 1.0, "c": 2.0}, accuracies, draws=20))
        >>> [panel.get_xlabel() for panel in figure.axes]
        ['weighted tau', 'regret (in the unit of the accuracies)']
    """
    metrics = evaluation.order()
    sets = evaluation.evaluated()
    title = f"mean over {len(sets)} data sets" if len(sets) > 1 else sets[0]
    chart = Chart(
        max(WIDTH, 4 + name_width(metrics)),
        1.2 + 0.26 * len(metrics),
        f"{title}, {len(evaluation.models)} models",
    )
    panels = chart.subplots(1, 2, sharey=True)
    measures = (("weighted_tau", "weighted tau"), ("top1_regret", "regret"))
    for panel, (measure, heading) in zip(panels, measures, strict=True):
        unit = " (in the unit of the accuracies)" if heading == "regret" else ""
        panel.set_xlabel(f"{heading}{unit}", fontsize=9)
        plain_axis(panel)
        panel.locator_params(axis="x", nbins=5)
        panel.axvline(0, color="#c0c0c0", linewidth=0.8)
        for row, metric in enumerate(metrics):
            one = evaluation.record(metric, measure, "mean" if len(sets) > 1 else sets[0])
            _measure_row(panel, row, one, metric == "static ranking")
        if math.isfinite(one["ceiling"]):
            panel.axvline(one["ceiling"], color=GREY, linestyle="--", linewidth=1)
        low, high = panel.dataLim.intervalx
        if span_of(low, high) > high - low:  # one value for all
            panel.set_xlim(low - 0.05, low + span_of(low, high))
        ticks_in_full(panel, "x")
    panels[0].set_yticks(range(len(metrics)), metrics)
    panels[0].set_ylim(len(metrics) - 0.4, -0.6)
    _measure_key(chart, math.isfinite(one["ceiling"]))
    return chart.saved(path)


def _measure_row(panel: Axes, row: int, one: Mapping[str, Any], static: bool) -> None:
    colour = VERMILION if static else BLUE
    if math.isfinite(one["low"]):
        panel.plot([one["low"], one["high"]], [row, row], color=colour, linewidth=2, alpha=0.5)
    panel.plot(one["chance"], row, "x", color=GREY, markersize=6)
    panel.plot(one["value"], row, "D" if static else "o", color=colour, markersize=7)


def _measure_key(chart: Chart, ceiling: bool) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=BLUE, marker="o", linewidth=2, label="value and 95 % interval"),
        Line2D([], [], color=GREY, marker="x", linestyle="none", label="one random order in 20"),
    ]
    if ceiling:
        entries.append(Line2D([], [], color=GREY, linestyle="--", label="noise ceiling"))
    chart.legend(handles=entries, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
