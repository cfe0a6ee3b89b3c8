"""GBC: how little Gaussian classes overlap."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.bhattacharyya import (
    FLOOR,
    check_covariance,
    check_options,
    class_overlaps,
    floor_of,
    overlaps,
)
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics

__all__ = ["gbc", "gbc_from_moments"]

_VARIANTS = ("paper", "released")


def gbc(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    covariance: str = "spherical",
    variance_floor: ArrayLike = FLOOR,
    variant: str = "paper",
) -> Array:
    r"""Minus the Bhattacharyya coefficients of all pairs of Gaussian classes.

    .. math:: -\sum_{i \ne j} e^{-D_{ij}}, \qquad
        D_{ij} = \tfrac18 (m_i - m_j)^\top \Sigma^{-1} (m_i - m_j)
        + \tfrac12 \ln \frac{|\Sigma|}{\sqrt{|\Sigma_i| |\Sigma_j|}}, \qquad
        \Sigma = \tfrac12 (\Sigma_i + \Sigma_j)

    Published with features that PCA has cut to 64 dimensions: in many, hardly any classes overlap
    and all scores are 0.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0, within classes only: each pair counts the same.
        num_features: true width when trailing columns are padding.
        covariance: "spherical" (one variance per class), "diagonal", or "full" (C (C+1) / 2
            Cholesky factors of size d: for small d and C).
        variance_floor: least variance, in squared feature units; added to a full covariance.
        variant: "released" divides squares by n_c - 1 (by n_c where that is not positive), applies
            the floor to each coordinate before their mean is the spherical variance, and counts
            the log term of that once and not d times. Not for "full".

    Returns:
        Scalar in [-C (C - 1), 0]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Pandy et al., CVPR 2022, arXiv 2111.12780.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.gbc(better, y) > jaxte.metrics.gbc(x, y))
        True
    """
    return GBC.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        covariance=covariance,
        variance_floor=variance_floor,
        variant=variant,
    )["score"]


def gbc_from_moments(
    state: Moments,
    *,
    covariance: str = "spherical",
    variance_floor: ArrayLike = FLOOR,
    variant: str = "paper",
) -> Array:
    r"""GBC of samples that are known by their moments only.

    .. math:: -\sum_{i \ne j} e^{-D_{ij}}

    Args:
        state: `jaxte.moments.Moments` of labels.
        covariance: "spherical" or "diagonal".
        variance_floor: as in `gbc`.
        variant: as in `gbc`.

    Returns:
        Scalar, the score that `gbc` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets, or covariance="full".

    References: as `gbc`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.gbc_from_moments(state) - jaxte.metrics.gbc(x, y)
        >>> bool(abs(gap) < 1e-3)
        True
    """
    return GBC.outputs_from_moments(
        state, covariance=covariance, variance_floor=variance_floor, variant=variant
    )["score"]


def _check(*, covariance: str, variance_floor: Any, variant: str) -> None:
    check_options(covariance=covariance, variance_floor=variance_floor)
    checks.choose("variant", variant, _VARIANTS)
    if covariance == "full" and variant == "released":
        raise InputError("variant='released' has no covariance='full': choose variant='paper'")


def _needs(*, covariance: str, **_: Any) -> frozenset[str]:
    return frozenset({"measured", "all_rows" if covariance == "full" else "squares"})


def _score(
    statistics: Statistics,
    _: tuple[Completed, ...],
    *,
    covariance: str,
    variance_floor: Any,
    variant: str,
) -> Outputs:
    check_covariance(statistics, covariance)
    floor, present = floor_of(variance_floor, statistics), statistics.counts > 0
    if variant == "released":
        overlap = _released(statistics, covariance, floor)
    else:
        overlap = class_overlaps(statistics, covariance, floor)
    pairs = present[:, None] & present[None] & ~jnp.eye(len(present), dtype=bool)
    score = -jnp.sum(jnp.where(pairs, overlap, 0))
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


def _released(statistics: Statistics, covariance: str, floor: Array) -> Array:
    counts = statistics.counts[:, None]
    rest = jnp.where(counts > 1, counts - 1, jnp.where(counts > 0, counts, 1))
    variance = jnp.maximum(statistics.squares / rest, floor)
    if covariance == "spherical":
        own = jnp.arange(variance.shape[1]) < statistics.width  # the floor fills padding too
        variance = jnp.sum(jnp.where(own[None], variance, 0), axis=1)[:, None] / statistics.width
    return overlaps(statistics.measured.moments.deviations, variance, 1)


GBC = register(
    Metric(
        name="gbc",
        function=gbc,
        score=_score,
        paper="Pandy et al., CVPR 2022",
        confirmed="own replica",
        range=(float("-inf"), 0.0),
        cost="n d + C^2 d",
        needs=_needs,
        check=_check,
        invariances=frozenset({"rotation", "shift"}),
        variants=_VARIANTS,
        from_moments=gbc_from_moments,
    )
)
