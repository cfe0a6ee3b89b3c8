"""Trials of models that JAX can train: frozen features first, then folds of fine-tuning."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte import data as data_room
from jaxte.data import Dataset
from jaxte.errors import InputError
from jaxte.extraction.models import Model, as_model, fingerprint, resolve, settled
from jaxte.intake import disk
from jaxte.intake.lines import digest_arrays, key_of
from jaxte.race.engine import Rung
from jaxte.race.heads import Heads, fit_heads
from jaxte.race.steps import Recipe, Weights, flops, forward, join, split, train

__all__ = ["Start", "Trainer"]

_PROBE_FOLDS = 8  # of the heads on frozen features, which are cheap
_FORWARD = 1 / 3  # of a training step is what a forward pass costs
_FEWEST = 40  # examples that frozen features are judged on, however small the budget


class Start(NamedTuple):
    """Where a full fine-tuning may begin.

    Attributes:
        params: of the model, as `jaxte.extraction.as_model(model).params` has them.
        kernel: [d, C] of the head on the model's features.
        bias: [C].
        share: of the full fine-tuning that went into them, 0 for frozen features.
    """

    params: Any
    kernel: np.ndarray
    bias: np.ndarray
    share: float


class Trainer:
    """Makes the trials of a race, one model in memory at a time.

    Args:
        models: name -> what `as_model` takes, a specification for `resolve`, or a linen module
            and its variables as a pair.
        data: what `jaxte.data.load` takes.
        recipe: of the fine-tuning.
        budget: of the race; if it does not pay for a forward pass of every model over all
            examples, fewer are judged.
        seed: of the folds, and of the examples if not all are judged.
        directory: for the weights of the furthest runs; None keeps none.
        passes: forward passes that the first rung costs, further ones being made elsewhere.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        data: Any,
        recipe: Recipe,
        *,
        budget: float,
        seed: int = 0,
        directory: Path | None = None,
        passes: int = 1,
    ) -> None:
        recipe.check()
        self._models, self.recipe, self._seed = models, recipe, seed
        self._directory = directory
        self._loaded: tuple[str, Model, Any] | None = None
        self._heads: dict[str, Heads] = {}
        self._counted: dict[Any, float] = {}
        self._digests: dict[str, str] = {}
        dataset: Dataset = data_room.load(data)
        if dataset.task not in ("classification", "regression"):
            raise InputError(
                f"{dataset.name} is a {dataset.task} task: a race needs classes or numbers"
            )
        self._images = recipe.images(len(dataset))
        labels = digest_arrays({"labels": np.asarray(dataset.labels())})
        self.card = {"data": labels, "recipe": recipe._asdict()}
        self._first = passes * _FORWARD
        judged = math.floor(budget * self._images / self._first * (1 + 1e-9))
        if judged < len(dataset):
            judged = min(len(dataset), max(judged, _FEWEST, 4 * (dataset.num_classes or 1)))
            dataset = dataset if judged == len(dataset) else dataset.subset(judged, seed=seed)
        self.dataset, self.examples = dataset, len(dataset)
        if self.examples < 2 * max(recipe.folds, 2):
            raise InputError(f"{dataset.name} has {self.examples} examples: a race needs more")
        self._read_labels()
        self.rungs = self._make_rungs()

    def _read_labels(self) -> None:
        labels = np.asarray(self.dataset.labels())
        self.regression = self.dataset.task == "regression"
        if self.regression:
            numbers = labels.astype(np.float64).reshape(len(labels), -1)
            spread = numbers.std(0)
            if (spread == 0).any():
                raise InputError(
                    f"{self.dataset.name} has a target that is the same in every example"
                )
            self._targets = ((numbers - numbers.mean(0)) / spread).astype(np.float32)
        else:
            classes = self.dataset.num_classes or int(labels.max()) + 1
            self._targets = np.eye(classes, dtype=np.float32)[labels]
        self._fold = self._cut(self.recipe.folds)

    def _cut(self, folds: int) -> np.ndarray:
        """Fold of each example, class by class where there are classes."""
        order = np.random.default_rng(self._seed).permutation(self.examples)
        if not self.regression:
            order = order[np.argsort(self._targets[order].argmax(1), kind="stable")]
        fold = np.empty(self.examples, int)
        fold[order] = np.arange(self.examples) % min(folds, self.examples // 2)
        return fold

    def _make_rungs(self) -> tuple[Rung, ...]:
        """Frozen features, and then the folds of every stage, one after the other."""
        n, recipe = self.examples, self.recipe
        rungs = [Rung(0.0, self._first * n / self._images, np.arange(n))]
        self._runs: list[tuple[float, int]] = [(0.0, -1)]
        for stage in recipe.stages:
            for fold in range(int(self._fold.max()) + 1):
                rows = np.flatnonzero(self._fold == fold)
                price = stage * (1 - len(rows) / n) + _FORWARD * len(rows) / self._images
                rungs.append(Rung(stage, price * len(recipe.rates), rows))
                self._runs.append((stage, fold))
        return tuple(rungs)

    # --- models ------------------------------------------------------------------------------

    def load(self, name: str) -> tuple[Model, Any]:
        """A model and the examples as it takes them."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # before the next one is made
            entry = self._models[name]
            if isinstance(entry, str):
                model = resolve(entry, name=name)
            elif isinstance(entry, tuple):
                model = as_model(entry[0], variables=entry[1], name=name)
            else:
                model = as_model(entry, name=name)
            prepared = self.dataset.batches(self.examples, prepare=model.prepare)
            inputs, _ = next(iter(prepared))
            model = settled(model, jax.tree.map(lambda x: x[:2], inputs))
            if not model.traced:
                raise InputError(
                    f"JAX cannot trace {name}, so that it cannot train it: give trial="
                )
            self._loaded = (name, model, inputs)
        return self._loaded[1:]

    def costs(self) -> dict[str, float]:
        """Operations of a forward pass of each model, in proportion to which training costs.

        A model that cannot be read, whose trials will say why, costs as much as the others.
        """
        counted = {name: self._operations(name) for name in self._models}
        known = [count for count in counted.values() if count]
        usual = float(np.mean(known)) if known else 1.0
        return {name: count or usual for name, count in counted.items()}

    def _operations(self, name: str) -> float:
        """Operations of a forward pass; 0 where they cannot be counted."""
        try:
            model, inputs = self.load(name)
            shapes = [np.shape(x) for x in jax.tree.leaves(model.params)]
            shapes += [np.shape(x)[1:] for x in jax.tree.leaves(inputs)]
            kind = (model.apply, model.layers, *shapes)
            if kind not in self._counted:
                self._counted[kind] = flops(model, inputs)
            return self._counted[kind]
        except Exception:  # whatever a model raises
            return 0.0

    def describe(self, name: str, rung: int) -> str:
        """Digest of the model and its inputs."""
        if name not in self._digests:
            model, inputs = self.load(name)
            leaves = {str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(inputs))}
            self._digests[name] = fingerprint(model)[:16] + digest_arrays(leaves)[:16]
        return self._digests[name]

    # --- trials ------------------------------------------------------------------------------

    def __call__(self, name: str, rung: int, seed: int) -> np.ndarray:
        """Score of every example of a rung, larger is better."""
        stage, fold = self._runs[rung]
        if stage == 0:
            return self._probe(name)
        model, inputs = self.load(name)
        heads = self._fitted(name)
        body, rest, how = split(model)
        rows, others = self.rungs[rung].rows, np.flatnonzero(self._fold != fold)
        steps = max(
            1, round(stage * self._images * len(others) / self.examples / self.recipe.batch)
        )
        runs = train(
            model, Weights(body, heads.kernels[fold], heads.biases[fold]), rest, how, inputs,
            self._targets, others, self.recipe, self.recipe.rates, steps=steps,
            regression=self.regression, seed=seed + fold,
        )  # fmt: skip
        judged = jax.tree.map(lambda x: x[rows], inputs)
        results = []
        for weights in runs:
            outputs = forward(model, weights, rest, how, judged)[1]
            results.append(scores_of(outputs, self._targets[rows], self.regression))
        best = int(np.argmax([np.nan_to_num(result.mean(), nan=-np.inf) for result in results]))
        if self._directory is not None and np.isfinite(results[best]).all():
            self._save(name, rung, runs[best])
        return results[best]

    def _probe(self, name: str) -> np.ndarray:
        features = self._features(name)
        self._heads[name] = self._fit(features, self._fold)
        heads = self._fit(features, self._cut(_PROBE_FOLDS))
        return scores_of(heads.outputs, self._targets, self.regression)

    def _fit(self, features: np.ndarray, fold: np.ndarray) -> Heads:
        return fit_heads(features, self._targets, fold, regression=self.regression)

    def _fitted(self, name: str) -> Heads:
        """The heads that the folds begin with."""
        if name not in self._heads:  # the first rung was made before, in another process
            self._heads[name] = self._fit(self._features(name), self._fold)
        return self._heads[name]

    def _features(self, name: str) -> np.ndarray:
        model, inputs = self.load(name)
        body, rest, how = split(model)
        width = jax.eval_shape(
            lambda p, x: model.apply(p, x)[model.layers[0]],
            model.params, jax.tree.map(lambda x: x[:1], inputs),
        ).shape[-1]  # fmt: skip
        empty = np.zeros((width, self._targets.shape[1]), np.float32)
        features = forward(model, Weights(body, empty, empty[0]), rest, how, inputs)[0]
        if not np.isfinite(features).all():
            raise InputError("features that are not finite")
        return features

    # --- weights -----------------------------------------------------------------------------

    def _file(self, name: str, rung: int) -> Path:
        assert self._directory is not None
        return self._directory / "weights" / f"{key_of(name, self.examples)}-{rung}.npz"

    def _save(self, name: str, rung: int, weights: Weights) -> None:
        path = self._file(name, rung)
        path.parent.mkdir(parents=True, exist_ok=True)
        leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(weights)]
        content = io.BytesIO()
        np.savez(content, *leaves, allow_pickle=False)
        disk.replace(path, content.getbuffer())

    def start(self, name: str, reached: int) -> Start:
        """Where the full fine-tuning of a model may begin: at the furthest stage it reached."""
        model, _ = self.load(name)
        heads = self._fitted(name)
        body, rest, how = split(model)
        stage = self._runs[max(reached, 0)][0]
        files = [
            self._file(name, rung)
            for rung in range(1, reached + 1)
            if self._directory is not None and self._runs[rung][0] == stage
        ]
        files = [file for file in files if file.is_file()]
        if not files:
            return Start(model.params, heads.kernels[-1], heads.biases[-1], 0.0)
        runs = []
        for file in files:
            with np.load(file, allow_pickle=False) as archive:
                runs.append([archive[f"arr_{i}"] for i in range(len(archive.files))])
        *leaves, kernel, bias = (np.mean(same, axis=0) for same in zip(*runs, strict=True))
        leaves = [np.asarray(new, old.dtype) for new, old in zip(leaves, body, strict=True)]
        return Start(join(leaves, rest, how), kernel, bias, stage)


def scores_of(outputs: np.ndarray, targets: np.ndarray, regression: bool) -> np.ndarray:
    """Score of every example, whose mean is near the accuracy, or the coefficient R2.

    Of classes the probability of the right one, at the temperature that fits these outputs: in the
    units of accuracy, and less noisy.
    """
    outputs = np.asarray(outputs, np.float64)
    if regression:
        result: np.ndarray = 1 - ((outputs - targets) ** 2).mean(1)
        return result
    if not np.isfinite(outputs).all():
        return np.full(len(outputs), np.nan)
    right = targets.argmax(1)
    tried = [_log_softmax(outputs / t)[np.arange(len(right)), right] for t in _TEMPERATURES]
    likely: np.ndarray = np.exp(max(tried, key=np.mean))
    return likely


_TEMPERATURES: Sequence[float] = tuple(np.geomspace(0.3, 10, 25))


def _log_softmax(outputs: np.ndarray) -> np.ndarray:
    shifted = outputs - outputs.max(1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
