"""`race`: a few real fine-tuning steps, spent on the models between which they decide."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError
from jaxte.intake.checks import check_whole, choose, number, short
from jaxte.race.engine import Course, Rung, Track, compete
from jaxte.race.memo import Memo
from jaxte.race.prior import LAYERS_TRUST, prior_of
from jaxte.race.result import Race, Stop

if TYPE_CHECKING:
    from jaxte.race.steps import Recipe
    from jaxte.race.trainer import Trainer

__all__ = ["race"]

LAYERS = "layers"
RUNGS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def race(
    models: Mapping[str, Any] | Sequence[Any],
    data: Any = None,
    *,
    budget: float = 0.05,
    confidence: float = 0.9,
    trial: Callable[[str, float, int], Any] | None = None,
    costs: Mapping[str, float] | None = None,
    rungs: Sequence[float] | None = None,
    prior: Mapping[str, Any] | str | None = LAYERS,
    history: Any = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    resume: str | os.PathLike[str] | None = None,
    progress: bool | Progress = False,
) -> Race:
    """Find the model that is best after fine-tuning, for a small share of fine-tuning them all.

    Every model begins with a head fitted to its frozen features, which costs one forward pass, and
    is judged on examples that the head has not seen (cross-fitting). What is left of the budget
    goes, one run at a time, to fine-tuning one of the two models that are most likely to be the
    best by what is known then. Models are compared on the same examples, and what they gain in the
    first epochs is extrapolated.

    Args:
        models: name -> model: Flax nnx modules, (linen module, variables) pairs, zoo models,
            specifications as "zoo:resnet-cifar", or what `jaxte.extraction.as_model` returned,
            whose first layer is then what the head is put on. A sequence of models that have names
            will do; with ``trial``, a sequence of names.
        data: (inputs, labels), a `jaxte.data.Dataset` or its specification; classes or numbers.
        budget: share of the cost of fine-tuning all models once, each by the full recipe. Cost is
            examples trained on, times the operations of a forward pass; a forward pass alone
            costs a third. It is never exceeded.
        confidence: the race is over once a model is the best with this chance.
        trial: instead of ``data``: a function (model, budget, seed) that fine-tunes a model for
            this share of its full fine-tuning and returns the score of every validation example
            [n], larger is better, the same examples in the same order for every model.
        costs: of the full fine-tuning of each model, in any one unit; by default counted from its
            program, and all alike with ``trial``.
        rungs: shares of the full fine-tuning that ``trial`` is asked for, rising; each is paid in
            full. By default from 1/32 on, each twice the one before.
        prior: "layers", the ridge probe on all layers of the models, where jaxte trains them (it
            costs one forward pass more); or model -> score of another metric, larger is better,
            which is believed to follow the outcome with a correlation of 0.5; or model -> (mean,
            sd) of the expected final score; or None.
        history: what models reached on other data sets: records, a data frame or a CSV file of
            `model, dataset, accuracy`.
        recipe: `jaxte.race.Recipe` of the fine-tuning.
        seed: of folds, shuffles and draws; everything depends on it and nothing else.
        resume: a directory that holds every finished trial, so that a race that was killed goes on
            where it was, and one with a larger budget goes on from there.
        progress: True for a bar, or a function (done, total, label), of a thousandth of the budget.

    Returns:
        A `Race`: `best`, `order()`, `p_best`, `apart()`, `cost`, `stops`, `plot()`, `start(model)`.

    Raises:
        InputError: for what cannot be used, a journal of another race, or if every model failed.

    Example:
        Any framework, here scikit-learn, in a function of one's own:

        >>> import jaxte, numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> x, y = load_digits(return_X_y=True)
        >>> pool = {
        ...     "neighbours": KNeighborsClassifier(3), "linear": LogisticRegression(max_iter=50),
        ...     "rough": KNeighborsClassifier(200),
        ... }
        >>> def trial(model, budget, seed):
        ...     rows = np.random.default_rng(seed).permutation(1000)[: int(1000 * budget)]
        ...     return pool[model].fit(x[rows], y[rows]).predict(x[1000:]) == y[1000:]
        >>> result = jaxte.race(list(pool), trial=trial, budget=0.7, rungs=(0.25, 0.5, 1))
        >>> result.best, result.cost <= 0.7, round(sum(result.p_best.values()), 6)
        ('neighbours', True, 1.0)
    """
    begun = time.perf_counter()
    budget, confidence = _share("budget", budget), _share("confidence", confidence, below=1.0)
    seed = check_whole("seed", seed, least=0)
    if isinstance(prior, str):
        choose("prior", prior, (LAYERS,))
    if (trial is None) == (data is None):
        raise InputError("give data to fine-tune on, or trial=, a function that does: one of them")
    directory = None if resume is None else Path(resume)
    contest: _Contest
    if trial is None:
        if rungs is not None:
            raise InputError("rungs are those of trial=: leave them out, or give Recipe(...)")
        passes = 2 if prior == LAYERS else 1
        contest = _Trained(
            _named(models, False), data, recipe, costs, budget, seed, directory, passes
        )
    else:
        if recipe is not None:
            raise InputError("recipe is of fine-tuning by jaxte: leave it out, as trial= is given")
        contest = _Own(
            _named(models, True), trial, costs, RUNGS if rungs is None else rungs, seed, directory
        )
    try:
        if isinstance(prior, str):
            believed = prior_of(contest.names, contest.layer_scores, history, trust=LAYERS_TRUST)
        else:
            believed = prior_of(contest.names, prior, history)
        track = Track(
            contest.names, contest.rungs, contest.costs, contest.examples, believed, budget,
            confidence, seed,
        )  # fmt: skip
        with reporter(progress, "race", unit="‰ of the budget") as report:

            def tell(spent: float, label: str) -> None:
                # a bar takes another label for another piece of work, and begins its clock anew
                report(round(1000 * spent / budget), 1000, label if callable(progress) else "race")

            course = compete(track, contest.memo, tell)
            report(1000, 1000, "race")
    finally:
        contest.memo.close()
    if course.known is None or not any(name not in course.failures for name in contest.names):
        reasons = "; ".join(f"{name}: {why}" for name, why in course.failures.items())
        raise InputError(f"no model finished a trial: {reasons or 'the budget is too small'}")
    meta = {
        **({} if contest.trainer is None else {"data": contest.trainer.dataset.name}),
        "seed": seed,
        "trials": len(course.trials),
        "replayed": contest.memo.replayed,
        "examples": len(set().union(*(trial.rows.tolist() for trial in course.trials))),
        "seconds": round(time.perf_counter() - begun, 2),
    }
    return _result(track, course, meta, contest)


def _share(name: str, value: Any, below: float = math.inf) -> float:
    share = number(value)
    if not 0 < share < below:
        limit = "" if below == math.inf else f" and below {below:g}"
        raise InputError(f"{name} is {short(value)}: give a share above 0{limit}, as 0.05 or 0.9")
    return share


def _named(models: Mapping[str, Any] | Sequence[Any], names_only: bool) -> dict[str, Any]:
    """Models by name."""
    if not isinstance(models, Mapping | Iterable):
        raise InputError(f"models are {short(models)}: give a mapping name -> model, or a list")
    models = [models] if isinstance(models, str) else models
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in models.items()}
    elif names_only:
        named = {str(name): None for name in models}
    else:
        named = {}
        for model in models:
            name = (
                model.rpartition(":")[2] if isinstance(model, str) else getattr(model, "name", None)
            )
            if not isinstance(name, str) or name in named:
                raise InputError(
                    f"models have no names of their own, or {name!r} twice: give a mapping "
                    "name -> model"
                )
            named[name] = model
    if not isinstance(models, Mapping) and len(named) < len(models):
        raise InputError("a model is named twice: give each a name of its own")
    for model in named.values():
        if isinstance(model, str):
            from jaxte.extraction.models import check_spec

            check_spec(model)
    if len(named) < 2:
        raise InputError(f"a race of {len(named)} models: give at least two")
    return named


class _Contest:
    """Who races, on what rungs, and the trials."""

    names: tuple[str, ...]
    rungs: tuple[Rung, ...]
    costs: np.ndarray
    examples: int | None = None
    memo: Memo
    trainer: Trainer | None = None

    def layer_scores(self) -> dict[str, float]:
        """What all layers say of the models, where there are any to be had."""
        return {}

    def _cost(self, costs: Mapping[str, float] | None, name: str, default: float) -> float:
        if not isinstance(costs, Mapping | None):
            raise InputError(f"costs is {short(costs)}: give model -> cost of its full fine-tuning")
        value = default if costs is None else number(costs.get(name))
        if not 0 < value < math.inf:
            raise InputError(f"costs has no positive number for {name}")
        return value


class _Own(_Contest):
    """Trials by a user's function."""

    def __init__(
        self, models: Mapping[str, Any], trial: Callable[[str, float, int], Any],
        costs: Mapping[str, float] | None, rungs: Sequence[float], seed: int,
        directory: Path | None,
    ) -> None:  # fmt: skip
        shares = [number(rung) for rung in rungs] if isinstance(rungs, Iterable) else []
        rising = all(one < other for one, other in itertools.pairwise([0.0, *shares]))
        if not shares or not rising or shares[-1] > 1:
            raise InputError(f"rungs are {short(rungs)}: give rising shares above 0 and up to 1")
        self.names = tuple(models)
        self.costs = np.array([self._cost(costs, name, 1.0) for name in self.names])
        self.memo = Memo(
            lambda model, rung, seed: trial(model, shares[rung], seed),
            lambda model, rung: shares[rung], directory, {"rungs": shares, "seed": seed},
        )  # fmt: skip
        self.rungs = tuple(Rung(share, share) for share in shares)


class _Trained(_Contest):
    """Trials by `Trainer`."""

    def __init__(
        self, models: Mapping[str, Any], data: Any, recipe: Recipe | None,
        costs: Mapping[str, float] | None, budget: float, seed: int, directory: Path | None,
        passes: int,
    ) -> None:  # fmt: skip
        from jaxte.zoo.catalog import require

        require()
        from jaxte.race.steps import Recipe
        from jaxte.race.trainer import Trainer

        weights = directory
        if weights is None:  # until the result is forgotten
            weights = Path(tempfile.mkdtemp(prefix="jaxte-race-"))
            weakref.finalize(self, shutil.rmtree, weights, ignore_errors=True)
        trainer = Trainer(
            models, data, recipe or Recipe(), budget=budget, seed=seed, directory=weights,
            passes=passes,
        )  # fmt: skip
        self._models = models
        self.trainer, self.names, self.rungs = trainer, tuple(models), trainer.rungs
        self.examples = trainer.examples
        self.costs = np.array([self._cost(costs, n, c) for n, c in trainer.costs().items()])
        header = {**trainer.card, "seed": seed}
        self.memo = Memo(trainer, trainer.describe, directory, header, trainer.examples)

    def layer_scores(self) -> dict[str, float]:
        """As of `_Contest`."""
        from jaxte.race.layers import layer_scores

        assert self.trainer is not None
        return layer_scores(self._models, self.trainer.dataset)


def _result(track: Track, course: Course, meta: dict[str, Any], contest: _Contest) -> Race:
    known, names = course.known, track.models
    assert known is not None
    status = {name: course.failures.get(name, "ok") for name in names}
    alive = [i for i, name in enumerate(names) if status[name] == "ok"]
    best = max(alive, key=lambda i: known.mean[i])
    apart = known.mean - known.mean[best]
    variance = np.diag(known.cov) + known.cov[best, best] - 2 * known.cov[best]
    last = {trial.model: trial for trial in course.trials}
    reached = {event.model: event.rung for event in course.events}
    stops = tuple(
        Stop(
            event.model,
            event.reason if status[event.model] == "ok" else "failed",
            track.rungs[event.rung].budget if event.rung >= 0 else None,
            event.spent,
            event.p_best,
            float(last[i].scores.mean()) if (i := names.index(event.model)) in last else math.nan,
        )
        for event in course.events
    )
    start = None
    if contest.trainer is not None:
        trainer = contest.trainer
        start = lambda name, _=contest: trainer.start(name, reached[name])  # noqa: E731
    return Race(
        models=names,
        p_best=dict(zip(names, map(float, known.p_best), strict=True)),
        mean=dict(zip(names, map(float, apart), strict=True)),
        sd=dict(zip(names, map(float, np.sqrt(np.maximum(variance, 0))), strict=True)),
        cost=course.spent,
        budget=track.budget,
        confidence=track.confidence,
        stops=stops,
        status=status,
        notes=tuple(_notes(course)),
        trials=tuple((name, track.rungs[rung].budget, at) for name, rung, at in course.taken),
        course=tuple(
            (spent, dict(zip(names, map(float, chances), strict=True)))
            for spent, chances in course.history
        ),
        meta=meta,
        _start=start,
    )


def _notes(course: Course) -> list[str]:
    notes = []
    untried = [event.model for event in course.events if event.rung < 0]
    untried = [name for name in untried if name not in course.failures]
    if untried:
        notes.append(f"the budget did not reach {', '.join(untried)}: known by the prior alone")
    decided = any(event.reason == "decided" for event in course.events)
    if not decided and all(trial.rung == 0 for trial in course.trials):
        notes.append("the budget was spent before any model went beyond the first rung")
    return notes
