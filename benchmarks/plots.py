"""Pictures of a run, made from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import GRAM
from benchmarks.stats import summary

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_AXES = {"n": "samples n", "d": "width d", "classes": "classes C", "models": "models"}


def save(whole: Mapping[str, Any], folder: Path) -> None:
    """Draw what the results hold: ``metrics.png``, ``pool.png``, ``growth.png``."""
    import matplotlib

    matplotlib.use("Agg")
    draws = {"metrics": _metrics, "pool": _pool, "growth": _growth}
    for name, draw in draws.items():
        if whole.get(name, {}).get("rows"):
            figure = draw(whole[name])
            figure.savefig(folder / f"{name}.png", dpi=150)


def _figure(columns: int, rows: int = 1, width: float = 4.6, height: float = 4.2) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, width * columns), height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _metrics(section: Mapping[str, Any]) -> Any:
    """Each run against the Gram product of its case: how far from the limit."""
    rows = [row for row in section["rows"] if row["run"]]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    figure, axes = _figure(len(metrics), len(dtypes))
    names = list(dict.fromkeys(row["name"] for row in rows if row["name"] != GRAM))
    case = ("metric", "dtype", "n", "d", "classes")
    limit = {tuple(r[k] for k in case): summary(r["run"]).median for r in rows if r["name"] == GRAM}
    for i, dtype in enumerate(dtypes):
        for j, metric in enumerate(metrics):
            ax = axes[i][j]
            ends = [v for key, v in limit.items() if key[:2] == (metric, dtype)]
            if ends:
                ax.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.6", lw=1)
            for index, name in enumerate(names):
                own = [r for r in rows if (r["metric"], r["dtype"]) == (metric, dtype)]
                points = sorted(
                    (limit[tuple(r[k] for k in case)], summary(r["run"]).median)
                    for r in own
                    if r["name"] == name and tuple(r[k] for k in case) in limit
                )
                if points:
                    mark, colour = _MARKS[index % len(_MARKS)], f"C{index % 10}"
                    ax.plot(*zip(*points, strict=True), mark, mfc="none", color=colour, label=name)
            ax.set(xlabel="one product X'X [s]", ylabel="run [s]")
            _logarithmic(ax, "xy")
            ax.set_title(f"{metric}, {dtype}")
            ax.grid(alpha=0.3)
    _legend(figure, axes, "time of a product")
    return figure


def _pool(section: Mapping[str, Any]) -> Any:
    """Cold and warm bars of every contestant, a panel per pool."""
    rows = section["rows"]
    keys = ("models", "classes")
    cases = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    figure, axes = _figure(1, len(cases), width=9.0, height=3.0)
    for ax, case in zip(axes[:, 0], cases, strict=True):
        own = [row for row in rows if tuple(row[key] for key in keys) == case][::-1]
        for shift, part, colour in ((0.2, "cold", "C0"), (-0.2, "warm", "C1")):
            summaries = [summary(row[part]) for row in own]
            low = [s.median - s.low for s in summaries]
            high = [s.high - s.median for s in summaries]
            ax.barh(
                [i + shift for i in range(len(own))],
                [s.median for s in summaries],
                height=0.36,
                xerr=[low, high],
                color=colour,
                label=part,
                error_kw={"lw": 1},
            )
        ax.set_yticks(range(len(own)), [row["name"] for row in own])
        _logarithmic(ax, "x")
        ax.set(xlabel="seconds", title=f"{case[0]} models, {case[1]} classes")
        ax.grid(axis="x", alpha=0.3)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2)
    return figure


def _growth(section: Mapping[str, Any]) -> Any:
    """Seconds at the left, memory at the right; a row per axis, to be read in a column of text."""
    rows = section["rows"]
    varied = list(dict.fromkeys(row["axis"] for row in rows))
    lines = list(dict.fromkeys((row["metric"], row["mode"]) for row in rows))
    metrics = list(dict.fromkeys(metric for metric, _ in lines))
    modes = list(dict.fromkeys(mode for _, mode in lines))
    figure, axes = _figure(2, len(varied), height=2.9)
    for i, axis in enumerate(varied):
        for metric, mode in lines:
            own = [r for r in rows if (r["axis"], r["metric"], r["mode"]) == (axis, metric, mode)]
            if not own:
                continue
            x = [row[axis] for row in own]
            style = {
                "marker": _MARKS[modes.index(mode)],
                "ls": ("-", "--", ":")[modes.index(mode) % 3],
                "color": f"C{metrics.index(metric)}",
                "label": f"{metric}, {mode}",
                "ms": 4,
            }
            axes[i][0].plot(x, [summary(row["warm"]).median for row in own], **style)
            axes[i][1].plot(x, [row["memory"]["peak"] / 2**20 for row in own], **style)
        for ax, label in zip(axes[i], ("warm call [s]", "peak of the process [MiB]"), strict=True):
            ax.set(xlabel=_AXES[axis], ylabel=label)
            _logarithmic(ax, "xy")
            ax.grid(alpha=0.3)
    _legend(figure, axes, None)
    return figure


def _logarithmic(ax: Any, which: str) -> None:
    """Whole decades on the axes, which keeps labels few enough not to overlap."""
    from matplotlib.ticker import NullFormatter

    for axis in which:
        getattr(ax, f"set_{axis}scale")("log")
        low, high = getattr(ax.dataLim, f"interval{axis}")
        if axis == "x" and ax.patches:  # bars start at 0
            low = min(patch.get_width() for patch in ax.patches)
        if 0 < low <= high:
            bounds = 10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high * 1.001))
            getattr(ax, f"set_{axis}lim")(*bounds)
        getattr(ax, f"{axis}axis").set_minor_formatter(NullFormatter())


def _legend(figure: Any, axes: Any, diagonal: str | None) -> None:
    """One legend below all panels, each name once."""
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if diagonal:
        handles[diagonal] = Line2D([], [], color="0.6", lw=1)
    columns = max(1, min(4, len(handles)))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
