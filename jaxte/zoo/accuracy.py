"""Measure the accuracy of a model on a target, and keep the book of it, accuracies.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.zoo.artefacts import digest, read_json, versions, write_json
from jaxte.zoo.catalog import load_target
from jaxte.zoo.images import prepare
from jaxte.zoo.sources import Part
from jaxte.zoo.specs import FineTune, ModelSpec, Probe

Say = Callable[[str], None]


def recipes_as_data(finetune: FineTune, probe: Probe) -> dict[str, Any]:
    """Return both recipes as JSON has them."""
    recipes: dict[str, Any] = json.loads(
        json.dumps({"finetune": asdict(finetune), "probe": asdict(probe)})
    )
    return recipes


def _record(path: Path, recipes: Mapping[str, Any]) -> dict[str, Any]:
    """Read accuracies.json; a stage measured by another recipe is dropped from it."""
    record = read_json(path) if path.is_file() else {}
    for stage, recipe in recipes.items():
        if record.get("recipes", {}).get(stage) != recipe:
            for target in record.get("targets", {}).values():
                for entry in target["models"].values():
                    entry.pop(stage, None)
    return {
        "recipes": dict(recipes), "versions": versions(), "targets": record.get("targets", {})
    }  # fmt: skip


def _store(path: Path, recipes: Mapping[str, Any], keys: Sequence[str], measurement: Any) -> None:
    """Add one measurement, reading the file anew: a build of other models may run beside this."""
    from filelock import FileLock

    target, target_sha, model, weights_sha, stage = keys
    with FileLock(path.with_name(f".{path.name}.lock")):
        record = _record(path, recipes)
        of_target = record["targets"].setdefault(target, {})
        if of_target.get("sha256") != target_sha:
            of_target.clear()
            of_target.update(sha256=target_sha, models={})
        entry = of_target["models"].setdefault(model, {})
        if entry.get("weights_sha256") != weights_sha:
            entry.clear()
            entry["weights_sha256"] = weights_sha
        entry[stage] = measurement
        write_json(path, record)


def _measured(record: Any, keys: Sequence[str], seeds: int) -> bool:
    target, target_sha, model, weights_sha, stage = keys
    of_target = record["targets"].get(target, {})
    entry = of_target.get("models", {}).get(model, {})
    fits = of_target.get("sha256") == target_sha and entry.get("weights_sha256") == weights_sha
    return fits and len(entry.get(stage, {}).get("test", ())) == seeds


def measure_model(
    spec: ModelSpec,
    out: Path,
    stage: str,
    recipe: FineTune | Probe,
    recipes: Mapping[str, Any],
    *,
    target_name: str,
    seeds: int,
    resume: bool,
    say: Say,
) -> None:
    """Measure one model on one target by one stage, and add it to accuracies.json under `out`."""
    from jaxte.zoo.network import Network, read_tensors
    from jaxte.zoo.train import finetune, measure, probe

    path, where = out / "accuracies.json", out / "weights" / f"{spec.name}.safetensors"
    target_file = out / "targets" / f"{target_name}.npz"
    for needed in (where, target_file):
        if not needed.is_file():
            raise InputError(f"{needed} is missing: run the stages pretrain and targets first")
    keys = (target_name, digest(target_file), spec.name, digest(where), stage)
    if resume and _measured(_record(path, recipes), keys, seeds):
        say(f"{spec.name} on {target_name}: {stage} kept")
        return
    start = time.perf_counter()
    target = load_target(target_name, root=out)
    train_part = Part(prepare(target.train_images), target.train_labels)
    test_part = Part(prepare(target.test_images), target.test_labels)
    normal = read_json(out / "cards" / f"{spec.name}.json")["normalisation"]
    network = Network(spec.family, spec.width, read_tensors(where), normal, where)

    def run(data: Part, held_out: Part, lr: float, seed: int) -> Any:
        if isinstance(recipe, Probe):
            return probe(data, held_out, recipe=recipe, lr=lr, seed=seed)
        classes = len(target.class_names)
        graphdef, start = network.with_head(np.zeros((spec.width, classes)), np.zeros(classes))
        return finetune(graphdef, start, normal, data, held_out, recipe=recipe, lr=lr, seed=seed)

    if isinstance(recipe, Probe):
        train_part, test_part = (
            Part(network.features(part.images), part.labels) for part in (train_part, test_part)
        )
    measurement = measure(
        run, train_part, test_part, lrs=recipe.lrs, validation=recipe.validation, seeds=seeds
    )
    _store(path, recipes, keys, measurement)
    mean, took = np.mean(measurement["test"]), time.perf_counter() - start
    say(f"{spec.name} on {target_name}: {stage} {mean:.4f} at lr {measurement['lr']}, {took:.1f} s")
