"""FaCe: fair collapse, a reconstruction (no code has been released)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics._fairness import class_fairness, full_overlaps, overlaps
from jaxte.metrics._look import Look, Parts, Pass, Passes
from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments
from jaxte.statistics.moments import even
from jaxte.statistics.rows import as_classes, as_rows, of_row

__all__ = ["FaceTerms", "face", "face_from_moments", "face_terms"]

_COVARIANCES = ("spherical", "diagonal", "full")
_TEMPERATURE, _FLOOR = 0.05, 1e-4  # ours: no source states them
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
    temperature: ArrayLike = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: ArrayLike = _FLOOR,
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
    temperature: ArrayLike = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: ArrayLike = _FLOOR,
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
    _check_options(temperature, covariance, variance_floor)
    *arrays, num_classes = checks.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    return _terms(
        *arrays, temperature, variance_floor, num_classes=num_classes, covariance=covariance
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
    look = Look(
        features, labels, num_classes=num_classes, weights=weights, num_features=num_features
    )
    return _of_rows(look, temperature, variance_floor, covariance)


def face_parts(
    look: Look,
    *,
    temperature: Any = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: Any = _FLOOR,
) -> Parts:
    """Score and terms of one model inside jit."""
    _check_options(temperature, covariance, variance_floor)
    found = _of_rows(look, temperature, variance_floor, covariance)
    return _as_parts(found, look.moments)


def _as_parts(found: FaceTerms, state: Moments) -> Parts:
    """``coincident``: classes there are, but no two means that differ."""
    score = found.variance_collapse + found.class_fairness
    coincident = jnp.isnan(score) & state.valid & ((state.counts > 0).sum() >= 2)
    return {"score": score, **found._asdict(), "coincident": coincident}


def _check_options(temperature: Any, covariance: str, variance_floor: Any) -> None:
    checks.choose("covariance", covariance, _COVARIANCES)
    for name, value in (("temperature", temperature), ("variance_floor", variance_floor)):
        checks.check_positive(name, value)


def _of_rows(look: Look, temperature: Any, floor: Any, covariance: str) -> FaceTerms:
    """Both terms, for rows in memory: projecting them is cheaper than a scatter matrix."""
    group, state, row = look.group, look.moments, look.row
    # 1 / n_c of the row's class: every class weighs the same
    share = row.weights * of_row(1 / jnp.where(group.present, group.counts, 1), group)
    trace = look.everywhere(share @ _projected(look.residuals, _inverse_means(state)))
    floor = _in_units(floor, look.unit)
    if covariance == "full":
        means, present = state.deviations, group.present
        overlap = full_overlaps(look.residuals, share, means, group, floor, look.everywhere)
        fairness = class_fairness(overlap / jnp.asarray(temperature).astype(share.dtype), present)
        collapse = _collapse(state, look.spread.sum(), trace)
        return _checked(collapse, fairness, group.scorable)
    squares = state.squares if covariance == "diagonal" else look.spread[:, None]
    return _finish(state, squares, trace, row.width, temperature, floor)


def _in_units(floor: Any, unit: Array) -> Array:
    """A variance in units of the moments', within their range."""
    floor = jnp.asarray(floor).astype(unit.dtype) / unit / unit
    return jnp.minimum(floor, jnp.finfo(floor.dtype).max / 1e8)


def _squares(state: Moments, covariance: str) -> Array:
    """What `overlaps` takes, where the rows are not at hand."""
    return state.squares if covariance == "diagonal" else state.squares.sum(axis=1, keepdims=True)


@jax.jit
def _finish(
    state: Moments, squares: Array, trace: Array, width: ArrayLike, temperature: Any, floor: Any
) -> FaceTerms:
    """Both terms, once the trace of the projected scatter is known."""
    present, dtype = state.counts > 0, state.means.dtype
    floor = jnp.asarray(floor).astype(dtype)
    overlap = overlaps(state, squares, jnp.asarray(width).astype(dtype), floor)
    fairness = class_fairness(overlap / jnp.asarray(temperature).astype(dtype), present)
    collapse = _collapse(state, squares.sum(), trace)
    return _checked(collapse, fairness, state.valid & (present.sum() >= 2))


def _checked(collapse: Array, fairness: Array, scorable: Array) -> FaceTerms:
    return FaceTerms(*(jnp.where(scorable, term, jnp.nan) for term in (collapse, fairness)))


def _balanced_means(state: Moments) -> Array:
    """Class means from the mean of class means [C, d], 0 for classes without rows."""
    present = state.counts > 0
    number = jnp.maximum(present.sum(), 1).astype(state.means.dtype)
    centre = state.deviations.sum(axis=0) / number
    return jnp.where(present[:, None], state.deviations - centre[None], 0)


def _inverse_means(state: Moments) -> Array:
    """P [d, C] with S_B^+ = C P P', from the C x d means, never from a d x d matrix."""
    return jnp.linalg.pinv(_balanced_means(state), rtol=_RANK_CUT)


def _projected(residuals: Array, inverse: Array) -> Array:
    """What each row adds to tr(S_W S_B^+), but for its share [n]."""
    return jnp.sum(matmul(residuals, inverse) ** 2, axis=1)


def _collapse(state: Moments, within: Array, trace: Array) -> Array:
    """-tr(S_W S_B^+) / C; S_B = M'M / C and S_W = sum share r r' / C: the 1 / C cancel."""
    number = (state.counts > 0).sum().astype(trace.dtype)
    return jnp.where(state.between(within) > 0, -trace / number, jnp.nan)


def face_from_moments(
    state: Moments,
    *,
    temperature: ArrayLike = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: ArrayLike = _FLOOR,
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

    Source: as `face`.

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
    _check_options(temperature, covariance, variance_floor)
    _no_full(covariance)
    if state.targets is not None:
        raise InputError("face needs moments of integer labels, not of float targets")
    with state.precision:
        scatter = _known_balance(state)
        if scatter is None:
            raise InputError(
                "face weighs all classes the same, and these moments do not: make them with "
                "moments.init(..., class_counts=[...]), the samples of each class"
            )
        trace = _balanced_trace(state, scatter)
        width = state.means.shape[1]
        squares = _squares(state, covariance)
        terms = _finish(state, squares, trace, width, temperature, variance_floor)
        return terms.variance_collapse + terms.class_fairness


def _no_full(covariance: str) -> None:
    if covariance == "full":
        raise InputError(
            "covariance='full' needs all samples of a class at once: give arrays, or choose "
            "'spherical' or 'diagonal'"
        )


def _known_balance(state: Moments) -> Array | None:
    """The scatter in which classes weigh the same, if the moments hold it."""
    if state.balance is not None:
        return state.balance.scatter
    if checks.is_traced(state.counts):
        return None
    return state.scatter / state.counts.max() if even(state.counts) else None


@jax.jit
def _balanced_trace(state: Moments, scatter: Array) -> Array:
    inverse = _inverse_means(state)
    return jnp.sum(inverse * matmul(scatter, inverse))


def face_passes(
    state: Moments,
    width: ArrayLike,
    *,
    temperature: Any = _TEMPERATURE,
    covariance: str = "spherical",
    variance_floor: Any = _FLOOR,
) -> Passes:
    """Score and terms from moments, and one more pass where classes weigh unequally."""
    _check_options(temperature, covariance, variance_floor)
    _no_full(covariance)
    scatter = _known_balance(state)
    if scatter is not None:
        trace = _balanced_trace(state, scatter)
    else:
        zero = jnp.zeros((), state.means.dtype)
        trace = yield Pass(_add_projected, zero, (state, jax.jit(_inverse_means)(state)))
    squares = _squares(state, covariance)
    found = _finish(state, squares, trace, width, temperature, variance_floor)
    return _as_parts(found, state)


@jax.jit
def _add_projected(
    carry: Array, held: tuple[Any, ...], features: Array, labels: Array, weights: Array | None
) -> Array:
    state, inverse = held
    row = as_rows(features, weights, None)
    group = as_classes(labels, len(state.counts), row)
    residuals = row.features - state.origin[None] - of_row(state.means, group)
    share = row.weights * of_row(1 / jnp.where(state.counts > 0, state.counts, 1), group)
    return carry + share @ _projected(residuals, inverse)
