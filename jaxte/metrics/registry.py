"""The metrics by name: those of this package, of other packages, and a user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from jaxte.errors import InputError, did_you_mean, said
from jaxte.intake.checks import short
from jaxte.metrics.custom import from_function
from jaxte.metrics.metric import Metric, MetricFunction

__all__ = ["DEFAULT_METRICS", "REGISTRY", "get_metric", "installed", "register"]

GROUP = "jaxte.metrics"  # of entry points: each names a metric, or a function of the signature
_METRICS: dict[str, Metric] = {}
DEFAULT_METRICS = ("ridge_probe", "logme", "sfda", "face")
REGISTRY: Mapping[str, Metric] = MappingProxyType(_METRICS)


def register(
    metric: Metric | MetricFunction, name: str | None = None, *, replace: bool = False
) -> Metric:
    """Make a metric known by its name, to `jaxte.rank` and to the command line.

    Args:
        metric: a `Metric`, or any function ``(features, labels, *, num_classes=None,
            weights=None, num_features=None, ...)`` that returns one number, larger is better.
            Of the keywords it may leave out what it has no use for, and ask for ``logits`` or
            ``probabilities`` of the models' own heads.
        name: by default that of the metric or of the function.
        replace: whether it takes the place of another metric of that name.

    Returns:
        The `Metric`; a package can name it, or the function, in the entry-point group
        ``jaxte.metrics`` instead of calling this.

    Raises:
        InputError: for a name that another metric has, or what is no function.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> def total_variance(features, labels, *, weights=None):
        ...     return jnp.cov(features.T, aweights=weights).trace()
        >>> jaxte.metrics.register(total_variance).name
        'total_variance'
        >>> x, y = jnp.arange(12.0).reshape(6, 2) ** 0.5, jnp.arange(6) % 2
        >>> jaxte.rank({"a": x, "b": 2 * x}, y, metrics="total_variance").best("total_variance")
        'b'
    """
    made = from_function(metric, name)
    alike = spelling(made.name, _METRICS) or made.name
    if replace:
        _METRICS.pop(alike, None)
        alike = made.name
    other = _METRICS.setdefault(alike, made)
    if not is_same(other, made):
        raise InputError(
            f"there is a metric {other.name!r} already: give another name, or replace=True"
        )
    return other


def is_same(one: Metric, other: Metric) -> bool:
    """Whether two are one record, or records of one function of a user."""
    return one is other or (
        one.call is not None and other.call is not None and one.function is other.function
    )


def get_metric(name: str | Metric | MetricFunction) -> Metric:
    """The metric of that name, in any case, or what a function or a `Metric` is by itself.

    Raises:
        InputError: names those that are spelt alike.

    Example:
        >>> import jaxte
        >>> jaxte.metrics.get_metric("LogME").tasks
        ('classification', 'regression')
        >>> jaxte.metrics.get_metric(jaxte.metrics.logme).name
        'logme'
    """
    if isinstance(name, Metric):
        return name
    if callable(name):
        own = [one for one in _METRICS.values() if one.function is name]
        return own[0] if own else from_function(name)
    is_ours = isinstance(name, str) and name in _METRICS
    known = name if is_ours else spelling(name, (*_METRICS, *_others()))
    if known is None:
        names = list(dict.fromkeys((*_METRICS, *_others())))
        hint = did_you_mean(str(name).lower(), names)
        raise InputError(
            f"unknown metric {short(name)}: {hint}`jaxte metrics` lists all {len(names)}"
        )
    return _METRICS[known] if known in _METRICS else _load(known)


def spelling(name: Any, names: Iterable[str]) -> str | None:
    """The one of these names that is meant, in whatever case it is written; None for none."""
    if not isinstance(name, str):
        return None
    alike = [one for one in names if one.lower() == name.lower()]
    return name if name in alike else next(iter(alike), None)


def installed() -> dict[str, Metric | InputError]:
    """All metrics by name, those of other packages too, or why one of them cannot be loaded.

    Example:
        >>> import jaxte
        >>> jaxte.metrics.installed()["logme"].tasks
        ('classification', 'regression')
    """
    metrics: dict[str, Metric | InputError] = dict(_METRICS)
    for name in _others():
        if name not in metrics:
            try:
                metrics[name] = _load(name)
            except InputError as error:
                metrics[name] = error
    return metrics


@cache
def _others() -> Mapping[str, Any]:
    """The entry points of other packages, by the names of their metrics."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(name: str) -> Metric:
    try:
        return register(from_function(_others()[name].load(), name))
    except (Exception, SystemExit) as error:  # other people's code
        raise InputError(
            f"the metric {name!r} of another package cannot be loaded: {said(error)}"
        ) from error
