"""Ground truth of one model on one target: fine-tuning and a linear probe, several seeds each.

Classes, or the numbers to predict, are padded to `OUTPUTS` columns of which a mask hides the rest,
so that every target runs through one compiled program per architecture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxte.zoo.benchmark.cuts import Cut
from jaxte.zoo.images import prepare
from jaxte.zoo.network import Params, forward, normalise
from jaxte.zoo.sources import Part
from jaxte.zoo.train import augment, batches, fit_linear, optimise, schedule, score

OUTPUTS = 32


@dataclass(frozen=True)
class Stage:
    """How one stage trains: AdamW and a cosine, its peak chosen on a grid of half decades.

    From `start` the grid is walked until the best rate lies between two that are worse, or at
    `least` or `most`. A rate is judged by its mean over so many of `folds` folds of the train part
    that about `judged` images are predicted, by accuracy (or R2) and then by loss; then the whole
    train part is trained on once per seed. Steps are `epochs` over the train part, within
    bounds. `head` is what the head starts from: of fine-tuning the probe of the same part and seed,
    as a random one spoils the features of a small target before it has learned anything.
    """

    epochs: int
    fewest: int
    steps: int
    batch: int
    start: tuple[float, float]
    least: float
    most: float
    warmup: float
    weight_decay: float
    shift: int
    head: str
    folds: int = 5
    judged: int = 200
    seeds: int = 5

    def length(self, n: int) -> int:
        """Return the number of steps on n images."""
        return max(self.fewest, min(self.steps, self.epochs * n // self.batch))

    def splits(self, n: int) -> int:
        """Return in how many of the folds of n images a rate is judged."""
        return min(self.folds, max(1, round(self.judged * self.folds / n)))


FINETUNE = Stage(
    epochs=20, fewest=150, steps=450, batch=32, start=(1e-3, 3e-3), least=1e-5, most=1e-1,
    warmup=0.1, weight_decay=1e-4, shift=2, head="probe",
)  # fmt: skip
PROBE = Stage(
    epochs=100, fewest=1000, steps=1000, batch=50, start=(3e-3, 1e-2), least=1e-5, most=1.0,
    warmup=0.0, weight_decay=1e-2, shift=0, head="random", judged=100_000,
)  # fmt: skip


class Problem(NamedTuple):
    """A target as the programs take it: columns wanted, which of them count, and their scale."""

    outputs: int
    regression: bool
    mean: np.ndarray
    std: np.ndarray


def problem_of(cut: Cut) -> Problem:
    """Return what is asked of a model; numbers are standardised by the train part."""
    labels = cut.train.labels
    if labels.ndim == 1:
        return Problem(len(cut.class_names), False, np.zeros(1), np.ones(1))
    return Problem(labels.shape[1], True, labels.mean(0), labels.std(0) + 1e-9)


def _encode(problem: Problem, labels: np.ndarray) -> np.ndarray:
    """Targets [n, OUTPUTS]: one-hot rows, or standardised numbers."""
    expected = np.zeros((len(labels), OUTPUTS), np.float32)
    if problem.regression:
        expected[:, : problem.outputs] = (labels - problem.mean) / problem.std
    else:
        expected[np.arange(len(labels)), labels] = 1
    return expected


def _mask(problem: Problem) -> np.ndarray:
    return (np.arange(OUTPUTS) < problem.outputs).astype(np.float32)


def _loss(
    outputs: jax.Array, expected: jax.Array, mask: jax.Array, regression: jax.Array
) -> jax.Array:
    crossed = optax.softmax_cross_entropy(jnp.where(mask > 0, outputs, -1e9), expected)
    squared = ((outputs - expected) ** 2 * mask).sum(-1) / mask.sum()
    return jnp.where(regression, squared, crossed).mean()


def _network_loss(
    network: Any, key: jax.Array, data: tuple[jax.Array, ...], normal: Any, mask: jax.Array,
    regression: jax.Array, shift: int,
) -> jax.Array:  # fmt: skip
    images, expected = data
    x = normalise(augment(key, images, shift, False), *normal)
    return _loss(network(x), expected, mask, regression)


class Score(NamedTuple):
    """Accuracy, or R2 (mean over outputs), and the mean loss; both None where it diverged."""

    value: float | None
    loss: float | None


def judge(problem: Problem, outputs: np.ndarray, labels: np.ndarray) -> Score:
    """Score outputs [n, OUTPUTS] against labels."""
    outputs = outputs[:, : problem.outputs].astype(np.float64)
    if not np.isfinite(outputs).all():
        return Score(None, None)
    if problem.regression:
        expected = (labels - problem.mean) / problem.std
        squared = (outputs - expected) ** 2
        value = 1 - squared.mean(0) / expected.var(0)
        return Score(round(float(value.mean()), 5), round(float(squared.mean()), 5))
    outcome = score(outputs, labels)
    return Score(round(outcome.accuracy, 5), round(outcome.loss, 5))


def fit_head(problem: Problem, data: Part, lr: float, seed: int) -> dict[str, np.ndarray]:
    """Fit a linear head to features, standardised by themselves; return it for features as such."""
    n, width = data.images.shape
    mean, std = data.images.mean(0), data.images.std(0)
    std = np.maximum(std, 0.05 * std.mean())  # features that are all but dead stay small
    padded = np.zeros((-(-n // 512) * 512, width), np.float32)  # few shapes to compile
    padded[:n] = (data.images - mean) / std
    expected = np.zeros((len(padded), OUTPUTS), np.float32)
    expected[:n] = _encode(problem, data.labels)
    steps = PROBE.length(n)
    start = np.random.default_rng(seed).normal(size=(width, OUTPUTS)).astype(np.float32)
    fitted = fit_linear(
        padded, expected, {"kernel": 0.01 * start, "bias": np.zeros(OUTPUTS, np.float32)},
        batches(n, PROBE.batch, steps, seed), schedule(lr, steps, PROBE.warmup),
        np.float32(PROBE.weight_decay), (_mask(problem), np.asarray(problem.regression)),
        loss=_loss,
    )  # fmt: skip
    kernel = np.asarray(fitted["kernel"]) / std[:, None]
    return {"kernel": kernel, "bias": np.asarray(fitted["bias"]) - mean @ kernel}


class Trainable(Protocol):
    """A model that prepared images are run through, and that is trained with another head."""

    @property
    def normal(self) -> Mapping[str, Any]:
        """Mean and std that images scaled to 0..1 are normalised by before the graph."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the penultimate features of prepared images."""

    def with_head(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[nnx.GraphDef[Any], Params]:
        """Return graph and parameters of the model with another head."""


# a stage, ready for a target: train on a part by a rate and a seed, return what predicts images
Train = Callable[[Part, float, int], Callable[[np.ndarray], np.ndarray]]


def probing(problem: Problem) -> Train:
    """A linear head on frozen features."""

    def run(data: Part, lr: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        head = fit_head(problem, data, lr, seed)
        return lambda features: features @ head["kernel"] + head["bias"]

    return run


def finetuning(network: Trainable, problem: Problem, stage: Stage, probe_rate: float) -> Train:
    """Full fine-tuning, from the head that the probe has on the same images."""
    constants = (_mask(problem), np.asarray(problem.regression))

    def run(data: Part, lr: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        frozen = Part(network.features(data.images), data.labels)
        head = fit_head(problem, frozen, probe_rate, seed)
        graphdef, start = network.with_head(head["kernel"], head["bias"])
        data_arrays = (data.images, _encode(problem, data.labels))
        params = optimise(
            graphdef, start, network.normal, data_arrays, loss=_network_loss, constants=constants,
            options=(stage.shift,), steps=stage.length(len(data.labels)),
            batch=stage.batch, lr=lr, warmup=stage.warmup, decay=stage.weight_decay, seed=seed,
        )  # fmt: skip
        return lambda images: forward(graphdef, params, network.normal, images)

    return run


def split_folds(part: Part, folds: int) -> list[tuple[Part, Part]]:
    """Cut into folds, class by class where there are classes; return each with all the others."""
    order = np.random.default_rng(0).permutation(len(part.labels))
    if part.labels.ndim == 1:
        order = order[np.argsort(part.labels[order], kind="stable")]
    fold = np.empty(len(order), int)
    fold[order] = np.arange(len(order)) % folds
    return [
        (
            Part(part.images[fold == f], part.labels[fold == f]),
            Part(part.images[fold != f], part.labels[fold != f]),
        )
        for f in range(folds)
    ]


def _steps_of_grid(stage: Stage) -> tuple[int, int, tuple[int, int]]:
    """Grid bounds and start as numbers of half decades."""
    least, most, *start = (
        round(2 * math.log10(rate)) for rate in (stage.least, stage.most, *stage.start)
    )
    return least, most, (start[0], start[1])


def rate_at(step: int) -> float:
    """Return the learning rate so many half decades from 1, as 1e-3, 3e-3, 1e-2, ..."""
    return round((3 if step % 2 else 1) * 10.0 ** (step // 2), 12)


def choose_rate(stage: Stage, train_part: Part, problem: Problem, train: Train) -> dict[str, Any]:
    """Walk the grid of rates; return the best, what each reached, and whether it lies inside."""
    pairs = split_folds(train_part, stage.folds)[: stage.splits(len(train_part.labels))]
    tried: dict[int, tuple[float, float]] = {}

    def try_out(step: int) -> None:
        scores = []
        for validation, rest in pairs:
            predict = train(rest, rate_at(step), 0)
            scores.append(judge(problem, predict(validation.images), validation.labels))
        values, losses = zip(*scores, strict=True)
        failed = None in values
        tried[step] = (
            (-math.inf, math.inf) if failed else (float(np.mean(values)), float(np.mean(losses)))
        )

    least, most, start = _steps_of_grid(stage)
    for step in start:
        try_out(step)
    while True:
        best = max(tried, key=lambda step: (tried[step][0], -tried[step][1]))
        missing = [s for s in (best + 1, best - 1) if s not in tried and least <= s <= most]
        if not missing:
            break
        try_out(missing[0])
    return {
        "lr": rate_at(best),
        "inside": least < best < most,
        "validation": {
            f"{rate_at(step):g}": None if value == -math.inf else [round(value, 5), round(loss, 5)]
            for step, (value, loss) in sorted(tried.items())
        },
    }


def run_stage(stage: Stage, cut: Cut, problem: Problem, train: Train) -> dict[str, Any]:
    """Choose a rate, train once per seed on the whole train part, score every test part."""
    begun = time.process_time()
    result = choose_rate(stage, cut.train, problem, train)
    parts = {"test": cut.test, "shifted": cut.shifted}
    scores: dict[str, list[Score]] = {name: [] for name, part in parts.items() if part is not None}
    for seed in range(stage.seeds):
        predict = train(cut.train, result["lr"], seed)
        for name, of_part in scores.items():
            part = parts[name]
            assert part is not None
            of_part.append(judge(problem, predict(part.images), part.labels))
    for name, of_part in scores.items():
        result[name] = [score.value for score in of_part]
        result[f"{name}_loss"] = [score.loss for score in of_part]
        values = [score.value for score in of_part if score.value is not None]
        if len(values) == len(of_part):
            result[f"{name}_mean"] = round(float(np.mean(values)), 5)
            result[f"{name}_std"] = round(float(np.std(values, ddof=1)), 5)
    result["steps"] = stage.length(len(cut.train.labels))
    result["images_trained_on"] = stage.batch * result["steps"]
    result["cpu_seconds"] = round(time.process_time() - begun, 1)
    return result


def measure(network: Trainable, cut: Cut, finetune: Stage | None) -> dict[str, dict[str, Any]]:
    """Measure one model on one target, by the probe and, given a stage, by fine-tuning."""
    cut, problem = cut.with_images(prepare), problem_of(cut)
    frozen = cut.with_images(network.features)
    probed = run_stage(PROBE, frozen, problem, probing(problem))
    if finetune is None:
        return {"probe": probed}
    train = finetuning(network, problem, finetune, probed["lr"])
    return {"finetune": run_stage(finetune, cut, problem, train), "probe": probed}
