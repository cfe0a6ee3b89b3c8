"""What `jaxte.rank` is handed, resolved once: arrays to score in memory, streams, and labels.

Nothing behind this asks again what an input is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.errors import InputError, said
from jaxte.intake import Labels, as_features, as_labels, checks, join_layers, sources
from jaxte.intake.outputs import SourceOutputs, check_outputs, outputs_of
from jaxte.intake.sources import Source
from jaxte.metrics.options import shortlist
from jaxte.ranking.memory import Limits
from jaxte.runtime.devices import platform_of
from jaxte.statistics import Moments

__all__ = ["Candidate", "Resolved", "Stream", "resolve", "should_stream"]

# In float64 a CPU takes the normal equations of long arrays anyway; in slices they stay in the
# cache, and from about here on the passes that SFDA repeats cost less than that saves.
_MANY = 2**15
_PARTS = ("features", "layers", "labels", "logits", "probabilities")  # of a model that is a mapping


@dataclass(frozen=True)
class Candidate:
    """One model in memory: features [n, d], targets, weights, and outputs of its own head.

    ``joined``: all its layers, where it brings several. ``problem``: that of the outputs.
    """

    name: str
    features: Any
    targets: Any
    weights: Any | None
    source: SourceOutputs | None = None
    problem: str = ""
    joined: Any | None = None


class Stream(NamedTuple):
    """One model whose samples go by.

    Attributes:
        name: of the model.
        source: where its batches come from; or its moments, made before.
        targets: [n] or [n, k], or None where they come with the batches.
        weights: [n] or None.
        outputs: of the model's own head, or None.
        problem: that of the outputs.
    """

    name: str
    source: Source | Moments
    targets: Any
    weights: np.ndarray | None
    outputs: SourceOutputs | None = None
    problem: str = ""


@dataclass
class Resolved:
    """The models of a pool.

    Attributes:
        candidates: those to score in memory.
        streams: those whose samples go by.
        problems: model -> why it cannot be scored.
        labels: model -> its labels, where they are known beforehand.
    """

    candidates: list[Candidate] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)

    def drop(self, problems: Mapping[str, str]) -> None:
        """Leave out models that turn out not to be scorable."""
        self.problems |= problems
        self.candidates = [one for one in self.candidates if one.name not in problems]
        self.streams = [one for one in self.streams if one.name not in problems]

    @property
    def classes(self) -> Sequence[Any] | None:
        """The largest set of classes; None for regression, or where batches bring them."""
        numbered = [one.classes for one in self.labels.values() if one.classes is not None]
        return max(numbered, key=len, default=None)


def resolve(
    features: Mapping[str, Any],
    targets: Any,
    weights: Any,
    num_classes: int | None,
    limits: Limits,
    whole: str,
    *,
    outputs: bool = False,
    readers: Sequence[str] = ("this function",),
) -> Resolved:
    """Sort out models and labels; one bad model becomes a problem and never stops the others.

    ``whole`` names the option of `jaxte.rank`, if any, that needs all samples in memory;
    ``outputs``: whether a metric reads outputs of the models' own heads; ``readers``: the metrics
    that read labels. Where there are none, all targets become one constant.

    Raises:
        InputError: if the call as a whole makes no sense.
    """
    num_classes = checks.check_num_classes(num_classes)
    weights = None if weights is None else np.asarray(checks.check_weights(weights, None))
    resolver = _Resolver(targets, weights, num_classes, limits, whole, outputs, readers)
    _ = resolver.shared  # what is wrong with the labels of all is wrong with the call
    resolved = Resolved()
    for key, value in features.items():
        name = str(key)
        try:
            one, labels = resolver.resolve(name, key, value)
        except Exception as error:  # one bad model never stops the others
            resolved.problems[name] = said(error)
            continue
        if isinstance(one, Stream):
            resolved.streams.append(one)
        else:
            resolved.candidates.append(one)
        if labels is not None and readers:
            resolved.labels[name] = labels
    return resolved


@dataclass(frozen=True)
class _Resolver:
    """What is the same for all models of a call, as `resolve` takes it, and their labels."""

    targets: Any
    weights: np.ndarray | None
    num_classes: int | None
    limits: Limits
    whole: str
    outputs: bool
    readers: Sequence[str]

    def resolve(self, name: str, key: Any, value: Any) -> tuple[Candidate | Stream, Labels | None]:
        """One model with its labels."""
        if isinstance(value, InputError):
            raise value  # of a store that cannot be read
        layers = None
        if isinstance(value, Mapping):
            value, layers = _with_layers(value)
        array, own, head = _opened(value, self.limits, self.whole, self.outputs)
        stated = isinstance(value, Mapping) and value.get("labels") is not None
        if stated and self.targets is not None:
            raise InputError("labels come with the model and in targets, too: give them once")
        labels = self._labels(key, own)
        if not self.readers:
            array, labels = _unlabelled(array, labels)
        if isinstance(array, Source | Moments):
            ids = None if labels is None else labels.values
            rows = len(ids) if ids is not None else getattr(array, "rows", None)
            head, problem = _checked(head, rows, self.weights)
            return Stream(name, array, ids, self.weights, head, problem), labels
        if labels is None:
            raise self._no_labels()
        return self._candidate(name, array, labels, head, layers), labels

    @cached_property
    def shared(self) -> Labels | None:
        """Labels that all models share."""
        if self.targets is None or isinstance(self.targets, Mapping):
            return None
        labels = self._clean(self.targets)
        if self.weights is not None:
            checks.check_weights(self.weights, len(labels.values))
        self._check(labels, len(labels.values))
        return labels

    def _labels(self, key: Any, own: Any) -> Labels | None:
        """Those of one model, of which ``own`` came with it."""
        if self.shared is not None:
            return self.shared
        if self.targets is not None and key in self.targets:
            return self._clean(self.targets[key])
        return None if own is None else self._clean(own)

    def _clean(self, values: Any) -> Labels:
        return as_labels(values, num_classes=self.num_classes, weights=self.weights)

    def _check(self, labels: Labels, rows: int) -> None:
        several = jax.process_count() == 1  # the rows of one process may well be of one class
        checks.check_labels(labels, rows, self.weights, whole=several)

    def _no_labels(self) -> InputError:
        if isinstance(self.targets, Mapping):
            return InputError("targets name no entry for this model")
        return InputError(
            f"there are no labels, and {shortlist(self.readers)} cannot do without: give targets, "
            "or only metrics that are label-free"
        )

    def _candidate(
        self,
        name: str,
        features: Any,
        labels: Labels,
        head: SourceOutputs | None,
        layers: Mapping[str, Any] | None,
    ) -> Candidate:
        weights = self.weights  # the same object for all models, which are then one program
        self._check(labels, (np.shape(features) or (0,))[0])
        array, _ = checks.check_features(features, weights)
        joined = None if layers is None else join_layers(_in_memory(layers), weights)
        if joined is not None and len(joined) != len(array):
            raise InputError(f"its layers have {len(joined)} rows, its features {len(array)}")
        head, problem = _checked(head, len(array), weights)
        return Candidate(name, array, labels.values, weights, head, problem, joined)


def should_stream(rows: int, width: int, memory_limit: int) -> bool:
    """Whether an array of this size, in memory or in files, is better read in batches.

    Fewer rows than columns are smaller than the moments. Of the others those that would not fit,
    and on CPUs long ones, which are faster in slices.
    """
    dtype = jnp.zeros(()).dtype
    many = dtype == jnp.float64 and platform_of() == "cpu" and rows > _MANY
    return rows >= width and (many or rows * width * dtype.itemsize > memory_limit)


def _opened(value: Any, limits: Limits, whole: str, outputs: bool) -> tuple[Any, Any, Any]:
    """A `Source`, `Moments` or an array to be scored in memory; its own labels and outputs."""
    labels = head = None
    if isinstance(value, Mapping):
        value, labels, head = _parts(value)
        head = head if outputs else None
    model = value if isinstance(value, Moments) else sources.of(value)
    if isinstance(model, Source):
        labels = model.labels() if labels is None else labels
        head = outputs_of(model.logits(), None) if outputs and head is None else head
        limit = limits.batches
        if model.rows and model.width and not should_stream(model.rows, model.width, limit):
            return model.load(), labels, head
    elif not isinstance(model, Moments):
        in_memory = not isinstance(model, np.memmap)
        if model.ndim != 2 or (whole and in_memory):
            return model, labels, head
        limit = limits.arrays if in_memory else limits.batches
        if not should_stream(len(model), model.shape[1], limit):
            return as_features(model), labels, head
        model = sources.Rows(model)
    if whole:
        raise InputError(
            f"{whole} needs all samples of a model in memory: give an array, as "
            "np.concatenate(batches) or np.load(path), if need be with a larger memory_limit"
        )
    return model, labels, head


def _unlabelled(model: Any, labels: Labels | None) -> tuple[Any, Labels | None]:
    """A model for metrics that read no labels; those it has must be as many as its rows."""
    if isinstance(model, Source):
        return sources.Unlabelled(model), None
    if isinstance(model, Moments):
        return model, labels
    rows = (np.shape(model) or (0,))[0]
    if labels is not None:
        checks.check_labels(labels, rows, None, whole=False)
    return model, Labels(_constant(rows))


@lru_cache(maxsize=8)
def _constant(rows: int) -> np.ndarray:
    """The same array for models of as many rows, which then share a program."""
    return np.ones(rows, np.float32)


def _checked(
    head: SourceOutputs | None, rows: int | None, weights: np.ndarray | None
) -> tuple[SourceOutputs | None, str]:
    """Outputs of a model's own head, or what is wrong with them."""
    if head is None:
        return None, ""
    try:
        rows = np.shape(head.values)[0] if rows is None else rows
        return check_outputs(head, rows, weights), ""
    except Exception as error:  # other metrics need none
        return None, said(error)


def _with_layers(model: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """A model without its layers, of which the last are its features unless it has others."""
    layers = model.get("layers")
    if layers is None:
        return model, None
    if not isinstance(layers, Mapping) or not layers:
        raise InputError("layers must be a mapping of names to features [n, d]")
    rest = {"features": list(layers.values())[-1], **model}
    return {key: part for key, part in rest.items() if key != "layers"}, layers


def _in_memory(layers: Mapping[str, Any]) -> dict[str, Any]:
    return {k: one.load() if isinstance(one, Source) else one for k, one in layers.items()}


def _parts(model: Mapping[str, Any]) -> tuple[Any, Any, SourceOutputs | None]:
    """Features, labels and outputs of a model that is a mapping of them."""
    unknown = [str(key) for key in model if key not in _PARTS]
    if unknown or "features" not in model:
        raise InputError(
            f"features are a {type(model).__name__} of {', '.join(map(str, model)) or 'nothing'}: "
            f"give an array, or a mapping with 'features' and maybe {', '.join(_PARTS[1:])}"
        )
    head = outputs_of(model.get("logits"), model.get("probabilities"))
    return model["features"], model.get("labels"), head


# --- models that cannot be scored together --------------------------------------------------------


def none_left(problems: Mapping[str, str]) -> InputError:
    """The error where no model can be scored: every reason, with its models."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in problems.items():
        by_reason.setdefault(reason, []).append(name)
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    return InputError(f"no model can be scored. {reasons}")


def of_another_task(labels: Mapping[str, Labels], metrics: Sequence[Any]) -> dict[str, str]:
    """Models that cannot be scored together with the others, and why.

    Raises:
        InputError: if that is so of all of them.
    """
    unable = [metric.name for metric in metrics if "regression" not in metric.tasks]
    targets = {name: own for name, own in labels.items() if own.classes is None}
    if not targets or not (unable or len(targets) < len(labels)):
        return {}
    if unable:
        who = ", ".join(unable)
        reasons = {name: checks.needs_classes(one, who) for name, one in targets.items()}
        if len(targets) == len(labels):
            raise InputError(next(iter(reasons.values())))
        return reasons
    reason = "its targets are numbers, but other models have classes: rank them by a call each"
    return dict.fromkeys(targets, reason)
