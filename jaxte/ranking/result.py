"""`Ranking`: the scores of a pool of models, their order, and every form they are shown in."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.intake.checks import short
from jaxte.metrics import combine
from jaxte.metrics.combination import tolerance_of
from jaxte.metrics.options import percent
from jaxte.metrics.registry import spelling
from jaxte.ranking.chance import Chance
from jaxte.ranking.intervals import Interval
from jaxte.ranking.records import column_of, parts_of, reading
from jaxte.ranking.verdict import HISTORY, NO_GAIN, PROBE, decisive, recommended, tie_groups
from jaxte.report.provenance import meta_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Ranking"]


@dataclass(frozen=True, repr=False, eq=False)
class Ranking:
    """Scores of a pool of models; two are equal if all but notes and meta are.

    Attributes:
        models: names, in the order of the call.
        metrics: names, as they were asked for.
        notes: what to know before trusting the order: ties at a ceiling, exact fits.
        meta: how it was computed: classes, precision, perturbation, normalisation, seconds, jax.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...]
    meta: Mapping[str, Any]
    _scores: Mapping[tuple[str, str], float] = field(default_factory=dict)
    _statuses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    _terms: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    _chances: Mapping[tuple[str, str], Chance] = field(default_factory=dict)
    _intervals: Mapping[tuple[str, str], Interval] = field(default_factory=dict)

    def order(self, metric: str | None = None) -> list[str]:
        """Names of the models, best first; models without a score are left out.

        Without a metric in the recommended order: by the ridge probe, to which a history, if there
        is one, is added. Raises `InputError` where there are several metrics, but no ridge probe.
        """
        return [name for group in self._groups(metric) for name in group]

    def score(self, model: str, metric: str) -> float:
        """The score, larger is better; NaN if there is none (see `status`)."""
        key = self._key(model, metric)
        return self._scores[key] if self._statuses[key] == "ok" else math.nan

    def status(self, model: str, metric: str) -> str:
        """Either "ok", or why the model has no score."""
        return self._statuses[self._key(model, metric)]

    def terms(self, model: str, metric: str) -> dict[str, float]:
        """The raw terms behind a score that is a sum, {} for other metrics and failed models."""
        return dict(self._terms.get(self._key(model, metric), {}))

    def chance(self, model: str, metric: str) -> Chance | None:
        """The score beside those of permuted targets, of a ranking with ``permutations``.

        None without them, for metrics that read no targets, and for models without a score or
        whose rows cannot be read again.
        """
        return self._chances.get(self._key(model, metric))

    def interval(self, model: str, metric: str) -> Interval | None:
        """How far the score may differ on other samples, of a ranking with ``intervals``.

        None without them, and where the score is lost without some rows.
        """
        return self._intervals.get(self._key(model, metric))

    def p_best(self, metric: str | None = None) -> dict[str, float]:
        """Model -> chance to have the best score on other samples, with ``intervals``.

        Without a metric the chance to lead the recommended order. It speaks of the score, not of
        what fine-tuning reaches. {} without intervals of all models that are scored.
        """
        if metric is None and HISTORY in self.metrics:
            return dict(self.meta.get("p_best", {}))
        chosen = metric or self._decisive()
        chances = {m: one.p_best for m in self.models if (one := self.interval(m, chosen))}
        return {} if any(map(math.isnan, chances.values())) else chances

    def credible_set(self, metric: str | None = None, confidence: float = 0.9) -> list[str]:
        """Models that cannot be told apart: the best, and those that may well be on other samples.

        The likeliest come next, until the best is among them with the confidence.

        Raises:
            InputError: for a ranking without ``intervals``.
        """
        chances = self.p_best(metric)
        if not chances:
            raise InputError(
                f"not all models have intervals of {metric or self._decisive()}, which "
                "rank(..., intervals=True) makes of metrics' own scores"
            )
        from jaxte.evaluate.posterior import credible

        return credible(chances, confidence, first=self.best(metric))

    def place(self, model: str, metric: str) -> int | None:
        """1 for the best score, the same for ties; None for a model without one."""
        self._key(model, metric)
        return self._places(metric).get(model)

    def best(self, metric: str | None = None) -> str:
        """Name of the model with the highest score, or the first in the recommended order."""
        order = self.order(metric)
        if not order:
            metric = metric or self._decisive()
            raise InputError(f"no model has a {metric} score: see status(model, {metric!r})")
        return order[0]

    def verdict(self) -> str:
        """The recommendation in one sentence, where one metric decides; else ""."""
        if self.decisive is None or not (groups := self._groups(None)):
            return ""
        first, rest = groups[0], [name for group in groups[1:] for name in group]
        how = self.decisive + (" and history" if HISTORY in self.metrics else "")
        also = f"; next in line: {', '.join(rest[:2])}" if rest else ""
        chances = self.p_best()
        if len(chances) > len(first):
            others = [name for name in self.credible_set() if name not in first]
            leads = sum(chances.get(name, 0.0) for name in first)
            also = f", first on other samples too with a chance of {percent(leads)}"
            if others:
                leads += sum(chances[name] for name in others)
                also += f"; with {', '.join(others)} it is {percent(leads)} (`jaxte race` tells)"
        tied = " (they tie)" if len(first) > 1 else ""
        these = first if len(first) < 6 else [*first[:4], f"{len(first) - 4} others"]
        blind = any(note.startswith(f"{self.decisive}: {NO_GAIN}") for note in self.notes)
        start = "No model predicts better than chance; if it must be one, fine-tune"
        return f"{start if blind else 'Fine-tune'} {' or '.join(these)}{tied}, by {how}{also}."

    def combine(
        self,
        weights: Mapping[str, float],
        *,
        normalise: str = "minmax",
        mean: str = "sum",
        name: str = "combined",
    ) -> Ranking:
        """The same ranking with one more column: a weighted sum of scores over the pool.

        `jaxte.metrics.combine` says what the options do, and what one more model changes. A model
        without one of the scores has no combined one, and takes no part in the others'.

        Args:
            weights: metric -> its weight, negative where less is better.
            normalise: "minmax", "zscore", "rank" or "sum".
            mean: "sum" or "geometric".
            name: of the new column.

        Returns:
            `Ranking`, whose `terms` of that column are the scores that it is made of.

        Raises:
            InputError: for metrics that are not in this ranking, or a name that is.

        Example:
            >>> import jax, jaxte
            >>> x, y = jax.random.normal(jax.random.key(0), (90, 8)), jax.numpy.arange(90) % 3
            >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
            >>> ranking = jaxte.rank(models, y, metrics=["logme", "hscore"])
            >>> ranking.combine({"logme": 1.0, "hscore": 0.5}).score("sighted", "combined")
            1.5
        """
        if not isinstance(weights, Mapping) or not weights:
            raise InputError("weights is no mapping of metrics to their weights")
        if not isinstance(name, str) or not name or name in (*self.metrics, HISTORY):
            raise InputError(f"name is {short(name)}: give one that no column has already")
        statuses = {k: {m: self.status(m, k) for m in self.models} for k in weights}
        first = {k: {m: s for m, s in own.items() if s != "ok"} for k, own in statuses.items()}
        reasons = {
            model: next(why[model] for why in first.values() if model in why)
            for model in self.models
            if any(model in why for why in first.values())
        }
        left = [model for model in self.models if model not in reasons]
        terms = {m: {metric: self.score(m, metric) for metric in weights} for m in left}
        table = {
            metric: np.array([terms[m][metric] for m in left], self._precision)
            for metric in weights
        }
        rounding = tolerance_of(self._precision)
        scores = dict.fromkeys(self.models, math.nan)
        if left:
            made = combine(table, weights, normalise=normalise, mean=mean, rounding=rounding)
            scores |= dict(zip(left, made.tolist(), strict=True))
        return replace(
            self,
            metrics=(*self.metrics, name),
            _scores={**self._scores, **{(m, name): scores[m] for m in self.models}},
            _statuses={**self._statuses, **{(m, name): reasons.get(m, "ok") for m in self.models}},
            _terms={**self._terms, **{(m, name): terms[m] for m in left}},
        )

    def to_records(self) -> list[dict[str, Any]]:
        """One dict per model and metric: model, metric, score, rank, status, and raw terms.

        ``score`` and ``rank`` (1 is best, ties share it) are None without a score.
        """
        places = {metric: self._places(metric) for metric in self.metrics}
        records = []
        for metric in self.metrics:
            for model in self.models:
                ok = self.status(model, metric) == "ok"
                records.append(
                    {
                        "model": model,
                        "metric": metric,
                        "score": self.score(model, metric) if ok else None,
                        "rank": places[metric].get(model),
                        "status": self.status(model, metric),
                        **{column_of(k): v for k, v in self.terms(model, metric).items()},
                        **(chance._asdict() if (chance := self.chance(model, metric)) else {}),
                        **(own._asdict() if (own := self.interval(model, metric)) else {}),
                    }
                )
        return records

    def to_pandas(self) -> pd.DataFrame:
        """`to_records` as a pandas DataFrame."""
        frames = require("pandas", "to_pandas", "pandas").DataFrame
        return cast("pd.DataFrame", frames.from_records(self.to_records()))

    def to_csv(self, path: str | Path | None = None) -> str:
        """`to_records` as CSV, the text and, if a path is given, the file."""
        from jaxte import report

        return report.written(report.to_csv(self), path)

    @classmethod
    def from_csv(cls, source: str | Path) -> Ranking:
        """Read what `to_csv` wrote, a path or the text itself; it has no notes.

        Raises:
            InputError: for a file that cannot be read, or is none of a ranking.
        """
        with reading(source) as text:
            records = [
                {key: value for key, value in row.items() if value != "" or key == "model"}
                for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)
            ]
            models, metrics = (
                tuple(dict.fromkeys(str(r[key]) for r in records)) for key in ("model", "metric")
            )
            places = [int(r["rank"]) if "rank" in r else None for r in records]
            for precision in ("float64", "float32"):  # that in which these ranks are those of ties
                meta = {"precision": precision, **meta_of(records)}
                ranking = cls(models, metrics, (), meta, *parts_of(records))
                if places == [record["rank"] for record in ranking.to_records()]:
                    break
        return ranking

    def to_json(self, path: str | Path | None = None) -> str:
        """Models, metrics, notes, meta and `to_records` as JSON, likewise."""
        from jaxte import report

        return report.written(report.to_json(self), path)

    @classmethod
    def from_json(cls, source: str | Path) -> Ranking:
        """Read what `to_json` wrote, a path or the text itself.

        Raises:
            InputError: for a file that cannot be read, or is none of a ranking.
        """
        with reading(source) as text:
            content = json.loads(text)
            several = content.get("rankings", {})  # as `jaxte rank --each` writes them
            content = next(iter(several.values())) if len(several) == 1 else content
            models, metrics, notes = (
                tuple(map(str, content[key])) for key in ("models", "metrics", "notes")
            )
            ranking = cls(
                models, metrics, notes, dict(content["meta"]), *parts_of(content["records"])
            )
            ranking.to_records()  # or a record is missing
        return ranking

    def to_markdown(self) -> str:
        """The table as Markdown."""
        from jaxte import report

        return report.to_markdown(self)

    def to_latex(self) -> str:
        """The table as a LaTeX tabular (package booktabs)."""
        from jaxte import report

        return report.to_latex(self)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw every metric's scores, best on top, and save the picture if a path is given."""
        from jaxte.report import plots

        return plots.plot_ranking(self, path)

    def __repr__(self) -> str:
        from jaxte import report

        return report.to_text(self)

    def to_html(self) -> str:
        """The table as HTML, as notebooks show it."""
        from jaxte import report

        return report.to_html(self)

    _repr_html_ = to_html

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranking):
            return NotImplemented
        return self._content() == other._content()

    def _content(self) -> tuple[Any, ...]:
        """What two equal rankings have in common; texts, because NaN differs from NaN."""
        pairs = [(model, metric) for metric in self.metrics for model in self.models]
        scores = [(repr(self.score(*pair)), self.status(*pair)) for pair in pairs]
        terms = [repr(sorted(self.terms(*pair).items())) for pair in pairs]
        return self.models, self.metrics, scores, terms

    def _groups(self, metric: str | None) -> list[list[str]]:
        """The models that have a score, in groups of ties, best first."""
        scores = self._finished(metric or self._decisive())
        if metric is None and HISTORY in self.metrics:
            scores = recommended(scores, self._finished(HISTORY))
        return tie_groups(scores, self._precision)

    def _finished(self, metric: str) -> dict[str, float]:
        """The scores that there are."""
        return {m: self.score(m, metric) for m in self.models if self.status(m, metric) == "ok"}

    @property
    def _precision(self) -> str:
        return str(self.meta.get("precision", "float64"))

    @property
    def decisive(self) -> str | None:
        """The metric that decides where none is named, if one does."""
        return decisive(self.metrics)

    def _decisive(self) -> str:
        if self.decisive is not None:
            return self.decisive
        raise InputError(
            f"name a metric ({', '.join(self.metrics)}), or have {PROBE} among them: it decides"
        )

    def _places(self, metric: str) -> dict[str, int]:
        """The place of every model that has a score."""
        places: dict[str, int] = {}
        for group in self._groups(metric):
            places |= dict.fromkeys(group, len(places) + 1)
        return places

    def _key(self, model: str, metric: str) -> tuple[str, str]:
        if (model, metric) in self._scores:
            return model, metric
        known = spelling(metric, self.metrics)
        if model in self.models and known is not None:
            return model, known
        kind, name, names = "metric", metric, self.metrics
        if known is not None:
            kind, name, names = "model", model, self.models
        raise InputError(f"no {kind} {name!r} in this ranking: it has {', '.join(names)}")
