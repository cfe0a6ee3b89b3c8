"""SFDA: self-challenging Fisher discriminant analysis."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics._fisher import (
    Classifier,
    Settings,
    apply,
    confidence,
    diagonal,
    fit_rows,
    fit_scatter,
    gain,
    mix,
    shrinkage_of,
)
from jaxte.metrics._look import Look, Parts, Pass, Passes
from jaxte.statistics import moments
from jaxte.statistics.measure import Moments, measure
from jaxte.statistics.rows import Classes, Rows, as_classes, as_rows, of_row

__all__ = ["sfda"]

_VARIANTS = ("released", "paper")
_TARGETS = ("trace", "identity")


def sfda(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    variant: str = "released",
    shrinkage: ArrayLike | None = None,
    shrink_target: str = "trace",
    double_softmax: bool | None = None,
    log_score: bool | None = None,
) -> Array:
    r"""How well a regularised Fisher discriminant still tells the classes apart once challenged.

    .. math::
        \tilde S_W = (1-\lambda) S_W + \lambda \frac{\mathrm{tr} S_W}{d} I, \quad
        \delta_c(x) = m_c^\top \tilde S_W^{-1} x - \tfrac12 m_c^\top \tilde S_W^{-1} m_c + \ln p_c

    Stage 1 gives :math:`p = \mathrm{softmax}(\delta)`. ConfMix pulls each sample toward the mean
    of the other classes' means, :math:`\tilde x = p'_y x + (1-p'_y)\,\bar m_{\ne y}`, by its own
    confidence: :math:`p' = p` in the paper, :math:`\mathrm{softmax}(p)` in the released code.
    Stage 2 refits on :math:`\tilde x` with the same :math:`\lambda` and the score is the mean
    over samples of :math:`\tilde p_y` (released) or :math:`\ln \tilde p_y` (paper).

    ``variant="released"`` is the default because the published tables come from it. It saturates:
    once d exceeds n almost any labels are separable and scores tie at 1 (`jaxte.rank` notes it).
    Where no class has any spread, but for rounding, the limit of a vanishing one is returned:
    classes of different features are told apart for certain, those of the same share their prior.

    Args:
        features: [n, d], any scale; the released shrinkage depends on that scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        variant: "released" (double softmax, mean probability) or "paper" (single, mean log).
        shrinkage: lambda in [0, 1]; None takes max(exp(-5 s), 1e-10) with s the released power
            estimate of the largest eigenvalue of S_W. The paper states lambda in three
            inconsistent ways, so both variants use this one.
        shrink_target: "trace" shrinks toward the mean eigenvalue (released), "identity" toward I
            (paper, Eq. 2).
        double_softmax: overrides the variant's ConfMix.
        log_score: overrides the variant's score.

    Returns:
        Scalar: in [0, 1] for mean probability, in (-inf, 0] for mean log probability. NaN when
        fewer than two classes occur or S_W is singular and ``shrinkage`` is 0.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    Source: Shao et al., ECCV 2022, arXiv 2207.03036, Eq. 2-7, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.sfda(better, y) > jaxte.metrics.sfda(x, y))
        True
    """
    settings = _settings(variant, shrinkage, shrink_target, double_softmax, log_score)
    *arrays, num_classes = checks.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    return _score(*arrays, shrinkage, num_classes=num_classes, settings=settings)


def _settings(
    variant: str = "released",
    shrinkage: ArrayLike | None = None,
    shrink_target: str = "trace",
    double_softmax: bool | None = None,
    log_score: bool | None = None,
    *,
    quick: bool = False,
) -> Settings:
    paper = checks.choose("variant", variant, _VARIANTS) == "paper"
    checks.choose("shrink_target", shrink_target, _TARGETS)
    if shrinkage is not None:
        checks.check_share("shrinkage", shrinkage)
    return Settings(
        identity=shrink_target == "identity",
        double_softmax=not paper if double_softmax is None else bool(double_softmax),
        log_score=paper if log_score is None else bool(log_score),
        fixed=shrinkage is not None,
        quick=quick,
    )


@partial(jax.jit, static_argnames=("num_classes", "settings"))
def _score(
    features: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    shrinkage: ArrayLike | None,
    *,
    num_classes: int,
    settings: Settings,
) -> Array:
    look = Look(
        features, labels, num_classes=num_classes, weights=weights, num_features=num_features
    )
    return _challenged(look, settings, shrinkage)["score"]


def sfda_parts(look: Look, *, shrinkage: ArrayLike | None = None, **options: Any) -> Parts:
    """The score of one model inside jit; ``quick`` may leave it "unsure"."""
    return _challenged(look, _settings(shrinkage=shrinkage, **options), shrinkage)


def _challenged(look: Look, settings: Settings, shrinkage: ArrayLike | None) -> Parts:
    """Stage 1, ConfMix, stage 2 and the score, for rows in memory."""
    group, row = look.group, look.row
    squares = diagonal(look.moments, look)
    lam = shrinkage_of(shrinkage, look.moments, squares, look.unit, look)
    first = fit_rows(look.moments, look.residuals, squares, look, lam, settings)
    own = confidence(first, look.residuals, group, settings)
    mixed = mix(own[:, None], first, look.residuals, group.labels)
    state, residuals = measure(
        row._replace(features=mixed),
        group.labels,
        look.num_classes,
        everywhere=look.everywhere,
        centred=True,
    )
    squares = diagonal(state, look, residuals)
    second = fit_rows(state, residuals, squares, look, lam, settings)
    logits = apply(second, residuals, group.labels)
    score = look.everywhere(row.weights @ gain(logits, group, settings)) / look.total
    if settings.quick:  # classes without spread are left to the thorough route
        score = jnp.where(first.certain | second.certain, jnp.nan, score)
    parts = _parts(look.moments, first, jnp.where(group.scorable, score, jnp.nan))
    return {**parts, "unsure": settings.quick & group.scorable & jnp.isnan(score)}


def _parts(state: Moments, first: Classifier, score: Array) -> Parts:
    return {"score": score, "coincident": jnp.all(first.owners == jnp.argmax(state.counts > 0))}


# --- samples that do not fit in memory ------------------------------------------------------------


def sfda_passes(
    state: Moments, width: ArrayLike, *, shrinkage: ArrayLike | None = None, **options: Any
) -> Passes:
    """The score from moments and two more passes over the samples."""
    settings = _settings(shrinkage=shrinkage, **options)
    first, lam = _first_fit(state, width, shrinkage, settings)
    d, (c,) = state.means.shape[1], state.counts.shape
    empty = moments.init(d, num_classes=c, dtype=state.means.dtype)
    mixed = yield Pass(partial(_mix_batch, settings=settings), empty, (state, first))
    second = _jit_fit(mixed, width, lam, settings)
    held = (state, first, mixed, second)
    zero = jnp.zeros((), state.means.dtype)
    gained = yield Pass(partial(_add_gain, settings=settings), zero, held)
    scorable = state.valid & ((state.counts > 0).sum() >= 2)
    return _parts(state, first, jnp.where(scorable, gained / state.total, jnp.nan))


@partial(jax.jit, static_argnames="settings")
def _first_fit(
    state: Moments, width: ArrayLike, shrinkage: ArrayLike | None, settings: Settings
) -> tuple[Classifier, Array]:
    lam = shrinkage_of(shrinkage, state, diagonal(state, None), 1)
    return fit_scatter(state, width, lam, 1, settings), lam


@partial(jax.jit, static_argnames="settings")
def _jit_fit(state: Moments, width: ArrayLike, lam: Array, settings: Settings) -> Classifier:
    return fit_scatter(state, width, lam, 1, settings)


def _mixed(
    state: Moments, first: Classifier, row: Rows, labels: Array, settings: Settings
) -> tuple[Array, Classes]:
    group = as_classes(labels, len(state.counts), row)._replace(present=state.counts > 0)
    residuals = row.features - state.origin[None] - of_row(state.means, group)
    own = confidence(first, residuals, group, settings)
    return mix(own[:, None], first, residuals, labels), group


@partial(jax.jit, static_argnames="settings")
def _mix_batch(
    carry: Moments,
    held: tuple[Any, ...],
    features: Array,
    labels: Array,
    weights: Array | None,
    *,
    settings: Settings,
) -> Moments:
    row = as_rows(features, weights, None)
    state, first = held
    mixed, _ = _mixed(state, first, row, labels, settings)
    return moments.add(carry, row._replace(features=mixed), labels)


@partial(jax.jit, static_argnames="settings")
def _add_gain(
    carry: Array,
    held: tuple[Any, ...],
    features: Array,
    labels: Array,
    weights: Array | None,
    *,
    settings: Settings,
) -> Array:
    row = as_rows(features, weights, None)
    state, first, mixed_state, second = held
    mixed, group = _mixed(state, first, row, labels, settings)
    residuals = mixed - mixed_state.origin[None] - of_row(mixed_state.means, group)
    return carry + row.weights @ gain(apply(second, residuals, labels), group, settings)
