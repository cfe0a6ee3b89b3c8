"""Pre-training without labels: how far an image is turned, and which two views are of one image."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxte.zoo.network import Params, normalise
from jaxte.zoo.sources import Part, Source
from jaxte.zoo.train import optimise

TURNS = ("0", "90", "180", "270")
PROJECTION = 64  # width of the head that contrastive learning compares; thrown away afterwards
_TEMPERATURE = 0.2
_SMALLEST = 0.5  # side of the smallest crop, of the image's


def turned(source: Source) -> Source:
    """Return the images in all four quarter turns, labelled by the turn; flips would mix them."""

    def part(images: np.ndarray) -> Part:
        all_turns = [np.rot90(images, quarter, (1, 2)) for quarter in range(4)]
        return Part(
            np.ascontiguousarray(np.concatenate(all_turns)),
            np.repeat(np.arange(4, dtype=np.int32), len(images)),
        )

    return Source(part(source.train.images), part(source.test.images), TURNS)


def _views(key: jax.Array, images: jax.Array) -> jax.Array:
    """Crop, resize, mirror, and change brightness, contrast and colour, each image by chance."""
    n, side = images.shape[:2]
    keys = jax.random.split(key, 6)
    scale = jax.random.uniform(keys[0], (n, 1), minval=_SMALLEST, maxval=1.0)
    start = jax.random.uniform(keys[1], (n, 2)) * (1 - scale) * side
    at = (jnp.arange(side) + 0.5) * scale - 0.5  # [n, side]

    def weights(offset: jax.Array) -> jax.Array:  # bilinear, [n, side, side]
        where = jnp.clip(at + offset[:, None], 0, side - 1)
        return jnp.maximum(0.0, 1.0 - jnp.abs(where[..., None] - jnp.arange(side)))

    rows, columns = weights(start[:, 0]), weights(start[:, 1])
    mirrored = jax.random.bernoulli(keys[2], 0.5, (n, 1, 1))
    columns = jnp.where(mirrored, columns[:, ::-1], columns)
    cut = jnp.einsum("nij,njkc->nikc", rows, images.astype(jnp.float32))
    cut = jnp.einsum("nlk,nikc->nilc", columns, cut)
    factor = jax.random.uniform(keys[3], (n, 1, 1, 3), minval=0.7, maxval=1.3)
    shift = jax.random.uniform(keys[4], (n, 1, 1, 1), minval=-40.0, maxval=40.0)
    grey = jax.random.bernoulli(keys[5], 0.2, (n, 1, 1, 1))
    coloured = jnp.where(grey, cut.mean(-1, keepdims=True), cut * factor)
    return jnp.clip(coloured + shift, 0, 255)


def _contrastive_loss(
    network: Any, key: jax.Array, data: tuple[jax.Array], normal: Any
) -> jax.Array:
    (images,) = data
    views = jnp.concatenate([_views(k, images) for k in jax.random.split(key)])
    outputs = network(normalise(views, *normal))
    unit = outputs / jnp.linalg.norm(outputs + 1e-6, axis=1, keepdims=True)
    alike = unit @ unit.T / _TEMPERATURE - 1e9 * jnp.eye(len(views))
    partner = jnp.roll(jnp.arange(len(views)), len(images))
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(alike, partner)
    return losses.mean()


def contrast(
    graphdef: nnx.GraphDef[Any], params: Params, normal: Any, images: np.ndarray, **settings: Any
) -> Params:
    """Train so that two views of one image have outputs more alike than those of two images."""
    return optimise(graphdef, params, normal, (images,), loss=_contrastive_loss, **settings)
