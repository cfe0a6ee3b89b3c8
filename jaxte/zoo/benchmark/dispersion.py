"""Whether the pool can tell rankings apart: spread, seed noise, and what other targets say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxte.evaluate import noise_ceiling, static_ranking, top1_regret, weighted_tau
from jaxte.zoo.benchmark.records import Result


def by_target(
    measurements: Sequence[Result], stage: str = "finetune"
) -> dict[str, dict[str, np.ndarray]]:
    """Return the values of the seeds by target and model; runs of which one diverged are left out.

    Args:
        measurements: results, as `jaxte.zoo.benchmark.results` gives them.
        stage: "finetune", "probe", or one of these with "_shifted".

    Examples:
        >>> from jaxte.zoo import benchmark
        >>> by_target(benchmark.results())["drawings-24"]["plain-cnn-cifar"].shape
        (5,)
    """
    table: dict[str, dict[str, np.ndarray]] = {}
    for result in measurements:
        values = np.asarray(getattr(result, stage))
        if values.size and np.isfinite(values).all():
            table.setdefault(result.target, {})[result.model] = values
    return table


def summary(measurements: Sequence[Result], stage: str = "finetune") -> list[dict[str, Any]]:
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
    table = by_target(measurements, stage)
    rows = []
    for target, models in table.items():
        if len(models) < 3:
            continue
        means = {name: float(values.mean()) for name, values in models.items()}
        best = max(means, key=means.__getitem__)
        places = static_ranking(table, target)
        common = [name for name in means if name in places]
        row = {
            "target": target,
            "models": len(models),
            "best": best,
            "best_mean": means[best],
            "spread": means[best] - min(means.values()),
            "seed_sd": float(np.median([values.std(ddof=1) for values in models.values()])),
            "ceiling": noise_ceiling(np.stack(list(models.values()))),
            "static": float("nan"),
            "static_regret": float("nan"),
        }
        if len(common) >= 3:
            pair = [places[name] for name in common], [means[name] for name in common]
            row |= {"static": weighted_tau(*pair), "static_regret": top1_regret(*pair)}
        rows.append(row)
    return rows
