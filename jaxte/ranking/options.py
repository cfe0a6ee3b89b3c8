"""The options of `jaxte.rank`, checked in one place before any work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.intake import Labels
from jaxte.intake.checks import check_whole, choose, is_traced, number, short
from jaxte.metrics import DEFAULT_METRICS, NORMALISATIONS, Metric, get_metric
from jaxte.metrics.metric import SOURCE_OUTPUTS
from jaxte.metrics.options import plain
from jaxte.metrics.registry import is_same, spelling
from jaxte.perturb import PERTURBATIONS, get_perturbation
from jaxte.ranking.verdict import HISTORY, decisive
from jaxte.runtime.mesh import Layout, layout_of

__all__ = ["NORMALIZATIONS", "PRECISIONS", "RankOptions", "check_names", "checked"]

NORMALIZATIONS = NORMALISATIONS  # of jaxte.metrics.combine; "sum": as published
PRECISIONS = ("auto", "float32", "float64")
CHEAP = 5e10  # operations of a pool up to which intervals="auto" makes them, some seconds
# Where an annotation of a metric's option has one of these words, values of that kind will do.
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool | np.bool_)),
    "int": ("a whole number", lambda value: number(value).is_integer()),
    "float": ("a number", lambda value: not np.isnan(number(value))),
    "ArrayLike": ("a number", lambda value: not np.isnan(number(value))),
    "None": ("None", lambda value: value is None),
}


class RankOptions(NamedTuple):
    """The options as `rank` uses them.

    ``options`` are those of the metrics, by name; ``intervals``: of which metrics; ``auto``: of the
    decisive one, if they are cheap.
    """

    metrics: tuple[Metric, ...]
    options: Mapping[str, Mapping[str, Any]]
    perturb: Callable[..., Any] | None
    memory_limit: int | None
    layout: Layout | None
    permutations: int = 0
    intervals: tuple[Metric, ...] = ()
    seed: int = 0
    auto: bool = False

    def needs(self, metric: Metric) -> frozenset[str]:
        """What a metric reads, with its options."""
        return metric.needed(self.options.get(metric.name, {}))

    def settled(self, operations: float) -> RankOptions:
        """What ``auto`` comes to, for a pool that takes so many operations once."""
        if not self.auto or operations * len(self.metrics) >= CHEAP:
            return self
        first = decisive([metric.name for metric in self.metrics])
        return self._replace(intervals=tuple(m for m in self.metrics if m.name == first))

    def of_task(self, labels: Collection[Labels]) -> RankOptions:
        """Without those of the usual metrics that need classes, where all targets are floats."""
        usual = tuple(metric.name for metric in self.metrics) == DEFAULT_METRICS
        if not usual or not labels or any(own.classes is not None for own in labels):
            return self
        metrics, intervals = (
            tuple(metric for metric in some if "regression" in metric.tasks)
            for some in (self.metrics, self.intervals)
        )
        return self._replace(metrics=metrics, intervals=intervals)

    @property
    def read_outputs(self) -> bool:
        """Whether a metric reads outputs of the models' own heads."""
        return any(self.needs(metric) & set(SOURCE_OUTPUTS) for metric in self.metrics)


def checked(
    metrics: Any,
    *,
    options: Any = None,
    perturb: Any = None,
    precision: Any = "auto",
    progress: Any = False,
    num_classes: Any = None,
    weights: Any = None,
    normalize: Any = "sum",
    memory_limit: Any = None,
    mesh: Any = None,
    permutations: Any = 0,
    intervals: Any = False,
    seed: Any = 0,
) -> RankOptions:
    """The options of a call, or an `InputError` that names the one that cannot be."""
    chosen = _metrics(metrics)
    options = _checked_options({} if options is None else options, chosen)
    choose("precision", precision, PRECISIONS)
    choose("normalize", normalize, NORMALIZATIONS)
    if not (progress is None or isinstance(progress, bool | np.bool_) or callable(progress)):
        raise InputError(
            f"progress is {short(progress)}: give True, False or a function of (done, total, label)"
        )
    if num_classes is not None:
        check_whole("num_classes", num_classes)
    if weights is not None:
        _check_weights(weights)
    if memory_limit is not None and not 1 <= number(memory_limit) < 1 << 62:
        raise InputError(
            f"memory_limit is {short(memory_limit)}: give bytes, as a positive finite number"
        )
    layout = None if mesh is None else layout_of(mesh)
    if isinstance(perturb, str):
        perturb = get_perturbation(perturb)
    elif perturb is not None and not callable(perturb):
        names = ", ".join(PERTURBATIONS)
        raise InputError(f"perturb is {short(perturb)}: give a function or one of {names}")
    if layout is not None and layout.axis is not None and perturb is not None:
        raise InputError("perturb needs all rows of a model on one device: use a mesh of 'models'")
    auto = isinstance(intervals, str) and intervals == "auto"
    if not auto and not isinstance(intervals, bool | np.bool_):
        raise InputError(f"intervals is {short(intervals)}: give True, False or 'auto'")
    for name, value in {"permutations": permutations, "seed": seed}.items():
        check_whole(name, value, least=0)
    alone = layout is None or jax.process_count() == 1
    for name, value in {"permutations": permutations, "intervals": intervals}.items():
        if value and value != "auto" and not alone:
            raise InputError(
                f"{name} need all rows of a model in one process, and the mesh spans "
                f"{jax.process_count()}: leave out {name}"
            )
    return RankOptions(
        chosen, options, perturb, None if memory_limit is None else int(memory_limit), layout,
        int(permutations), chosen if intervals and not auto else (), int(seed),
        auto and alone,
    )  # fmt: skip


def check_names(features: Any) -> None:
    """Raise `InputError` for what is no mapping, or has two models of one name, as 1 and "1"."""
    if not isinstance(features, Mapping) or not features:
        raise InputError(
            "features must be a mapping of at least one model name to its features, as {'resnet': "
            f"array [n, d]}}, not {short(features)}"
        )
    names: dict[str, Any] = {}
    for key in features:
        if str(key) in names:
            raise InputError(
                f"two models are called {key}: the names {names[str(key)]!r} and {key!r} are one "
                "as texts, rename one of them"
            )
        names[str(key)] = key


def _check_weights(weights: Any) -> None:
    try:
        np.asarray(weights, np.float64)
    except Exception:  # objects may refuse in any way
        shown = short(weights)
        raise InputError(f"weights are {shown}: give one number >= 0 for each row") from None


def _metrics(metrics: Any) -> tuple[Metric, ...]:
    one = isinstance(metrics, str | Metric) or callable(metrics)
    listed = [metrics] if one else metrics
    if not isinstance(listed, Iterable) or isinstance(listed, bytes | Mapping):
        raise InputError(
            f"metrics is {short(metrics)}: give a name, a function or a Metric, or a list of them"
        )
    if isinstance(listed, set | frozenset):
        listed = sorted(listed, key=str)  # for a fixed order
    chosen: dict[str, Metric] = {}
    for metric in map(get_metric, listed):
        if metric.name == HISTORY:
            raise InputError(f"a metric cannot be called {HISTORY!r}, as the column of history= is")
        other = chosen.setdefault(metric.name, metric)
        if not is_same(other, metric):
            raise InputError(
                f"two metrics are called {metric.name}: jaxte.metrics.register(function, name) "
                "gives one another name"
            )
    if not chosen:
        raise InputError("metrics is empty: name at least one")
    return tuple(chosen.values())


def _checked_options(options: Any, metrics: Sequence[Metric]) -> dict[str, Mapping[str, Any]]:
    """The options by the names of their metrics, which may be written in any case."""
    if not isinstance(options, Mapping):
        raise InputError(
            f"options is {short(options)}: give metric -> its own options, as a mapping"
        )
    chosen = {metric.name: metric for metric in metrics}
    known: dict[str, Mapping[str, Any]] = {}
    for key, own in options.items():
        name = spelling(key, chosen)
        if name is None or name in known:
            why = f"there are {', '.join(chosen)}" if name is None else "they are given twice"
            raise InputError(f"options are given for {key!r}, but {why}")
        if not isinstance(own, Mapping):
            raise InputError(
                f"options of {name} are {short(own)}: give option -> value, as a mapping"
            )
        parameters = chosen[name].parameters
        for option, value in own.items():
            if option not in parameters:
                names = ", ".join(parameters) or "none"
                raise InputError(f"{name} has no option {option!r}: it has {names}")
            _check_kind(f"{name}.{option}", value, str(parameters[option].annotation))
        try:
            chosen[name].checked_options(own)
        except InputError as error:
            raise InputError(f"options of {name}: {error}") from None
        known[name] = plain(parameters, own)
    for metric in metrics:
        own = known.get(metric.name, {})
        for name, parameter in metric.parameters.items():
            if parameter.default is parameter.empty and name not in own:
                raise InputError(
                    f"{metric.name} needs {name}: options={{{metric.name!r}: {{{name!r}: ...}}}}"
                )
    return known


def _check_kind(name: str, value: Any, annotation: str) -> None:
    words = [word.strip() for word in annotation.split("|")]
    kinds = [_KINDS[word] for word in words if word in _KINDS]
    if len(kinds) < len(words) or is_traced(value) or any(fits(value) for _, fits in kinds):
        return  # other kinds are checked by the metric
    raise InputError(f"{name} is {short(value)}: give {' or '.join(kind for kind, _ in kinds)}")
