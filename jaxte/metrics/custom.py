"""Metrics of users: any function of the standard signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.errors import InputError
from jaxte.intake.checks import short
from jaxte.metrics.metric import (
    SIGNATURE,
    SOURCE_OUTPUTS,
    Completed,
    Metric,
    MetricFunction,
    Outputs,
)
from jaxte.statistics import Statistics

__all__ = ["from_function"]


def from_function(function: Metric | MetricFunction, name: str | None = None) -> Metric:
    """A `Metric` of a function that has not been written as one.

    Raises:
        InputError: for what cannot be called with features and labels.
    """
    if isinstance(function, Metric):
        return function if name is None else replace(function, name=name)
    if not callable(function):
        raise InputError(f"{short(function)} is no metric: give a name, a function or a Metric")
    named: Any = function  # what can be called can be hashed, but for rare objects
    return _of_function(named, name or _name_of(function))


def _name_of(function: Callable[..., Any]) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


@cache
def _of_function(function: Callable[..., Any], name: str) -> Metric:
    parameters = inspect.signature(function).parameters.values()
    positional = [one for one in parameters if one.kind <= one.POSITIONAL_OR_KEYWORD]
    if len(positional) < 2 and not any(one.kind == one.VAR_POSITIONAL for one in parameters):
        raise InputError(f"{name} does not take features and labels, as a metric has to")
    names = {one.name for one in parameters}
    anything = any(one.kind == one.VAR_KEYWORD for one in parameters)
    takes = {one for one in (*SIGNATURE[3:], *SOURCE_OUTPUTS) if one in names}
    if anything:
        takes |= set(SIGNATURE[3:])

    def score(statistics: Statistics, _: tuple[Completed, ...], **options: Any) -> Outputs:
        sample = statistics.sample
        assert sample is not None
        shared: dict[str, Any] = {
            "num_classes": statistics.num_classes,
            "weights": sample.weights,
            "num_features": sample.num_features,
        }
        if takes & set(SOURCE_OUTPUTS):
            shared |= {"logits": sample.logits, "probabilities": jax.nn.softmax(sample.logits)}
        shared = {key: value for key, value in shared.items() if key in takes}
        call = partial(_call, function, options)
        try:
            value = jnp.asarray(call(sample.features, sample.targets, shared))
        except jax.errors.JAXTypeError:  # not made of jax.numpy: call it outside
            like = jax.ShapeDtypeStruct((), jnp.zeros(()).dtype)
            arguments = (sample.features, sample.targets, shared)
            host = partial(_call_on_host, call, like.dtype)
            value = jax.pure_callback(host, like, *arguments, vmap_method="sequential")
        if value.size != 1:
            raise InputError(f"{name} returned an array of shape {value.shape}, not one number")
        return {"score": value.reshape(())}

    return Metric(
        name=name,
        function=function,
        score=score,
        tasks=("classification", "regression"),
        needs=frozenset({"all_rows", *takes & {"weights", "num_features", *SOURCE_OUTPUTS}}),
        pads="num_features" in takes,
    )


def _call_on_host(call: Callable[..., Any], dtype: Any, *arguments: Any) -> np.ndarray:
    value = np.asarray(call(*jax.tree.map(np.asarray, arguments)), dtype)
    return value.reshape(()) if value.size == 1 else value


def _call(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    features: Any,
    targets: Any,
    shared: Mapping[str, Any],
) -> Any:
    return function(features, targets, **shared, **options)
