"""Architectures of the zoo: small families of Flax nnx image classifiers, 32x32x3 in.

Every family is batch-statistics free (group or layer normalisation, or none), so a model is its
parameters alone, training and inference are one function, and a batch never changes a feature.
A call takes images [n, 32, 32, 3] and returns features [n, width].
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxte.zoo.compact import CCT, ConvNeXt, MobileNet, SqueezeNet
from jaxte.zoo.layers import (
    Attention,
    ConvNorm,
    Depthwise,
    Mlp,
    Stages,
    conv,
    patches,
    pool,
    transform,
)


class PlainCNN(nnx.Module):
    """Four convolutions, three of them strided, and a mean over positions."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        sizes = (3, 24, 32, 64, width)
        self.layers = nnx.List(
            ConvNorm(sizes[i], sizes[i + 1], rngs, stride=1 if i == 1 else 2) for i in range(4)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x.mean((1, 2))


class Residual(nnx.Module):
    """Two 3x3 convolutions around a skip, projected by 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs, *, stride: int = 1):
        self.first = ConvNorm(inputs, outputs, rngs, stride=stride)
        self.second = ConvNorm(outputs, outputs, rngs, act=False)
        changes = stride != 1 or inputs != outputs
        self.skip = conv(inputs, outputs, rngs, kernel=1, stride=stride) if changes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        skip = x if self.skip is None else self.skip(x)
        return nnx.relu(self.second(self.first(x)) + skip)


class ResNet(Stages):
    """A stem and three residual stages of one block each."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 16, rngs, stride=2)
        sizes = ((16, 16, 1), (16, 32, 2), (32, width, 2))
        self.blocks = nnx.List(Residual(a, b, rngs, stride=stride) for a, b, stride in sizes)


class VGG(nnx.Module):
    """Pairs of convolutions between poolings, no normalisation, and a fully connected layer."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.pairs = nnx.List(
            nnx.List([conv(a, b, rngs) for a, b in pair])
            for pair in (((3, 12),), ((12, 24), (24, 24)), ((24, 48), (48, 48)))
        )
        self.dense = nnx.Linear(48 * 16, width, kernel_init=nnx.initializers.he_normal(), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for pair in self.pairs:
            for layer in pair:
                x = nnx.relu(layer(x))
            x = pool(x)
        return nnx.relu(self.dense(x.reshape(x.shape[0], -1)))


class SepConv(Stages):
    """Depthwise-separable stages after a strided stem."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 24, rngs, stride=2)
        sizes = ((24, 48, True), (48, 96, True), (96, width, False))
        self.blocks = nnx.List(Depthwise(a, b, rngs, pool=pool) for a, b, pool in sizes)


class DenseNet(nnx.Module):
    """Two dense blocks of three layers, each layer reading all earlier ones of its block."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        # the last block starts from a quarter of the width and each layer adds another quarter
        quarter = width // 4
        self.stem = ConvNorm(3, 16, rngs, stride=2)
        self.first = nnx.List(ConvNorm(16 + 16 * i, 16, rngs) for i in range(2))
        self.transition = conv(48, quarter, rngs, kernel=1)
        self.second = nnx.List(ConvNorm(quarter * (i + 1), quarter, rngs) for i in range(3))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for layer in self.first:
            x = jnp.concatenate([x, layer(x)], -1)
        x = pool(self.transition(x))
        for layer in self.second:
            x = jnp.concatenate([x, layer(x)], -1)
        return x.mean((1, 2))


class SqueezeExcite(nnx.Module):
    """Strided convolution whose channels are gated by a small network of their means."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs, *, stride: int = 1):
        self.conv = ConvNorm(inputs, outputs, rngs, stride=stride)
        self.squeeze = nnx.Linear(outputs, outputs // 4, rngs=rngs)
        self.excite = nnx.Linear(outputs // 4, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        gate = nnx.sigmoid(self.excite(nnx.relu(self.squeeze(x.mean((1, 2))))))
        return x * gate[:, None, None, :]


class SENet(Stages):
    """Squeeze-and-excite stages after a strided stem."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 24, rngs, stride=2)
        sizes = ((24, 32, 1), (32, 64, 2), (64, width, 2))
        self.blocks = nnx.List(SqueezeExcite(a, b, rngs, stride=stride) for a, b, stride in sizes)


class ViT(nnx.Module):
    """Two pre-norm transformer blocks over 4x4 patches, mean over the tokens."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.embed = nnx.Linear(48, width, rngs=rngs)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (64, width)))
        self.attention = nnx.List(Attention(width, rngs) for _ in range(2))
        self.mlp = nnx.List(Mlp(width, 2 * width, rngs) for _ in range(2))
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for _ in range(5))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(patches(x)) + self.position[...]
        return transform(x, self.attention, self.mlp, self.norms).mean(1)


class Mixer(nnx.Module):
    """MLP-mixer: three blocks that mix 64 patches, then channels."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.embed = nnx.Linear(48, width, rngs=rngs)
        self.tokens = nnx.List(Mlp(64, 64, rngs) for _ in range(3))
        self.channels = nnx.List(Mlp(width, 2 * width, rngs) for _ in range(3))
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for _ in range(7))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(patches(x))
        for i in range(3):
            mixed = self.tokens[i](self.norms[2 * i](x).swapaxes(1, 2))
            x = x + mixed.swapaxes(1, 2)
            x = x + self.channels[i](self.norms[2 * i + 1](x))
        pooled: jax.Array = self.norms[6](x).mean(1)
        return pooled


class MLP(nnx.Module):
    """Two hidden layers on the image at half resolution."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        init = nnx.initializers.he_normal()
        self.first = nnx.Linear(16 * 16 * 3, width, kernel_init=init, rngs=rngs)
        self.second = nnx.Linear(width, width, kernel_init=init, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = pool(x).reshape(x.shape[0], -1)
        return nnx.relu(self.second(nnx.relu(self.first(x))))


FAMILIES: dict[str, Callable[[int, nnx.Rngs], Callable[[jax.Array], jax.Array]]] = {
    "plain-cnn": PlainCNN,
    "resnet": ResNet,
    "vgg": VGG,
    "sepconv": SepConv,
    "densenet": DenseNet,
    "senet": SENet,
    "vit": ViT,
    "mixer": Mixer,
    "mlp": MLP,
    "convnext": ConvNeXt,
    "mobilenet": MobileNet,
    "squeezenet": SqueezeNet,
    "cct": CCT,
}


class Classifier(nnx.Module):
    """A backbone of one of `FAMILIES`, whose output is the penultimate feature, and a head."""

    def __init__(self, family: str, width: int, num_classes: int, rngs: nnx.Rngs):
        self.body = FAMILIES[family](width, rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.body(x))
