"""Scores against the number of rows: whether an order has settled, or more data would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import Labels, as_labels, checks
from jaxte.intake.checks import number, short
from jaxte.metrics import DEFAULT_METRICS
from jaxte.ranking.options import checked
from jaxte.ranking.rank import rank
from jaxte.ranking.result import Ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ScoreCurve", "growing_rows", "score_curve"]

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True, repr=False)
class ScoreCurve:
    """Rankings on ever more of the same rows.

    Attributes:
        rows: how many, rising; the rows of one ranking are among those of the next.
        rankings: one for each.
    """

    rows: tuple[int, ...]
    rankings: tuple[Ranking, ...]

    def scores(self, model: str, metric: str) -> list[float]:
        """Of each number of rows, NaN where there is no score."""
        return [ranking.score(model, metric) for ranking in self.rankings]

    def first(self, metric: str | None = None) -> list[str]:
        """The model that leads on each number of rows."""
        return [ranking.best(metric) for ranking in self.rankings]

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the scores of every metric against the number of rows."""
        from jaxte.report.curves import plot_curve

        return plot_curve(self, path)

    def __repr__(self) -> str:
        """Who leads on each number of rows."""
        metrics = self.rankings[-1].metrics
        lines = [("rows", *metrics)]
        for rows, ranking in zip(self.rows, self.rankings, strict=True):
            lines.append((str(rows), *(next(iter(ranking.order(m)), "-") for m in metrics)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def score_curve(
    features: Mapping[str, Any],
    targets: ArrayLike,
    *,
    shares: Sequence[float] = SHARES,
    weights: ArrayLike | None = None,
    seed: int = 0,
    **options: Any,
) -> ScoreCurve:
    """Rank the models on growing parts of the rows, of each class its share.

    Rows that a part lacks have weight 0, so that all parts are one compilation and metrics that
    read batches read them as ever.

    Args:
        features: as of `jaxte.rank`.
        targets: classes [n], or float targets [n] or [n, k], shared by all models.
        shares: parts of the rows, above 0 and up to 1.
        weights: [n] sample weights >= 0.
        seed: of the random order of the rows.
        options: of `jaxte.rank`.

    Returns:
        `ScoreCurve`.

    Raises:
        InputError: as `jaxte.rank`, and for shares that cannot be.

    References: subsets that grow are ours; scores that drift with n are known since LogME (You et
    al., ICML 2021).

    Example:
        >>> import jax, jaxte
        >>> x, y = jax.random.normal(jax.random.key(0), (90, 8)), jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
        >>> curve = jaxte.score_curve(models, y, shares=(0.5, 1.0), metrics="logme")
        >>> curve.rows, curve.first()
        ((45, 90), ['sighted', 'sighted'])
    """
    if targets is None or isinstance(targets, Mapping):
        raise InputError("give targets that all models share: the rows are drawn by them")
    asked = checked(options.get("metrics", DEFAULT_METRICS), options=options.get("options"))
    if unable := [metric.name for metric in asked.metrics if not metric.takes_weights]:
        raise InputError(f"{', '.join(unable)} takes no weights, by which rows are left out")
    if weights is not None:
        weights = np.asarray(checks.check_weights(weights, len(np.atleast_1d(targets))), float)
    labels = as_labels(targets, weights=weights)
    own = np.ones(len(labels.values)) if weights is None else weights
    order, sizes = growing_rows(labels, shares, seed=seed, rows=np.flatnonzero(own > 0))
    rankings = []
    for size in sizes:
        part = np.zeros(len(own))
        part[order[:size]] = own[order[:size]]
        rankings.append(rank(features, targets, weights=part, **options))
    return ScoreCurve(tuple(sizes), tuple(rankings))


def growing_rows(
    labels: Labels,
    shares: Sequence[float],
    *,
    seed: int,
    rows: np.ndarray | None = None,
    least: int = 2,
    apart: float = 1.0,
) -> tuple[np.ndarray, list[int]]:
    """Rows in random order, of which every beginning has each class in its share, and its sizes.

    Sizes are at least ``least``, and each ``apart`` times the one before.

    Raises:
        InputError: for shares that cannot be.
    """
    seed = checks.check_whole("seed", seed, least=0)
    listed = shares if isinstance(shares, Sequence | np.ndarray) and np.ndim(shares) == 1 else []
    if not len(listed) or not all(0 < number(share) <= 1 for share in listed):
        raise InputError(f"shares are {short(shares)}: give numbers above 0 and up to 1")
    targets, rng = labels.values, np.random.default_rng(seed)
    order = rng.permutation(np.arange(len(targets)) if rows is None else rows)
    if labels.classes is not None:
        places = np.empty(len(order))
        for one in np.unique(targets[order]):
            own = np.flatnonzero(targets[order] == one)
            places[own] = (np.arange(len(own)) + rng.uniform(size=1)) / len(own)
        order = order[np.argsort(places, kind="stable")]
    whole, sizes = len(order), list[int]()
    for size in sorted({min(max(least, round(float(s) * whole)), whole) for s in shares}):
        if sizes and size < apart * sizes[-1]:  # the last of those that are close
            sizes.pop()
        sizes.append(size)
    return order, sizes
