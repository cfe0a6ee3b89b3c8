"""FaCe: fair collapse, a reconstruction (no code has been released)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxte import _inputs
from jaxte._inputs import Classes, Rows
from jaxte.linalg import matmul

__all__ = ["FaceTerms", "face", "face_terms"]

_COVARIANCES = ("spherical", "diagonal", "full")
_RANK_CUT = 1e-5  # of the singular values of the class means: 1e-10 of the eigenvalues of S_B


class FaceTerms(NamedTuple):
    """The two terms of FaCe, larger is better in both.

    Attributes:
        variance_collapse: in (-inf, 0]: minus the within-class scatter per between-class scatter.
        class_fairness: in [0, ln(C-1)]: how evenly each class overlaps the others; 0 for C = 2.
    """

    variance_collapse: Array
    class_fairness: Array


def face(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    temperature: ArrayLike = 0.05,
    covariance: str = "spherical",
    variance_floor: ArrayLike = 1e-4,
) -> Array:
    r"""How far the classes have collapsed, plus how evenly they overlap: S = C + F.

    .. math::
        C = -\tfrac1C \mathrm{tr}(\Sigma_W \Sigma_B^{+}), \qquad
        F = -\tfrac1C \sum_i \sum_{j \ne i} p_{ij} \ln p_{ij}, \qquad
        p_{ij} = \mathrm{softmax}_{j \ne i}(\mathrm{BC}_{ij} / t)

    with class-balanced scatters and BC the closed-form Bhattacharyya coefficient of two Gaussian
    classes. **Confirmed** by the abstract and the reviews: the plain sum, a class-balanced product
    of within-class and inverse between-class covariance, the between-class scatter from class
    means, Gaussian classes with a closed-form Bhattacharyya coefficient, fairness as similar
    overlap, an otherwise undefined symbol t. **Reconstructed** here: 1/C and the pseudo-inverse
    in C, the mean of class means as centre, the softmax and entropy of F, ``temperature``,
    ``covariance`` and ``variance_floor``. Report the sensitivity to them beside any result.

    The terms are of different sizes, C unbounded below and F at most ln(C-1): over a pool,
    `jaxte.rank` can normalise each before adding.

    Args:
        features: [n, d].
        labels: [n] integer classes 0..C-1.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0, within classes only: each class counts the same.
        num_features: true width when trailing columns are padding.
        temperature: t > 0 of the softmax over overlaps.
        covariance: "spherical" (one variance per class), "diagonal", or "full" (C (C+1) / 2
            Cholesky factors of size d: for small d and C).
        variance_floor: least variance, in squared feature units; added to a full covariance.

    Returns:
        Scalar in (-inf, ln(C-1)]. NaN when fewer than two classes occur or no two means differ.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    Source: Ding et al., arXiv 2310.05754 (openreview UDbEpJojik), as far as it can be known.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y).at[:, 1].add(3.0 * (y == 1))
        >>> bool(jaxte.metrics.face(better, y) > jaxte.metrics.face(x, y))
        True
    """
    found = face_terms(
        features,
        labels,
        num_classes=num_classes,
        weights=weights,
        num_features=num_features,
        temperature=temperature,
        covariance=covariance,
        variance_floor=variance_floor,
    )
    return found.variance_collapse + found.class_fairness


def face_terms(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    temperature: ArrayLike = 0.05,
    covariance: str = "spherical",
    variance_floor: ArrayLike = 1e-4,
) -> FaceTerms:
    r"""The two terms of FaCe apart, for a pool that normalises them before adding.

    .. math:: S = C + F \quad\text{as in } \texttt{face}

    Args:
        features: as `face`, as are all other arguments.
        labels: [n].
        num_classes: C.
        weights: [n].
        num_features: true width.
        temperature: t.
        covariance: "spherical", "diagonal" or "full".
        variance_floor: least variance.

    Returns:
        `FaceTerms`, two scalars, dimensionless.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    Source: as `face`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> terms = jaxte.metrics.face_terms(x, jax.numpy.arange(90) % 3)
        >>> bool(terms.variance_collapse < 0), bool(terms.class_fairness > 0)
        (True, True)
    """
    _inputs.choose("covariance", covariance, _COVARIANCES)
    n = _inputs.check_features(features, weights, num_features)
    num_classes = _inputs.check_labels(labels, n, num_classes, weights)
    for name, value in (("temperature", temperature), ("variance_floor", variance_floor)):
        _inputs.check_positive(name, value)
    return _terms(
        features,
        labels,
        weights,
        num_features,
        temperature,
        variance_floor,
        num_classes=num_classes,
        covariance=covariance,
    )


@partial(jax.jit, static_argnames=("num_classes", "covariance"))
def _terms(
    features: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    temperature: Any,
    variance_floor: Any,
    *,
    num_classes: int,
    covariance: str,
) -> FaceTerms:
    row = _inputs.rows(features, weights, num_features)
    group = _inputs.classes(labels, num_classes, row)
    x, _ = _inputs.centre(row.features, row)
    means = _inputs.class_means(x, row.weights, group)
    residuals = x - _inputs.of_row(means, group)
    # 1 / n_c of the row's class: every class weighs the same
    share = row.weights * _inputs.of_row(1 / jnp.where(group.present, group.counts, 1), group)
    temperature = jnp.asarray(temperature).astype(x.dtype)
    floor = jnp.asarray(variance_floor).astype(x.dtype)

    centre = jnp.where(group.present[:, None], means, 0).sum(axis=0) / group.number
    collapse = _variance_collapse(residuals, share, means - centre[None], group)
    overlap = _overlaps(residuals, share, means, group, row, floor, covariance)
    fairness = _fairness(overlap / temperature, group)
    return FaceTerms(*(jnp.where(group.scorable, term, jnp.nan) for term in (collapse, fairness)))


def _variance_collapse(residuals: Array, share: Array, means: Array, group: Classes) -> Array:
    """-tr(S_W S_B^+) / C through the pseudo-inverse of the C x d means, never of a d x d matrix."""
    means = jnp.where(group.present[:, None], means, 0)
    inverse = jnp.linalg.pinv(means, rtol=_RANK_CUT)  # [d, C]
    projected = matmul(residuals, inverse)
    # S_B = M'M / C and S_W = sum share r r' / C: the 1 / C cancel in the trace
    trace = jnp.sum(share[:, None] * projected**2)
    return jnp.where(jnp.any(means != 0), -trace / group.number, jnp.nan)


def _overlaps(
    residuals: Array,
    share: Array,
    means: Array,
    group: Classes,
    row: Rows,
    floor: Array,
    covariance: str,
) -> Array:
    """Bhattacharyya coefficients between all pairs of Gaussian classes [C, C]."""
    if covariance == "full":
        return _full_overlaps(residuals, share, means, group, floor)
    membership = group.one_hot * share[:, None]
    variance = matmul(membership.T, residuals**2)  # [C, d]
    size = jnp.ones((), floor.dtype)
    if covariance == "spherical":
        variance, size = variance.sum(axis=1, keepdims=True) / row.width, row.width
    variance = jnp.maximum(variance, floor)

    def against_all(one: tuple[Array, Array]) -> Array:
        mean, own = one
        pooled = 0.5 * (own[None] + variance)
        gap = jnp.sum((mean[None] - means) ** 2 / pooled, axis=1)
        # ln(pooled / sqrt(own variance)) from the relative gap, which does not cancel
        relative = (own[None] - variance) ** 2 / (4 * own[None] * variance)
        return jnp.exp(-0.125 * gap - 0.25 * size * jnp.log1p(relative).sum(axis=1))

    return lax.map(against_all, (means, variance))


def _full_overlaps(
    residuals: Array, share: Array, means: Array, group: Classes, floor: Array
) -> Array:
    """As `_overlaps`, with a full covariance per class, floor * I added to each."""
    eye = jnp.eye(residuals.shape[1], dtype=residuals.dtype)

    def covariance(members: Array) -> Array:
        return matmul(residuals.T, (members * share)[:, None] * residuals) + floor * eye

    def half_logdet(lower: Array) -> Array:
        return jnp.log(jnp.diagonal(lower)).sum()

    scatters = lax.map(covariance, group.one_hot.T)
    own = lax.map(lambda s: half_logdet(jnp.linalg.cholesky(s)), scatters)

    def pair(index: Array) -> Array:
        i, j = index
        lower = jnp.linalg.cholesky(0.5 * (scatters[i] + scatters[j]))
        gap = solve_triangular(lower, means[i] - means[j], lower=True)
        return jnp.exp(-0.125 * (gap @ gap) - half_logdet(lower) + 0.5 * (own[i] + own[j]))

    i, j = jnp.triu_indices(means.shape[0])
    values = lax.map(pair, jnp.stack([i, j], axis=1))
    return jnp.zeros((means.shape[0],) * 2, means.dtype).at[i, j].set(values).at[j, i].set(values)


def _fairness(logits: Array, group: Classes) -> Array:
    """Mean entropy of each present class's softmax over the other present classes."""
    others = group.present[:, None] & group.present[None] & ~jnp.eye(len(logits), dtype=bool)
    # a row of -inf alone would give NaN: an absent class compares with itself and is left out
    shown = others | (jnp.eye(len(logits), dtype=bool) & ~group.present[None])
    log_p = jax.nn.log_softmax(jnp.where(shown, logits, -jnp.inf), axis=1)
    entropy = -jnp.sum(jnp.exp(log_p) * jnp.where(shown, log_p, 0), axis=1)
    return jnp.where(group.present, entropy, 0).sum() / group.number
