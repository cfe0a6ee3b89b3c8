"""What ships with the package: models, target sets and accuracies, read from data files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxte import _optional as optional
from jaxte.errors import InputError, did_you_mean
from jaxte.runtime.threads import cores
from jaxte.zoo.artefacts import read_json
from jaxte.zoo.images import prepare

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Target:
    """A small labelled set, uint8 images, split into a train part (scored) and a test part."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str
    licence: str
    card: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy of one model on one target: mean and standard deviation over seeds.

    `finetune` and `probe` hold the value of each seed, the deviation has n - 1 below.
    """

    finetune_mean: float
    finetune_std: float
    probe_mean: float
    probe_std: float
    seeds: tuple[int, ...]
    finetune: tuple[float, ...] = field(repr=False)
    probe: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class ZooModel:
    """A pre-trained classifier without its head: images in, penultimate features out."""

    name: str
    card: Mapping[str, Any] = field(repr=False)
    _graphdef: Any = field(repr=False)
    _params: Any = field(repr=False)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the penultimate features, float32 [n, width].

        Batches have one shape, the last is padded, and models of one architecture share one
        compilation. A row does not depend on the rows beside it.

        Args:
            images: uint8 [n, h, w] or [n, h, w, c] with 1 or 3 channels; other sizes than 32x32
                are padded or resized as `jaxte.zoo.images.prepare` says.

        Raises:
            InputError: if the images have another dtype or shape.

        Examples:
            >>> from jaxte import zoo
            >>> zoo.load("mlp-mnist").features(zoo.load_target("digits").test_images[:5]).shape
            (5, 256)
        """
        from jaxte.zoo.network import forward

        return forward(self._graphdef, self._params, self.card["normalisation"], prepare(images))


def require() -> None:
    """Import what the models need, or say in one line what to install."""
    for module in ("flax.nnx", "optax", "safetensors"):
        optional.require(module, "the zoo", "zoo")


def check_names(kind: str, chosen: Iterable[str], names: Collection[str]) -> None:
    """Raise `InputError`, with those of similar spelling, for a name that is none of these."""
    for name in (one for one in chosen if one not in names):
        hint, known = did_you_mean(name, names), ", ".join(names) or "none"
        raise InputError(f"no zoo {kind} named {name!r}: {hint}The zoo has {known}")


def _stems(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def names(*, root: Path | None = None) -> tuple[str, ...]:
    """Return the names of the models, sorted.

    Args:
        root: a directory written by `jaxte.zoo.build.build`; the package's own by default.

    Examples:
        >>> from jaxte import zoo
        >>> "resnet-cifar" in zoo.names()
        True
    """
    return _stems((root or PACKAGE) / "cards")


def load(name: str, *, root: Path | None = None) -> ZooModel:
    """Load one model; `ZooModel.card` says what it is and what it was trained on.

    Args:
        name: one of `names()`.
        root: as in `names`.

    Raises:
        InputError: if there is no such model, or its file is damaged.
        ImportError: if Flax, Optax or safetensors is missing.

    Examples:
        >>> from jaxte import zoo
        >>> zoo.load("mlp-mnist").card["source"]
        ['mnist']
    """
    root = root or PACKAGE
    check_names("model", [name], names(root=root))
    require()
    from jaxte.zoo.network import fill, read_tensors, skeleton

    card = read_json(root / "cards" / f"{name}.json")
    path = root / "weights" / f"{name}.safetensors"
    graphdef, shapes = skeleton(card["architecture"], card["width"], None)
    return ZooModel(name, card, graphdef, fill(shapes, read_tensors(path), "body/", path))


def targets(*, root: Path | None = None) -> tuple[str, ...]:
    """Return the names of the target sets, sorted.

    Examples:
        >>> from jaxte import zoo
        >>> zoo.targets()
        ('digits', 'drawings', 'fashion')
    """
    return _stems((root or PACKAGE) / "targets")


def load_target(name: str, *, root: Path | None = None) -> Target:
    """Load one target set: uint8 images, int32 labels, train and test part.

    Raises:
        InputError: if there is no such target, or its file is damaged.

    Examples:
        >>> from jaxte import zoo
        >>> zoo.load_target("digits").train_images.shape
        (500, 8, 8)
    """
    folder = (root or PACKAGE) / "targets"
    check_names("target", [name], targets(root=root))
    card = read_json(folder / f"{name}.json")
    path = folder / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            parts = {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): build the zoo again") from error
    classes, source, licence = tuple(card["class_names"]), card["source"], card["licence"]
    return Target(name, **parts, class_names=classes, source=source, licence=licence, card=card)


def accuracies(target: str, *, root: Path | None = None) -> dict[str, Accuracy]:
    """Return the measured accuracy of every model on a target, by model name.

    Full fine-tuning and a linear probe, on the target's test part, as recorded in accuracies.json
    with their recipes.

    Raises:
        InputError: if there is no such target or nothing was measured on it.

    Examples:
        >>> from jaxte import zoo
        >>> 0 < zoo.accuracies("digits")["resnet-cifar"].finetune_mean <= 1
        True
    """
    record = read_json((root or PACKAGE) / "accuracies.json")["targets"]
    check_names("target with accuracies", [target], sorted(record))
    result = {}
    for name, entry in sorted(record[target]["models"].items()):
        if not {"finetune", "probe"} <= entry.keys():
            raise InputError(
                f"{name} on {target} lacks a fine-tuning or a probe: run both stages of the build"
            )
        tuned, probed = (tuple(entry[stage]["test"]) for stage in ("finetune", "probe"))
        means = [float(np.mean(values)) for values in (tuned, probed)]
        stds = [float(np.std(x, ddof=1)) if len(x) > 1 else 0.0 for x in (tuned, probed)]
        seeds = tuple(range(len(tuned)))
        result[name] = Accuracy(means[0], stds[0], means[1], stds[1], seeds, tuned, probed)
    return result


def extract_all(
    target_names: Sequence[str] | None = None,
    model_names: Sequence[str] | None = None,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    root: Path | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Return the train features of many models on many targets, by target and then by model.

    Architectures are compiled and run by a few threads at once, as XLA compiles outside the lock
    of the interpreter; models of one architecture follow each other and share its compilation.

    Args:
        target_names: targets, all by default.
        model_names: models, all by default.
        progress: called as progress(done, total, label) after each model.
        root: as in `names`.

    Raises:
        InputError: if there is no model or target of a name.
        ImportError: if Flax, Optax or safetensors is missing.

    Examples:
        >>> from jaxte import zoo
        >>> zoo.extract_all(["digits"], ["mlp-mnist"])["digits"]["mlp-mnist"].shape
        (500, 256)
    """
    model_names = tuple(names(root=root) if model_names is None else model_names)
    target_names = tuple(targets(root=root) if target_names is None else target_names)
    images = {name: load_target(name, root=root).train_images for name in target_names}
    groups: dict[tuple[str, int], list[ZooModel]] = {}
    for name in model_names:
        model = load(name, root=root)
        key = (model.card["architecture"], model.card["width"])
        groups.setdefault(key, []).append(model)

    def run(models: list[ZooModel]) -> dict[str, dict[str, np.ndarray]]:
        return {m.name: {t: m.features(images[t]) for t in target_names} for m in models}

    features: dict[str, dict[str, np.ndarray]] = {}
    with ThreadPoolExecutor(max_workers=min(4, cores())) as pool:
        for job in as_completed([pool.submit(run, models) for models in groups.values()]):
            for name, by_target in job.result().items():
                features[name] = by_target
                if progress is not None:
                    progress(len(features), len(model_names), name)
    return {
        target: {name: features[name][target] for name in model_names} for target in target_names
    }
