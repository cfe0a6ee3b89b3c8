"""The transformer metric -> perturbed metric, and the perturbations by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxte.errors import InputError
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
        return metric(moved, labels, num_features=num_features, **shared, **metric_options)

    return perturbed


def moved_features(
    change: Callable[..., Any],
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_features: ArrayLike | None,
    **options: Any,
) -> tuple[Any, ArrayLike | None]:
    """Perturbed features, and their true width if they are padded."""
    if "return_num_features" in inspect.signature(change).parameters:
        moved, width = change(
            features, labels, num_features=num_features, return_num_features=True, **options
        )
        return moved, width
    moved = change(features, labels, num_features=num_features, **options)
    if num_features is None:
        return moved, None
    return moved, jnp.minimum(jnp.asarray(num_features), moved.shape[1])
