"""Make the zoo from original data: targets, pre-trained weights, measured accuracies.

Every artefact is a file of its own under the output directory, and what is finished and still
fits its specification is kept, so a build that was stopped goes on where it was::

    targets/<name>.npz, targets/<name>.json      images and card of a target
    weights/<name>.safetensors, cards/<name>.json  weights and card of a model
    accuracies.json                               recipes and every measured value
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.zoo.accuracy import Say, measure_model, recipes_as_data
from jaxte.zoo.artefacts import digest, read_card, versions, write_json
from jaxte.zoo.catalog import check_names, require
from jaxte.zoo.images import prepare
from jaxte.zoo.selfsupervised import turned
from jaxte.zoo.sources import Part, Source, concatenate, load_source
from jaxte.zoo.specs import (
    MIXTURE_CAP,
    MODELS,
    PRETRAIN_SHIFT,
    PRETRAIN_WARMUP,
    PRETRAIN_WEIGHT_DECAY,
    SOURCE_LICENCES,
    TARGET_DRAWINGS,
    TARGETS,
    FineTune,
    ModelSpec,
    Probe,
    TargetSpec,
)

STAGES = ("pretrain", "targets", "finetune", "probe")
Load = Callable[[str], Source]


# --- targets -------------------------------------------------------------------------------------


def _split_target(spec: TargetSpec, data_dir: Path | None, tfds: bool) -> tuple[Part, Part, Any]:
    """Cut a set into a train part of equal classes and a test part, both shuffled."""
    from jaxte.zoo.train import split_classes

    if spec.name == "drawings":
        source = load_source("quickdraw", data_dir, tfds=tfds, drawings=TARGET_DRAWINGS, tests=0)
        pool = source.train
    else:
        set_name = "fashion_mnist" if spec.name == "fashion" else spec.name
        source = load_source(set_name, data_dir, tfds=tfds)
        pool = source.test
    images = pool.images[..., 0] if pool.images.ndim == 4 else pool.images
    first, rest = split_classes(pool.labels, spec.train_per_class, seed=0)
    if spec.test_per_class is not None:
        rest = rest[split_classes(pool.labels[rest], spec.test_per_class, seed=1)[0]]
    parts = [Part(images[rows], pool.labels[rows].astype(np.int32)) for rows in (first, rest)]
    return parts[0], parts[1], source.class_names


def _build_target(
    spec: TargetSpec, out: Path, data_dir: Path | None, *, tfds: bool, resume: bool, say: Say
) -> None:
    path, card_path = (out / "targets" / f"{spec.name}.{kind}" for kind in ("npz", "json"))
    described = asdict(spec)
    if resume and read_card(card_path, path, described) is not None:
        say(f"target {spec.name}: kept")
        return
    train, test, class_names = _split_target(spec, data_dir, tfds)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        train_images=train.images, train_labels=train.labels,
        test_images=test.images, test_labels=test.labels,
    )  # fmt: skip
    write_json(
        card_path,
        {
            **described,
            "class_names": list(class_names),
            "train": len(train.labels),
            "test": len(test.labels),
            "image_shape": list(train.images.shape[1:]),
        },
    )
    say(f"target {spec.name}: {len(train.labels)} train, {len(test.labels)} test images")


# --- pre-training --------------------------------------------------------------------------------


def _head(part: Part, count: int | None) -> Part:
    """The first `count` of a part, dealt out of a fixed shuffle as files may be sorted by class."""
    if count is None or len(part.labels) <= count:
        return part
    rows = np.sort(np.random.default_rng(0).permutation(len(part.labels))[:count])
    return Part(part.images[rows], part.labels[rows])


def _mixture(spec: ModelSpec, load: Load) -> Source:
    """Put the sources of a model side by side, their classes one after the other."""
    parts: list[list[Part]] = [[], []]
    class_names: tuple[str, ...] = ()
    for name in spec.source:
        source = load(name)
        cap = MIXTURE_CAP if len(spec.source) > 1 else None
        for side, part in zip(parts, (_head(source.train, cap), source.test), strict=True):
            side.append(Part(prepare(part.images), part.labels + len(class_names)))
        class_names += source.class_names
    train, test = map(concatenate, parts)
    if spec.labels == "shuffled":
        order = np.random.default_rng(spec.seed).permutation(len(train.labels))
        train = Part(train.images, train.labels[order])
    whole = Source(train, test, class_names)
    return turned(whole) if spec.labels == "rotation" else whole


def _channel_moments(images: np.ndarray) -> dict[str, list[float]]:
    sample = images[:: max(1, len(images) // 10_000)].astype(np.float64) / 255
    return {
        "mean": [round(float(v), 4) for v in sample.mean((0, 1, 2))],
        "std": [round(float(v), 4) for v in sample.std((0, 1, 2))],
    }


def _limits(spec: ModelSpec) -> str:
    if not spec.source:
        return "Left at its random initialisation: a control, not a trained model."
    if spec.labels == "shuffled":
        return "Trained on shuffled labels: a control that has learned nothing about its classes."
    if spec.labels in ("rotation", "contrastive"):
        return "Trained without labels; 32x32 inputs only; no test of fairness."
    return "Far below the state of the art on its source; 32x32 inputs only; no test of fairness."


def _described(spec: ModelSpec) -> dict[str, Any]:
    """The part of a card that is the specification; a card that differs in it is out of date."""
    fields = asdict(spec)
    return {
        "name": fields.pop("name"),
        "architecture": fields.pop("family"),
        "width": fields.pop("width"),
        "source": list(fields.pop("source")),
        **fields,
    }


def _trained(spec: ModelSpec, graphdef: Any, params: Any, normal: Any, data: Part, say: Say) -> Any:
    from jaxte.zoo.selfsupervised import contrast
    from jaxte.zoo.train import train

    settings: dict[str, Any] = {
        "steps": spec.steps, "batch": spec.batch, "lr": spec.lr, "warmup": PRETRAIN_WARMUP,
        "decay": PRETRAIN_WEIGHT_DECAY, "seed": spec.seed,
        "progress": lambda line: say(f"{spec.name}: {line}"),
    }  # fmt: skip
    if spec.labels == "contrastive":
        return contrast(graphdef, params, normal, data.images, **settings)
    flip = "mnist" not in spec.source and spec.labels != "rotation"
    return train(graphdef, params, normal, data, shift=PRETRAIN_SHIFT, flip=flip, **settings)


def _pretrain(spec: ModelSpec, out: Path, load: Load, *, resume: bool, say: Say) -> None:
    from jaxte.zoo.network import fill, forward, initial, read_tensors, save_params, skeleton
    from jaxte.zoo.selfsupervised import PROJECTION
    from jaxte.zoo.train import score

    path = out / "weights" / f"{spec.name}.safetensors"
    card_path = out / "cards" / f"{spec.name}.json"
    described = _described(spec)
    before = read_card(card_path, path, described) if resume else None
    if before is not None and before["weights"]["sha256"] == digest(path):
        say(f"{spec.name}: weights kept")
        return
    start = time.perf_counter()
    source = _mixture(spec, load) if spec.source else None
    contrastive = spec.labels == "contrastive"
    classes = len(source.class_names) if source else 10
    classes = PROJECTION if contrastive else classes
    graphdef, params = initial(spec.family, spec.width, classes, spec.seed)
    normal = {"mean": [0.5] * 3, "std": [0.25] * 3}
    if source:
        normal = _channel_moments(source.train.images)
        params = _trained(spec, graphdef, params, normal, source.train, say)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_params(path, params)
    accuracy = None
    if source and not contrastive:  # of the weights as stored, in half precision
        graphdef, shapes = skeleton(spec.family, spec.width, classes)
        stored = fill(shapes, read_tensors(path), "", path)
        logits = forward(graphdef, stored, normal, source.test.images)
        accuracy = round(score(logits, source.test.labels).accuracy, 4)
    body = sum(leaf.size for leaf in jax.tree.leaves(skeleton(spec.family, spec.width, None)[1]))
    card = {
        **described,
        "parameters": int(body),
        "source_classes": classes,
        "source_train_images": len(source.train.labels) if source else 0,
        "source_test_accuracy": accuracy,
        "normalisation": normal,
        "weights": {"sha256": digest(path), "bytes": path.stat().st_size, "dtype": "float16"},
        "source_licence": [SOURCE_LICENCES[name] for name in spec.source],
        "licence": "Apache-2.0, as the rest of jaxte",
        "intended_use": "A candidate to rank by transferability metrics and to fine-tune on small "
        "images; a teaching and test object.",
        "limits": _limits(spec),
        "training_seconds": round(time.perf_counter() - start, 1),
        "versions": versions(),
    }
    write_json(card_path, card)
    say(f"{spec.name}: source accuracy {accuracy}, {card['training_seconds']} s")


def build(
    data_dir: Path | None,
    *,
    out: Path | None = None,
    models: Sequence[str] | None = None,
    stages: Sequence[str] = STAGES,
    tfds: bool = False,
    seeds: int = 3,
    progress: Callable[[str], None] | None = None,
    resume: bool = True,
    specs: Sequence[ModelSpec] = MODELS,
    target_specs: Sequence[TargetSpec] = TARGETS,
    finetune: FineTune | None = None,
    probe: Probe | None = None,
) -> None:
    """Make targets, weights and accuracies from the original data.

    What is finished and fits its specification, weights and target is kept. Read the result with
    the `root` argument of `jaxte.zoo.load` and its neighbours. The same files, versions and kind of
    machine give the same result to the bit; tensorflow-datasets keeps an order of its own, so what
    is cut from it are other images of the same sets.

    Args:
        data_dir: directory of original files, laid out as `jaxte.zoo.sources` says; with `tfds`,
            the directory of tensorflow-datasets, or None for its own.
        out: where to write, ./jaxte-zoo by default.
        models: names of the models to make, all by default.
        stages: which of "pretrain", "targets", "finetune", "probe" to run.
        tfds: read the sources by tensorflow-datasets.
        seeds: how many seeds each accuracy is measured with.
        progress: called with one line after each piece of work.
        resume: keep finished pieces; False makes all anew.
        specs: the models there are to choose from.
        target_specs: the targets.
        finetune: recipe of fine-tuning, the documented one by default.
        probe: recipe of the linear probe, the documented one by default.

    Raises:
        InputError: if a name is unknown, or a file is missing or damaged; the message names it.
        ImportError: if a package is missing.

    Examples:
        >>> from pathlib import Path
        >>> build(Path("data"), models=["mlp-mnist"], progress=print)  # doctest: +SKIP
    """
    require()
    out = Path("jaxte-zoo") if out is None else Path(out)
    data_dir = None if data_dir is None else Path(data_dir)
    say: Say = progress or (lambda line: None)
    by_name = {spec.name: spec for spec in specs}
    chosen = list(by_name) if models is None else list(models)
    check_names("model", chosen, by_name)
    check_names("stage", stages, STAGES)
    if seeds < 1:
        raise InputError(f"seeds is {seeds}: at least one is needed")

    @cache
    def load(name: str) -> Source:
        return load_source(name, data_dir, tfds=tfds)

    if "targets" in stages:
        for target_spec in target_specs:
            _build_target(target_spec, out, data_dir, tfds=tfds, resume=resume, say=say)
    if "pretrain" in stages:
        for name in chosen:
            _pretrain(by_name[name], out, load, resume=resume, say=say)
    recipes = recipes_as_data(finetune or FineTune(), probe or Probe())
    for stage, recipe in (("finetune", finetune or FineTune()), ("probe", probe or Probe())):
        if stage not in stages:
            continue
        for name in chosen:
            for target_spec in target_specs:
                measure_model(
                    by_name[name], out, stage, recipe, recipes,
                    target_name=target_spec.name, seeds=seeds, resume=resume, say=say,
                )  # fmt: skip
