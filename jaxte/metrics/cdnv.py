"""Distances between classes against distances within them: CDNV, and within alone: TMI's proxy."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import noise
from jaxte.statistics.measure import divisors
from jaxte.statistics.tiles import map_tiles

__all__ = ["cdnv", "cdnv_from_moments", "tmi_variance", "tmi_variance_from_moments"]


def cdnv(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the class-distance normalised variance, 0 for classes that have collapsed.

    .. math:: -\frac{1}{C (C - 1)} \sum_{i \ne j} \frac{v_i + v_j}{2\, \|m_i - m_j\|^2}, \qquad
        v_c = \frac{1}{n_c} \sum_{y_i = c} \|x_i - m_c\|^2

    One pair of classes that nearly coincide decides the mean.

    Args:
        features: [n, d], any scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0, within classes only: each pair counts the same.
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar <= 0. NaN when fewer than two classes occur or two class means coincide.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Galanti, Gyorgy, Hutter, ICLR 2022, arXiv 2112.15121.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.cdnv(better, y) > jaxte.metrics.cdnv(x, y))
        True
    """
    return CDNV.outputs(features, labels, num_classes, weights, num_features)["score"]


def cdnv_from_moments(state: Moments) -> Array:
    r"""CDNV of samples that are known by their moments only.

    .. math:: v_c = \mathrm{tr}\, S_c \,/\, n_c

    Args:
        state: `jaxte.moments.Moments` of labels.

    Returns:
        Scalar, the score that `cdnv` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets.

    References: as `cdnv`.

    Example:
        >>> import jax, jaxte
        >>> y = jax.numpy.arange(90) % 3
        >>> x = jax.random.normal(jax.random.key(0), (90, 8)).at[:, 0].add(y)
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.cdnv_from_moments(state) / jaxte.metrics.cdnv(x, y) - 1
        >>> bool(abs(gap) < 1e-3)
        True
    """
    return CDNV.outputs_from_moments(state)["score"]


def tmi_variance(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Variance within classes, as a stand-in for the entropy of TMI.

    .. math:: \frac1n \sum_i \|x_i - m_{y_i}\|^2

    More variety within classes is held to leave more to be tuned; how far the classes lie apart
    does not enter. It has the scale of the features squared: compare features of one scale.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar >= 0, in squared feature units. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: after Xu, Kang, ICCV 2023, arXiv 2308.05986, whose entropy it is not.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> x = jnp.array([[0.0], [2.0], [7.0], [7.0]])
        >>> float(jaxte.metrics.tmi_variance(x, jnp.array([0, 0, 1, 1])))
        0.5
    """
    return TMI_VARIANCE.outputs(features, labels, num_classes, weights, num_features)["score"]


def tmi_variance_from_moments(state: Moments) -> Array:
    r"""Variance within classes of samples that are known by their moments only.

    .. math:: \mathrm{tr}\, S_W \,/\, n

    Args:
        state: `jaxte.moments.Moments` of labels.

    Returns:
        Scalar, the score that `tmi_variance` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets.

    References: as `tmi_variance`.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> x, y = jnp.array([[0.0], [2.0], [7.0], [7.0]]), jnp.array([0, 0, 1, 1])
        >>> state = jaxte.moments.update(jaxte.moments.init(1, num_classes=2), x, y)
        >>> float(jaxte.metrics.tmi_variance_from_moments(state))
        0.5
    """
    return TMI_VARIANCE.outputs_from_moments(state)["score"]


def _cdnv(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    state, within = statistics.measured.moments, statistics.within_class_ss
    counts, means = state.counts, state.deviations
    variance = within / divisors(counts)
    squares = map_tiles(lambda one: jnp.sum((one[None] - means) ** 2, axis=1), means, means.size)
    pairs = (counts > 0)[:, None] & (counts > 0)[None] & ~jnp.eye(len(counts), dtype=bool)
    # means are known to the rounding of their size, and to that of the rows that they are made of
    sizes = jnp.sum((state.means + state.origin[None]) ** 2, axis=1)
    known = noise(jnp.sqrt(sizes)) ** 2 + noise(jnp.sqrt(variance)) ** 2
    apart = squares > known[:, None] + known[None]
    ratios = (variance[:, None] + variance[None]) / (2 * jnp.where(pairs & apart, squares, 1))
    exists = statistics.valid & jnp.all(apart | ~pairs)
    mean = jnp.sum(jnp.where(pairs, ratios, 0)) / jnp.maximum(pairs.sum(), 1)
    return {"score": jnp.where(exists, -mean, jnp.nan)}


def _tmi_variance(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    score = statistics.within_class_ss.sum() / statistics.total * statistics.unit**2
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


CDNV = register(
    Metric(
        name="cdnv",
        function=cdnv,
        score=_cdnv,
        paper="Galanti et al., ICLR 2022",
        confirmed="own replica",
        range=(float("-inf"), 0.0),
        cost="n d + C^2 d",
        needs=frozenset({"measured", "squares"}),
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=cdnv_from_moments,
    )
)
TMI_VARIANCE = register(
    Metric(
        name="tmi_variance",
        function=tmi_variance,
        score=_tmi_variance,
        paper="after Xu, Kang, ICCV 2023",
        confirmed="own replica",
        range=(0.0, float("inf")),
        cost="n d",
        needs=frozenset({"measured", "squares"}),
        invariances=frozenset({"rotation", "shift"}),
        from_moments=tmi_variance_from_moments,
    )
)
