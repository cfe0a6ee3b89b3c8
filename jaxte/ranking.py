"""`Ranking`: the scores of a pool of models, their order, and every form they are shown in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxte._inputs import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Ranking"]


@dataclass(frozen=True, repr=False)
class Ranking:
    """Scores of a pool of models.

    Attributes:
        models: names, as they were given.
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

    def order(self, metric: str) -> list[str]:
        """Names of the models, best first; models without a score are left out."""
        scored = [m for m in self.models if self.status(m, metric) == "ok"]
        return sorted(scored, key=lambda m: -self.score(m, metric))

    def score(self, model: str, metric: str) -> float:
        """The score, larger is better; NaN if there is none (see `status`)."""
        return self._scores[self._key(model, metric)]

    def status(self, model: str, metric: str) -> str:
        """Either "ok", or why the model has no score."""
        return self._statuses[self._key(model, metric)]

    def terms(self, model: str, metric: str) -> dict[str, float]:
        """The raw terms behind a score that is a sum, {} for other metrics and failed models."""
        return dict(self._terms.get(self._key(model, metric), {}))

    def place(self, model: str, metric: str) -> int | None:
        """1 for the best score, the same for equal scores; None for a model without one."""
        self._key(model, metric)
        return self._places(metric).get(model)

    def best(self, metric: str) -> str:
        """Name of the model with the highest score."""
        order = self.order(metric)
        if not order:
            raise InputError(f"no model has a {metric} score: see status(model, {metric!r})")
        return order[0]

    def to_records(self) -> list[dict[str, Any]]:
        """One dict per model and metric: model, metric, score, rank, status, and raw terms.

        ``score`` and ``rank`` (1 is best, equal scores share it) are None without a score.
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
                        **self.terms(model, metric),
                    }
                )
        return records

    def to_pandas(self) -> pd.DataFrame:
        """`to_records` as a pandas DataFrame."""
        try:
            import pandas as pd
        except ImportError:
            raise ImportError('pandas is not installed: pip install "jaxte[pandas]"') from None
        return pd.DataFrame.from_records(self.to_records())

    def to_csv(self, path: str | Path) -> None:
        """Write `to_records` as CSV."""
        from jaxte import report

        Path(path).write_text(report.to_csv(self), encoding="utf-8")

    def to_json(self, path: str | Path) -> None:
        """Write models, metrics, notes, meta and `to_records` as JSON."""
        from jaxte import report

        Path(path).write_text(report.to_json(self), encoding="utf-8")

    def to_markdown(self) -> str:
        """The table as Markdown."""
        from jaxte import report

        return report.to_markdown(self)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw every metric's scores, best on top, and save the picture if a path is given."""
        from jaxte import plots

        return plots.plot_ranking(self, path)

    def __repr__(self) -> str:
        from jaxte import report

        return report.to_text(self)

    def _repr_html_(self) -> str:
        from jaxte import report

        return report.to_html(self)

    def _places(self, metric: str) -> dict[str, int]:
        """The place of every model that has a score, from one pass over the order."""
        places: dict[str, int] = {}
        place, last = 0, None
        for count, model in enumerate(self.order(metric), start=1):
            score = self.score(model, metric)
            if score != last:
                place, last = count, score
            places[model] = place
        return places

    def _key(self, model: str, metric: str) -> tuple[str, str]:
        if (model, metric) in self._scores:
            return model, metric
        for kind, name, known in (("model", model, self.models), ("metric", metric, self.metrics)):
            if name not in known:
                raise InputError(f"no {kind} {name!r} in this ranking: it has {', '.join(known)}")
        return model, metric
