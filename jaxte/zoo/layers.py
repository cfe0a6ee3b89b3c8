"""Layers that the families of the zoo are built of, for maps [n, h, w, c] or tokens [n, t, d]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx


def conv(
    inputs: int,
    outputs: int,
    rngs: nnx.Rngs,
    *,
    kernel: int = 3,
    stride: int = 1,
    bias: bool = True,
) -> nnx.Conv:
    """Make a square convolution with He initialisation."""
    size, strides, init = (kernel, kernel), (stride, stride), nnx.initializers.he_normal()
    return nnx.Conv(
        inputs, outputs, size, strides=strides, use_bias=bias, kernel_init=init, rngs=rngs
    )


def pool(x: jax.Array) -> jax.Array:
    """Mean over 2x2 windows, written as a reshape: cheaper to differentiate than a window op."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


class Stages(nnx.Module):
    """A network whose features are the mean over positions of a stem and blocks after it."""

    stem: Callable[[jax.Array], jax.Array]
    blocks: nnx.List[Callable[[jax.Array], jax.Array]]

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2))


class ConvNorm(nnx.Module):
    """Convolution, group normalisation, and a ReLU unless `act` is false."""

    def __init__(
        self, inputs: int, outputs: int, rngs: nnx.Rngs, *, kernel: int = 3, stride: int = 1,
        act: bool = True,
    ):  # fmt: skip
        self.conv = conv(inputs, outputs, rngs, kernel=kernel, stride=stride, bias=False)
        self.norm = nnx.GroupNorm(outputs, num_groups=None, group_size=8, rngs=rngs)
        self.act = act

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(self.conv(x))
        return nnx.relu(x) if self.act else x


def convolve_shifts(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: Sequence[tuple[int, int]] = ((1, 1), (1, 1)),
) -> jax.Array:
    """Convolve maps by a kernel [k, k, inputs, outputs], or [k, k, c] of each channel by itself.

    A sum over shifts of the maps. On a CPU XLA's own convolution is slow where it is grouped, and
    80 times as slow where maps are smaller than the kernel.
    """
    product = jnp.multiply if kernel.ndim == 3 else jnp.matmul
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    size = kernel.shape[0]
    h, w = (side - size + 1 for side in x.shape[1:3])
    offsets = [(i, j) for i in range(size) for j in range(size)]
    shifts = (x[:, i : i + h : stride, j : j + w : stride] for i, j in offsets)
    total = sum(product(x, kernel[i, j]) for x, (i, j) in zip(shifts, offsets, strict=True))
    return jnp.asarray(total)


class Depthwise(nnx.Module):
    """3x3 depthwise convolution, the pointwise one, a norm, and a ReLU unless `act` is false."""

    def __init__(
        self, inputs: int, outputs: int, rngs: nnx.Rngs, *, pool: bool = False, act: bool = True
    ):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (3, 3, inputs)) / 3.0)
        self.point = conv(inputs, outputs, rngs, kernel=1, bias=False)
        self.norm = nnx.GroupNorm(outputs, num_groups=None, group_size=8, rngs=rngs)
        self.pool = pool
        self.act = act

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(self.point(convolve_shifts(x, self.kernel[...])))
        y = nnx.relu(y) if self.act else y
        return pool(y) if self.pool else y


def transform(
    x: jax.Array,
    attention: Sequence[Attention],
    mlps: Sequence[Mlp],
    norms: Sequence[nnx.LayerNorm],
) -> jax.Array:
    """Pre-norm transformer blocks over tokens [n, t, d], and the last norm."""
    for i in range(len(attention)):
        x = x + attention[i](norms[2 * i](x))
        x = x + mlps[i](norms[2 * i + 1](x))
    y: jax.Array = norms[-1](x)
    return y


def patches(x: jax.Array) -> jax.Array:
    """Cut maps into tokens [n, t, 16 c], of 4x4 pixels each."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // 4, 4, w // 4, 4, c).swapaxes(2, 3)
    return x.reshape(n, (h // 4) * (w // 4), 16 * c)


class Mlp(nnx.Module):
    """Two linear layers with a ReLU between (a GELU doubles the time of these models on a CPU)."""

    def __init__(self, size: int, hidden: int, rngs: nnx.Rngs):
        self.up = nnx.Linear(size, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, size, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(nnx.relu(self.up(x)))


class Attention(nnx.Module):
    """Multi-head self-attention of two heads, queries, keys and values from one product."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        n, t, d = x.shape
        q, k, v = jnp.moveaxis(self.qkv(x).reshape(n, t, 3, 2, d // 2), (2, 3), (0, 2))
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / (d // 2) ** 0.5)
        return self.out((weights @ v).swapaxes(1, 2).reshape(n, t, d))
