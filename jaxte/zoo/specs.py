"""What the zoo holds: its models, their sources and budgets, its targets, and the recipes."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE_LICENCES = {
    "cifar10": "CIFAR-10 (Krizhevsky 2009): published for research, no formal licence stated",
    "mnist": "MNIST (LeCun, Cortes, Burges): commonly given as CC BY-SA 3.0",
    "quickdraw": "Quick, Draw! (Google): CC BY 4.0",
    "fashion_mnist_source": "Fashion-MNIST (Zalando SE): MIT",
    "emoji_twitter": "Twemoji (Twitter, Inc and other contributors): CC BY 4.0",
    "clipart": "Open Clip Art Library: public domain dedication",
}

SOURCE_DRAWINGS = tuple(
    """ant,anvil,apple,axe,banana,baseball bat,basket,bee,bench,book,bowtie,bread,bridge,broom,
    bucket,bus,butterfly,cactus,cake,calculator,camel,camera,candle,car,carrot,castle,chair,church,
    clock,cloud,cookie,couch,cow,crab,crown,cup,dog,dolphin,door,dragon,drums,duck,ear,elephant,
    envelope,eye,fan,feather,fork,frog,giraffe,hammer,hand,hat,helicopter,horse,hourglass,key,
    knife,ladder,leaf,lighthouse,lightning,lion,map,moon,mountain,mouse,mushroom,nose,octopus,owl,
    panda,pants,pear,pencil,piano,pig,pineapple,pizza,rabbit,rainbow,sailboat,saw,scissors,sheep,
    skull,snail,snake,snowman,spider,spoon,star,strawberry,sun,sword,table,tent,train,tree""".replace(
        "\n    ", ""
    ).split(",")
)
TARGET_DRAWINGS = (
    "bear", "bicycle", "bird", "cat", "fish", "flower", "guitar", "house", "shoe", "umbrella",
)  # fmt: skip
DRAWINGS_PER_CLASS = 100  # the first so many of each class; of a source class 90 train, 10 test
SOURCE_TEST_DRAWINGS = 10


@dataclass(frozen=True)
class ModelSpec:
    """One model: architecture, what it is pre-trained on and for how long.

    `source` names one or more source sets, trained on together with their classes side by side;
    empty for a model left at its initialisation. `labels` is "true", "shuffled", or what a model
    learned without labels: "rotation" (by how many quarter turns an image is turned) or
    "contrastive" (which two views are of one image).
    """

    name: str
    family: str
    width: int
    source: tuple[str, ...]
    steps: int
    lr: float = 2e-3
    batch: int = 128
    seed: int = 0
    labels: str = "true"


MODELS = (
    ModelSpec("plain-cnn-cifar", "plain-cnn", 64, ("cifar10",), 3500, seed=1),
    ModelSpec("plain-cnn-mnist", "plain-cnn", 64, ("mnist",), 400, seed=2),
    ModelSpec("resnet-cifar", "resnet", 96, ("cifar10",), 3500, seed=3),
    ModelSpec("resnet-quickdraw", "resnet", 96, ("quickdraw",), 2500, seed=4),
    ModelSpec("resnet-random", "resnet", 96, (), 0, seed=5),
    ModelSpec("vgg-cifar", "vgg", 192, ("cifar10",), 3500, lr=1e-3, seed=6),
    ModelSpec("vgg-shuffled", "vgg", 192, ("cifar10",), 1500, lr=1e-3, seed=7, labels="shuffled"),
    ModelSpec("sepconv-quickdraw", "sepconv", 128, ("quickdraw",), 2500, seed=8),
    ModelSpec("densenet-cifar", "densenet", 96, ("cifar10",), 3000, seed=9),
    ModelSpec("senet-mixed", "senet", 128, ("cifar10", "mnist", "quickdraw"), 4000, seed=10),
    ModelSpec("senet-brief", "senet", 128, ("cifar10",), 60, seed=11),
    ModelSpec("vit-quickdraw", "vit", 64, ("quickdraw",), 2000, lr=1e-3, seed=12),
    ModelSpec("mixer-cifar", "mixer", 64, ("cifar10",), 3000, lr=1e-3, seed=13),
    ModelSpec("mlp-mnist", "mlp", 256, ("mnist",), 1500, lr=1e-3, seed=14),
)

# sixteen more, for the benchmark pool: families of several members of one size, so that what a
# model was trained on, and not how large it is, sets them apart
MORE_MODELS = (
    ModelSpec("resnet-rotation", "resnet", 96, ("cifar10",), 2500, seed=21, labels="rotation"),
    ModelSpec(
        "resnet-contrastive", "resnet", 96, ("cifar10",), 1500, seed=22, labels="contrastive",
    ),
    ModelSpec("resnet-fashion", "resnet", 96, ("fashion_mnist_source",), 1500, seed=23),
    ModelSpec("resnet-shuffled", "resnet", 96, ("cifar10",), 1500, seed=24, labels="shuffled"),
    ModelSpec("vgg-quickdraw", "vgg", 192, ("quickdraw",), 2000, lr=1e-3, seed=25),
    ModelSpec("sepconv-clipart", "sepconv", 128, ("clipart",), 1500, seed=26),
    ModelSpec("convnext-cifar", "convnext", 80, ("cifar10",), 3000, seed=27),
    ModelSpec("convnext-clipart", "convnext", 80, ("clipart",), 1500, seed=28),
    ModelSpec("mobilenet-cifar", "mobilenet", 128, ("cifar10",), 2500, seed=29),
    ModelSpec("mobilenet-fashion", "mobilenet", 128, ("fashion_mnist_source",), 1500, seed=30),
    ModelSpec(
        "mobilenet-rotation", "mobilenet", 128, ("cifar10",), 2000, seed=31, labels="rotation",
    ),
    ModelSpec("squeezenet-cifar", "squeezenet", 160, ("cifar10",), 2500, seed=32),
    ModelSpec("squeezenet-emoji", "squeezenet", 160, ("emoji_twitter",), 1500, seed=33),
    ModelSpec(
        "squeezenet-mixed", "squeezenet", 160,
        ("fashion_mnist_source", "quickdraw", "clipart", "emoji_twitter"), 2500, seed=34,
    ),
    ModelSpec("cct-cifar", "cct", 64, ("cifar10",), 2500, lr=1e-3, seed=35),
    ModelSpec(
        "cct-mixed", "cct", 64, ("quickdraw", "fashion_mnist_source"), 2500, lr=1e-3, seed=36,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class TargetSpec:
    """One target set: how many images of each class are shipped, where they are from, who made it.

    `test_per_class` of None takes all that are not in the train part.
    """

    name: str
    test_per_class: int | None
    source: str
    licence: str
    attribution: str
    train_per_class: int = 50


TARGETS = (
    TargetSpec(
        "digits", None, "Optical Recognition of Handwritten Digits, the 1797 images of 8x8 in "
        "scikit-learn, values 0..16 scaled to 0..255",
        "CC BY 4.0 (UCI); as distributed with scikit-learn: BSD-3-Clause",
        "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
    ),
    TargetSpec(
        "fashion", 100, "Fashion-MNIST, official test split, 28x28", "MIT",
        "H. Xiao, K. Rasul and R. Vollgraf, Zalando SE, 2017",
    ),
    TargetSpec(
        "drawings", None,
        "Quick, Draw! bitmaps 28x28, ten classes that no zoo model was trained on", "CC BY 4.0",
        "Google, The Quick, Draw! Dataset, https://github.com/googlecreativelab/quickdraw-dataset",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class FineTune:
    """The one recipe of full fine-tuning: AdamW, warm-up then cosine, random shifts.

    The learning rate is the one of `lrs` that does best on `validation` of the train part (seed 0);
    the model is then trained again on the whole train part once per seed.
    """

    epochs: int = 30
    batch: int = 50
    lrs: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    warmup: float = 0.1
    weight_decay: float = 1e-4
    shift: int = 2
    validation: float = 0.2


@dataclass(frozen=True)
class Probe:
    """The one recipe of the linear probe: AdamW and cosine on standardised frozen features."""

    epochs: int = 100
    batch: int = 50
    lrs: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    warmup: float = 0.0
    weight_decay: float = 1e-2
    validation: float = 0.2


MIXTURE_CAP = 20_000  # train images taken of each source where a model has several
PRETRAIN_WARMUP = 0.1
PRETRAIN_WEIGHT_DECAY = 1e-2
PRETRAIN_SHIFT = 3
