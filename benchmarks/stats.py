"""Numbers from repeated runs: median and spread, exponents of growth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Summary(NamedTuple):
    """Median and range of repeated runs."""

    median: float
    low: float
    high: float


class Exponents(NamedTuple):
    """Slopes of log y over log x: over all points, and over the upper half of the range of x."""

    overall: float
    upper: float


def summary(runs: Sequence[float]) -> Summary:
    """Median, least and largest of the runs.

    Raises:
        ValueError: if there are none.
    """
    if not runs:
        raise ValueError("no runs to summarise")
    values = np.asarray(runs, np.float64)
    return Summary(float(np.median(values)), float(values.min()), float(values.max()))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of ln y over ln x; NaN with fewer than two usable points."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    usable = (a > 0) & (b > 0) & np.isfinite(a) & np.isfinite(b)
    a, b = np.log(a[usable]), np.log(b[usable])
    if len(np.unique(a)) < 2:
        return float("nan")
    a = a - a.mean()
    return float(a @ (b - b.mean()) / (a @ a))


def exponents(x: Sequence[float], y: Sequence[float]) -> Exponents:
    """Exponent of growth over all points and over the upper half, where constants matter less.

    The upper half is that of the sorted points, the middle one included.
    """
    order = np.argsort(np.asarray(x, np.float64), kind="stable")
    xs, ys = [float(x[i]) for i in order], [float(y[i]) for i in order]
    start = len(xs) // 2
    if len(xs) - start < 2:
        start = max(0, len(xs) - 2)
    return Exponents(slope(xs, ys), slope(xs[start:], ys[start:]))
