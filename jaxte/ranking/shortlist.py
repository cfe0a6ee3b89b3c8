r"""`shortlist`: many models, scored on growing parts of the rows, from which losers are dropped.

A score on n of N rows differs from the one on all of them by what is odd about these rows, and by
how it drifts with n. The first is the variance of the infinitesimal jackknife times 1 - n/N. Of
the second the step from fewer rows says how much is to come, if the score nears its limit as

.. math:: s(n) \approx s_\infty - c\, n^{-b}, \qquad 0 < b \le 1

with a c of its own for each model.

References: Maron and Moore, "Hoeffding races", NIPS 1993, for dropping candidates as evidence comes
in; the bound here is a posterior and not Hoeffding's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError, said
from jaxte.intake import as_labels
from jaxte.intake.arrays import as_array
from jaxte.intake.checks import check_share, short
from jaxte.metrics import Metric, MetricFunction
from jaxte.ranking.assembly import Measured
from jaxte.ranking.curve import growing_rows
from jaxte.ranking.intervals import Draws, covariance_of
from jaxte.ranking.measure import measure
from jaxte.ranking.options import RankOptions, check_names, checked
from jaxte.ranking.rank import rank
from jaxte.ranking.result import Ranking
from jaxte.ranking.verdict import PROBE
from jaxte.store import FeatureStore

__all__ = ["Dropped", "Shortlist", "shortlist"]

SHARES = (0.05, 0.1, 0.2, 0.4, 1.0)
_APART = 1.5  # of a part to the one before, at least
_EXPONENTS = (0.0, 1.0)  # of n, between which a score nears its limit
# Of Student's t: a variance from one derivative is itself known to a factor of about 1.5.
_FREEDOM = 5.0
_LEAST, _PER_CLASS = 200, 8  # rows of the first part: on half of them scores say something, too
_OPTIONS = ("options", "precision", "perturb", "normalize", "layers", "memory_limit")  # of `rank`


class Dropped(NamedTuple):
    """A model that was left behind.

    Attributes:
        rows: how many it was scored on.
        score: on these.
        p_best: chance, as it seemed then, that it is the best on all rows.
    """

    rows: int
    score: float
    p_best: float


@dataclass(frozen=True)
class Shortlist:
    """What is left of many models, ranked on all rows.

    Attributes:
        ranking: of the models that are left, as `jaxte.rank` ranks them; those that failed on the
            way are in it, with the reason.
        dropped: model -> when and why it was left behind.
        stages: (rows, models that were scored on them), in order.
        cost: share of the forward passes that all models on all rows would be.
    """

    ranking: Ranking
    dropped: Mapping[str, Dropped]
    stages: tuple[tuple[int, int], ...]
    cost: float

    @property
    def best(self) -> str:
        """The model with the highest score on all rows, of those that are left."""
        return self.ranking.best()

    def verdict(self) -> str:
        """The recommendation, and what was left out for it."""
        if not self.dropped:
            return f"{self.ranking.verdict()} No model was dropped on fewer rows."
        risk = sum(one.p_best for one in self.dropped.values())
        left = f"{len(self.dropped)} of {self.stages[0][1]} models were dropped on fewer rows"
        return (
            f"{self.ranking.verdict()} {left} (chance that the best is among them: {risk:.1%}), "
            f"for {self.cost:.0%} of the forward passes."
        )

    def __repr__(self) -> str:
        return f"{self.ranking!r}\n{self.verdict()}"


def shortlist(
    models: Mapping[str, Any],
    targets: ArrayLike,
    *,
    metric: str | Metric | MetricFunction = PROBE,
    confidence: float = 0.9,
    shares: Sequence[float] = SHARES,
    history: Any = None,
    seed: int = 0,
    progress: bool | Progress = False,
    **options: Any,
) -> Shortlist:
    """Score many models on growing parts of the rows, and drop those that cannot win.

    Each part has of every class its share. A model is dropped where the chance that it is the best
    on all rows is so small that all that is dropped stays below 1 - confidence together.

    Args:
        models: model name -> a function (rows: int array [b]) -> what `jaxte.rank` takes of a model
            for these rows (features [b, d], a mapping of them, or a `jaxte.FeatureStore`, as
            `jaxte.extract` returns it), which is called once for each part that the model gets to;
            or its features of all rows.
        targets: classes [N], or float targets [N] or [N, k].
        metric: one whose score does not depend on the other models of the pool, and has a
            derivative by the weights of the rows.
        confidence: that the best model on all rows is not dropped.
        shares: parts of the rows, rising to 1; the first has at least 200 rows, and 8 for every
            class.
        history: as of `jaxte.rank`: what the models reached elsewhere counts towards the best.
        seed: of the order of the rows, and of the draws.
        progress: True for a bar, or a function (done, total, label) of the models of each part.
        options: of `jaxte.rank`: options, precision, perturb, normalize, layers, memory_limit.

    Returns:
        `Shortlist`.

    Raises:
        InputError: as `jaxte.rank`, and for a metric that cannot be raced.

    Example:
        >>> import jax, jaxte
        >>> x, y = jax.random.normal(jax.random.key(0), (600, 8)), jax.numpy.arange(600) % 4
        >>> signals = {f"model {i}": 0.1 * i for i in range(12)}
        >>> models = {m: lambda rows, s=s: x[rows].at[:, 0].add(s * y[rows])
        ...           for m, s in signals.items()}
        >>> short = jaxte.shortlist(models, y, metric="logme")
        >>> short.best, short.cost < 1, "model 0" in short.dropped
        ('model 11', True, True)
    """
    check_names(models)
    check_share("confidence", confidence)
    asked = _checked(metric, targets, options)
    labels = as_labels(targets)
    classes = None if labels.classes is None else len(labels.classes)
    order, sizes = growing_rows(
        labels, shares, seed=seed, least=max(_LEAST, _PER_CLASS * (classes or 0)), apart=_APART
    )
    if sizes[-1] < len(order):
        raise InputError(f"shares are {short(shares)}: the last part is all rows, 1.0")
    every = {str(name): _Growing(model, len(order)) for name, model in models.items()}
    pool = dict(every)

    def score(rows: np.ndarray, **how: Any) -> Measured:
        values = {name: model.first(len(rows)) for name, model in pool.items()}
        measured = measure(
            values, labels.values[rows], metrics=asked.metrics, history=history, seed=seed,
            num_classes=classes, **how, **options,
        )  # fmt: skip
        if apart := [name for name in measured.names if name not in pool]:
            raise InputError(
                f"{apart[0]} is made of several of the models, which are dropped one by one: give "
                "a model with its layers, {'layers': ...}"
            )
        return measured

    dropped: dict[str, Dropped] = {}
    stages: list[tuple[int, int]] = []
    earlier: tuple[int, Mapping[str, float]] = (0, {})
    with reporter(progress, "shortlist", unit="", always=True) as report:
        for size in sizes:
            if _read(pool, order, size, report) and dropped:
                pool, dropped = dict(every), {}  # whom they lost to may be gone
                _read(pool, order, size, report)
            stages.append((size, len(pool)))
            if size == len(order):
                break
            earlier = earlier if earlier[0] else (size // 2, _scores(score(order[: size // 2])))
            measured = score(order[:size], intervals=True)
            scores = _scores(measured)
            draws = _on_all_rows(measured, earlier, size, len(order), seed)
            lost = _hopeless(draws, measured.past, (1 - confidence) / (len(sizes) - 1))
            dropped |= {name: Dropped(size, scores[name], p) for name, p in lost.items()}
            pool = {name: model for name, model in pool.items() if name not in lost}
            earlier = size, scores
    back = np.argsort(order)  # the rows as they were, so that it is what `rank` gives
    ranking = rank(
        {name: model.first(len(order), back) for name, model in pool.items()}, targets,
        metrics=asked.metrics, history=history, seed=seed, intervals=True, **options,
    )  # fmt: skip
    share = sum(model.rows for model in every.values()) / (len(order) * len(every))
    return Shortlist(ranking, dropped, tuple(stages), share)


def _checked(metric: Any, targets: Any, options: Mapping[str, Any]) -> RankOptions:
    """What is asked for, once it is sure that models can be dropped by it."""
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise InputError(f"shortlist takes no {unknown[0]}: of rank it has {', '.join(_OPTIONS)}")
    if options.get("layers") == "each":
        raise InputError("layers is 'each', but models are dropped as a whole: leave it out")
    asked = checked(metric, options=options.get("options"), perturb=options.get("perturb"))
    first = asked.metrics[0]
    plain = first.normalise == "sum" and (
        not first.terms or options.get("normalize", "sum") == "sum"
    )
    if len(asked.metrics) != 1 or not plain:
        raise InputError(
            f"metric is {short(metric)}: give one whose scores do not depend on the other models"
        )
    if targets is None or isinstance(targets, Mapping):
        raise InputError("give targets that all models share: the rows are drawn by them")
    return asked


def _read(pool: Mapping[str, _Growing], order: np.ndarray, size: int, report: Progress) -> bool:
    """Have all models read so many rows; whether one of them failed."""
    failed = False
    for done, model in enumerate(pool.values()):
        report(done, len(pool), f"{size} of {len(order)} rows")
        well = model.problem is None
        model.read(order[:size])
        failed |= well and model.problem is not None
    return failed


class _Growing:
    """One model, of which ever more rows are read; a failure stays one."""

    def __init__(self, model: Any, whole: int) -> None:
        self._model, self._whole, self.rows = model, whole, 0
        self._read: Any = None
        self.problem: InputError | None = model if isinstance(model, InputError) else None

    def read(self, rows: np.ndarray) -> None:
        """Read those of the rows that were not read yet."""
        if self.problem is not None:
            return
        fresh, own = rows[self.rows :], self._model
        self.rows = len(rows)
        try:
            if callable(own) and not hasattr(own, "__array__"):
                part = _arrays(own(fresh))
                _check_rows(part, len(fresh), "it gave {} rows where {} were asked for")
            else:
                self._model = own = _arrays(own)  # once
                _check_rows(own, self._whole, "it has {} rows, and there are {} targets")
                part = jax.tree.map(lambda values: values[fresh], own)
            if self._read is not None:
                part = jax.tree.map(lambda *both: np.concatenate(both), self._read, part)
            self._read = part
        except Exception as error:  # a user's model may raise anything
            self.problem = InputError(said(error))

    def first(self, size: int, order: np.ndarray | slice = slice(None)) -> Any:
        """Its first rows, in another order if one is given; or what went wrong."""
        if self.problem is not None:
            return self.problem
        return jax.tree.map(lambda values: values[:size][order], self._read)


def _check_rows(arrays: Any, number: int, message: str) -> None:
    for one in jax.tree.leaves(arrays):
        if len(one) != number:
            raise InputError(message.format(len(one), number))


def _arrays(value: Any) -> Any:
    """What a model gave for some rows, as arrays."""
    if isinstance(value, FeatureStore):
        layers = {layer: value[layer].features() for layer in value.layers}
        parts: dict[str, Any] = {"features": layers[value.layers[-1]]}
        parts |= {"layers": layers} if len(layers) > 1 else {}
        value = parts if value.logits is None else {**parts, "logits": value.logits}
    if isinstance(value, Mapping):
        return {key: _arrays(part) for key, part in value.items()}
    array = None if isinstance(value, tuple) else np.asarray(as_array(value, "features"))
    if array is None or array.ndim == 0:  # with labels, or a path
        raise InputError(
            f"features are {short(value)}: give an array [b, d], a mapping of them, or "
            "jaxte.FeatureStore.open(path)"
        )
    return array


def _scores(measured: Measured) -> dict[str, float]:
    outputs = measured.outcomes.outputs.get(measured.metrics[0].name, {})
    return {name: own["score"] for name, own in outputs.items()}


def _on_all_rows(
    measured: Measured, earlier: tuple[int, Mapping[str, float]], size: int, whole: int, seed: int
) -> Draws:
    """Draws of the scores on all rows, of the models that have one on these and on fewer."""
    from jaxte.evaluate.posterior import of_scores  # 0.1 s that few need

    fewer, before = earlier
    now, metric = _scores(measured), measured.metrics[0].name
    rows = measured.outcomes.influences.get(metric, {})
    names = tuple(
        name for name, own in rows.items()
        if np.isfinite([*own["score"], now[name], before.get(name, np.nan)]).all()
    )  # fmt: skip
    if len(names) < 2:
        return Draws(())
    y, y_before = (np.array([scores[name] for name in names]) for scores in (now, before))
    cov = covariance_of([rows[name]["score"] for name in names])
    draws = of_scores(y, cov * (1 - size / whole)).draws(seed)
    steps = of_scores(y - y_before, cov * (size / fewer - 1)).draws(seed + 1)
    rng = np.random.default_rng(seed)
    number = min(len(draws), len(steps))
    b = -rng.uniform(*_EXPONENTS, size=(number, len(names)))
    to_come = (float(size) ** b - float(whole) ** b) / (float(fewer) ** b - float(size) ** b)
    draws, steps = (rng.permutation(own)[:number] for own in (draws, steps))
    made = draws + to_come * steps
    wider = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, size=(number, 1)))
    return Draws(names, made.mean(0) + wider * (made - made.mean(0)))


def _hopeless(draws: Draws, past: Mapping[str, float] | None, risk: float) -> dict[str, float]:
    """Model -> chance to be the best, of those that have hardly one: together at most ``risk``."""
    if not draws.names:
        return {}
    chances = draws.chances(past)
    rising = sorted(chances, key=lambda name: chances[name])
    together = np.cumsum([chances[name] for name in rising])
    return {name: chances[name] for name, p in zip(rising, together, strict=True) if p <= risk}
