"""Encoders by name: which there are, and those that were converted."""

from __future__ import annotations

from pathlib import Path

from flax import nnx

from jaxte.errors import InputError
from jaxte.zoo.catalog import check_names
from jaxte.zoo.encoders.families import FAMILIES
from jaxte.zoo.encoders.modules import Encoder
from jaxte.zoo.encoders.specs import SPECS, Spec
from jaxte.zoo.network import fill, read_tensors

OUT = Path("jaxte-encoders")


def spec_of(name: str) -> Spec:
    """Return what is known of an encoder.

    Raises:
        InputError: if there is none of the name.
    """
    check_names("encoder", [name], SPECS)
    return SPECS[name]


def build(spec: Spec) -> Encoder:
    """Make an encoder whose parameters are 0."""
    blocks, hidden = FAMILIES[spec.family](**spec.settings)
    return Encoder(
        blocks, hidden, spec.classes, size=spec.size, mean=spec.mean, std=spec.std, flip=spec.flip
    )


def load(name: str, *, root: str | Path = OUT, size: int | None = None) -> Encoder:
    """Load a converted encoder, an nnx module that `jaxte.extract` takes.

    It takes uint8 images of any size, and resizes and normalises them itself.

    Args:
        name: one of `names()`.
        root: directory that `convert` wrote to.
        size: pixels of a side that images are resized to; by default those of its training. Time
            grows with its square.

    Raises:
        InputError: if there is no encoder of the name, it was not converted, or the size is no
            positive number.
    """
    spec = spec_of(name)
    path = Path(root) / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path} is not there: unpack {spec.package} {spec.version} of {spec.registry} in a "
            f"folder DIR, then jaxte zoo convert {name} --from DIR --out {root}"
        )
    if size is not None and size < 1:
        raise InputError(f"size is {size}: give the pixels of a side, 1 or more")
    encoder = build(spec)
    graphdef, params = nnx.split(encoder)
    loaded: Encoder = nnx.merge(graphdef, fill(params, read_tensors(path), "", path))
    loaded.size, loaded.name = spec.size if size is None else size, name
    return loaded
