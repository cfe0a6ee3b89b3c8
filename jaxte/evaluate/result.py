"""`Evaluation`: how metrics agree with accuracies, and every form that it is shown in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxte import report
from jaxte.errors import InputError
from jaxte.evaluate.measures import MEASURES
from jaxte.evaluate.pools import MEAN, STATIC

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from jaxte.report import Table

__all__ = ["MEAN", "Evaluation"]

_ENDS = ("low", "high")
_SHOWN = ("top1_regret", "rel_at_1", "recall_at_3", "kendall_tau", "pearson", "gap_fidelity")


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """How well the scores of metrics agree with accuracies.

    Attributes:
        metrics: names, the static ranking among them where there is one.
        datasets: names of the data sets that both tables have.
        models: names of the models that have scores there.
        notes: what was left out and why, and what is suspect.
        meta: draws and seed.
    """

    metrics: tuple[str, ...]
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    notes: tuple[str, ...]
    meta: Mapping[str, Any]
    _records: tuple[Mapping[str, Any], ...]
    _scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))
    _accuracies: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    _spreads: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def record(self, metric: str, measure: str, dataset: str = MEAN) -> dict[str, Any]:
        """One record of `to_records`.

        Args:
            metric: one of `metrics`.
            measure: one of `jaxte.evaluate.MEASURES`, as "weighted_tau".
            dataset: one of `datasets`, or "mean".

        Raises:
            InputError: if there is none.
        """
        for one in self._records:
            if (one["metric"], one["measure"], one["dataset"]) == (metric, measure, dataset):
                return dict(one)
        known = (*self.metrics, "|", *MEASURES, "|", *self.datasets, MEAN)
        raise InputError(
            f"no {measure} of {metric} on {dataset} was evaluated: there are {' '.join(known)}"
        )

    def value(self, metric: str, measure: str = "weighted_tau", dataset: str = MEAN) -> float:
        """The value of one measure, by default its mean over data sets."""
        return float(self.record(metric, measure, dataset)["value"])

    def order(self, measure: str = "weighted_tau") -> list[str]:
        """Names of the metrics by the mean of a measure, best first."""
        if measure not in MEASURES:
            raise InputError(f"no measure {measure!r}: choose one of {', '.join(MEASURES)}")
        sign = -1 if MEASURES[measure].larger_is_better else 1
        values = {
            r["metric"]: sign * r["value"]
            for r in self._records
            if r["measure"] == measure and r["dataset"] == MEAN
        }
        return sorted(values, key=lambda m: (math.isnan(values[m]), values[m]))

    def to_records(self) -> list[dict[str, Any]]:
        """One dict per metric, measure and data set, and one of the mean over data sets ("mean").

        `value`; `low` and `high`, its 95 % interval (over data sets for a mean, over models for a
        correlation on one data set); `without_one_low` and `_high`, its range with a model left
        out; `chance`, what one random order in twenty reaches, and `p_value`; `ceiling` of the
        seeds' noise; `models`; and for means `datasets`, `minus_static` and its interval. What is
        not defined is NaN.
        """
        return [dict(record) for record in self._records]

    def to_pandas(self) -> pd.DataFrame:
        """`to_records` as a pandas DataFrame."""
        from jaxte._optional import require

        return require("pandas", "to_pandas", "pandas").DataFrame.from_records(self.to_records())

    def to_csv(self, path: str | Path | None = None) -> str:
        """`to_records` as CSV, the text and, if a path is given, the file."""
        return report.written(report.csv_text(self._records), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Metrics, data sets, models, notes, meta and records as JSON; NaN becomes null."""
        return report.written(report.json_text(self.content()), path)

    def content(self) -> dict[str, Any]:
        """What `to_json` writes."""
        names = ("metrics", "datasets", "models", "notes", "meta")
        return {name: getattr(self, name) for name in names} | {"records": self._records}

    def to_markdown(self) -> str:
        """The tables as Markdown."""
        return "\n".join(report.to_markdown(table) for table in self.tables())

    def tables(self) -> list[Table]:
        """The means of all metrics, and the weighted tau of each on each data set."""
        one = len(self.evaluated()) == 1
        tables = [self._means()] if one else [self._means(), self._by_dataset()]
        over = "models (by the jackknife)" if one else "data sets (by the bootstrap)"
        notes = [
            f"95 %: interval over {over}; without a model: the range when each is left out in "
            "turn; chance: what one random order in twenty reaches; p: share of random orders that "
            "reach as much; regret: accuracy that the first choice costs"
        ]
        return [*tables[:-1], tables[-1]._replace(notes=(*notes, *self.notes))]

    def accuracies(self, dataset: str) -> dict[str, float]:
        """The mean accuracy of every model on a data set, as far as both tables have it."""
        if dataset not in self.datasets:
            raise InputError(f"no data set {dataset!r}: there are {', '.join(self.datasets)}")
        return _present(self.models, self._accuracies[self.datasets.index(dataset)])

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw weighted tau and regret of every metric, with interval, chance and ceiling."""
        from jaxte.report import plots

        return plots.plot_measures(self, path)

    def plot_scores(self, path: str | Path | None = None) -> Figure:
        """Draw scores against accuracies: a row per data set, a panel per metric."""
        from jaxte.report import plots

        scores = {
            dataset: {
                metric: _present(self.models, self._scores[k, self.datasets.index(dataset)])
                for k, metric in enumerate(self.metrics)
            }
            for dataset in self.evaluated()
        }
        measured = {}
        for dataset in scores:
            spread = _present(self.models, self._spreads[self.datasets.index(dataset)])
            means = self.accuracies(dataset)
            measured[dataset] = {model: (mean, spread[model]) for model, mean in means.items()}
        return plots.plot_agreement(scores, measured, path)

    def __repr__(self) -> str:
        return "\n".join(report.to_text(table, width=100) for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(report.to_html(table) for table in self.tables())

    def evaluated(self) -> list[str]:
        """The data sets on which at least one metric was evaluated."""
        known = {record["dataset"] for record in self._records}
        return [name for name in self.datasets if name in known]

    def _means(self) -> Table:
        sets, several = self.evaluated(), len(self.order()) > 1
        rows = []
        best = {m: self.value(self.order(m)[0], m) for m in ("weighted_tau", *_SHOWN)}
        for metric in self.order():
            # of a single data set the interval is over models
            tau = self.record(metric, "weighted_tau", MEAN if len(sets) > 1 else sets[0])
            values = {name: self.value(metric, name) for name in best}
            cells = {
                name: report.Cell(_number(value), best=several and value == best[name])
                for name, value in values.items()
            }
            texts = [_range(tau["low"], tau["high"])]
            texts += [_range(tau["without_one_low"], tau["without_one_high"])]
            texts += [_number(tau["chance"]), _number(tau["p_value"])]
            if STATIC in self.metrics:
                mean = self.record(metric, "weighted_tau")
                texts.append(_number(mean.get("minus_static", math.nan)))
                texts.append(_range(*(mean.get(f"minus_static_{e}", math.nan) for e in _ENDS)))
            row = [report.Cell(metric), cells.pop("weighted_tau"), *map(report.Cell, texts)]
            rows.append((*row, *cells.values()))
        columns = ["metric", "weighted tau", "95 %", "without a model", "chance", "p"]
        columns += ["− static", "its 95 %"] if STATIC in self.metrics else []
        ceilings = {r["measure"]: r["ceiling"] for r in self._records if r["dataset"] == MEAN}
        footer: tuple[str, ...] = ()
        if math.isfinite(ceilings["weighted_tau"]):
            tail = (_number(ceilings[name]) for name in _SHOWN)
            blank = [""] * (len(columns) - 2)
            footer = ("noise ceiling", _number(ceilings["weighted_tau"]), *blank, *tail)
        headings = [MEASURES[name].heading for name in _SHOWN]
        blocks = ((0,), (1, 2), (3,), (4, 5), *([(6, 7)] if STATIC in self.metrics else []))
        return _table([*columns, *headings], rows, footer, blocks)

    def _by_dataset(self) -> Table:
        metrics = self.order()
        records = {
            (r["metric"], r["dataset"]): r for r in self._records if r["measure"] == "weighted_tau"
        }
        known = any(math.isfinite(r["ceiling"]) for r in records.values())
        rows = []
        for dataset in (*self.evaluated(), MEAN):
            values = [records.get((m, dataset), {}).get("value", math.nan) for m in metrics]
            best = max((v for v in values if math.isfinite(v)), default=math.nan)
            row = [report.Cell(dataset)]
            row += [report.Cell(_number(v), best=v == best and len(metrics) > 1) for v in values]
            if known:
                ceilings = [r["ceiling"] for (_, at), r in records.items() if at == dataset]
                row.append(report.Cell(_number(ceilings[0])))
            rows.append(tuple(row))
        *cells, last = rows
        footer = tuple(cell.text for cell in last)
        return _table(("weighted tau", *metrics, *(["ceiling"] * known)), cells, footer)


def _table(
    columns: Sequence[str],
    rows: Sequence[tuple[report.Cell, ...]],
    footer: tuple[str, ...],
    blocks: Sequence[tuple[int, ...]] = ((0,),),
) -> Table:
    first = blocks[-1][-1] + 1
    return report.Table(
        columns=tuple(columns),
        align="<" + ">" * (len(columns) - 1),
        blocks=(*blocks, *((i,) for i in range(first, len(columns)))),
        rows=tuple(rows),
        footer=footer,
    )


def _number(value: float) -> str:
    """Three decimals, of large numbers one; the minus of a rounded nothing is dropped."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def _range(low: float, high: float) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{low:.2f} to {high:.2f}"


def _present(models: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {m: float(v) for m, v in zip(models, values, strict=True) if math.isfinite(v)}
