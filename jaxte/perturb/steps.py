"""The single moves: spread, attract and PCA."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.statistics.linalg import matmul, noise, safe_root
from jaxte.statistics.measure import Deviations, centred, deviate, divisors
from jaxte.statistics.rows import Classes, Rows, as_classes, as_rows, of_row
from jaxte.statistics.spectrum import spectrum
from jaxte.statistics.tiles import map_tiles

Result = Any  # features [n, d'], or (features, num_features) if asked for

VARIANTS = ("paper", "released")


def spread(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    force: ArrayLike = 1.0,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    return_num_features: bool = False,
) -> Result:
    r"""Move every sample straight away from its class mean.

    .. math:: x' = x + f \frac{x - m_y}{\lVert x - m_y \rVert}

    A sample that lies on its mean, but for rounding, stays there.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        force: f, the distance moved, in feature units.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0 (they decide the class means).
        num_features: true width when trailing columns are padding; they stay zero.
        return_num_features: return ``(features, num_features)``.

    Returns:
        [n, d] features.

    Raises:
        InputError: outside jit, for input that cannot be perturbed.

    References: Khoba et al., WACV 2025, arXiv 2502.16471; force 1 from its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> jaxte.perturb.spread(x, jax.numpy.arange(90) % 3).shape
        (90, 8)
    """
    *inputs, num_classes = checks.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    moved, width = _jit_spread(inputs, *checks.as_numbers(force=force), num_classes=num_classes)
    return (moved, width) if return_num_features else moved


def attract(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.005,
    sigma: ArrayLike = 0.6,
    variant: str = "paper",
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    return_num_features: bool = False,
) -> Result:
    r"""Move whole classes along the lines between their means.

    .. math::
        x' = x + \sum_{b \ne y} \alpha\, a_{yb}\, \frac{m_b - m_y}{d_{yb}}, \quad
        d_{ab} = \lVert m_a - m_b \rVert, \quad
        a_{ab} = \lvert d_{ab} - \sigma (R_a + R_b) \rvert

    with R the root of the trace of a class's covariance. That is ``variant="paper"``: classes
    always move toward each other (reconstructed: the paper's equation could not be confirmed).
    ``variant="released"`` has :math:`a_{ab} = \sigma (R_a + R_b) - d_{ab}`, signed: separated
    classes are pushed apart. Either way the shift is a sum over C-1 classes and grows with C.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        alpha: step, dimensionless.
        sigma: radii at which a pair rests, dimensionless.
        variant: "paper" or "released".
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0.
        num_features: true width when trailing columns are padding; they stay zero.
        return_num_features: return ``(features, num_features)``.

    Returns:
        [n, d] features.

    Raises:
        InputError: outside jit, for input that cannot be perturbed.

    References: Khoba et al., WACV 2025, arXiv 2502.16471; constants from its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> jaxte.perturb.attract(x, jax.numpy.arange(90) % 3).shape
        (90, 8)
    """
    checks.choose("variant", variant, VARIANTS)
    *inputs, num_classes = checks.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    signed = variant == "released"
    numbers = checks.as_numbers(alpha=alpha, sigma=sigma)
    moved, width = _jit_attract(inputs, *numbers, num_classes=num_classes, signed=signed)
    return (moved, width) if return_num_features else moved


def pca(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    num_components: int = 64,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    return_num_features: bool = False,
) -> Result:
    r"""Scores on the leading principal axes: the control beside every perturbation that uses PCA.

    .. math:: x' = V_k^\top (x - m)

    Exact, not randomised. The entry of largest magnitude of each axis is positive.

    Args:
        features: [n, d].
        labels: ignored; accepted so that all perturbations are called alike.
        num_components: k; the output has min(k, d) columns.
        num_classes: ignored.
        weights: [n] sample weights >= 0.
        num_features: true width when trailing columns are padding.
        return_num_features: return ``(features, num_features)``.

    Returns:
        [n, min(k, d)] centred scores; columns beyond min(n, num_features) are zero.

    Raises:
        InputError: outside jit, for features that cannot be used.

    References: preprocessing of Khoba et al., WACV 2025, arXiv 2502.16471 (there randomised).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 80))
        >>> jaxte.perturb.pca(x).shape
        (90, 64)
    """
    checks.check_whole("num_components", num_components)
    features, weights = checks.check_features(features, weights, num_features)
    moved, width = _jit_pca(features, weights, num_features, num_components=num_components)
    return (moved, width) if return_num_features else moved


# --- inside jit --------------------------------------------------------------------------------


def prepare(inputs: Sequence[Any], num_classes: int, *strengths: Any) -> tuple[Any, ...]:
    """Rows, classes and strengths of one dtype from (features, labels, weights, num_features)."""
    features, labels, weights, num_features = inputs
    row = as_rows(features, weights, num_features)
    group = as_classes(labels, num_classes, row)
    return row, group, *(jnp.asarray(value).astype(row.features.dtype) for value in strengths)


@partial(jax.jit, static_argnames="num_classes")
def _jit_spread(inputs: Any, force: Any, *, num_classes: int) -> tuple[Array, Array]:
    row, group, force = prepare(inputs, num_classes, force)
    return move_apart(row, group, force), row.width


@partial(jax.jit, static_argnames=("num_classes", "signed"))
def _jit_attract(
    inputs: Any, alpha: Any, sigma: Any, *, num_classes: int, signed: bool
) -> tuple[Array, Array]:
    row, group, alpha, sigma = prepare(inputs, num_classes, alpha, sigma)
    return move_classes(row, group, alpha, sigma, signed=signed), row.width


@partial(jax.jit, static_argnames="num_components")
def _jit_pca(
    features: Any, weights: Any, num_features: Any, *, num_components: int
) -> tuple[Array, Array]:
    return principal_scores(as_rows(features, weights, num_features), num_components)[:2]


def move_apart(row: Rows, group: Classes, force: Array) -> Array:
    """Every row moved by ``force`` away from its class mean."""
    away, means = _from_class_means(row, group)
    # of a row on the mean of its class rounding leaves a direction that is none
    size = jnp.sqrt(jnp.sum(row.features**2, axis=1)) + of_row(_safe_norm(means, 0.0), group)
    length = _safe_norm(away, 1.0)
    moves = lax.stop_gradient(length > noise(size))[:, None]
    return row.features + jnp.where(moves, force * away / length[:, None], 0)


def _from_class_means(row: Rows, group: Classes) -> tuple[Array, Array]:
    """Rows minus the mean of their class [n, d], and those means [C, d]; alike rows stay alike."""
    state = deviate(row, group.labels, len(group.counts))
    return state.rows, state.origin[None] + state.references + state.gap


def class_balls(state: Deviations, group: Classes, unit: ArrayLike) -> tuple[Array, Array, Array]:
    """Class means from a common origin [C, d], radii [C], and how far means lie by rounding [C].

    ``unit``: that of each feature, [d] or one number. The radius is the root of the covariance's
    trace. Means that coincide but for rounding have no line between them to move along.
    """
    unit = jnp.broadcast_to(jnp.asarray(unit, state.rows.dtype), state.rows.shape[1:])[None]
    means = jnp.where(group.present[:, None], state.references + state.gap, 0)
    counts = divisors(group.counts)
    radius = safe_root(jnp.sum(state.squares / unit**2, axis=1) / counts)
    size = jnp.sqrt(jnp.sum(((means + state.origin[None]) / unit) ** 2, axis=1))
    return means / unit, radius, lax.stop_gradient(noise(size) + noise(radius, counts))


def move_classes(row: Rows, group: Classes, alpha: Array, sigma: Array, *, signed: bool) -> Array:
    """Every class moved along the lines between the means."""
    means, radius, rounding = class_balls(deviate(row, group.labels, len(group.counts)), group, 1.0)

    def shift(one: tuple[Array, Array, Array, Array]) -> Array:
        mean, own, unknown, present = one
        toward = means - mean[None]
        gap = _safe_norm(toward, 0.0)
        amount = sigma * (own + radius) - gap
        amount = amount if signed else jnp.abs(amount)
        counted = present & group.present & (gap > unknown + rounding)
        return matmul(jnp.where(counted, alpha * amount / jnp.where(counted, gap, 1), 0), toward)

    shifts = map_tiles(shift, (means, radius, rounding, group.present), means.size)
    return row.features + of_row(shifts, group)


def principal_scores(row: Rows, num_components: int) -> tuple[Array, Array, Array]:
    """Scores, their width, and the eigenvalues of the covariance."""
    d = row.features.shape[1]
    x, _ = centred(row)
    spectral = spectrum(x, row.weights)
    axes = jnp.where(spectral.values[None] > 0, spectral.axes, 0)[:, :num_components]
    scores = matmul(x, axes)
    missing = min(num_components, d) - scores.shape[1]  # n < num_components < d
    scores = jnp.pad(scores, ((0, 0), (0, missing)))
    width = jnp.minimum(row.width, min(num_components, d)).astype(row.width.dtype)
    return scores, width, spectral.values / row.total


def _safe_norm(rows: Array, of_zero: float) -> Array:
    """Lengths of rows, ``of_zero`` for a row of zeros, with derivative 0 there."""
    square = jnp.sum(rows**2, axis=1)
    return jnp.where(square > 0, safe_root(square), of_zero)
