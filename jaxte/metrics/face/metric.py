"""FaCe: fair collapse, a reconstruction (no code has been released)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.bhattacharyya import (
    FLOOR,
    check_covariance,
    check_options,
    class_overlaps,
    floor_of,
)
from jaxte.metrics.collapse import COLLAPSE, known_trace, variance_collapse
from jaxte.metrics.face.fairness import class_fairness
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics

__all__ = ["FACE", "FaceTerms", "face", "face_from_moments", "face_terms"]

_TEMPERATURE = 0.05  # ours: no source states it, nor the floor


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
    temperature: ArrayLike = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: ArrayLike = FLOOR,
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
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0, within classes only: each class counts the same.
        num_features: true width when trailing columns are padding.
        temperature: t > 0 of the softmax over overlaps.
        covariance: "spherical" (one variance per class), "diagonal", or "full" (C (C+1) / 2
            Cholesky factors of size d: for small d and C).
        variance_floor: least variance, in squared feature units; added to a full covariance.

    Returns:
        Scalar in (-inf, ln(C-1)]. NaN when fewer than two classes occur or no two means differ by
        more than rounding, as those of features that are constant.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Ding et al., arXiv 2310.05754 (openreview UDbEpJojik), as far as it can be known.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y).at[:, 1].add(3.0 * (y == 1))
        >>> bool(jaxte.metrics.face(better, y) > jaxte.metrics.face(x, y))
        True
    """
    return FACE.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        temperature=temperature,
        covariance=covariance,
        variance_floor=variance_floor,
    )["score"]


def face_terms(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    temperature: ArrayLike = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: ArrayLike = FLOOR,
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

    References: as `face`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> terms = jaxte.metrics.face_terms(x, jax.numpy.arange(90) % 3)
        >>> bool(terms.variance_collapse < 0), bool(terms.class_fairness > 0)
        (True, True)
    """
    outputs = FACE.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        temperature=temperature,
        covariance=covariance,
        variance_floor=variance_floor,
    )
    return FaceTerms(outputs["variance_collapse"], outputs["class_fairness"])


def face_from_moments(
    state: Moments,
    *,
    temperature: ArrayLike = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: ArrayLike = FLOOR,
) -> Array:
    r"""FaCe of samples that are known by their moments only.

    .. math:: S = -\tfrac1C \mathrm{tr}(\Sigma_W \Sigma_B^{+}) + F\bigl(m_c, \sigma_c^2\bigr)

    Every class weighs the same in the within-class scatter, so the moments need either
    ``class_counts`` (see `jaxte.moments.init`) or classes of one size.

    Args:
        state: `jaxte.moments.Moments` of labels.
        temperature: as in `face`, as are the others.
        covariance: "spherical" or "diagonal".
        variance_floor: least variance.

    Returns:
        Scalar, the score that `face` gives to the samples themselves.

    Raises:
        InputError: for covariance="full", moments of float targets, or without class counts.

    References: as `face`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.init(8, num_classes=3, class_counts=[30, 30, 30])
        >>> state = jaxte.moments.update(state, x, y)
        >>> gap = jaxte.metrics.face_from_moments(state) - jaxte.metrics.face(x, y)
        >>> bool(abs(gap) < 1e-2)
        True
    """
    return FACE.outputs_from_moments(
        state,
        temperature=temperature,
        covariance=covariance,
        variance_floor=variance_floor,
    )["score"]


def _check(*, temperature: Any, covariance: str, variance_floor: Any) -> None:
    check_options(covariance=covariance, variance_floor=variance_floor)
    checks.check_positive("temperature", temperature)


def _known_collapse(statistics: Statistics, *, covariance: str, **_: Any) -> Array | None:
    check_covariance(statistics, covariance)
    return known_trace(statistics)


# --- the score


def _score(
    statistics: Statistics,
    completed: tuple[Completed, ...],
    *,
    temperature: Any,
    covariance: str,
    variance_floor: Any,
) -> Outputs:
    """Score and terms; ``coincident``: classes there are, but no two means that differ."""
    overlap = class_overlaps(statistics, covariance, floor_of(variance_floor, statistics))
    temperature = jnp.asarray(temperature).astype(overlap.dtype)
    fairness = class_fairness(overlap / temperature, statistics.counts > 0)
    fairness = jnp.where(statistics.valid, fairness, jnp.nan)
    collapse = variance_collapse(statistics, completed[0].result)
    score = collapse + fairness
    return {
        "score": score,
        "variance_collapse": collapse,
        "class_fairness": fairness,
        "coincident": jnp.isnan(score) & statistics.valid,
    }


def _notes(outputs: Mapping[str, Mapping[str, float]], num_classes: int | None) -> list[str]:
    """Where one of the two terms decides nothing."""
    if num_classes == 2:
        return ["class fairness is 0 by construction with two classes; variance collapse decides."]
    fairness = [one["class_fairness"] for one in outputs.values()]
    fairness = [term for term in fairness if math.isfinite(term)]
    if num_classes is None or len(fairness) < 2 or min(fairness) < 0.99 * math.log(num_classes - 1):
        return []
    return [
        "class fairness is within 1 % of its maximum for every model; variance collapse decides "
        "(a lower temperature spreads it)."
    ]


FACE = register(
    Metric(
        name="face",
        function=face,
        score=_score,
        confirmed="own replica",
        paper="Ding et al., arXiv 2310.05754 (reconstructed)",
        range=(-math.inf, math.log(2**31)),  # ln(C - 1), and numbers of classes have 31 bits
        cost="2 n d C + C^2 d",
        passes=(COLLAPSE._replace(instead=_known_collapse),),
        check=_check,
        class_balanced=True,
        terms={"variance_collapse": 1.0, "class_fairness": 1.0},
        invariances=frozenset({"rotation", "shift"}),
        from_moments=face_from_moments,
        notes=_notes,
    )
)
