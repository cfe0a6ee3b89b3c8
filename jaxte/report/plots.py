"""Pictures of rankings. Importing this module needs Matplotlib; nothing in it touches pyplot."""

from __future__ import annotations

import io
import math
import string
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('plots need Matplotlib: pip install "jaxte[plot]"') from error

from jaxte.report.provenance import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike
    from typing import Any

    from matplotlib.axes import Axes

    from jaxte.evaluate import Evaluation
    from jaxte.ranking import Ranking

__all__ = ["Chart", "plot_agreement", "plot_measures", "plot_ranking"]

# Where a letter may stand beside its point.
_OFFSETS = ((6.0, 5.0), (6.0, -5.0), (-6.0, 5.0), (-6.0, -5.0), (8.0, 0.0), (-8.0, 0.0))
# Two colours of the Okabe-Ito palette, different under every common colour blindness.
_BLUE, _VERMILION, _GREY, _PALE = "#0072B2", "#D55E00", "#767676", "#dddddd"


class Chart(Figure):
    """A figure that shows itself in a notebook, whatever backend is chosen there."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(self)

    def saved(self, path: str | PathLike[str] | None) -> Self:
        """Itself, once it is saved where there is a path."""
        if path is not None:
            self.savefig(path, dpi=150)
        return self

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


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
    notes = [textwrap.fill(note, 40 * (1 + len(ranking.metrics))) for note in said]
    lines = sum(note.count("\n") + 1 for note in notes)
    names = 0.085 * max(map(len, models))
    height = 1.1 + 0.3 * len(models) + 0.18 * lines
    likely = bool(ranking.decisive and ranking.p_best())
    columns = len(ranking.metrics) + likely
    chart = Chart(names + 0.4 + 2.5 * columns, height)
    panels = chart.subplots(1, columns, sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, ranking.metrics, strict=False):
        _ranking_panel(panel, ranking, metric, models)
    if likely:
        _chance_panel(panels[-1], ranking, models)
    panels[0].set_yticks(range(len(models)), models)
    panels[0].set_ylim(len(models) - 0.4, -0.6)
    if notes:
        chart.supxlabel("\n".join(notes), fontsize=8, color=_GREY, x=0.01, ha="left")
    return chart.saved(path)


def _ranking_panel(panel: Axes, ranking: Ranking, metric: str, models: Sequence[str]) -> None:
    order = ranking.order(metric)
    panel.set_title(metric, fontsize=11)
    _plain_axis(panel)
    scores = np.array([ranking.score(model, metric) for model in order])
    spans = [_spans(ranking, model, metric) for model in order]
    drawn = _fit_axis(panel, scores, [end for pair in spans for span in pair for end in span])
    alone = sum(ranking.place(model, metric) == 1 for model in order) == 1
    for row, model in enumerate(models):
        if model not in order:
            panel.text(
                0.5, row, "not scored", color=_GREY, fontsize=8, ha="center", va="center",
                transform=panel.get_yaxis_transform(),
            )  # fmt: skip
            continue
        index, place = order.index(model), ranking.place(model, metric)
        colour, usual, size = (_VERMILION, "D", 8) if place == 1 and alone else (_BLUE, "o", 7)
        at = float(drawn[index])
        marker, value = _marker(scores[index], at, usual)
        interval, null = spans[index]
        if null:
            panel.plot(null, [row, row], color=_PALE, linewidth=7, solid_capstyle="butt")
        if interval:
            panel.plot(interval, [row, row], color=colour, linewidth=1.5)
        panel.plot(at, row, marker, color=colour, markersize=size)
        offset = (5, 5) if interval else (7, 0)  # not on the line
        panel.annotate(
            f"{place}{value}", (at, row), offset, textcoords="offset points",
            fontsize=8, va="bottom" if interval else "center",
            color=_VERMILION if place == 1 and alone else "black",
        )  # fmt: skip


def _plain_axis(panel: Axes) -> None:
    """Rows with a faint line each, and no frame but the lower."""
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)


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
    panel.set_title("best on other samples", fontsize=11)
    _plain_axis(panel)
    likely = ranking.credible_set()
    for row, model in enumerate(models):
        if model not in chances:
            continue
        colour = _VERMILION if model in likely else _GREY
        panel.barh(row, chances[model], 0.55, color=colour)
        panel.annotate(
            f"{chances[model]:.0%}", (chances[model], row), (4, 0), textcoords="offset points",
            fontsize=8, va="center",
        )  # fmt: skip
    panel.set_xlim(0, 1.15)
    panel.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])


def _fit_axis(panel: Axes, scores: np.ndarray, beside: Sequence[float] = ()) -> np.ndarray:
    """Set the limits of the score axis and return where each score is drawn on it.

    A score so far from the others that they would fall together is drawn at the edge; what stands
    ``beside`` the scores has room too, unless it is as far.
    """
    if scores.size == 0:
        panel.set_xticks([])
        return scores
    quarter, three = np.quantile(scores, [0.25, 0.75])
    reach = 4 * (three - quarter) or math.inf
    shown = np.concatenate([scores, beside])
    near = shown[(shown >= quarter - reach) & (shown <= three + reach)]
    low, high = float(near.min()), float(near.max())
    span = high - low or max(abs(high), 1.0)
    panel.set_xlim(low - 0.12 * span, high + 0.22 * span)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    return np.clip(scores, low - 0.08 * span, high + 0.08 * span)


def _marker(score: float, drawn_at: float, usual: str) -> tuple[str, str]:
    """The marker of a score and what to write beside it: off the axis an arrow and the value."""
    if score == drawn_at:
        return usual, ""
    return "<" if score < drawn_at else ">", f" ({score:.3g})"


def plot_agreement(
    rankings: Mapping[str, Ranking | Mapping[str, Mapping[str, float]]],
    accuracies: Mapping[str, Mapping[str, Any]],
    path: str | PathLike[str] | None = None,
) -> Chart:
    """Draw scores against measured fine-tuned accuracy: a row per target, a panel per metric.

    Every model is a letter, read off the key at the right; the vertical bar is one standard
    deviation of its accuracy over seeds. The title of a panel gives the weighted Kendall tau.

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
    names = [*string.ascii_letters, *(f"{a}{b}" for a in "abc" for b in string.ascii_letters)]
    letters = dict(zip(models, names, strict=False))
    metrics = _union(pools.values())
    longest = max(map(len, models), default=0)
    columns = math.ceil(len(models) / (13 * len(pools)))  # of the key
    chart = Chart(
        3.0 * len(metrics) + columns * (0.8 + 0.075 * longest), 0.3 + 2.9 * max(len(pools), 1)
    )
    grid = chart.subplots(len(pools), len(metrics), squeeze=False)
    for line, (target, pool) in zip(grid, pools.items(), strict=True):
        measured = {model: _mean_and_sd(one) for model, one in accuracies[target].items()}
        for panel, metric in zip(line, metrics, strict=True):
            _agreement_panel(panel, pool.get(metric, {}), metric, measured, letters)
        line[0].set_ylabel(f"{target}: fine-tuned accuracy")
    for panel, metric in zip(grid[-1], metrics, strict=True):
        panel.set_xlabel(f"{metric} score")
    key = [f"{letters.get(model, '?')}  {model}" for model in models]
    invisible = [chart.add_artist(Line2D([], [], linestyle="none")) for _ in key]
    chart.legend(
        invisible, key, loc="outside right center", ncols=columns, columnspacing=0.8,
        handlelength=0, handletextpad=0, frameon=False, fontsize=9,
    )  # fmt: skip
    return chart.saved(path)


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _scores(ranking: Ranking | Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Metric -> model -> score; models that a ranking could not score keep their letter."""
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
    metric: str,
    measured: Mapping[str, tuple[float, float]],
    letters: Mapping[str, str],
) -> None:
    models = [m for m, score in scored.items() if m in measured and not math.isnan(score)]
    scores = np.array([scored[model] for model in models])
    means, spread = np.array([measured[model] for model in models]).reshape(-1, 2).T
    tau = math.nan
    if len(models) > 1:
        from scipy.stats import weightedtau  # half a second, and some pictures have none

        tau = round(float(weightedtau(scores, means).statistic), 2) + 0.0
    panel.set_title(f"{metric}: weighted tau {tau:.2f}", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    drawn = _fit_axis(panel, scores)
    if spread.any():
        panel.errorbar(drawn, means, yerr=spread, fmt="none", ecolor=_GREY, capsize=2)
    panel.plot(drawn, means, linestyle="none")  # the limits, from which the letters' places follow
    panel.margins(y=0.12)
    spots = _free_spots(panel, drawn, means)
    for model, score, x, y, spot in zip(models, scores, drawn, means, spots, strict=True):
        marker, value = _marker(score, x, "o")
        panel.plot(x, y, marker, color=_BLUE, markersize=4.5)
        if value:
            spot = (8.0, 0.0)  # a longer text has room only inside
        panel.annotate(
            letters.get(model, "?") + value, (float(x), float(y)), spot, textcoords="offset points",
            fontsize=9, ha="left" if spot[0] > 0 else "right", va="center",
        )  # fmt: skip


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
    chart = Chart(7.4 + 0.085 * max(map(len, metrics)), 1.2 + 0.34 * len(metrics))
    panels = chart.subplots(1, 2, sharey=True)
    records = evaluation.to_records()
    sets = [name for name in evaluation.datasets if any(r["dataset"] == name for r in records)]
    title = f"mean over {len(sets)} data sets" if len(sets) > 1 else sets[0]
    chart.suptitle(f"{title}, {len(evaluation.models)} models", fontsize=10)
    measures = (("weighted_tau", "weighted tau"), ("top1_regret", "regret"))
    for panel, (measure, heading) in zip(panels, measures, strict=True):
        unit = " (in the unit of the accuracies)" if heading == "regret" else ""
        panel.set_xlabel(f"{heading}{unit}", fontsize=9)
        _plain_axis(panel)
        panel.axvline(0, color="#c0c0c0", linewidth=0.8)
        for row, metric in enumerate(metrics):
            one = evaluation.record(metric, measure, "mean" if len(sets) > 1 else sets[0])
            _measure_row(panel, row, one, metric == "static ranking")
        if math.isfinite(one["ceiling"]):
            panel.axvline(one["ceiling"], color=_GREY, linestyle="--", linewidth=1)
    panels[0].set_yticks(range(len(metrics)), metrics)
    panels[0].set_ylim(len(metrics) - 0.4, -0.6)
    _measure_key(chart, math.isfinite(one["ceiling"]))
    return chart.saved(path)


def _measure_row(panel: Axes, row: int, one: Mapping[str, Any], static: bool) -> None:
    colour = _VERMILION if static else _BLUE
    if math.isfinite(one["low"]):
        panel.plot([one["low"], one["high"]], [row, row], color=colour, linewidth=2, alpha=0.5)
    panel.plot(one["chance"], row, "x", color=_GREY, markersize=6)
    panel.plot(one["value"], row, "D" if static else "o", color=colour, markersize=7)


def _measure_key(chart: Chart, ceiling: bool) -> None:
    entries = [
        Line2D([], [], color=_BLUE, marker="o", linewidth=2, label="value and 95 % interval"),
        Line2D([], [], color=_GREY, marker="x", linestyle="none", label="one random order in 20"),
    ]
    if ceiling:
        entries.append(Line2D([], [], color=_GREY, linestyle="--", label="noise ceiling"))
    chart.legend(handles=entries, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _free_spots(panel: Axes, x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """For each point the offset, in points, at which a letter is farthest from all the others."""
    to_points = panel.transData.transform(np.column_stack([x, y])) * 72 / panel.figure.dpi
    taken = list(to_points)
    spots = []
    for point in to_points:
        others = np.array([t for t in taken if t is not point])
        room = [
            np.inf if others.size == 0 else np.hypot(*(others - point - offset).T).min()
            for offset in _OFFSETS
        ]
        spots.append(_OFFSETS[int(np.argmax(np.minimum(room, 12)))])  # the first that is free
        taken.append(point + spots[-1])
    return spots
