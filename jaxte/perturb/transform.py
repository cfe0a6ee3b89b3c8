"""The transformer metric -> perturbed metric, and the perturbations by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake.checks import is_traced, short
from jaxte.perturb.ped import ped
from jaxte.perturb.spread_attract import spread_attract
from jaxte.perturb.steps import attract, pca, spread


@runtime_checkable
class Perturbation(Protocol):
    """What a user may pass as a perturbation: features of the same rows, changed."""

    def __call__(self, features: Any, labels: Any, /, *args: Any, **options: Any) -> Any:
        """As any of this package."""


PERTURBATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "spread": spread,
        "attract": attract,
        "pca": pca,
        "ped": ped,
        "spread_attract": spread_attract,
        "spread_attract_released": functools.partial(spread_attract, variant="released"),
    }
)


def get_perturbation(name: str) -> Callable[..., Any]:
    """Return the perturbation of that name; an `InputError` lists the known ones.

    Example:
        >>> import jaxte
        >>> jaxte.perturb.get_perturbation("pca") is jaxte.perturb.pca
        True
    """
    if name not in PERTURBATIONS:
        known = ", ".join(PERTURBATIONS)
        raise InputError(f"unknown perturbation {name!r}: choose from {known}")
    return PERTURBATIONS[name]


def with_perturbation(
    metric: Callable[..., Any], perturb: Callable[..., Any] | str, **options: Any
) -> Callable[..., Any]:
    """The metric of the perturbed features, with the metric's own signature.

    Args:
        metric: any function (features, labels, *, num_classes, weights, num_features, ...).
        perturb: a perturbation or its registered name.
        options: handed to the perturbation at every call.

    Returns:
        A function to be called like ``metric``.

    Raises:
        InputError: for an unknown name.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 80))
        >>> y = jax.numpy.arange(90) % 3
        >>> control = jaxte.perturb.with_perturbation(jaxte.metrics.logme, jaxte.perturb.pca)
        >>> control(x, y).shape
        ()
    """
    change = get_perturbation(perturb) if isinstance(perturb, str) else perturb
    if not callable(change):
        raise InputError(f"perturb is {short(perturb)}: give a perturbation, or the name of one")
    if unknown := [name for name in options if not _takes(change, name)]:
        known = ", ".join(inspect.signature(change).parameters)
        raise InputError(f"the perturbation has no option {unknown[0]!r}: it has {known}")

    @functools.wraps(metric)
    def perturbed(
        features: ArrayLike,
        labels: ArrayLike,
        *,
        num_classes: int | None = None,
        weights: ArrayLike | None = None,
        num_features: ArrayLike | None = None,
        **metric_options: Any,
    ) -> Any:
        shared: dict[str, Any] = {"num_classes": num_classes, "weights": weights}
        moved, num_features = moved_features(
            change, features, labels, num_features=num_features, **shared, **options
        )
        if num_features is not None and not _takes(metric, "num_features"):
            moved = moved if is_traced(num_features) else moved[:, : int(np.asarray(num_features))]
        shared["num_features"] = num_features
        return metric(moved, labels, **_taken(metric, shared), **metric_options)

    return perturbed


def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(one.kind == one.VAR_KEYWORD for one in parameters.values())


def _taken(function: Callable[..., Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Of the keywords that all share those that a function does not leave out."""
    if shared.get("weights") is not None and not _takes(function, "weights"):
        name = getattr(function, "__name__", "the function")
        raise InputError(f"{name} takes no weights, but rows have some: add the keyword weights")
    return {name: value for name, value in shared.items() if _takes(function, name)}


def moved_features(
    change: Callable[..., Any],
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_features: ArrayLike | None,
    **options: Any,
) -> tuple[Any, ArrayLike | None]:
    """Perturbed features, and their true width if they are padded."""
    options = _taken(change, {"num_features": num_features, **options})
    if "return_num_features" in inspect.signature(change).parameters:
        moved, width = change(features, labels, return_num_features=True, **options)
        return moved, width
    moved = change(features, labels, **options)
    if num_features is None:
        return moved, None
    return moved, jnp.minimum(jnp.asarray(num_features), moved.shape[1])
