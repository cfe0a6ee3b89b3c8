"""`Race`: how a race ended, in every form it is shown in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxte.errors import InputError
from jaxte.evaluate.posterior import credible
from jaxte.metrics.options import percent

if TYPE_CHECKING:
    from os import PathLike

    from jaxte.race.trainer import Start
    from jaxte.report import Table
    from jaxte.report.plots import Chart

__all__ = ["Race", "Stop"]


@dataclass(frozen=True)
class Stop:
    """Where a model stopped, and why.

    Attributes:
        model: its name.
        reason: "behind" (its chance fell below the floor), "budget" (what was left went to others,
            or was too little), "decided" (the leader was sure enough), "finished" (there was no
            further rung), "failed".
        trained: share of its full fine-tuning, 0 for frozen features; None if it was not tried.
        spent: share of the cost of fine-tuning all that the race had spent by then.
        p_best: the chance that it was the best, then.
        score: of its last trial, mean over the examples judged; NaN without one.
    """

    model: str
    reason: str
    trained: float | None
    spent: float
    p_best: float
    score: float


_STAGES = (
    "score is the mean over the examples that a model's last trial judged (by default the "
    "probability of the right class, or R2): rows that were trained differently are not compared "
    "by it, but by `behind the best`"
)
_REASONS = {
    "behind": "behind",
    "budget": "budget spent",
    "decided": "leader was sure",
    "finished": "all rungs done",
    "failed": "failed",
}


@dataclass(frozen=True, repr=False, eq=False)
class Race:
    """How a race ended.

    Attributes:
        models: names, as they were given.
        p_best: chance of each model to be the best after full fine-tuning; they sum to 1.
        mean: final score of each model as far as it is known, less that of `best`.
        sd: standard deviation of that difference.
        cost: what was spent, as a share of the cost of fine-tuning all models once.
        budget: what might have been spent.
        confidence: of `apart`, and at which the race was over.
        stops: where each model stopped and why, in that order.
        status: "ok", or what went wrong with a model.
        notes: what a reader should know.
        trials: (model, share of its full fine-tuning, share spent by then) of all, in order.
        course: (share spent, chance of every model), after the first rung and each later trial.
        meta: how it was run: data set, seed, trials, examples, seconds.
    """

    models: tuple[str, ...]
    p_best: Mapping[str, float]
    mean: Mapping[str, float]
    sd: Mapping[str, float]
    cost: float
    budget: float
    confidence: float
    stops: tuple[Stop, ...]
    status: Mapping[str, str]
    notes: tuple[str, ...]
    trials: tuple[tuple[str, float, float], ...]
    course: tuple[tuple[float, Mapping[str, float]], ...]
    meta: Mapping[str, Any]
    _start: Callable[[str], Start] | None = field(default=None)

    @property
    def best(self) -> str:
        """The model whose expected final score is highest."""
        return self.order()[0]

    def order(self) -> list[str]:
        """Names, highest expected final score first; models that failed are left out."""
        alive = [name for name in self.models if self.status[name] == "ok"]
        return sorted(alive, key=lambda name: -self.mean[name])

    @property
    def _compared(self) -> bool:
        """Whether the best is so beside another, not because all others failed."""
        return len(self.order()) > 1

    def apart(self) -> list[str]:
        """`best`, and the likeliest others until the best is among them with the confidence."""
        return credible(self.p_best, self.confidence, first=self.best)

    def start(self, model: str) -> Start:
        """Weights of the furthest rung of a model, from which its full fine-tuning may begin.

        The mean of those that the folds ended with, each begun from the pre-trained ones and the
        head of its fold; of a model that stopped at frozen features these, and a head fitted to
        all examples.

        Raises:
            InputError: if there is no such model, or the race was run by trial=.
        """
        self.stop(model)
        if self._start is None:
            raise InputError("the trials of this race were your own: it holds no weights")
        return self._start(model)

    def stop(self, model: str) -> Stop:
        """Where a model stopped.

        Raises:
            InputError: if there is no such model.
        """
        for stop in self.stops:
            if stop.model == model:
                return stop
        raise InputError(f"no model {model!r} in this race: it has {', '.join(self.models)}")

    def sentence(self) -> str:
        """What to do now, the chance that it is right, and what it cost."""
        among = self.apart()
        chance = sum(self.p_best[name] for name in among)
        others = among[1:]
        if not self._compared:
            advice = f"Only {self.best} could be trained: nothing was compared."
        elif not others:
            advice = f"Fine-tune {self.best}: the chance that it is the best is {percent(chance)}."
        else:
            listed = ", ".join(others)
            first = f"{self.best} (the best with a chance of {percent(self.p_best[self.best])})"
            one_of = "or one of " if len(others) > 1 else "or "
            advice = (
                f"Fine-tune {first}, {one_of}{listed}: "
                f"the best is among them with a chance of {percent(chance)}."
            )
        return (
            f"{advice} The race cost {_share(self.cost)} of fine-tuning all {len(self.models)} "
            "models."
        )

    def to_records(self) -> list[dict[str, Any]]:
        """One dict per model, best first: chance, difference to the best, how far it went, why."""
        order = self.order()
        order += [name for name in self.models if name not in order]
        records = []
        for place, name in enumerate(order, 1):
            stop, ok = self.stop(name), self.status[name] == "ok"
            records.append(
                {
                    "model": name,
                    "rank": place if ok else None,
                    "p_best": self.p_best[name] if self._compared else None,
                    "behind": -self.mean[name] if ok else None,
                    "behind_sd": self.sd[name] if ok else None,
                    "score": stop.score if math.isfinite(stop.score) else None,
                    "trained": stop.trained,
                    "stopped": stop.reason,
                    "stopped_at_cost": stop.spent,
                    "stopped_p_best": stop.p_best if math.isfinite(stop.p_best) else None,
                    "status": self.status[name],
                }
            )
        return records

    def to_json(self, path: str | PathLike[str] | None = None) -> str:
        """The result as JSON text, written to a file too where there is a path."""
        from jaxte import report

        content = {
            "best": self.best,
            "apart": self.apart(),
            "cost": self.cost,
            "budget": self.budget,
            "confidence": self.confidence,
            "sentence": self.sentence(),
            "notes": self.notes,
            "meta": self.meta,
            "records": self.to_records(),
        }
        return report.written(report.json_text(content), path)

    def table(self) -> Table:
        """The table that the race is shown as."""
        from jaxte.report import Cell, Table

        columns = ("model", "trained", "score", "behind the best", "chance", "stopped", "at cost")
        rows = []
        for record in self.to_records():
            ok, best = record["status"] == "ok", record["rank"] == 1
            behind = "–"
            if ok:
                behind = f"{record['behind']:.3f} ± {record['behind_sd']:.3f}" if not best else ""
            cells = (
                record["model"],
                _trained(record["trained"]),
                "–" if record["score"] is None else f"{record['score']:.3f}",
                behind,
                "–" if record["p_best"] is None else percent(record["p_best"]),
                _REASONS[record["stopped"]],
                _share(record["stopped_at_cost"]),
            )
            rows.append(
                tuple(
                    Cell(text, best=best and i == 4, faint=not ok) for i, text in enumerate(cells)
                )
            )
        failures = [f"{name}: {why}" for name, why in self.status.items() if why != "ok"]
        return Table(
            columns=columns,
            align="<>>>><>",
            blocks=tuple((i,) for i in range(len(columns))),
            rows=tuple(rows),
            failures=tuple(failures),
            notes=(*self.notes, *([_STAGES] if self._several_stages else ())),
        )

    @property
    def _several_stages(self) -> bool:
        return len({stop.trained for stop in self.stops if math.isfinite(stop.score)}) > 1

    def plot(self, path: str | PathLike[str] | None = None) -> Chart:
        """Draw how far each model went and how its chance changed; save it if a path is given."""
        from jaxte.race.picture import plot_race

        return plot_race(self, path)

    def __repr__(self) -> str:
        from jaxte import report

        return f"{report.to_text(self.table(), width=100)}\n{self.sentence()}"

    def _repr_html_(self) -> str:
        from jaxte import report

        return f"{report.to_html(self.table())}<p>{self.sentence()}</p>"


def _trained(share: float | None) -> str:
    if share is None:
        return "–"
    return "frozen" if share == 0 else _share(share)


def _share(share: float) -> str:
    """Two digits where it is small."""
    hundredths = 100 * share
    return f"{hundredths:.1f}%" if hundredths < 9.95 else f"{hundredths:.0f}%"
