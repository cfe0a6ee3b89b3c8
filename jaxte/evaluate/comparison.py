"""`evaluate`: every measure, its uncertainty, and what it is to be compared with."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.evaluate.baselines import halves, permuted
from jaxte.evaluate.measures import MEASURES
from jaxte.evaluate.pools import LEAST, STATIC, Pools, paired
from jaxte.evaluate.reading import mixed_units, read_accuracies, read_scores
from jaxte.evaluate.result import MEAN, Evaluation
from jaxte.intake.checks import check_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["evaluate"]

_ROWS = 256  # vectors of a pool that are measured at once: [rows, m, m] stays in the cache
_Values = dict[str, np.ndarray]  # measure -> values


def evaluate(
    scores: Any, accuracies: Any, *, dataset: str | None = None, draws: int = 1000, seed: int = 0
) -> Evaluation:
    """Compare scores with accuracies over all metrics and data sets that both tables have.

    Every measure of `MEASURES` is taken for each metric and data set and averaged over data sets.
    Beside it stand

    * a 95 % interval: of a mean by the bootstrap over data sets (three at least), of a correlation
      on one data set by the jackknife over models, which are never drawn twice;
    * the range that it takes when each model is left out in turn, on all data sets at once;
    * chance: the value that one random order in twenty reaches (models are exchanged, the same way
      on all data sets, so that scores that are alike on all of them are compared with such), and
      the p-value;
    * the static ranking (`static_ranking`), and the difference to it, on the models that both
      order, with its interval;
    * the noise ceiling (`noise_ceiling`), where the accuracies of several seeds are known.

    A score that is missing, NaN or infinite has failed: the metric is measured on the other models.
    Data sets with fewer than three models are left out. Both are said in `notes`.

    Args:
        scores: a table with columns ``model, dataset, metric, score``: list of records, DataFrame,
            CSV, JSON or Parquet file, or mapping {data set: {metric: {model: score}}}, from any
            level on;
            also a `Ranking`, {data set: Ranking}, files that it wrote, or a directory of files,
            one for each data set (<data set>.csv, <metric>/<data set>_metrics.json).
        accuracies: a table with columns ``model, dataset, accuracy`` and, where there are several
            seeds, ``seed``; or a mapping {data set: {model: accuracy or list of them}}.
        dataset: the data set of tables that do not name one; and the only one that is evaluated.
        draws: random orders and bootstrap samples.
        seed: of both; the same gives the same result.

    Returns:
        An `Evaluation`, which prints as a table.

    Raises:
        InputError: for tables that cannot be read or have nothing in common.

    Example:
        >>> import jaxte
        >>> accuracies = {"pets": {"a": 0.9, "b": 0.8, "c": 0.7}}
        >>> result = jaxte.evaluate.evaluate({"pets": {"a": 3.0, "b": 1.0, "c": 2.0}}, accuracies)
        >>> round(result.value("score", "weighted_tau", "pets"), 3)
        0.545
    """
    draws, seed = check_whole("draws", draws), check_whole("seed", seed, least=0)
    measured = read_accuracies(accuracies)
    pools = paired(read_scores(scores), measured, dataset)
    counts = pools.keep().sum(axis=2)
    if counts.max(initial=0) < LEAST:
        raise InputError(
            f"no data set has {LEAST} models with both score and accuracy: {'; '.join(pools.notes)}"
        )
    random = np.random.default_rng(seed)
    notes = (*pools.notes, *mixed_units(measured), *getattr(accuracies, "notes", ()))
    return Evaluation(
        pools.metrics,
        pools.datasets,
        pools.models,
        notes,
        {"draws": draws, "seed": seed},
        tuple(_records(pools, counts, draws, random)),
        pools.scores,
        pools.accuracies,
        pools.spreads,
    )


def _records(
    pools: Pools, counts: np.ndarray, draws: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    """All records: for each metric and measure one a data set, and one of the mean."""
    keys = random.random((draws, len(pools.models)))
    evaluated = counts >= LEAST
    number = int(evaluated.any(axis=0).sum())
    samples = random.random((draws, number)) if number >= 3 else None
    keep = pools.keep()
    values = _measure(pools.scores, _accuracies(pools), keep)
    without = _without_each(pools, keep)
    chance = _chance(pools, keep, evaluated, keys)
    ceiling = _ceilings(pools)
    records = []
    static = pools.metrics.index(STATIC) if STATIC in pools.metrics else None
    above = None if static is None else _above(pools, keep, static)
    for k, metric in enumerate(pools.metrics):
        for name in MEASURES:
            own, others = values[name][k], without[name][k]
            for d in np.flatnonzero(evaluated[k]):
                records.append(
                    {
                        "metric": metric,
                        "dataset": pools.datasets[d],
                        "measure": name,
                        **_summary(name, own[d], others[d], chance[name][k, d]),
                        **_jackknife(name, own[d], others[d, keep[k, d]]),
                        "ceiling": ceiling[name][d],
                        "models": int(counts[k, d]),
                    }
                )
            at = np.flatnonzero(evaluated[k])
            if not at.size:
                continue
            record = {
                "metric": metric,
                "dataset": MEAN,
                "measure": name,
                **_summary(
                    name, _mean(own[at]), _mean(others[at], 0), _mean(chance[name][k, at], 0)
                ),
                **_bootstrap("", own[at], samples),
                "ceiling": _mean(ceiling[name][at]),
                "models": int(counts[k, at].max()),
                "datasets": len(at),
            }
            if above is not None and k != static:
                difference = above[name][k, at]
                record["minus_static"] = _mean(difference)
                record |= _bootstrap("minus_static_", difference, samples)
            records.append(record)
    return records


def _above(pools: Pools, keep: np.ndarray, static: int) -> _Values:
    """[metrics, data sets] each metric less the static ranking, on the models that both have."""
    both = keep & keep[static]
    own = _measure(pools.scores, _accuracies(pools), both)
    scores = np.broadcast_to(pools.scores[static], pools.scores.shape)
    others = _measure(scores, _accuracies(pools), both)
    return {name: own[name] - others[name] for name in MEASURES}


def _mean(values: np.ndarray, axis: int | None = None) -> Any:
    """The mean of what is not NaN, without a warning where nothing is left."""
    present = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(present, values, 0).sum(axis) / present.sum(axis)


def _summary(name: str, value: float, without: np.ndarray, chance: np.ndarray) -> dict[str, float]:
    """The value, its range without one model, and where random orders lie."""
    larger = MEASURES[name].larger_is_better
    left = without[np.isfinite(without)]
    drawn = chance[np.isfinite(chance)]
    known = bool(drawn.size) and bool(np.isfinite(value))
    as_good = drawn >= value - 1e-12 if larger else drawn <= value + 1e-12
    return {
        "value": float(value),
        "low": np.nan,
        "high": np.nan,
        "without_one_low": float(left.min()) if left.size else np.nan,
        "without_one_high": float(left.max()) if left.size else np.nan,
        "chance": float(np.quantile(drawn, 0.95 if larger else 0.05)) if drawn.size else np.nan,
        "p_value": float((1 + as_good.sum()) / (1 + drawn.size)) if known else np.nan,
    }


def _jackknife(name: str, value: float, without: np.ndarray) -> dict[str, float]:
    """95 % interval over models of a correlation, from its values without each of them."""
    if not MEASURES[name].is_correlation or not np.isfinite([value, *without]).all():
        return {}
    m = len(without)
    width = 1.96 * np.sqrt((m - 1) / m * ((without - without.mean()) ** 2).sum())
    if width < 1e-12:  # a perfect order, whichever model goes: nothing to estimate from
        return {}
    return {"low": float(max(value - width, -1)), "high": float(min(value + width, 1))}


def _bootstrap(prefix: str, values: np.ndarray, samples: np.ndarray | None) -> dict[str, float]:
    """95 % interval of the mean over data sets; {} of fewer than three."""
    values = values[np.isfinite(values)]
    if samples is None or len(values) < 3:
        return {}
    indices = (samples[:, : len(values)] * len(values)).astype(int)
    low, high = np.quantile(values[indices].mean(axis=1), [0.025, 0.975])
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


def _accuracies(pools: Pools) -> np.ndarray:
    return np.broadcast_to(pools.accuracies, pools.scores.shape)


def _without_each(pools: Pools, keep: np.ndarray) -> _Values:
    """[metrics, data sets, models] the measures without each model in turn."""
    m = len(pools.models)
    shape = (*keep.shape, m)
    scores, truth = (
        np.broadcast_to(a[:, :, None], shape) for a in (pools.scores, _accuracies(pools))
    )
    return _measure(scores, truth, keep[:, :, None] & ~np.eye(m, dtype=bool))


def _chance(pools: Pools, keep: np.ndarray, evaluated: np.ndarray, keys: np.ndarray) -> _Values:
    """[metrics, data sets, draws] the measures of permuted scores; NaN where not evaluated."""
    drawn = {name: np.full((*evaluated.shape, len(keys)), np.nan) for name in MEASURES}
    for k, d in zip(*np.nonzero(evaluated), strict=True):
        dealt = permuted(pools.scores[k, d], keep[k, d], keys)
        truth, among = (np.broadcast_to(a, dealt.shape) for a in (pools.accuracies[d], keep[k, d]))
        for name, values in _measure(dealt, truth, among).items():
            drawn[name][k, d] = values
    return drawn


def _ceilings(pools: Pools) -> _Values:
    """[data sets] how well half of the seeds rank like the others."""
    ceilings = {name: np.full(len(pools.datasets), np.nan) for name in MEASURES}
    for d, values in enumerate(pools.seeds):
        if values is not None:
            padded = np.full((len(pools.models), values.shape[1]), np.nan)
            padded[np.isfinite(pools.accuracies[d])] = values
            first, second = (np.stack(side) for side in zip(*halves(padded), strict=True))
            measured = _measure(first, second, np.isfinite(first))
            for name, column in measured.items():
                ceilings[name][d] = _mean(column)
    return ceilings


def _measure(scores: np.ndarray, accuracies: np.ndarray, keep: np.ndarray) -> _Values:
    """All measures of vectors [..., m], in float64; NaN for fewer than three models."""
    shape, m = keep.shape[:-1], keep.shape[-1]
    rows = [np.ascontiguousarray(a).reshape(-1, m) for a in (scores, accuracies, keep)]
    count = len(rows[0])
    columns: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    with jax.enable_x64(True):
        for start in range(0, count, _ROWS):
            block = [a[start : start + _ROWS] for a in rows]
            block = [np.pad(a, ((0, _ROWS - len(a)), (0, 0))) for a in block]  # of one shape
            for name, values in _program()(*block).items():
                columns[name].append(np.asarray(values))
    enough = rows[2].sum(axis=1) >= LEAST
    return {
        name: np.where(enough, np.concatenate(parts)[:count], np.nan).reshape(shape)
        for name, parts in columns.items()
    }


@functools.cache
def _program() -> Any:
    """One compiled program of all measures over rows of pools."""

    def all_measures(s: Any, g: Any, keep: Any) -> Mapping[str, Any]:
        return {name: one.function(s, g, where=keep) for name, one in MEASURES.items()}

    return jax.jit(jax.vmap(all_measures))
