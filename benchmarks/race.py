"""Races on the zoo's targets against what full fine-tuning reached: ``python -m benchmarks race``.

``run`` goes through targets, seeds, priors and budgets, one line of a file for each race; stopped,
also by a kill, it goes on with the next. Trials are kept beside it, so that a larger budget goes
on from a smaller one. ``show`` prints what it has come to. ``calibrate`` reads the same trials by
walks of several sizes (`jaxte.race.posterior.FROZEN_WALKS`), and prints how likely each makes the
best models. ``limit`` fine-tunes the six leaders of each target to the end, in four folds: what
races with any budget could know. Without ``--pool`` the targets are the three that ship; with it,
those that `jaxte zoo build --pool benchmark` has cut into that directory, on all models that were
measured.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxte
from benchmarks import proof
from jaxte import zoo
from jaxte.evaluate import noise_ceiling, weighted_tau
from jaxte.intake.lines import append_line, key_of, read_lines
from jaxte.race.memo import JOURNAL
from jaxte.race.posterior import Observation, observed
from jaxte.race.prior import LAYERS_TRUST, prior_of
from jaxte.race.steps import Recipe
from jaxte.race.trainer import Trainer
from jaxte.zoo import benchmark

BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2)
TRIED = (0.2, 0.4, 0.6, 0.75, 0.9, 1.05, 1.2, 1.5)  # sizes that `calibrate` tries
PRIORS = ("none", "history")  # history: what the models reached on the other targets
Truth = dict[str, np.ndarray]  # model -> accuracy of each seed


def truths(pool: Path | None, results: Path | None) -> dict[str, Truth]:
    """Measured accuracies by target."""
    if pool is None:
        return {
            name: {m: np.array(a.finetune) for m, a in zoo.accuracies(name).items()}
            for name in zoo.targets()
        }
    return benchmark.by_target(benchmark.results(results))


def load(target: str, names: Sequence[str], pool: Path | None) -> tuple[dict[str, Any], Any]:
    """Models and data of a target."""
    roots = benchmark.models(root=pool)
    models = {name: zoo.load(name, root=roots[name]) for name in names if name in roots}
    if pool is None:
        return models, f"zoo:{target}/train"
    from jaxte.zoo.benchmark.build import load_cut

    part = load_cut(target, pool).train
    images = part.images if part.images.ndim == 4 else part.images[..., None]
    return models, (images, part.labels)


def history(table: Mapping[str, Truth], target: str) -> list[dict[str, Any]] | None:
    """Mean accuracies on the other targets."""
    records = [
        {"model": model, "dataset": other, "accuracy": float(values.mean())}
        for other, truth in table.items()
        if other != target
        for model, values in truth.items()
    ]
    return records or None


def judged(result: Any, truth: Truth) -> dict[str, Any]:
    """A race beside what fine-tuning reached."""
    order = [name for name in result.order() if name in truth]
    means = np.array([truth[name].mean() for name in order])
    expected = np.array([result.mean[name] for name in order])
    top = means >= np.median(means)
    seeds = np.stack([truth[name] for name in order])[top]
    return {
        "regret": 100 * float(means.max() - means[0]),
        "tau": weighted_tau(expected, means),
        "tau_top": weighted_tau(expected[top], means[top]),
        "ceiling_top": noise_ceiling(seeds),
        "best": result.best,
        "promised": result.p_best[result.best],
        "won": bool(means[0] == means.max()),
        "apart": len(result.apart()),
        "covered": order[int(means.argmax())] in result.apart(),
        "spent": result.cost,
    }


def race_all(options: argparse.Namespace) -> None:
    """Make the races that are missing, small budgets first."""
    file = options.out / "races.jsonl"
    table = truths(options.pool, options.results)
    for seed in options.seeds:
        for target in options.targets or [name for name, truth in table.items() if len(truth) > 7]:
            truth = table[target]
            for prior in options.priors:
                past = history(table, target) if prior == "history" else None
                if prior == "history" and past is None:
                    continue
                for budget in sorted(options.budgets):
                    key = key_of(target, sorted(truth), seed, prior, budget, past)
                    if key in read_lines(file):
                        continue
                    begun = time.perf_counter()
                    models, data = load(target, sorted(truth), options.pool)
                    result = jaxte.race(
                        models, data, budget=budget, history=past, seed=seed, confidence=0.95,
                        resume=options.out / "trials" / f"{target}-{seed}", progress=True,
                    )  # fmt: skip
                    line = {"target": target, "seed": seed, "prior": prior, "budget": budget}
                    line |= {"models": len(models), **judged(result, truth)}
                    line["seconds"] = round(time.perf_counter() - begun, 1)
                    append_line(file, {"key": key, **line})
                    say(f"{target} seed {seed} {prior} {budget}: regret {line['regret']:.2f}")


def show(options: argparse.Namespace) -> None:
    """Means over targets (first over their seeds), with the standard error over targets."""
    lines = list(read_lines(options.out / "races.jsonl").values())
    columns = ("regret", "tau", "tau_top", "ceiling_top", "won", "promised", "covered", "spent")
    say("prior    budget  races  " + "".join(f"{column:>16}" for column in columns))
    for prior, budget in sorted({(line["prior"], line["budget"]) for line in lines}):
        chosen = [one for one in lines if (one["prior"], one["budget"]) == (prior, budget)]
        by_target: dict[str, list[list[float]]] = {}
        for line in chosen:
            values = [float(line[column]) for column in columns]
            by_target.setdefault(line["target"], []).append(values)
        means = np.array([np.mean(values, axis=0) for values in by_target.values()])
        error = means.std(0, ddof=1) / len(means) ** 0.5 if len(means) > 1 else means[0] * np.nan
        cells = (f"{m:.3f} ± {e:.3f}" for m, e in zip(means.mean(0), error, strict=True))
        row = "".join(f"{cell:>16}" for cell in cells)
        say(f"{prior:8} {budget:6}  {len(chosen):5}  {row}")


def limit(options: argparse.Namespace) -> None:
    """What the leaders' frozen and fully fine-tuned folds say of them, beside what they reached."""
    file = options.out / "limit.jsonl"
    table, layers = truths(options.pool, options.results), proof.read(proof.POOLS["zoo"].scores)
    columns, rows = ("layers", "frozen", "trained"), {}
    for target in options.targets or sorted(layers.keys() & table.keys()):
        truth = {name: float(values.mean()) for name, values in table[target].items()}
        belief = {n: s for n, s in layers[target][proof.JOINED].items() if n in truth}
        leaders = sorted(belief, key=lambda name: -belief[name])[:6]
        key = key_of(target, leaders)
        line = read_lines(file).get(key)
        if line is None:
            models, data = load(target, leaders, options.pool)
            trainer = Trainer(models, data, Recipe(stages=(1.0,)), budget=100.0)
            frozen, trained = {}, {}
            for name in leaders:
                folds = [trainer(name, rung, 0) for rung in range(len(trainer.rungs))]
                frozen[name] = float(folds[0].mean())
                trained[name] = float(np.concatenate(folds[1:]).mean())
            before = {name: belief[name] for name in leaders}
            line = {"target": target, "layers": before, "frozen": frozen, "trained": trained}
            append_line(file, {"key": key, **line})
        reached = [truth[name] for name in leaders]
        row = []
        for column in columns:
            scores = [line[column][name] for name in leaders]
            lost = 100 * (max(truth.values()) - reached[int(np.argmax(scores))])
            row += [weighted_tau(scores, reached), lost]
        rows[target] = row
    rows["mean"] = np.mean(list(rows.values()), axis=0)
    say("tau, points lost".ljust(18) + "".join(f"{column:>14}" for column in columns))
    for target, row in rows.items():
        say(f"{target:18}" + "".join(f"{value:7.2f}" for value in row))


def calibrate(options: argparse.Namespace) -> None:
    """What the trials of ``run`` say of each target's best model, by walks of several sizes."""
    table, layers = truths(options.pool, options.results), proof.read(proof.POOLS["zoo"].scores)
    raced = []  # of each race: trials, number of examples, the best model, what was believed before
    for folder in sorted((options.out / "trials").iterdir()):
        target, seed = folder.name.rsplit("-", 1)
        _, data = load(target, (), options.pool)
        for budget in options.budgets:
            trainer = Trainer({}, data, Recipe(), budget=budget, seed=int(seed), passes=2)
            names, trials = replayed(folder, trainer, sorted(table[target]))
            if len(names) < 2:  # no race of this budget
                continue
            scores = {name: layers[target][proof.JOINED][name] for name in names}
            pasts = {"none": None, "history": history(table, target)}
            beliefs = {
                prior: prior_of(names, scores, pasts[prior], trust=LAYERS_TRUST)
                for prior in options.priors
            }
            reached = [table[target][name].mean() for name in names]
            raced.append((trials, trainer.examples, int(np.argmax(reached)), beliefs))
    say("walk  prior      log chance of the best   chance of the first   it is the best")
    for walk, prior in itertools.product(TRIED, options.priors):
        rows = []
        for trials, examples, best, beliefs in raced:
            known = observed(trials, beliefs[prior], examples, walks=(walk,))
            first, chance = int(known.mean.argmax()), max(float(known.p_best[best]), 1e-4)
            rows.append((np.log(chance), known.p_best[first], best == first))
        likely, promised, won = np.mean(rows, axis=0)
        say(f"{walk:4}  {prior:8}  {likely:23.2f}  {promised:20.2f}  {won:15.2f}")


def replayed(
    folder: Path, trainer: Trainer, names: Sequence[str]
) -> tuple[list[str], list[Observation]]:
    """The models that a race with this trainer has tried, and their trials, from its journal."""
    entries = [one for one in read_lines(folder / JOURNAL).values() if "scores" in one]
    frozen = [one for one in entries if one["rung"] == 0 and one["shape"] == [trainer.examples]]
    digests = {one["model"]: one["on"] for one in frozen if one["model"] in names}
    tried = [name for name in names if name in digests]
    trials = [
        Observation(
            tried.index(one["model"]), one["rung"], trainer.rungs[one["rung"]].doublings,
            trainer.rungs[one["rung"]].rows, np.array(one["scores"]),
        )
        for one in entries
        if digests.get(one["model"]) == one["on"]
    ]  # fmt: skip
    return tried, trials


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)  # noqa: T201


STEPS = {"run": race_all, "show": show, "calibrate": calibrate, "limit": limit}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks race``."""
    parser.add_argument("step", choices=tuple(STEPS))
    parser.add_argument("--out", type=Path, default=Path("races"), help="directory of results")
    parser.add_argument("--pool", type=Path, help="directory of the benchmark pool")
    parser.add_argument("--results", type=Path, help="its accuracies.jsonl; by default as shipped")
    parser.add_argument("--targets", nargs="+", help="by default all that were measured")
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1))
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=PRIORS)


def run(options: argparse.Namespace) -> int:
    """Do the step that is asked for."""
    STEPS[options.step](options)
    return 0
