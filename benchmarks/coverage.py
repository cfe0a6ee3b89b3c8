"""``coverage``: whether intervals, p_best and p values of `jaxte.rank` mean what they say.

Samples are drawn from made-up populations of which the truth is known: the mean score of many
samples of as many rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import table

METRICS = ("ridge_probe", "logme", "sfda", "hscore_shrinkage", "nearest_class_mean", "knn")
OTHERS = (  # of samples of up to 300 rows
    "lda", "qda", "hscore", "face", "gbc", "etran", "transrate", "lfc", "cdnv", "nc1", "disco",
    "parc", "tmi", "tmi_variance", "int_score", "concept_variance", "nearest_centroid_accuracy",
    "pactran_gaussian", "lidar", "vci",
)  # fmt: skip
SIZES = ((100, 24), (100, 160), (300, 64), (300, 450), (1000, 64), (2000, 128))  # n, d
CLASSES = 5
STRENGTHS = (0.1, 0.2, 0.22, 0.4)  # of the models of one population
_JUDGED = 4  # samples of each population whose chances count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks coverage``."""
    parser.add_argument("--samples", type=int, default=200, help="of each population (200)")
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument(
        "--costs", action="store_true", help="only what each costs, metric by metric"
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="only these n")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", metavar="FILE", help="also write the tables, as Markdown")


def run(options: argparse.Namespace) -> int:
    """Measure, and print each part when it is done."""
    text = ""
    for part in costs(500, 64) if options.costs else report(options):
        print(part)  # noqa: T201
        text += part + "\n"
        if options.out:
            Path(options.out).write_text(text)
    return 0


def report(options: argparse.Namespace) -> Iterator[str]:
    """Tables as Markdown, each when it is done."""
    yield (
        f"# Intervals, p_best and p values\n\n{options.samples} samples of each population, "
        f"{options.permutations} permutations, seed {options.seed}, "
        f"{CLASSES} classes.\n\n## 90 % intervals\n\n"
        "Covered: of the mean score over samples of n rows. Error ratio: estimated standard error "
        "over the true one. Half width in true standard errors. – where the score is the same on "
        "all samples.\n"
    )
    head = ("metric", "n", "d", "covered", "error ratio", "half width")
    yield "\n".join(table(head, [])[:2])
    for n, d in SIZES:
        if not options.sizes or n in options.sizes:
            metrics = METRICS if n > 300 else METRICS + OTHERS
            lines = intervals(n, d, options.samples, options.seed, metrics)
            rows = [
                (*map(str, line[:3]), *("–" if np.isnan(x) else f"{x:.2f}" for x in line[3:]))
                for line in lines
            ]
            yield "\n".join(table(head, rows)[2:-1])
    columns = ("metric", "from", "chances", "mean", "came true")
    yield "\n## p_best\n\n" + "\n".join(table(columns, [])[:2])
    for metric in ("ridge_probe", "logme", "sfda"):
        tenths = calibration(300, 32, max(3 * options.samples // 2, 4), 100, metric, options.seed)
        rows = [(metric, f"{t[0]:.1f}", str(t[1]), f"{t[2]:.3f}", f"{t[3]:.3f}") for t in tenths]
        yield "\n".join(table(columns, rows)[2:-1])
    yield "\n## p values without signal\n\nShares below, n = 120, d = 16.\n"
    own = p_values(120, 16, options.samples, options.permutations, options.seed)
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
    yield "\n".join(
        table(
            ("metric", *(f"p <= {level}" for level in levels)),
            [(m, *(f"{np.mean(p <= level):.3f}" for level in levels)) for m, p in own.items()],
        )
    )


def costs(n: int, d: int) -> Iterator[str]:
    """Processor time of intervals and of 200 permutations over that of one score, all warm."""
    import jaxte
    from jaxte.metrics import REGISTRY

    yield (
        f"# What chance and intervals cost\n\nn = {n}, d = {d}, {CLASSES} classes; processor time "
        "over that of one score of the same metric, warm, best of three.\n"
    )
    head = ("metric", "one score, ms", "intervals", "200 permutations")
    yield "\n".join(table(head, [])[:2])
    rng = np.random.default_rng(0)
    models, labels = Population(d, (0.3,), 0).sample(n, rng)
    pool = {name: {"features": x, "logits": x[:, :CLASSES]} for name, x in models.items()}

    def seconds(metric: str, **how: Any) -> float:
        took = []
        for _ in range(4):
            begun = time.process_time()
            jaxte.rank(pool, labels, metrics=metric, **how)
            took.append(time.process_time() - begun)
        return min(took[1:])

    for name, metric in REGISTRY.items():
        if "classification" not in metric.tasks or metric.label_free:
            continue
        if any(one.default is one.empty for one in metric.parameters.values()):
            continue
        score, *others = (
            seconds(name, **how) for how in ({}, {"intervals": True}, {"permutations": 200})
        )
        ratios = (f"{max(other - score, 0) / score:.1f}" for other in others)
        yield "\n".join(table(head, [(name, f"{1e3 * score:.1f}", *ratios)])[2:-1])


class Population:
    """Models of one latent signal: classes apart in some directions, heavy tails, mixed columns."""

    def __init__(self, d: int, strengths: Sequence[float], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.means = [s * rng.normal(size=(CLASSES, d)) for s in strengths]
        falling = np.linspace(1, 0.1, d)[:, None] / np.sqrt(d)
        self.mixing = [falling * rng.normal(size=(d, d)) for _ in strengths]

    def sample(self, n: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Rows of all models, with noise that they share in part, and labels."""
        labels = rng.integers(0, CLASSES, n)
        shared = rng.standard_t(6, size=(n, len(self.mixing[0])))
        models = {}
        for i, (means, mixing) in enumerate(zip(self.means, self.mixing, strict=True)):
            noise = (shared + rng.normal(size=shared.shape)) / 2**0.5
            models[f"model {i}"] = (means[labels] + noise) @ mixing
        return models, labels


class Line(NamedTuple):
    """One row of the table: shares are of the samples, half widths in standard deviations."""

    metric: str
    n: int
    d: int
    covered: float
    error_ratio: float
    half_width: float


def intervals(
    n: int, d: int, samples: int, seed: int, metrics: Sequence[str] = METRICS
) -> Iterator[Line]:
    """Of 90 % intervals how many cover the mean score, by metric, over models and samples."""
    import jaxte

    population, rng = Population(d, STRENGTHS, seed), np.random.default_rng(seed + 1)
    rankings = []
    for turn in range(samples):
        models, labels = population.sample(n, rng)
        rankings.append(
            jaxte.rank(
                models, labels, metrics=metrics, num_classes=CLASSES, intervals=True, seed=turn
            )
        )
    for metric in metrics:
        own = np.array([[r.interval(m, metric) for m in r.models] for r in rankings])
        scores = np.array([[r.score(m, metric) for m in r.models] for r in rankings])
        truth, spread = scores.mean(0), scores.std(0, ddof=1)
        rounding = 1e-6 * np.abs(truth) + 1e-12
        spread = np.where(spread > rounding, spread, np.nan)  # or it is saturated
        lo, hi, error, _ = np.moveaxis(own, -1, 0)
        yield Line(
            metric, n, d,
            covered=float(np.mean((lo <= truth + rounding) & (truth - rounding <= hi))),
            error_ratio=_mean(np.sqrt(np.mean(error**2, 0)) / spread),
            half_width=_mean((hi - lo) / 2 / spread),
        )  # fmt: skip


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def calibration(
    n: int, d: int, populations: int, samples: int, metric: str, seed: int
) -> list[tuple[float, int, float, float]]:
    """Of the chances to be best, by tenths: from where on, how many, their mean, how many were.

    The strengths of a population's models are drawn about one value, from all alike to far apart.
    Which is best is read off other samples than the chances, or the leader of a tie would be right
    too often.
    """
    import jaxte

    rng = np.random.default_rng(seed)
    chances, right = [], []
    for number in range(populations):
        spread = 10 ** rng.uniform(-2, -0.3)
        strengths = np.maximum(0.3 + spread * rng.normal(size=5), 0.02)
        population = Population(d, strengths.tolist(), seed + number)
        rankings = []
        for turn in range(_JUDGED + samples):
            models, labels = population.sample(n, rng)
            wanted = turn < _JUDGED
            rankings.append(
                jaxte.rank(models, labels, metrics=metric, num_classes=CLASSES, intervals=wanted)
            )
        others = rankings[_JUDGED:]
        scores = np.array([[r.score(m, metric) for m in r.models] for r in others])
        best = rankings[0].models[int(scores.mean(0).argmax())]
        for ranking in rankings[:_JUDGED]:
            chances += list(ranking.p_best().values())
            right += [model == best for model in ranking.p_best()]
    return by_tenth(np.array(chances), np.array(right))


def by_tenth(chances: np.ndarray, right: np.ndarray) -> list[tuple[float, int, float, float]]:
    """Where each tenth begins, how many chances lie in it, their mean, and how often they came."""
    tenth = np.minimum((10 * chances).astype(int), 9)
    return [
        (k / 10, int((tenth == k).sum()), float(chances[tenth == k].mean()),
         float(right[tenth == k].mean()))
        for k in range(10) if (tenth == k).any()
    ]  # fmt: skip


def p_values(n: int, d: int, samples: int, permutations: int, seed: int) -> dict[str, np.ndarray]:
    """Metric -> p values of features without signal, which should be uniform."""
    import jaxte

    population, rng = Population(d, (0.0,), seed), np.random.default_rng(seed + 1)
    values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for turn in range(samples):
        models, labels = population.sample(n, rng)
        ranking = jaxte.rank(
            models, labels, metrics=METRICS, num_classes=CLASSES, permutations=permutations,
            seed=turn,
        )  # fmt: skip
        for metric, own in values.items():
            chance = ranking.chance("model 0", metric)
            assert chance is not None
            own.append(chance.p_value)
    return {metric: np.array(own) for metric, own in values.items()}
