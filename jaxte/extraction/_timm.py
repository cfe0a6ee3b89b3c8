"""Models of timm: preprocessing by their configuration, features before the head."""

from __future__ import annotations

from typing import Any

from jaxte._optional import require
from jaxte.errors import InputError, did_you_mean
from jaxte.extraction import _torch
from jaxte.extraction._checkpoints import STATE
from jaxte.extraction._model import Model, Request
from jaxte.extraction._outputs import PENULTIMATE
from jaxte.extraction._torch import Call, Runner, model_of
from jaxte.extraction._torch_layers import layer_names, watched_all
from jaxte.extraction.preprocess import FILTERS, Images, channels_first

__all__ = ["from_torch", "load"]

_CROP = 0.875  # of the resized image, where a configuration does not say


class _Runner(Runner):
    """A model that says itself where its features end and its head begins."""

    def is_named(self, layer: str) -> bool:
        return layer in self.named or STATE.fullmatch(layer) is not None

    def collect(self, inputs: Any) -> dict[str, Any]:
        blocks = {n: int(m[1]) for n in self.layers if (m := STATE.fullmatch(n)) is not None}
        maps, logits = {}, None
        with self.watched(inputs, {}) as calls:
            if blocks:
                indices = sorted({self._index(index) for index in blocks.values()})
                last, states = self.module.forward_intermediates(
                    inputs, indices=indices, output_fmt="NCHW"
                )
                by_index = dict(zip(indices, states, strict=True))
                for name, index in blocks.items():
                    maps[name] = by_index[self._index(index)]
            else:
                last = self.module.forward_features(inputs)
            before = self.module.forward_head(last, pre_logits=True)
            if getattr(self.module, "num_classes", 0):
                logits = self.module.forward_head(last)
        outputs = {name: call.output for name, call in calls.items()} | maps
        if not hasattr(logits, "shape"):
            return self.select(last, None, outputs | {PENULTIMATE: before})
        return self.select(last, Call(before, logits, logits), outputs)

    def layer_names(self, inputs: Any) -> tuple[str, ...]:
        with watched_all(self.module) as seen:
            maps = self.module.forward_features(inputs)
            before = self.module.forward_head(maps, pre_logits=True)
        return layer_names(seen, before, None, self.places)

    def layout(self, name: str) -> str | None:
        return "NCHW" if STATE.fullmatch(name) else super().layout(name)

    def _index(self, index: int) -> int:
        blocks = len(self.module.feature_info)
        if not -blocks <= index < blocks:
            raise InputError(f"there is no layer 'hidden/{index}': the model has {blocks} blocks")
        return index % blocks


def from_torch(module: Any, request: Request) -> Model:
    """A model of a torch module, of timm or not."""
    names = ("pretrained_cfg", "forward_features", "forward_head")
    if not all(hasattr(module, name) for name in names):
        return _torch.from_torch(module, request)
    prepare = _images(module) if request.prepare is None else request.prepare
    request = request._replace(prepare=channels_first(prepare))
    layers = request.layers or (PENULTIMATE,)
    config = module.pretrained_cfg
    source = ".".join(str(config[k]) for k in ("architecture", "tag") if config.get(k))
    runner = _Runner(module, layers, request)
    if request.name is None:
        request = request._replace(name=source or None)
    return model_of(module, runner, request, "timm", source or type(module).__name__)


def load(name: str) -> tuple[Any, str]:
    """A pre-trained model, and its name."""
    timm = require("timm", f"timm:{name}", "timm")
    if not timm.is_model(name.partition(".")[0]):
        hint = did_you_mean(name, timm.list_models())
        raise InputError(f"timm has no model {name!r}: {hint}timm.list_models() names them all")
    try:
        return timm.create_model(name, pretrained=True), name
    except (OSError, RuntimeError, ValueError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"timm:{name} cannot be loaded: {first}") from error


def _images(model: Any) -> Images:
    """What the model's configuration says of its images."""
    data = require("timm.data", "a timm model", "timm")
    config = data.resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if len(mean) != channels:
        raise InputError(f"the model takes images of {channels} channels: give prepare=")
    cut, mode = config.get("crop_pct") or _CROP, config.get("crop_mode") or "center"
    side = int(height / cut)
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise InputError(
            f"the model's images are {height} x {width}, cropped by {mode!r}: give prepare="
        )
    filter_ = config["interpolation"]
    return Images(
        size=(height, width),
        resize=side if mode == "center" else (side, int(width / cut)),
        interpolation=filter_ if filter_ in FILTERS else "bicubic",
        mean=mean,
        std=std,
    )
