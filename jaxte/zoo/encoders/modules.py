"""What the encoders are built of: convolutions, blocks of them, and images in.

Every batch normalisation is folded into the kernel and bias of the layer before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.zoo.layers import convolve_shifts

_ACTIVATIONS = {"none": lambda x: x, "relu": nnx.relu, "relu6": nnx.relu6}


class Conv(nnx.Module):
    """Square convolution, bias and activation; parameters start at 0, as they are read from files.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: side of the kernel.
        stride: steps between outputs.
        act: one of none, relu, relu6.
        same: pads as TensorFlow's SAME does, which depends on the size of the maps; else by half
            the kernel on every side.
        separate: whether each channel is convolved by itself.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, act: str = "none",
        same: bool = False, separate: bool = False,
    ):  # fmt: skip
        self.kernel = nnx.Param(jnp.zeros((kernel, kernel, 1 if separate else inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride, self.act, self.same, self.separate = stride, act, same, separate

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, strides = self.kernel[...], (self.stride, self.stride)
        size: Sequence[int] = kernel.shape[:2]
        padding = [(side // 2, side // 2) for side in size]
        if self.same:
            padding = jax.lax.padtype_to_pads(x.shape[1:3], size, strides, "SAME")
        if self.separate:
            y = convolve_shifts(x, kernel[:, :, 0], self.stride, padding)
        elif min(x.shape[1:3]) < size[0]:
            y = convolve_shifts(x, kernel, self.stride, padding)
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            y = jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)
        return _ACTIVATIONS[self.act](y + self.bias[...])


class Block(nnx.Module):
    """Convolutions one after another and, if `skip` is true, what went in added to their output.

    What went in passes `shortcut` first, if there is one; `act` comes after the sum.
    """

    def __init__(
        self, convs: Sequence[Conv], *, skip: bool, shortcut: Conv | None = None, act: str = "none"
    ):
        self.convs = nnx.List(convs)
        self.shortcut = shortcut
        self.skip, self.act = skip, act

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for conv in self.convs:
            y = conv(y)
        if self.skip:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return _ACTIVATIONS[self.act](y)


class MaxPool(nnx.Module):
    """Maximum over windows in steps of 2, outside of the maps nothing."""

    def __init__(self, window: int, pad: int = 0):
        self.window, self.pad = window, pad

    def __call__(self, x: jax.Array) -> jax.Array:
        pads = ((self.pad, self.pad),) * 2
        return nnx.max_pool(x, (self.window,) * 2, (2, 2), padding=pads)


class Mean(nnx.Module):
    """Mean over positions."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.mean((1, 2))


class Encoder(nnx.Module):
    """Images in, class logits out, or features where there is no head.

    `pool` is the global average pool. It is the input of the head ("penultimate" to
    `jaxte.extract`), unless there are `hidden` layers between.

    Args:
        blocks: maps [n, h, w, c] to maps, one after another.
        hidden: sizes of the layers between pool and head, the first that of the pool.
        classes: outputs of the head; 0 for none.
        size: pixels of a side that images are resized to.
        mean: of each channel, in pixel values of 0 to 255.
        std: likewise.
        flip: channels as blue, green, red.
        name: in stores and rankings.
    """

    def __init__(
        self, blocks: Sequence[Any], hidden: Sequence[int], classes: int, *, size: int,
        mean: tuple[float, ...], std: tuple[float, ...], flip: bool = False, name: str = "encoder",
    ):  # fmt: skip
        self.blocks = nnx.List(blocks)
        self.pool = Mean()
        self.hidden = nnx.List(_linear(*sizes) for sizes in pairwise(hidden))
        self.head = _linear(hidden[-1], classes) if classes else None
        self.size, self.mean, self.std, self.flip = size, tuple(mean), tuple(std), flip
        self.name = name

    def __call__(self, images: ArrayLike) -> jax.Array:
        """Logits [n, classes], or features [n, d].

        Args:
            images: [n, h, w], [n, h, w, 1] or [n, h, w, 3] of any size, values 0 to 255.

        Raises:
            InputError: for another shape.
        """
        x = self.prepared(images)
        for block in self.blocks:
            x = block(x)
        x = self.pool(x)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return x if self.head is None else self.head(x)

    def prepared(self, images: ArrayLike) -> jax.Array:
        """Images resized to a square, of three channels, and normalised."""
        x = jnp.asarray(images)
        shape = x.shape
        x = x[..., None] if x.ndim == 3 else x
        if x.ndim != 4 or x.shape[-1] not in (1, 3):
            raise InputError(
                f"images have shape {shape}: give [n, height, width] or [n, height, width, "
                "channels] with 1 or 3 channels"
            )
        x = x.astype(jnp.float32)
        n, *sides, channels = x.shape
        if sides != [self.size, self.size]:
            x = jax.image.resize(x, (n, self.size, self.size, channels), "linear")
        x = jnp.broadcast_to(x, (*x.shape[:3], 3))
        x = x[..., ::-1] if self.flip else x
        x = (x - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        return x.astype(self.blocks[0].kernel.dtype)


def _linear(inputs: int, outputs: int) -> nnx.Linear:
    zeros = nnx.initializers.zeros_init()
    return nnx.Linear(inputs, outputs, kernel_init=zeros, rngs=nnx.Rngs(0))


def layers(module: Any) -> Iterator[Conv | nnx.Linear]:
    """The layers with weights of a module that was just built, in the order of the forward pass."""
    if isinstance(module, Conv | nnx.Linear):
        yield module
    elif isinstance(module, nnx.List):
        for one in module:
            yield from layers(one)
    elif isinstance(module, nnx.Module):
        for one in vars(module).values():
            yield from layers(one)
