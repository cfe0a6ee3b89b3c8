"""The second pool: encoders that were trained on ImageNet and CIFAR-10, on the benchmark's targets.

Of `jaxte zoo build --pool benchmark --stages targets --out DIR` the targets, of `jaxte zoo convert`
the encoders::

    python -m benchmarks encoders --built DIR --encoders DIR --finetune emoji-9 cats-dogs

measures a linear probe of every encoder on every target, fine-tunes all parameters on those that
are named, and then scores them all. What is there already is left as it is, so that a run that was
stopped goes on. ``python -m benchmarks proof --pool encoders`` compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from flax import nnx

from benchmarks import proof
from benchmarks.settings import say
from jaxte.baselines import num_parameters
from jaxte.intake.lines import append_line, key_of, read_lines
from jaxte.zoo import benchmark, encoders
from jaxte.zoo.artefacts import digest, versions
from jaxte.zoo.benchmark.build import load_cut
from jaxte.zoo.benchmark.measure import FINETUNE, PROBE, measure
from jaxte.zoo.encoders.modules import Encoder
from jaxte.zoo.network import Params, forward

# a step costs 10 to 50 times one of the pool's own models, and rates are lower without a norm
RECIPE = replace(
    FINETUNE, epochs=10, fewest=100, steps=200, start=(1e-4, 3e-4), judged=100, seeds=3
)
METRICS = (  # the others take minutes a model where features are wide
    "ridge_probe", "logme", "sfda", "face", "hscore", "parc", "ncti", "knn", "lda", "qda", "gbc",
    "transrate", "nearest_class_mean", "etran", "tmi", "lfc", "leep", "nce", "energy",
)  # fmt: skip


@dataclass(frozen=True)
class TrainableEncoder:
    """An encoder as `measure` trains it."""

    encoder: Encoder
    # encoders take pixel values, which are scaled to 0..1 before
    normal: ClassVar[Mapping[str, Any]] = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return what the head is put on, of prepared images."""
        body = nnx.clone(self.encoder)
        body.head = None
        return forward(*nnx.split(body), self.normal, images)

    def with_head(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[nnx.GraphDef[Any], Params]:
        """Return graph and parameters of the encoder with another head."""
        model = nnx.clone(self.encoder)
        model.head = nnx.data(nnx.Linear(*kernel.shape, rngs=nnx.Rngs(0)))  # it may have none
        graphdef, params = nnx.split(model)
        nnx.replace_by_pure_dict(params, {"head": {"kernel": kernel, "bias": bias}})
        return graphdef, params


def loaded(root: Path, size: int) -> dict[str, Encoder]:
    """All encoders of a folder, for images of so many pixels but no more than trained at."""
    return {
        name: encoders.load(name, root=root, size=min(size, encoders.SPECS[name].size))
        for name in encoders.names(root=root)
    }


def measure_all(built: Path, root: Path, results: Path, size: int, finetune: Sequence[str]) -> None:
    """Add a line for each encoder and target to a file of results, those to fine-tune first."""
    cards, models, done = benchmark.targets(), loaded(root, size), read_lines(results)
    weights = {name: digest(root / "weights" / f"{name}.safetensors") for name in models}
    for target in [*finetune, *(name for name in cards if name not in finetune)]:
        recipe = RECIPE if target in finetune else None
        for name, encoder in models.items():
            what = [name, weights[name], encoder.size, target, cards[target]["sha256_of_arrays"]]
            probed = key_of(*what, asdict(PROBE))
            tuned = key_of(*what, asdict(PROBE), asdict(RECIPE))
            if tuned in done or (recipe is None and probed in done):
                continue
            measured = measure(TrainableEncoder(encoder), load_cut(target, built), recipe)
            key = tuned if recipe else probed
            about = {"key": key, "model": name, "target": target, "size": encoder.size}
            append_line(results, {**about, **measured, "versions": versions()})
            reached = (f"{stage} {one.get('test_mean')}" for stage, one in measured.items())
            say(f"{name} on {target}: {', '.join(reached)}")


def score_all(built: Path, root: Path, path: Path, size: int) -> None:
    """Score every encoder on the training images of every target; what the file has is kept."""
    table, models = proof.read(path), loaded(root, size)
    for target in benchmark.targets():
        if set(models) <= set(table.get(target, {}).get("width", {})):
            continue
        train = load_cut(target, built).train
        pool = {n: layers_of(one, train.images, train.labels) for n, one in models.items()}
        table[target] = proof.scores_of(pool, train.labels, METRICS)
        table[target]["parameters"] = {
            name: float(num_parameters(nnx.state(encoder, nnx.Param)))
            for name, encoder in models.items()
        }
        proof.write(path, table)
        say(f"{target} scored")


def layers_of(encoder: Encoder, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What the head is put on, the means of all blocks, and logits where there is a head."""
    blocks = [f"blocks/{number}" for number in range(len(encoder.blocks))]
    store = proof.extracted(encoder, images, labels, [*blocks, "penultimate"])
    layers = {layer: np.asarray(store[layer].features()) for layer in store.layers}
    made: dict[str, Any] = {"features": layers["penultimate"], "layers": layers}
    if store.logits is not None:
        made["logits"] = np.asarray(store.logits)
    return made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m benchmarks encoders``."""
    parser.add_argument("--built", type=Path, required=True, help="with the folder targets")
    parser.add_argument("--encoders", type=Path, required=True, help="as convert wrote them")
    parser.add_argument("--size", type=int, default=64, help="pixels; no more than trained at")
    parser.add_argument("--finetune", nargs="*", default=(), metavar="TARGET")
    parser.add_argument("--results", type=Path, default=proof.POOLS["encoders"].accuracies)
    parser.add_argument("--scores", type=Path, default=proof.POOLS["encoders"].scores)


def run(options: argparse.Namespace) -> int:
    """Measure and score what is missing."""
    built, root, size = options.built, options.encoders, options.size
    measure_all(built, root, options.results, size, options.finetune)
    score_all(built, root, options.scores, size)
    return 0
