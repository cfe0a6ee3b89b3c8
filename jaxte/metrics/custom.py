"""Metrics of users: any function of the standard signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.errors import InputError
from jaxte.intake.checks import short
from jaxte.metrics.metric import SIGNATURE, SOURCE_OUTPUTS, Metric, MetricFunction
from jaxte.statistics import Sample

__all__ = ["from_function"]


def from_function(function: Metric | MetricFunction, name: str | None = None) -> Metric:
    """A `Metric` of a function that has not been written as one.

    It is called as it is, once a model, with arrays and outside of any program: so it may be made
    of JAX, NumPy or anything else, and may change between two calls.

    Raises:
        InputError: for what cannot be called with features and labels.
    """
    if isinstance(function, Metric):
        return function if name is None else replace(function, name=name)
    if not callable(function):
        raise InputError(f"{short(function)} is no metric: give a name, a function or a Metric")
    name = _name_of(function) if name is None else name
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        raise InputError(
            f"the parameters of {name} cannot be read: wrap it in a function of features and labels"
        ) from None
    positional = [one for one in parameters if one.kind <= one.POSITIONAL_OR_KEYWORD]
    if len(positional) < 2 and not any(one.kind == one.VAR_POSITIONAL for one in parameters):
        raise InputError(f"{name} does not take features and labels, as a metric has to")
    takes = {one.name for one in parameters if one.kind != one.POSITIONAL_ONLY}
    takes &= {*SIGNATURE[3:], *SOURCE_OUTPUTS}

    def call(sample: Sample, num_classes: int | None, options: Mapping[str, Any]) -> float:
        shared: dict[str, Any] = {
            "num_classes": num_classes,
            "weights": sample.weights,
            "num_features": np.shape(sample.features)[1],
        }
        if sample.source is not None:
            logits, p = sample.source.logits, sample.source.probabilities
            if p is None:
                p = jax.nn.softmax(jnp.asarray(logits), axis=1)
            else:
                logits = jnp.log(jnp.maximum(p, np.finfo(np.float32).tiny))  # 0 has no logarithm
            shared |= {"logits": logits, "probabilities": p}
        keywords = {key: value for key, value in shared.items() if key in takes} | dict(options)
        return _number(name, _called(function, sample, keywords))

    return Metric(
        name=name,
        function=function,
        score=_unused,
        tasks=("classification", "regression"),
        needs=frozenset({"all_rows", *takes & set(SOURCE_OUTPUTS)}),
        call=call,
        takes_weights="weights" in takes,
    )


def _unused(*_: Any, **__: Any) -> Any:
    raise InputError("this metric is a function of all rows, not of statistics")


def _name_of(function: Callable[..., Any]) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def _called(function: Callable[..., Any], sample: Sample, keywords: Mapping[str, Any]) -> Any:
    """With arrays of JAX; where that fails, with NumPy's own, which may be written to."""
    features, targets = jnp.asarray(sample.features), jnp.asarray(sample.targets)
    try:
        return function(features, targets, **jax.tree.map(_as_jax, dict(keywords)))
    except Exception as error:
        arrays = jax.tree.map(np.array, (sample.features, sample.targets))
        try:
            return function(*arrays, **jax.tree.map(_as_numpy, dict(keywords)))
        except Exception:
            raise error from None


def _as_jax(value: Any) -> Any:
    return jnp.asarray(value) if isinstance(value, np.ndarray) else value


def _as_numpy(value: Any) -> Any:
    return np.array(value) if isinstance(value, jax.Array) else value


def _number(name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        what = f"an array of shape {array.shape}" if array.size != 1 else short(value)
        raise InputError(f"{name} returned {what}, not one number")
    return float(array.reshape(()))
