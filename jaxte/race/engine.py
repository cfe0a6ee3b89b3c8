"""The race itself: who is tried next, who is left behind, until budget or doubt is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxte.race.memo import TrialError
from jaxte.race.posterior import FROZEN_WALKS, WALKS, Knowledge, Observation, Prior, observed

__all__ = ["Course", "Event", "Rung", "Track", "compete"]


_FROZEN = 5.0  # doublings from frozen features to the full fine-tuning: one epoch or so counts as 1


class Rung(NamedTuple):
    """One step of a race, the same for all models.

    Attributes:
        budget: training in all when it is reached, 1 for the full fine-tuning; 0 of a frozen model.
        price: what the trial costs once the rung before was taken, in full fine-tunings of the
            model.
        rows: numbers of the examples that are judged; None for all.
    """

    budget: float
    price: float
    rows: np.ndarray | None = None

    @property
    def doublings(self) -> float:
        """How often the training must double to be the full one."""
        return max(0.0, -math.log2(self.budget)) if self.budget else _FROZEN


@dataclass(frozen=True)
class Track:
    """What a race is run on.

    Attributes:
        models: names.
        rungs: in order; the first is run by every model.
        costs: of the full fine-tuning of each model, in any one unit.
        examples: how many there are; None to learn it from the first trial.
        prior: of every model.
        budget: share of the cost of fine-tuning all of them.
        confidence: chance of the leader at which the race is over.
        seed: of the draws.
    """

    models: tuple[str, ...]
    rungs: tuple[Rung, ...]
    costs: np.ndarray
    examples: int | None
    prior: Prior
    budget: float
    confidence: float
    seed: int

    @property
    def walks(self) -> tuple[float, ...]:
        """What the random walk to the final scores may make of the first rung."""
        return WALKS if self.rungs[0].budget else FROZEN_WALKS

    def share(self, model: int, rung: int) -> float:
        """Cost of a trial as a share of fine-tuning all."""
        return float(self.rungs[rung].price * self.costs[model] / self.costs.sum())


class Event(NamedTuple):
    """A model that goes no further, and why.

    Attributes:
        model: its name.
        rung: the last that it reached, from 0; -1 if none.
        reason: "behind" (its chance fell below the floor), "budget" (the next rung was too dear, or
            the rest was better spent on others), "decided" (another was sure enough to be the
            best), "finished" (it took the last rung), or what went wrong with it.
        spent: share of the cost of fine-tuning all that the race had spent by then.
        p_best: the chance that it was the best, then.
    """

    model: str
    rung: int
    reason: str
    spent: float
    p_best: float


@dataclass
class Course:
    """How a race went.

    Attributes:
        trials: in order; those that failed are not among them.
        known: posterior after the last trial, of all models; None if none succeeded.
        events: one for each model, in the order in which they were left behind.
        failures: model -> what went wrong.
        spent: share of the cost of fine-tuning all models.
        taken: (name, rung, spent by then) of every trial in order.
        history: after every trial beyond the first rung, (spent, p_best of every model).
    """

    trials: list[Observation] = field(default_factory=list)
    known: Knowledge | None = None
    events: list[Event] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    spent: float = 0.0
    taken: list[tuple[str, int, float]] = field(default_factory=list)
    history: list[tuple[float, np.ndarray]] = field(default_factory=list)


Trial = Callable[[str, int, int], np.ndarray]  # (model, rung, seed) -> scores of the rung's rows


def compete(track: Track, trial: Trial, report: Callable[[float, str], Any]) -> Course:
    """Run a race: every model takes the first rung, then always one of the two likeliest.

    Of the two models that are most likely to be the best, and whose next trial the budget pays for,
    the one that is on the lower rung goes on (the likelier of equals): a trial tells something only
    beside another's on the same rung. A model whose chance falls below (1 - confidence) / (2 m) is
    left behind. A trial that fails (`TrialError`) or returns what is not finite fails its model,
    and costs what it costs.

    Args:
        track: what it is run on.
        trial: makes one trial.
        report: called with what is spent, and what comes next.
    """
    course = _Race(track, trial, report)
    course.start()
    course.go_on()
    return course.course


class _Race:
    """The state of a race."""

    def __init__(self, track: Track, trial: Trial, report: Callable[[float, str], Any]) -> None:
        self.track, self.trial, self.report = track, trial, report
        self.course = Course()
        self.reached = np.full(len(track.models), -1)
        self.running = np.ones(len(track.models), bool)
        self.examples = track.examples or 0
        self.floor = (1 - track.confidence) / (2 * len(track.models))

    def start(self) -> None:
        """The first rung, in the order of the prior's promise, as far as the budget goes."""
        track = self.track
        promise = track.prior.mean + track.prior.sd
        for model in sorted(range(len(track.models)), key=lambda m: -promise[m]):
            if self._affordable(model):
                self._run(model)
            else:
                self._leave(model, "budget")

    def go_on(self) -> None:
        """The other rungs."""
        while self.course.trials and self._alive().any():
            self._learn()
            assert self.course.known is not None
            chances = self.course.known.p_best
            for model in self._still():
                if self.reached[model] == len(self.track.rungs) - 1:
                    self._leave(model, "finished")
                elif chances[model] < self.floor:
                    self._leave(model, "behind")
            able = [model for model in self._still() if self._affordable(model)]
            decided = chances.max() >= self.track.confidence
            if decided or not able:
                for model in self._still():
                    self._leave(model, "decided" if decided else "budget")
                return
            pair = sorted(able, key=lambda model: -chances[model])[:2]
            self._run(min(pair, key=lambda model: self.reached[model]))

    def _still(self) -> list[int]:
        """Models that have not stopped."""
        return list(map(int, np.flatnonzero(self.running)))

    def _affordable(self, model: int) -> bool:
        cost = self.track.share(model, int(self.reached[model]) + 1)
        return self.course.spent + cost <= self.track.budget * (1 + 1e-9)

    def _rows(self, rung: int) -> np.ndarray:
        rows = self.track.rungs[rung].rows
        return np.arange(self.examples) if rows is None else rows

    def _run(self, model: int) -> None:
        track, course = self.track, self.course
        rung, name = int(self.reached[model]) + 1, track.models[model]
        self.report(course.spent, f"{name}, rung {rung}")
        course.spent += track.share(model, rung)
        try:
            scores = np.asarray(self.trial(name, rung, track.seed), np.float64)
        except TrialError as error:
            why = str(error)
        else:
            self.examples = self.examples or (len(scores) if scores.ndim else 0)
            why = _wrong(scores, len(self._rows(rung)))
        if why:
            course.failures[name] = why
            self._leave(model, why)
            return
        self.reached[model] = rung
        course.taken.append((name, rung, course.spent))
        doublings = track.rungs[rung].doublings
        course.trials.append(Observation(model, rung, doublings, self._rows(rung), scores))

    def _learn(self) -> None:
        """The posterior of all models; the chance of those that failed is 0."""
        track, course = self.track, self.course
        course.known = observed(
            course.trials, track.prior, self.examples, alive=self._alive(), walks=track.walks,
            seed=track.seed,
        )  # fmt: skip
        course.history.append((course.spent, course.known.p_best))

    def _alive(self) -> np.ndarray:
        return np.array([name not in self.course.failures for name in self.track.models])

    def _leave(self, model: int, reason: str) -> None:
        self.running[model] = False
        known = self.course.known
        chance = float(known.p_best[model]) if known is not None else math.nan
        rung = int(self.reached[model])
        self.course.events.append(
            Event(self.track.models[model], rung, reason, self.course.spent, chance)
        )


def _wrong(scores: np.ndarray, rows: int) -> str:
    """What is wrong with scores; "" if nothing."""
    if scores.shape != (rows,) or rows < 2:
        wanted = f"({rows},)" if rows > 1 else "[n]"
        return f"a trial returned scores of shape {scores.shape}, not {wanted}, one per example"
    if not np.isfinite(scores).all():
        return "diverged: scores that are not finite"
    return ""
