"""TVT: three views of the features, as a geometric mean over a pool."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.metrics.combination import of_one_model
from jaxte.metrics.components import Components, principal_components
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.metrics.sfda.fisher import discriminants, log_likelihood
from jaxte.statistics import Statistics
from jaxte.statistics.class_grams import class_grams
from jaxte.statistics.linalg import ledoit_wolf, matmul, noise, safe_root
from jaxte.statistics.measure import divisors
from jaxte.statistics.rows import class_sums
from jaxte.statistics.spectrum import root_sum

__all__ = ["TVT", "tvt"]

_COMPONENTS = 64
_TILE = 128  # rows against all others at once
_WEIGHTS = {"local": 1.0, "separation": 1.0, "variability": 1.0}


def tvt(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Three views: neighbours, Gaussian classes and variability; over a pool their geometric mean.

    .. math::
        L = \tfrac1n \sum_i \ln \sum_{j \ne i,\, y_j = y_i} p_{ij}, \quad
        p_{ij} = \operatorname*{softmax}_{j \ne i}
        \bigl(-\lVert x_i - x_j \rVert^2 / s_i^2\bigr), \quad
        V = \lVert X \rVert_*

    of the 64 leading principal components, where there are more columns, with :math:`s_i^2` the
    mean squared distance of row i to the others of its class. The second view, "separation", is
    the mean probability of the true class under Gaussian classes of one covariance (the average of
    each class's Ledoit-Wolf covariance, weighted n_c - 1) and of equal priors. Where the
    manuscript leaves a choice and the authors' code draws one random fifth of the rows for L, each
    row is left out here in turn; a class of one row is not measured.

    `jaxte.rank` and `jaxte.metrics.score_pool` bring each view to [0, 1] over the models and take
    their geometric mean, so that a model which is last in any view gets about 0. One model alone,
    as here, has the plain sum of the views, which compares with nothing.

    Args:
        features: [n, d]; V depends on their scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice (and of such
            twins one is left out at a time).
        num_features: true width when trailing columns are padding.

    Returns:
        Scalar. NaN when fewer than two classes, or no class of two rows, occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Rivallis, TVT4TE (repository of a manuscript under review, 2025).

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
        >>> jaxte.rank(models, y, metrics="tvt").best("tvt")
        'sighted'
    """
    return TVT.outputs(features, labels, num_classes, weights, num_features)["score"]


# --- neighbours -----------------------------------------------------------------------------------


def _local(statistics: Statistics, rows: Array, residuals: Array) -> Array:
    """Mean log of the weight that the rows of the same class have among a row's neighbours."""
    weights, labels = statistics.rows.weights, statistics.labels
    square = jnp.sum(residuals**2, axis=1)
    number = len(statistics.counts)
    spread = class_sums(weights * square, labels, number)
    counts, spread = (jnp.take(part, labels, mode="clip") for part in (statistics.counts, spread))
    others = counts - 1
    judged = (weights > 0) & (others > 0)
    width = (counts * square + spread) / jnp.where(judged, others, 1)
    # of rows that are alike but for rounding the squared distance is not 0
    size = jnp.sum(rows**2, axis=1)
    width = jnp.maximum(width, noise(jnp.max(jnp.where(weights > 0, size, 0)), rows.shape[1]))
    width = jnp.where(judged & (width > 0), width, 1)
    log_weights = jnp.where(weights > 0, jnp.log(jnp.where(weights > 0, weights, 1)), -jnp.inf)
    n = len(rows)
    blocks = -(-n // _TILE)

    def of_block(index: Array) -> Array:
        own = rows[index]
        gaps = size[index][:, None] + size[None] - 2 * matmul(own, rows.T)
        itself = index[:, None] == jnp.arange(n)[None]
        values = log_weights[None] - jnp.maximum(gaps, 0) / width[index][:, None]
        values = jnp.where(itself, -jnp.inf, values)
        top = lax.stop_gradient(jnp.max(values, axis=1))
        top = jnp.where(jnp.isfinite(top), top, 0)  # a row that is alone with its twins
        mass = jnp.exp(values - top[:, None])
        same = labels[index][:, None] == labels[None]
        twins = jnp.maximum(weights[index] - 1, 0) * jnp.exp(-top)
        known = judged[index]
        near = jnp.where(known, jnp.where(same, mass, 0).sum(axis=1) + twins, 1)
        return jnp.log(near) - jnp.log(jnp.where(known, mass.sum(axis=1) + twins, 1))

    places = jnp.minimum(jnp.arange(blocks * _TILE), n - 1).reshape(blocks, _TILE)
    gains = lax.map(of_block, places).reshape(-1)[:n]
    total = jnp.where(judged, weights, 0).sum()
    return jnp.where(judged, weights, 0) @ gains / total


# --- Gaussian classes -----------------------------------------------------------------------------


def _separation(statistics: Statistics, parts: Components, residuals: Array) -> Array:
    """Mean probability of the true class under Gaussians of one shrunk covariance."""
    state, weights, labels = statistics.measured.moments, statistics.rows.weights, statistics.labels
    counts, number = state.counts, len(state.counts)
    width = jnp.where(statistics.width > _COMPONENTS, parts.counted.sum(), statistics.width)
    n = divisors(counts)
    scatters = class_grams(residuals, weights, labels, number) / n[:, None, None]
    size = jnp.trace(scatters, axis1=1, axis2=2)
    square = jnp.sum(scatters**2, axis=(1, 2))
    distances = jnp.sum(residuals**2, axis=1)
    fourth = class_sums(weights * distances**2, labels, number) / n
    shrinkage = ledoit_wolf(size, square, fourth, width, n)
    share = jnp.maximum(counts - 1, 0)
    share = share / share.sum()
    pooled = jnp.sum((share * (1 - shrinkage))[:, None, None] * scatters, axis=0)
    ridge = jnp.sum(share * shrinkage * size) / width
    total = parts.scatter.sum() / state.total
    ridge = jnp.maximum(ridge, noise(jnp.where(total > 0, total, 1), len(pooled)))
    lower = jnp.linalg.cholesky(pooled + ridge * jnp.eye(len(pooled), dtype=pooled.dtype))
    along = jax.scipy.linalg.cho_solve((lower, True), parts.deviations.T)
    even = (counts > 0).astype(counts.dtype)
    classifier = discriminants(state._replace(counts=even), along, parts.deviations)
    batch = statistics.batch()._replace(residuals=residuals)
    return batch.weights @ jnp.exp(log_likelihood(classifier, batch)) / state.total


# --- variability ----------------------------------------------------------------------------------


def _variability(statistics: Statistics, parts: Components) -> Array:
    """Nuclear norm of the components, or of fewer columns than those as they are."""
    state = statistics.measured.moments
    mean = state.origin + state.relative_mean
    along = matmul(mean, parts.axes)
    off = mean - matmul(parts.axes, along)
    away = safe_root(jnp.where(off @ off > noise(jnp.sqrt(mean @ mean)) ** 2, off @ off, 0))
    full = jnp.concatenate([along, away[None]])
    centred = parts.total(statistics)
    raw = jnp.pad(centred, (0, 1)) + state.total * full[:, None] * full[None]
    norm = jnp.where(statistics.width > _COMPONENTS, root_sum(centred), root_sum(raw))
    return norm * statistics.unit


def _score(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Outputs:
    parts = principal_components(statistics, _COMPONENTS)
    batch = statistics.batch()
    residuals = parts.rows(batch)
    rows = residuals + jnp.take(parts.deviations, batch.labels, axis=0, mode="clip")
    terms = {
        "local": _local(statistics, rows, residuals),
        "separation": _separation(statistics, parts, residuals),
        "variability": _variability(statistics, parts),
    }
    return of_one_model(terms, _WEIGHTS, statistics.valid)


TVT = register(
    Metric(
        name="tvt",
        function=tvt,
        score=_score,
        paper="Rivallis, TVT4TE, 2025",
        confirmed="own replica",
        cost="2 n d^2 + O(d^3) + 2 n^2 k",
        needs=frozenset({"measured", "scatter", "reduced", "all_rows"}),
        terms=_WEIGHTS,
        normalise="minmax",
        mean="geometric",
        invariances=frozenset({"rotation"}),
    )
)
