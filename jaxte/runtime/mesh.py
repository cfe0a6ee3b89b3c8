"""A pool on many devices: samples and models spread over a `jax.sharding.Mesh`.

The samples of each model are cut along the mesh axis "samples", the models of a bucket along the
axis "models". Moments are added up over the first with a psum, so every device goes on from the
moments of all samples. Where the mesh spans several processes (`jax.distributed`), each process
gives the rows that it holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxte.errors import InputError

MODELS, SAMPLES = "models", "samples"


class Layout(NamedTuple):
    """A mesh, and how many parts of each kind it makes."""

    mesh: Mesh
    models: int
    samples: int
    here: int  # of the parts of the samples, how many lie in this process

    @property
    def axis(self) -> str | None:
        """The axis over which samples are added up, if they are cut at all."""
        return SAMPLES if self.samples > 1 else None

    def spec(self, *axes: str | None) -> PartitionSpec:
        """A partition that leaves out axes which the mesh does not have."""
        return PartitionSpec(*(axis if axis in self.mesh.axis_names else None for axis in axes))

    def padded(self, rows: int) -> int:
        """Rows of this process, so many that every device gets as many as the others."""
        return math.ceil(rows / self.here) * self.here

    def place(self, array: np.ndarray, *axes: str | None) -> jax.Array:
        """What this process holds of an array, spread over the devices."""
        return jax.make_array_from_process_local_data(self.sharding(*axes), array)

    def sharding(self, *axes: str | None) -> NamedSharding:
        """Over the devices, by these axes."""
        return NamedSharding(self.mesh, self.spec(*axes))


def layout_of(mesh: Any) -> Layout:
    """Check a mesh and measure it; an `InputError` says how to make one that will do."""
    advice = f"jax.make_mesh((devices,), ({SAMPLES!r},)) is one"
    if not isinstance(mesh, Mesh):
        raise InputError(f"mesh is a {type(mesh).__name__}, not a jax.sharding.Mesh: {advice}")
    unknown = [str(name) for name in mesh.axis_names if name not in (MODELS, SAMPLES)]
    if unknown:
        raise InputError(
            f"mesh has an axis {unknown[0]!r}: its axes must be called {SAMPLES!r} and "
            f"{MODELS!r}, or one of them; {advice}"
        )
    whole, local = (dict(m.shape) for m in (mesh, mesh.local_mesh))
    if local.get(MODELS, 1) != whole.get(MODELS, 1):
        raise InputError(
            f"the axis {MODELS!r} of the mesh spans several processes: each process holds rows of "
            f"every model, so let only {SAMPLES!r} span them"
        )
    return Layout(mesh, whole.get(MODELS, 1), whole.get(SAMPLES, 1), local.get(SAMPLES, 1))


class Agreement(NamedTuple):
    """What all processes know of the models after asking each other."""

    rows: list[int]  # the most that any process holds of each model; 0 where it cannot be scored
    classes: dict[str, list[Any]]  # of each model that has them, those of all processes
    failed_on: list[int | None]  # the first process that cannot score a model


def sync_processes(
    names: Sequence[str],
    rows: Sequence[int],
    widths: Sequence[int],
    classes: Mapping[str, list[Any] | None],
) -> Agreement:
    """Bring the models of all processes together: rows, 0 for one that cannot be scored here.

    Every process must take the same steps, or all would wait for each other for ever.
    """
    everyone = gather([list(names), list(map(int, rows)), list(map(int, widths)), dict(classes)])
    if any(each[0] != list(names) for each in everyone):
        raise InputError("the processes name different models: give each the same, in one order")
    most, failed_on = [], []
    for index, name in enumerate(names):
        counts = [each[1][index] for each in everyone]
        seen = {each[2][index] for each in everyone if each[1][index]}
        if len(seen) > 1:
            raise InputError(f"{name} has features of different widths {seen} on the processes")
        failed_on.append(counts.index(0) if 0 in counts else None)
        most.append(0 if 0 in counts else max(counts))
    union: dict[str, list[Any]] = {}
    for name in names:
        sets = [set(each[3][name]) for each in everyone if each[3].get(name) is not None]
        if sets:
            union[name] = sorted(set.union(*sets))
    return Agreement(most, union, failed_on)


def gather(value: Any) -> list[Any]:
    """A value of each process, of what JSON knows, in their order."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.asarray(process_allgather(np.array([len(text)], np.int32))).reshape(-1)
    texts = process_allgather(np.pad(text, (0, int(lengths.max()) - len(text))))
    texts = np.asarray(texts).reshape(len(lengths), -1)
    return [json.loads(each[:n].tobytes()) for each, n in zip(texts, lengths, strict=True)]
