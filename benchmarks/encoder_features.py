"""Features of the benchmark's targets by encoders that were trained on ImageNet and CIFAR-10.

Of `jaxte zoo build --pool benchmark --stages targets --out DIR` the targets, of `jaxte zoo convert`
the encoders::

    python -m benchmarks.encoder_features --targets DIR/targets --encoders DIR --out DIR --size 64

writes TARGET__ENCODER.npz with train_features, train_logits and train_labels. What is there already
is left as it is, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.settings import say
from jaxte.extraction import as_model
from jaxte.zoo import encoders
from jaxte.zoo.artefacts import read_json

BATCH = 50  # one shape, so that every encoder compiles once for grey and once for coloured images


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is missing; returns the exit status."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    cards = {path.stem: read_json(path) for path in sorted(options.targets.glob("*.json"))}
    chosen = [name for name, card in cards.items() if card["task"] == "classification"]
    for name in options.only or encoders.names(root=options.encoders):
        todo = [one for one in chosen if not (options.out / f"{one}__{name}.npz").is_file()]
        if not todo:
            continue
        trained = encoders.SPECS[name].size
        encoder = encoders.load(name, root=options.encoders, size=min(options.size, trained))
        model = as_model(encoder, layers="penultimate", name=name)
        apply = jax.jit(model.apply)
        for target in todo:
            with np.load(options.targets / f"{target}.npz") as archive:
                parts = {key: archive[key] for key in archive.files}
            content = {"size": np.asarray(encoder.size)}
            for part in options.parts:
                outputs = list(_outputs(apply, model.params, parts[f"{part}_images"]))
                for key, stored in (("penultimate", "features"), ("logits", "logits")):
                    if key in outputs[0]:
                        content[f"{part}_{stored}"] = np.concatenate([one[key] for one in outputs])
                content[f"{part}_labels"] = parts[f"{part}_labels"]
            _replace(options.out / f"{target}__{name}.npz", content)
            say(f"{target} {name} {encoder.size}")
    return 0


def _outputs(apply: Any, params: Any, images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """The layers of images, a batch after another, the last one filled up with zeros."""
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        padded = np.zeros((BATCH, *images.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        yield {key: np.asarray(x)[: len(batch)] for key, x in apply(params, padded).items()}


def _replace(path: Path, content: dict[str, np.ndarray]) -> None:
    """Write a file in one step, so that a stopped run leaves no half of one."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **content)  # type: ignore[arg-type]  # names are of files, not of options
    part.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder_features")
    parser.add_argument("--targets", type=Path, required=True, help="directory of the targets")
    parser.add_argument("--encoders", type=Path, required=True, help="as convert wrote them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64, help="pixels; no more than trained at")
    parser.add_argument("--only", nargs="*", help="names of encoders; all by default")
    parser.add_argument(
        "--parts", nargs="*", default=["train"], choices=["train", "test", "shifted"]
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
