"""Rows of models of one shape as programs read them: padded, stacked, spread over a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.intake.outputs import SourceOutputs
from jaxte.ranking.inputs import Candidate
from jaxte.ranking.plan import Form, Values
from jaxte.runtime.devices import is_placed
from jaxte.runtime.mesh import MODELS, SAMPLES, Layout
from jaxte.runtime.programs import Program
from jaxte.statistics import Sample

if TYPE_CHECKING:
    from jaxte.ranking.buckets import Bucket

__all__ = [
    "assembly_of",
    "on_device",
    "sent",
    "stacked",
    "transferred",
    "values_of",
    "values_on_mesh",
]

# Entries of features in a bucket up to which a CPU gains more by compiling in haste than it loses.
_LITTLE = 1e8


def values_of(
    bucket: Bucket, members: Sequence[Candidate], features: Any, platform: str
) -> tuple[Values, Form]:
    """What the programs for members of one shape read, and their form."""
    first, several = members[0], len(members) > 1
    one_target = all(m.targets is first.targets for m in members)
    one_weight = all(m.weights is first.weights for m in members)
    targets = first.targets if one_target else np.stack([m.targets for m in members])
    weights = first.weights if one_weight else np.stack([np.asarray(m.weights) for m in members])
    source = first.source
    if several:
        source = jax.tree.map(lambda *own: np.stack(own), *(m.source for m in members))
    widths = _widths(members) if several else _widths(members)[0]
    volume = bucket.rows * bucket.width * len(bucket.members)
    form = Form(several, one_target, one_weight, volume < _LITTLE, platform)
    sample = Sample(features, np.asarray(targets), weights, widths, source)
    return {"sample": sample}, form


def _widths(members: Sequence[Candidate]) -> np.ndarray:
    return np.array([np.shape(m.features)[1] for m in members])


def values_on_mesh(
    layout: Layout, members: Sequence[Candidate], bucket: Bucket, platform: str
) -> tuple[Values, Form]:
    """As `values_of`: samples and models spread over the devices, missing rows of weight 0."""

    def long(array: Any, dtype: Any = None) -> np.ndarray:
        array = np.asarray(array, dtype)
        return np.pad(array, [(0, bucket.rows - len(array))] + [(0, 0)] * (array.ndim - 1))

    dtype = jnp.zeros(()).dtype
    weights = [
        long(np.ones(len(m.features)) if m.weights is None else m.weights, dtype) for m in members
    ]
    first = long(members[0].targets)
    # what is one object in one process may be several in another, and all must compile alike
    alone = jax.process_count() == 1
    one_target = alone and all(m.targets is members[0].targets for m in members)
    targets = first if one_target else np.stack([long(m.targets) for m in members])
    source = jax.tree.map(
        lambda *own: layout.place(np.stack([long(one, dtype) for one in own]), MODELS, SAMPLES),
        *(m.source for m in members),
    )
    sample = Sample(
        _spread(layout, members, bucket, dtype),
        layout.place(targets, *(() if one_target else (MODELS,)), SAMPLES),
        layout.place(np.stack(weights), MODELS, SAMPLES),
        layout.place(_widths(members), MODELS),
        source,
    )
    return {"sample": sample}, Form(True, one_target, one_weight=False, platform=platform)


def _spread(
    layout: Layout, members: Sequence[Candidate], bucket: Bucket, dtype: np.dtype[Any]
) -> jax.Array:
    """Features as `stacked`, spread over the mesh; what lies on devices goes from one to another.

    Of several processes each gives its own rows.
    """
    if jax.process_count() > 1 or not any(is_placed(m.features) for m in members):
        features = np.zeros((len(members), bucket.rows, bucket.width), dtype)
        for row, member in zip(features, members, strict=True):
            n, d = np.shape(member.features)
            row[:n, :d] = np.asarray(member.features)
        return layout.place(features, MODELS, SAMPLES)
    spread = []
    for member in members:
        n, d = np.shape(member.features)
        x = jnp.asarray(member.features).astype(dtype)
        x = jnp.pad(x, ((0, bucket.rows - n), (0, bucket.width - d)))
        spread.append(jax.device_put(x, layout.sharding(SAMPLES)))
    return jax.device_put(jnp.stack(spread), layout.sharding(MODELS, SAMPLES))


def stacked(members: Sequence[Candidate], bucket: Bucket) -> Any:
    """Features of different widths as one array [m, n, width], zeros to the right, on the host."""
    dtype, width = transferred(bucket), bucket.width
    if len(members) == 1 and members[0].features.shape[1] == width:
        return np.asarray(members[0].features, dtype)[None]
    out = np.empty((len(members), np.shape(members[0].features)[0], width), dtype)
    for row, member in zip(out, members, strict=True):
        d = np.shape(member.features)[1]
        row[:, :d] = np.asarray(member.features)
        row[:, d:] = 0
    return out


def on_device(members: Sequence[Candidate], bucket: Bucket) -> jax.Array:
    """As `stacked`, of several models or of one, put together on the device.

    What is there stays there; what is on the host goes over in its own type, without waiting.
    """
    own = {id(m): m.features for m in members}  # the last may be copies
    there = {key: x if is_placed(x) else jax.device_put(np.asarray(x)) for key, x in own.items()}
    made: jax.Array = _assembly(bucket.width, transferred(bucket))([there[id(m)] for m in members])
    return made


def sent(source: SourceOutputs | None) -> Any:
    """Outputs of heads on the device, once for all programs; of types that JAX has."""

    def put(x: Any) -> Any:
        return jax.device_put(x) if jax.dtypes.canonicalize_dtype(x.dtype) == x.dtype else x

    return jax.tree.map(put, source)


def assembly_of(
    members: Sequence[Candidate], bucket: Bucket
) -> tuple[Program, list[jax.ShapeDtypeStruct]]:
    """The program that puts features together, and what it takes those of the host as."""
    types = [jax.dtypes.canonicalize_dtype(m.features.dtype) for m in members]
    shapes = [np.shape(m.features) for m in members]
    like = [jax.ShapeDtypeStruct(*one) for one in zip(shapes, types, strict=True)]
    return _assembly(bucket.width, transferred(bucket)), like


@lru_cache(maxsize=512)
def _assembly(width: int, dtype: np.dtype[Any]) -> Program:
    def assembled(arrays: Sequence[jax.Array]) -> jax.Array:
        padded = [jnp.pad(x.astype(dtype), ((0, 0), (0, width - x.shape[1]))) for x in arrays]
        return padded[0] if len(padded) == 1 else jnp.stack(padded)

    return Program(assembled)


def transferred(bucket: Bucket) -> np.dtype[Any]:
    """The type of stacked features: their own if they share a short one, else the working one.

    The device widens them, from half the bytes; all of a bucket are alike, to compile once.
    """
    types = {np.dtype(m.features.dtype) for m in bucket.members}
    dtype = types.pop()
    short = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 4
    return dtype if short and not types else jnp.zeros(()).dtype
