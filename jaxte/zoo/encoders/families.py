"""The published architectures, as blocks and the sizes from the pool to the head."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxte.zoo.encoders.modules import Block, Conv, MaxPool

Body = tuple[list[Any], list[int]]
Stage = tuple[int, int, int, int, int]  # expansion, channels, blocks, first stride, kernel


def inverted(
    stages: Sequence[Stage], *, width: float = 1.0, depth: float = 1.0, same: bool = False,
    stem: int = 32, last: int = 1280,
) -> Body:  # fmt: skip
    """Inverted residuals with ReLU6.

    Channels are multiplied by `width` and blocks by `depth`, except those of stem and last
    convolution, and the blocks of the first and the last stage.

    References:
        Sandler et al., MobileNetV2, CVPR 2018; Tan and Le, EfficientNet, ICML 2019.
    """
    options: dict[str, Any] = {"act": "relu6", "same": same}
    blocks: list[Any] = [Conv(3, stem, 3, 2, **options)]
    inputs = stem
    for stage, (expansion, channels, repeats, first, kernel) in enumerate(stages):
        outputs = _rounded(channels * width)
        inside = 0 < stage < len(stages) - 1
        for block in range(math.ceil(repeats * depth) if inside else repeats):
            wide, stride = inputs * expansion, 1 if block else first
            expand = [Conv(inputs, wide, **options)] if expansion > 1 else []
            spatial = Conv(wide, wide, kernel, stride, separate=True, **options)
            convs = [*expand, spatial, Conv(wide, outputs)]
            blocks.append(Block(convs, skip=stride == 1 and inputs == outputs))
            inputs = outputs
    return [*blocks, Conv(inputs, last, **options)], [last]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next where that takes away more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def residual(
    stages: Sequence[tuple[int, int]], *, stem: int, bottleneck: bool, imagenet: bool
) -> Body:
    """Residual blocks with projection shortcuts; a stage is (channels, blocks).

    With `bottleneck` a block has three convolutions, the first strided, and four times the
    channels out; else it has two. With `imagenet` the stem divides the size by four.

    References:
        He et al., Deep residual learning for image recognition, CVPR 2016.
    """
    blocks: list[Any] = [Conv(3, stem, *((7, 2) if imagenet else (3, 1)), act="relu")]
    if imagenet:
        blocks.append(MaxPool(3, 1))
    inputs = stem
    for stage, (channels, repeats) in enumerate(stages):
        outputs = channels * 4 if bottleneck else channels
        for block in range(repeats):
            stride = 2 if stage and not block else 1
            if bottleneck:
                convs = [
                    Conv(inputs, channels, 1, stride, act="relu"),
                    Conv(channels, channels, 3, act="relu"),
                    Conv(channels, outputs),
                ]
            else:
                convs = [
                    Conv(inputs, channels, 3, stride, act="relu"),
                    Conv(channels, outputs, 3),
                ]
            shape_changes = stride > 1 or inputs != outputs
            shortcut = Conv(inputs, outputs, 1, stride) if shape_changes else None
            blocks.append(Block(convs, skip=True, shortcut=shortcut, act="relu"))
            inputs = outputs
    return blocks, [inputs]


def vgg(stages: Sequence[tuple[int, int]], *, hidden: int) -> Body:
    """3x3 convolutions, a 2x2 maximum after each stage of (channels, layers), a hidden layer.

    References:
        Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015.
    """
    blocks: list[Any] = []
    inputs = 3
    for channels, repeats in stages:
        for _ in range(repeats):
            blocks.append(Conv(inputs, channels, 3, act="relu"))
            inputs = channels
        blocks.append(MaxPool(2))
    return blocks, [inputs, hidden]


FAMILIES: dict[str, Callable[..., Body]] = {"inverted": inverted, "residual": residual, "vgg": vgg}
