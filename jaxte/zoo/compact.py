"""Four more families of the zoo, as in `models`, after designs for few parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxte.zoo.layers import (
    Attention,
    ConvNorm,
    Depthwise,
    Mlp,
    conv,
    convolve_shifts,
    pool,
    transform,
)


class ConvNeXtBlock(nnx.Module):
    """Depthwise convolution, layer normalisation, and an inverted bottleneck, around a skip."""

    def __init__(self, size: int, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (3, 3, size)) / 3.0)
        self.norm = nnx.LayerNorm(size, rngs=rngs)
        self.mlp = Mlp(size, 3 * size, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.mlp(self.norm(convolve_shifts(x, self.kernel[...])))


class ConvNeXt(nnx.Module):
    """A patch stem and two stages of ConvNeXt blocks, patches merged between them."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        half = width // 2
        self.stem = conv(3, half, rngs, kernel=4, stride=4)
        self.first = nnx.List(ConvNeXtBlock(half, rngs) for _ in range(2))
        self.merge = conv(half, width, rngs, kernel=2, stride=2)
        self.second = nnx.List(ConvNeXtBlock(width, rngs) for _ in range(2))
        self.norms = nnx.List(nnx.LayerNorm(size, rngs=rngs) for size in (half, half, width))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norms[0](self.stem(x))
        for block in self.first:
            x = block(x)
        x = self.merge(self.norms[1](x))
        for block in self.second:
            x = block(x)
        features: jax.Array = self.norms[2](x.mean((1, 2)))
        return features


class InvertedResidual(nnx.Module):
    """Expansion by 1x1, depthwise 3x3, linear projection by 1x1; a skip where shapes agree."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs, *, shrink: bool = False):
        self.expand = conv(inputs, 3 * inputs, rngs, kernel=1, bias=False)
        self.norm = nnx.GroupNorm(3 * inputs, num_groups=None, group_size=8, rngs=rngs)
        self.spatial = Depthwise(3 * inputs, outputs, rngs, act=False)
        self.shrink = shrink

    def __call__(self, x: jax.Array) -> jax.Array:
        x = pool(x) if self.shrink else x
        y = self.spatial(nnx.relu(self.norm(self.expand(x))))
        return x + y if x.shape == y.shape else y


class MobileNet(nnx.Module):
    """Inverted residuals after a strided stem, then a 1x1 convolution to the features."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 16, rngs, stride=2)
        sizes = ((16, 32), (32, 32), (32, 64), (64, 64), (64, 64))
        self.blocks = nnx.List(InvertedResidual(a, b, rngs, shrink=a < b) for a, b in sizes)
        self.last = ConvNorm(64, width, rngs, kernel=1)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x).mean((1, 2))


class Fire(nnx.Module):
    """1x1 convolution to few channels, then 1x1 and 3x3 ones side by side."""

    def __init__(self, inputs: int, squeezed: int, outputs: int, rngs: nnx.Rngs):
        self.squeeze = ConvNorm(inputs, squeezed, rngs, kernel=1)
        self.point = ConvNorm(squeezed, outputs // 2, rngs, kernel=1)
        self.wide = ConvNorm(squeezed, outputs // 2, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.squeeze(x)
        return jnp.concatenate([self.point(x), self.wide(x)], -1)


class SqueezeNet(nnx.Module):
    """Fire modules after a strided stem, means between them."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 32, rngs, stride=2)
        sizes = ((32, 16, 64), (64, 32, 96), (96, 32, 128), (128, 48, width))
        self.fires = nnx.List(Fire(*three, rngs) for three in sizes)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for i, fire in enumerate(self.fires):
            x = fire(x)
            x = pool(x) if i in (0, 2) else x
        return x.mean((1, 2))


class CCT(nnx.Module):
    """Compact convolutional transformer: tokens by convolution, pooled by learned weights."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.stem = nnx.List([ConvNorm(3, 24, rngs, stride=2), ConvNorm(24, width, rngs, stride=2)])
        self.attention = nnx.List(Attention(width, rngs) for _ in range(2))
        self.mlp = nnx.List(Mlp(width, 2 * width, rngs) for _ in range(2))
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for _ in range(5))
        self.weigh = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.stem:
            x = layer(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = transform(x, self.attention, self.mlp, self.norms)
        share = jax.nn.softmax(self.weigh(x), axis=1)
        return (share * x).sum(1)
