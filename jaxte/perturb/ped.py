"""Potential energy descent: classes that overlap push each other apart."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.perturb.steps import Result, class_balls, prepare
from jaxte.statistics.linalg import matmul, safe_root
from jaxte.statistics.measure import deviate
from jaxte.statistics.rows import Classes, Rows, of_row, promote
from jaxte.statistics.tiles import map_tiles

_STEPS = 6
_LEAST_DEVIATION = 1e-3  # of a source feature, in feature units


def ped(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    source_features: ArrayLike | None = None,
    nsigma: ArrayLike = 0.6,
    time_step: ArrayLike = 0.1,
    exit_ratio: ArrayLike = 0.5,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    return_num_features: bool = False,
) -> Result:
    r"""Move whole classes apart where they overlap: potential energy descent.

    .. math::
        m_a \mathrel{+}= \sum_b \min\bigl(\tfrac12 t^2, 1\bigr)\, o_{ab} \frac{m_a - m_b}{d_{ab}},
        \qquad o_{ab} = \max\bigl(s (R_a + R_b) - d_{ab},\, 0\bigr), \qquad
        d_{ab} = \lVert m_a - m_b \rVert

    in features that are standardised by the mean and deviation of the source data, with R the root
    of the trace of a class's covariance. At most six steps; none is made once the sum of all moves
    falls to ``exit_ratio`` of that of the first step. No step changes what a class is like inside,
    so that all steps are made on the class means alone, which is exact. Classes whose means
    coincide have no direction to part in, and stay.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        source_features: [m, d] features of the data that the model was trained on, which the
            released code demands; None takes mean and deviation from the features themselves.
        nsigma: s, radii at which classes no longer overlap; the released scripts use 0.6 (or
            0.3), its function 2.
        time_step: t of each step.
        exit_ratio: of the moves, from which on there are no further steps.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0.
        num_features: true width when trailing columns are padding; they stay zero.
        return_num_features: return ``(features, num_features)``.

    Returns:
        [n, d] features.

    Raises:
        InputError: outside jit, for input that cannot be perturbed.

    References: Li et al., ICCV 2023, arXiv 2308.15074, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> moved = jaxte.perturb.with_perturbation(jaxte.metrics.sfda, jaxte.perturb.ped)
        >>> bool(moved(x, y) > jaxte.metrics.sfda(x, y))
        True
    """
    for name, value in (("nsigma", nsigma), ("time_step", time_step)):
        checks.check_positive(name, value)
    checks.check_share("exit_ratio", exit_ratio)
    *inputs, num_classes = checks.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    source = None
    if source_features is not None:
        source = _of_source(source_features, np.shape(inputs[0])[1], num_features)
    numbers = checks.as_numbers(nsigma=nsigma, time_step=time_step, exit_ratio=exit_ratio)
    moved, width = _jit_ped(inputs, source, *numbers, num_classes=num_classes)
    return (moved, width) if return_num_features else moved


def _of_source(features: ArrayLike, width: int, num_features: ArrayLike | None) -> Array:
    """Standard deviations of the source data; 0 where the features of the target are padded."""
    features, _ = checks.check_features(features, None)
    own = np.shape(features)[1]
    if own > width or (own < width and num_features is None):
        raise InputError(
            f"source_features have {own} columns, features {width}: give those of the same model"
        )
    return jnp.pad(jnp.std(promote(jnp.asarray(features)), axis=0), (0, width - own))


@partial(jax.jit, static_argnames="num_classes")
def _jit_ped(
    inputs: Any,
    source: Any,
    nsigma: Any,
    time_step: Any,
    exit_ratio: Any,
    *,
    num_classes: int,
) -> tuple[Array, Array]:
    row, group, nsigma, time_step, exit_ratio = prepare(
        inputs, num_classes, nsigma, time_step, exit_ratio
    )
    settings = Settings(nsigma, jnp.minimum(time_step**2 / 2, 1), exit_ratio)
    return move_overlapping(row, group, source, settings), row.width


class Settings(NamedTuple):
    """Radii at which classes rest, the share of an overlap that a step mends, and the exit ratio.

    All are scalars.
    """

    nsigma: Array
    share: Array
    exit_ratio: Array


def move_overlapping(row: Rows, group: Classes, source: Any, settings: Settings) -> Array:
    """Every row moved with its class."""
    state = deviate(row, group.labels, len(group.counts))
    deviation = source
    if source is None:
        means, shares = class_balls(state, group, 1.0)[0], group.counts / row.total
        deviation = _deviation(means, state.squares, shares, row.total)
    deviation = jnp.maximum(deviation.astype(row.features.dtype), _LEAST_DEVIATION)
    start, radius, rounding = class_balls(state, group, deviation)
    present = group.present

    def shift(now: Array, one: tuple[Array, ...]) -> Array:
        mean, own, unknown, here = one
        away = mean[None] - now
        square = jnp.sum(away**2, axis=1)
        counted = here & present & (square > (unknown + rounding) ** 2)
        distance = jnp.sqrt(jnp.where(counted, square, 1))
        overlap = jnp.maximum(settings.nsigma * (own + radius) - distance, 0)
        return matmul(jnp.where(counted, settings.share * overlap / distance, 0), away)

    def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        now, first, going = state
        shifts = map_tiles(partial(shift, now), (now, radius, rounding, present), now.size)
        change = lax.stop_gradient(jnp.abs(shifts).sum())
        first = jnp.where(first > 0, first, change)
        going &= change > settings.exit_ratio * first
        return (jnp.where(going, now + shifts, now), first, going), None

    begin = (start, jnp.zeros((), start.dtype), jnp.ones((), bool))
    (end, _first, _going), _none = lax.scan(step, begin, None, length=_STEPS)
    return row.features + of_row((end - start) * deviation[None], group)


def _deviation(means: Array, squares: Array, shares: Array, total: Array) -> Array:
    """Standard deviation of all rows [d], from the classes."""
    mean = matmul(shares, means)
    between = matmul(shares, (means - mean[None]) ** 2)
    return safe_root(squares.sum(axis=0) / total + between)
