"""SFDA: self-challenging Fisher discriminant analysis."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte import _inputs, moments
from jaxte._inputs import Classes, Rows
from jaxte.linalg import matmul, ridge_solve, ridge_solve_scatter, trace
from jaxte.metrics._look import Look, Parts, Pass, Passes
from jaxte.moments import Moments, measure

__all__ = ["sfda"]

_FLOOR = 1e-10  # of the shrinkage, in the released code
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
    Where the within-class scatter is exactly zero, the limit of vanishing scatter is returned.

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
    *arrays, num_classes = _inputs.check_arguments(
        features, labels, num_classes, weights, num_features
    )
    return _score(*arrays, shrinkage, num_classes=num_classes, settings=settings)


class Settings(NamedTuple):
    """The readings of SFDA, as they are known while tracing."""

    identity: bool
    double_softmax: bool
    log_score: bool


def _settings(
    variant: str = "released",
    shrinkage: ArrayLike | None = None,
    shrink_target: str = "trace",
    double_softmax: bool | None = None,
    log_score: bool | None = None,
) -> Settings:
    paper = _inputs.choose("variant", variant, _VARIANTS) == "paper"
    _inputs.choose("shrink_target", shrink_target, _TARGETS)
    if shrinkage is not None:
        _inputs.check_share("shrinkage", shrinkage)
    return Settings(
        identity=shrink_target == "identity",
        double_softmax=not paper if double_softmax is None else bool(double_softmax),
        log_score=paper if log_score is None else bool(log_score),
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
    return _challenged(look, settings, shrinkage)


def sfda_parts(look: Look, *, shrinkage: ArrayLike | None = None, **options: Any) -> Parts:
    """The score of one model inside jit."""
    return {"score": _challenged(look, _settings(shrinkage=shrinkage, **options), shrinkage)}


def _challenged(look: Look, settings: Settings, shrinkage: ArrayLike | None) -> Array:
    """Stage 1, ConfMix, stage 2 and the score, for rows in memory."""
    group, row = look.group, look.row
    if shrinkage is None:
        lam = _released_shrinkage(_largest_eigenvalue(look.moments, look))
    else:
        lam = jnp.asarray(shrinkage).astype(row.features.dtype)
    logits = _logits(look.moments, look.residuals, look, lam, settings)
    own = _confidence(logits, group, settings)[:, None]
    mixed = _mix(own, look.moments, look.residuals, group.labels)
    state, residuals = measure(
        row._replace(features=mixed),
        group.labels,
        look.num_classes,
        everywhere=look.everywhere,
        centred=True,
    )
    logits = _logits(state, residuals, look, lam, settings)
    score = look.everywhere(row.weights @ _gain(logits, group, settings)) / look.total
    return jnp.where(group.scorable, score, jnp.nan)


def _logits(state: Moments, residuals: Array, look: Look, lam: Array, settings: Settings) -> Array:
    """Logits [n, C] of regularised Fisher discriminant analysis fitted to the rows themselves."""
    row, n = look.row, look.total
    within = _diagonal(state, look, residuals).sum() / n
    ridge = _ridge(state, within, lam, row.width, settings)
    if look.axis is not None:
        solve = partial(ridge_solve_scatter, state.scatter / n)
    else:
        scatter = state.scatter / n if look.by_columns else None
        solve = partial(ridge_solve, residuals, row.weights / n, scatter=scatter)
    found = _classifier(state, solve(1 - lam, ridge, state.deviations.T))
    return _apply(found, state, residuals, look.group.labels)


def _diagonal(state: Moments, look: Look | None, residuals: Array | None = None) -> Array:
    """Diagonal of the within-class scatter [d], from the rows where the matrix is not formed."""
    if look is None or look.by_columns:
        return jnp.diagonal(state.scatter)
    rows = look.residuals if residuals is None else residuals
    return _inputs.weighted_sum(rows**2, look.row.weights)


class Classifier(NamedTuple):
    """Linear discriminants of features measured from the mean of all samples."""

    directions: Array  # [d, C]
    offsets: Array  # [C]; -inf for classes without rows


def _classifier(state: Moments, directions: Array) -> Classifier:
    present = state.counts > 0
    prior = jnp.log(jnp.where(present, state.counts / state.total, 1))
    offsets = prior - 0.5 * jnp.sum(state.deviations.T * directions, axis=0)
    return Classifier(directions, jnp.where(present, offsets, -jnp.inf))


def _apply(found: Classifier, state: Moments, residuals: Array, labels: Array) -> Array:
    """Logits of rows that are given by their class and their distance from its mean."""
    centres = matmul(state.deviations, found.directions) + found.offsets[None]
    return matmul(residuals, found.directions) + jnp.take(centres, labels, axis=0, mode="clip")


def _released_shrinkage(largest: Array) -> Array:
    return jnp.maximum(jnp.exp(-5 * largest), _FLOOR)


def _ridge(state: Moments, within: Array, lam: Array, width: Array, settings: Settings) -> Array:
    """What shrinkage adds to the diagonal; ``within``: trace of S_W."""
    between = jnp.sum(state.counts[:, None] * state.deviations**2) / state.total
    ridge = lam if settings.identity else lam * within / width
    # vanishing within-class scatter: the limit, from a ridge far below every other one
    lowest = jnp.finfo(within.dtype).eps ** 2 * (within + between) / width
    return jnp.where(within + between > 0, jnp.maximum(ridge, lowest), 1)


def _confidence(logits: Array, group: Classes, settings: Settings) -> Array:
    """How sure stage 1 is of each row's own class [n]."""
    confidence = jax.nn.softmax(logits)
    if settings.double_softmax:
        confidence = jax.nn.softmax(jnp.where(group.present[None], confidence, -jnp.inf))
    return jnp.sum(confidence * group.one_hot, axis=1)


def _mix(own: Array, state: Moments, residuals: Array, labels: Array) -> Array:
    """ConfMix: rows, from the mean of all, pulled toward the other classes [n, d]."""
    means = state.deviations
    number = (state.counts > 0).sum().astype(means.dtype)
    others = (means.sum(axis=0)[None] - means) / jnp.maximum(number - 1, 1)
    toward, away = (jnp.take(part, labels, axis=0, mode="clip") for part in (means, others))
    return own * (residuals + toward) + (1 - own) * away


def _gain(logits: Array, group: Classes, settings: Settings) -> Array:
    """What each row adds to the score [n]."""
    own = (group.one_hot > 0) & group.present[None]
    log_p = jnp.sum(jnp.where(own, jax.nn.log_softmax(logits), 0), axis=1)
    return log_p if settings.log_score else jnp.exp(log_p)


def _largest_eigenvalue(state: Moments, look: Look | None = None) -> Array:
    """The released estimate: three double power steps on S_W from its row sums."""

    def within(v: Array) -> Array:
        if look is None or look.by_columns:
            return matmul(state.scatter, v) / state.total
        along = look.row.weights * matmul(look.residuals, v)
        return matmul(look.residuals.T, along) / state.total

    def unit(v: Array) -> Array:
        square = v @ v
        return jnp.where(square > 0, v / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    v = within(jnp.ones(state.means.shape[1], state.means.dtype))
    # row sums can vanish without S_W doing so (released: NaN); its diagonal cannot
    v = jnp.where(v @ v > 0, v, _diagonal(state, look) / state.total)
    for _ in range(3):
        u = unit(within(v))
        v = unit(within(u))
    return v @ within(u)


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
    second = _fit_scatter(mixed, width, lam, settings)
    held = (state, first, mixed, second)
    zero = jnp.zeros((), state.means.dtype)
    gain = yield Pass(partial(_add_gain, settings=settings), zero, held)
    scorable = state.valid & ((state.counts > 0).sum() >= 2)
    return {"score": jnp.where(scorable, gain / state.total, jnp.nan)}


@partial(jax.jit, static_argnames="settings")
def _first_fit(
    state: Moments, width: ArrayLike, shrinkage: ArrayLike | None, settings: Settings
) -> tuple[Classifier, Array]:
    if shrinkage is None:
        lam = _released_shrinkage(_largest_eigenvalue(state))
    else:
        lam = jnp.asarray(shrinkage).astype(state.means.dtype)
    return _fit_scatter(state, width, lam, settings), lam


@partial(jax.jit, static_argnames="settings")
def _fit_scatter(state: Moments, width: ArrayLike, lam: Array, settings: Settings) -> Classifier:
    width = jnp.asarray(width).astype(lam.dtype)
    ridge = _ridge(state, trace(state.scatter) / state.total, lam, width, settings)
    solved = ridge_solve_scatter(state.scatter / state.total, 1 - lam, ridge, state.deviations.T)
    return _classifier(state, solved)


def _mixed(
    state: Moments, first: Classifier, row: Rows, labels: Array, settings: Settings
) -> tuple[Array, Classes]:
    group = _inputs.classes(labels, len(state.counts), row)._replace(present=state.counts > 0)
    residuals = row.features - state.origin[None] - _inputs.of_row(state.means, group)
    own = _confidence(_apply(first, state, residuals, labels), group, settings)
    return _mix(own[:, None], state, residuals, labels), group


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
    row = _inputs.rows(features, weights, None)
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
    row = _inputs.rows(features, weights, None)
    state, first, mixed_state, second = held
    mixed, group = _mixed(state, first, row, labels, settings)
    residuals = mixed - mixed_state.origin[None] - _inputs.of_row(mixed_state.means, group)
    logits = _apply(second, mixed_state, residuals, labels)
    return carry + row.weights @ _gain(logits, group, settings)
