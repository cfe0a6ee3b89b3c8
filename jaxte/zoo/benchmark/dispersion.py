"""Whether the pool can tell rankings apart: spread, seed noise, and what other targets say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from jaxte.evaluate import weighted_tau
from jaxte.zoo.benchmark.records import Result

STAGES = ("finetune", "probe", "finetune_shifted", "probe_shifted")


def by_target(found: Sequence[Result], stage: str = "finetune") -> dict[str, dict[str, np.ndarray]]:
    """Return the values of the seeds by target and model; runs of which one diverged are left out.

    Args:
        found: results, as `jaxte.zoo.benchmark.results` gives them.
        stage: "finetune", "probe", or one of these with "_shifted".

    Examples:
        >>> from jaxte.zoo import benchmark
        >>> by_target(benchmark.results())["drawings-24"]["plain-cnn-cifar"].shape
        (5,)
    """
    table: dict[str, dict[str, np.ndarray]] = {}
    for result in found:
        values = np.asarray(getattr(result, stage))
        if values.size and np.isfinite(values).all():
            table.setdefault(result.target, {})[result.model] = values
    return table


def _ceiling(values: np.ndarray) -> float:
    """Mean weighted tau of the ranking by some of the seeds with that by the others."""
    seeds = range(values.shape[1])
    taus = [
        weighted_tau(
            values[:, list(half)].mean(1),
            values[:, [s for s in seeds if s not in half]].mean(1),
        )
        for half in combinations(seeds, values.shape[1] // 2)
    ]
    return float(np.nanmean(taus)) if taus else float("nan")


def _static(table: dict[str, dict[str, np.ndarray]], target: str) -> dict[str, float]:
    """Mean place of each model on the other targets, 1 for the best and 0 for the last."""
    places: dict[str, list[float]] = {}
    for other, models in table.items():
        if other == target or len(models) < 2:
            continue
        means = {name: float(values.mean()) for name, values in models.items()}
        ordered = sorted(means, key=means.__getitem__)
        for place, name in enumerate(ordered):
            places.setdefault(name, []).append(place / (len(ordered) - 1))
    return {name: float(np.mean(values)) for name, values in places.items()}


def summary(found: Sequence[Result], stage: str = "finetune") -> list[dict[str, Any]]:
    """Describe each target on which at least three models were measured.

    `spread` is the best model's mean less the worst's and `seed_sd` the median deviation between
    seeds; `ceiling` says how well two seeds rank like three others (weighted tau), `static` how
    well the mean place on the other targets ranks like this one, and `static_regret` what its first
    choice costs. What is not defined is NaN.

    Examples:
        >>> from jaxte.zoo import benchmark
        >>> benchmark.summary(benchmark.results())[0]["target"]
        'drawings-24'
    """
    table = by_target(found, stage)
    rows = []
    for target, models in table.items():
        if len(models) < 3:
            continue
        means = {name: float(values.mean()) for name, values in models.items()}
        best = max(means, key=means.__getitem__)
        places = _static(table, target)
        common = [name for name in means if name in places]
        row = {
            "target": target,
            "models": len(models),
            "best": best,
            "best_mean": means[best],
            "spread": means[best] - min(means.values()),
            "seed_sd": float(np.median([values.std(ddof=1) for values in models.values()])),
            "ceiling": _ceiling(np.stack(list(models.values()))),
            "static": float("nan"),
            "static_regret": float("nan"),
        }
        if len(common) >= 3:
            row["static"] = weighted_tau(
                [places[name] for name in common], [means[name] for name in common]
            )
            chosen = max(common, key=places.__getitem__)
            row["static_regret"] = max(means[name] for name in common) - means[chosen]
        rows.append(row)
    return rows
