"""Make the benchmark pool: pre-train its models, cut its targets, measure every pair.

Under the output directory::

    weights/<name>.safetensors, cards/<name>.json   models that do not ship, as jaxte.zoo.build's
    targets/<name>.npz, targets/<name>.json         images of a target; what it is
    accuracies.jsonl                                a line per model and target

A line carries a key of what it depends on (recipes, weights, images), so that a stopped build, also
a killed one, goes on with the next pair, and a result whose inputs changed is measured anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.intake.lines import append_line, digest_arrays, key_of, read_lines
from jaxte.zoo.artefacts import digest, read_card, read_json, versions, write_json
from jaxte.zoo.benchmark import records
from jaxte.zoo.benchmark.cuts import TARGETS, Cut, PoolTarget, cut_target
from jaxte.zoo.catalog import check_names, require
from jaxte.zoo.sources import Part
from jaxte.zoo.specs import MODELS, MORE_MODELS

STAGES = ("pretrain", "targets", "accuracies")
Say = Callable[[str], None]

_PARTS = ("train", "test", "shifted")


def _arrays(cut: Cut) -> dict[str, np.ndarray]:
    parts = {name: getattr(cut, name) for name in _PARTS}
    return {
        f"{name}_{kind}": getattr(part, kind)
        for name, part in parts.items()
        if part is not None
        for kind in ("images", "labels")
    }


def _build_target(spec: PoolTarget, out: Path, data_dir: Path | None, say: Say) -> None:
    path, card_path = (out / "targets" / f"{spec.name}.{kind}" for kind in ("npz", "json"))
    if read_card(card_path, path, asdict(spec)) is not None:
        return
    if data_dir is None:
        raise InputError(f"target {spec.name} is not in {out}: say where the original data is")
    cut = cut_target(spec.name, data_dir)
    arrays = _arrays(cut)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **arrays)
    counts = {name: len(arrays.get(f"{name}_labels", ())) for name in _PARTS}
    labels = cut.train.labels
    card = {
        **asdict(spec),
        **counts,
        "class_names": list(cut.class_names),
        "train_per_class": np.bincount(labels).tolist() if labels.ndim == 1 else None,
        "sha256_of_arrays": digest_arrays(arrays),
    }
    write_json(card_path, card)
    say(f"target {spec.name}: {counts['train']} train, {counts['test']} test images")


def load_cut(name: str, out: Path) -> Cut:
    """Read a target that was cut before."""
    path = out / "targets" / f"{name}.npz"
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    train, test, shifted = (
        Part(arrays[f"{part}_images"], arrays[f"{part}_labels"])
        if f"{part}_labels" in arrays
        else None
        for part in _PARTS
    )
    assert train is not None
    assert test is not None
    return Cut(train, test, shifted, tuple(read_json(path.with_suffix(".json"))["class_names"]))


def _measure(name: str, root: Path, target: str, out: Path, key: str) -> dict[str, Any]:
    from jaxte.zoo.benchmark.measure import FINETUNE, measure
    from jaxte.zoo.network import Network, read_tensors

    card, where = (
        read_json(root / "cards" / f"{name}.json"),
        root / "weights" / f"{name}.safetensors",
    )
    network = Network(
        card["architecture"], card["width"], read_tensors(where), card["normalisation"], where
    )
    measured = measure(network, load_cut(target, out), FINETUNE)
    made = {"versions": versions(), "device": jax.devices()[0].device_kind}
    return {"key": key, "model": name, "target": target, **measured, **made}


def key_of_pair(model: str, weights: str, target: str, images: str) -> str:
    """Return the key of a result: of both recipes, and of the digests of weights and images."""
    from jaxte.zoo.benchmark.measure import FINETUNE, PROBE

    recipes = {"finetune": asdict(FINETUNE), "probe": asdict(PROBE)}
    return key_of(recipes, model, weights, target, images)


def _pending(
    chosen: Sequence[str], target_names: Sequence[str], out: Path, results: Path
) -> list[tuple[str, Path, str, str]]:
    """Pairs not yet measured whose weights are there: targets in turn, over all models."""
    done = read_lines(results)
    roots = records.models(root=out)
    weights = {
        name: digest(roots[name] / "weights" / f"{name}.safetensors")
        for name in chosen
        if name in roots
    }
    pairs = []
    for target in target_names:
        images = read_json(out / "targets" / f"{target}.json")["sha256_of_arrays"]
        for name, sha in weights.items():
            key = key_of_pair(name, sha, target, images)
            if key not in done:
                pairs.append((name, roots[name], target, key))
    return pairs


def build(
    data_dir: Path | None,
    *,
    out: Path | None = None,
    models: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    stages: Sequence[str] = STAGES,
    results: Path | None = None,
    progress: Say | None = None,
) -> None:
    """Make the pool from the original data; what is there and fits is kept.

    Models whose weights ship are taken as they are. The accuracies go through the targets in turn
    and, of each, through all models; weights that another process adds meanwhile are taken up.
    Several processes may write to one file of results if each has targets or models of its own.

    Args:
        data_dir: directory of original files, laid out as `jaxte.zoo.sources` says; None if the
            targets are cut already.
        out: where to write, ./jaxte-zoo by default.
        models: names of models, all by default.
        targets: names of targets, all by default.
        stages: which of "pretrain", "targets", "accuracies" to run.
        results: the file of accuracies to go on with, accuracies.jsonl under `out` by default.
        progress: called with one line after each piece of work.

    Raises:
        InputError: if a name is unknown, or a file is missing or damaged; the message names it.
        ImportError: if a package is missing.

    Examples:
        >>> from pathlib import Path
        >>> build(Path("data"), targets=["mnist-100"], progress=print)  # doctest: +SKIP
    """
    from jaxte.zoo.build import build as build_zoo

    require()
    out = Path("jaxte-zoo") if out is None else Path(out)
    results = out / "accuracies.jsonl" if results is None else Path(results)
    say: Say = progress or (lambda line: None)
    every = [spec.name for spec in (*MODELS, *MORE_MODELS)]
    specs = {spec.name: spec for spec in TARGETS}
    chosen = every if models is None else list(models)
    target_names = list(specs) if targets is None else list(targets)
    check_names("model", chosen, every)
    check_names("target", target_names, specs)
    check_names("stage", stages, STAGES)
    if "targets" in stages:
        for name in target_names:
            _build_target(specs[name], out, data_dir, say)
    if "pretrain" in stages:
        shipped = records.models()
        missing = [name for name in chosen if name not in shipped]
        build_zoo(
            data_dir, out=out, models=missing, stages=("pretrain",), specs=MORE_MODELS,
            progress=progress,
        )  # fmt: skip
    if "accuracies" not in stages:
        return
    while pairs := _pending(chosen, target_names, out, results):
        name, root, target, key = pairs[0]
        begun = time.perf_counter()
        entry = _measure(name, root, target, out, key)
        append_line(results, entry)
        tuned, probed = entry["finetune"], entry["probe"]
        say(
            f"{name} on {target}: fine-tuned {tuned.get('test_mean')} at {tuned['lr']:g}, "
            f"probe {probed.get('test_mean')} at {probed['lr']:g}, "
            f"{time.perf_counter() - begun:.0f} s; {len(pairs) - 1} pairs left"
        )
