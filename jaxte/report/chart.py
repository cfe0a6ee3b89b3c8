"""What the pictures share: the figure, its axes, and names beside points that never overlap.

A figure is white also on a dark page, and as wide as a column of text, so that its letters keep
their size there.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

try:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text
except ImportError as error:
    raise ImportError('plots need Matplotlib: pip install "jaxte[plot]"') from error

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

__all__ = ["Chart"]

WIDTH = 7.2  # inches: at 600 px a letter of 8 points is 9 px high
LINE = 0.135  # inches: height of a line of 8 points
# Two colours of the Okabe-Ito palette, different under every common colour blindness.
BLUE, VERMILION, GREY, PALE = "#0072B2", "#D55E00", "#767676", "#dddddd"


class Chart(Figure):
    """A figure that shows itself in a notebook, whatever backend is chosen there."""

    def __init__(self, width: float, height: float, title: str = "") -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(self)
        if title:
            self.suptitle(title, fontsize=10)

    def draw(self, renderer: Any) -> None:
        """All texts as they are: a ``$`` in a model's name begins no mathematics."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with rc_context({"text.parse_math": False}):  # of ticks that are made now
            super().draw(renderer)

    def saved(self, path: str | PathLike[str] | None) -> Self:
        """Itself, once it is saved where there is a path."""
        if path is not None:
            self.savefig(path, dpi=150)
        return self

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def shown_names(names: Sequence[str], most: int = 44) -> dict[str, str]:
    """Names as pictures have them: in one line, and without the middle of what would fill it.

    All are in full where some would be alike.
    """
    lines = {name: " ".join(name.splitlines()) for name in names}
    cut = {
        name: line
        if len(line) <= most
        else f"{line[: most // 2]}\N{HORIZONTAL ELLIPSIS}{line[1 - most // 2 :]}"
        for name, line in lines.items()
    }
    return cut if len(set(cut.values())) == len(cut) else lines


def name_width(names: Sequence[str]) -> float:
    """Inches that the longest name takes in letters of 8 points."""
    return 0.068 * max(map(len, names), default=0)


def dataset_of(meta: Mapping[str, Any]) -> str:
    """The data set of a ranking, "" if it is not known."""
    return str(meta.get("data") or meta.get("source") or "")


def plain_axis(panel: Axes) -> None:
    """Rows with a faint line each, and no frame but the lower."""
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0, labelsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)


def span_of(low: float, high: float) -> float:
    """What an axis has to show: of values that differ by rounding alone, more than that."""
    size = max(abs(low), abs(high))
    return high - low if high - low > max(1e-12 * size, 1e-14) else max(size, 1.0)


def ticks_in_full(panel: Axes, along: Literal["x", "y"]) -> None:
    """Write each tick in full, with no factor or sum at the end of the axis."""
    axis = panel.xaxis if along == "x" else panel.yaxis
    axis.set_major_formatter(lambda tick, _: f"{tick + 0.0:.10g}".replace("-", "\N{MINUS SIGN}"))


def fit_axis(
    panel: Axes, scores: np.ndarray, beside: Sequence[float] = (), *, along: Literal["x", "y"] = "x"
) -> np.ndarray:
    """Set the limits of the axis of scores and return where each score is drawn on it.

    A score so far from the others that they would fall together is drawn at the edge; what stands
    ``beside`` the scores has room too, unless it is as far.
    """
    if scores.size == 0:
        panel.set(**{f"{along}ticks": []})
        return scores
    quarter, three = np.quantile(scores, [0.25, 0.75])
    reach = 4 * (three - quarter) or math.inf
    shown = np.concatenate([scores, beside])
    near = shown[(shown >= quarter - reach) & (shown <= three + reach)]
    low, high = float(near.min()), float(near.max())
    span = span_of(low, high)
    panel.set(**{f"{along}lim": (low - 0.12 * span, high + 0.22 * span)})
    panel.locator_params(axis=along, nbins=4)
    ticks_in_full(panel, along)
    return np.clip(scores, low - 0.08 * span, high + 0.08 * span)


def marker(score: float, drawn_at: float, usual: str) -> tuple[str, str]:
    """The marker of a score and what to write beside it: off the axis an arrow and the value."""
    if score == drawn_at:
        return usual, ""
    return "<" if score < drawn_at else ">", f" ({score:.3g})"


def name_points(
    panel: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], colours: Sequence[str]
) -> None:
    """Name points in a column at the right of a panel, each by a line that leads to its point.

    The names stand as near to the height of their points as a line each allows. The limits of the
    panel have to be set, and `place_names` has to follow when all panels are drawn.
    """
    for at, height, name, colour in zip(x, y, names, colours, strict=True):
        if np.isfinite(height):
            line = {"arrowstyle": "-", "color": "#b0b0b0", "linewidth": 0.6, "relpos": (0, 0.5)}
            panel.annotate(
                name, (float(at), float(height)), (1.04, 0.5), textcoords="axes fraction",
                fontsize=8, va="center", color=colour, annotation_clip=False, gid="name",
                arrowprops={**line, "shrinkA": 1, "shrinkB": 3},
            )  # fmt: skip


def place_names(chart: Chart) -> None:
    """Move the names of `name_points` apart, by as little as possible (least squares)."""
    from scipy.optimize import isotonic_regression

    chart.draw_without_rendering()  # now panels have their size
    for panel in chart.axes:
        names = sorted(
            (text for text in panel.texts if text.get_gid() == "name"),
            key=lambda text: (text.xy[1], -text.xy[0]),  # type: ignore[attr-defined]
        )
        if not names:
            continue
        points = panel.transData.transform([text.xy for text in names])  # type: ignore[attr-defined]
        heights = panel.transAxes.inverted().transform(points)[:, 1]
        steps = np.arange(len(names)) * LINE * chart.dpi / panel.bbox.height
        moved = isotonic_regression(heights - steps).x
        for text, height in zip(names, np.clip(moved, 0, 1 - steps[-1]) + steps, strict=True):
            text.set_y(height)
