"""LogME: the log maximum evidence of a Bayesian linear model on the features."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics import _evidence
from jaxte.metrics._evidence import Normal, Problem
from jaxte.metrics._look import Look, Passes, only_active
from jaxte.metrics._maximum import (
    best,
    constant,
    maximum_evidence,
    optimum,
    problem_of,
    reduced,
    reducible,
)
from jaxte.metrics._reduced import Reduced
from jaxte.statistics.measure import Moments

__all__ = ["LogMEFit", "logme", "logme_fit", "logme_from_moments"]

VARIANTS = ("paper", "released")
_PADDED = 2048


class LogMEFit(NamedTuple):
    """What `logme_fit` returns; k target columns, for classification one per class.

    Attributes:
        score: the mean of ``evidence`` over the columns that occur.
        evidence: [k] log evidence per sample; NaN for a class that does not occur.
        alpha: [k] precision of the prior on the weights, in 1 / units of weight squared.
        beta: [k] precision of the noise, in 1 / units of target squared.
        mean: [d, k] posterior mean of the weights: predictions are ``features @ mean``.
        steps: [k] steps taken (Newton or bisection; fixed-point iterations when released).
        converged: [k] whether the steps had stopped moving.
        bounded: [k] whether the optimum lies at the edge of the search: the evidence has no
            interior maximum (features useless, or an exact fit) and the bound was returned.
    """

    score: Array
    evidence: Array
    alpha: Array
    beta: Array
    mean: Array
    steps: Array
    converged: Array
    bounded: Array


def logme(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    variant: str = "paper",
) -> Array:
    r"""Log evidence per sample of the targets under a linear model, maximised over its precisions.

    .. math::
        \mathrm{LogME} = \frac1k \sum_{j=1}^{k} \max_{\alpha,\beta} \frac1n
        \ln \mathcal N\!\left(y_j \,\middle|\, 0,\ \beta^{-1} I + \alpha^{-1} X X^\top\right)

    ``variant="paper"`` (default) is that maximum, for every n and d, and does not depend on the
    scale of the features. ``variant="released"`` is what the fixed point everybody copied
    returns: 1e-5 in both denominators, at most 11 iterations, and for d > n a log determinant
    over n of d directions, which rewards width alone. Classes that do not occur contribute
    nothing in either (the released code adds a column of zeros and its large evidence).

    Where products of the features are too ill-conditioned to tell all directions from rounding
    error, the rows themselves are decomposed.

    Args:
        features: [n, d], uncentred and unscaled.
        targets: [n] integers are classes 0..C-1, each a 0/1 column; floats [n] or [n, k] are
            regression (or multi-label) columns, averaged; columns of zeros contribute nothing.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding (matters when released).
        variant: "paper" or "released".

    Returns:
        Scalar in nats per sample, unbounded on both sides. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    Source: You et al., ICML 2021, arXiv 2102.11005, Eq. 2; JMLR 23(209), 2022, arXiv 2110.10545,
    and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.logme(better, y) > jaxte.metrics.logme(x, y))
        True
    """
    return _score(*_checked(features, targets, num_classes, weights, num_features, variant))


def logme_fit(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    variant: str = "paper",
) -> LogMEFit:
    r"""The whole fit behind `logme`: evidence, precisions and posterior mean of every column.

    .. math:: \bar w_j = (X^\top X + \tfrac{\alpha_j}{\beta_j} I)^{-1} X^\top y_j

    Args:
        features: as `logme`, as are all other arguments.
        targets: [n] classes or [n], [n, k] regression targets.
        num_classes: C.
        weights: [n].
        num_features: true width.
        variant: "paper" or "released".

    Returns:
        `LogMEFit`. Only ``score`` of `logme` is meant to be differentiated.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    Source: as `logme`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> fit = jaxte.metrics.logme_fit(x, x[:, :2] @ jax.numpy.ones(2))
        >>> fit.mean.shape, bool(fit.converged.all())
        ((8, 1), True)
    """
    return _fit(
        *_checked(features, targets, num_classes, weights, num_features, variant, renumber=False)
    )


def _checked(
    features: ArrayLike,
    targets: ArrayLike,
    num_classes: int | None,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    variant: str,
    *,
    renumber: bool = True,
) -> tuple[Any, ...]:
    checks.choose("variant", variant, VARIANTS)
    return *checks.check_arguments(
        features, targets, num_classes, weights, num_features, regression=True, renumber=renumber
    ), variant


@partial(jax.jit, static_argnums=(4, 5))
def _score(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    num_classes: int | None,
    variant: str,
) -> Array:
    look = Look(
        features, targets, num_classes=num_classes, weights=weights, num_features=num_features
    )
    return logme_parts(look, variant=variant)["score"]


def logme_parts(look: Look, *, variant: str = "paper", route: str = "sure") -> dict[str, Array]:
    """The score, and whether an optimum was bounded, not converged, not to be trusted or blurred.

    ``route``: "quick" may leave an optimum "unsure", "full" never does, "sure" takes the quick
    one and where that is not enough the full one. "rough" is the full one without a second look
    at the rows, so that it too may be unsure.
    """
    checks.choose("variant", variant, VARIANTS)
    y, active, scorable = look.columns
    normal = _normal(look)
    if look.axis is not None:  # no device has all rows
        assert normal is not None
        evidence, flags = _of_normal(normal, look.row.width, variant, route)
    elif variant == "paper":
        held = jax.tree.map(stop_gradient, normal)
        evidence, flags = maximum_evidence(route, look.row.features, y, look.row.weights, held)
    else:
        # from the rows, whose decomposition has a derivative
        problem = _evidence.decompose(look.row, y)
        sharp = _evidence.sharpen(problem, look.row, y, dual=True)
        problem = jax.tree.map(
            lambda rough, fine: fine + (rough - stop_gradient(rough)), problem, sharp
        )
        evidence = _evidence.iterate_as_released(problem, look.row.width).evidence
        flags = _released_flags(problem, 0)
    return _parts(evidence, flags, active, scorable)


def _of_normal(normal: Normal, width: Array, variant: str, route: str) -> tuple[Array, Array]:
    """Evidence and flags where normal equations are all that there is."""
    if variant == "paper":
        return optimum(route, None, normal)
    problem = problem_of(None, normal)
    evidence = _evidence.iterate_as_released(problem, width).evidence
    return evidence, _released_flags(problem, problem.blurred)


def _released_flags(problem: Problem, blurred: ArrayLike) -> Array:
    return jnp.zeros(5, problem.lam.dtype).at[3:].set([blurred, constant(problem)])[:, None]


class Left(NamedTuple):
    """What the costly half of the score leaves."""

    problem: Reduced
    active: Array
    scorable: Array


def logme_reduced(look: Look, *, variant: str = "paper") -> Left | dict[str, Array] | None:
    """The costly half of the score, where halving it pays, or a score that may be "unsure"."""
    if variant != "paper":
        return None
    y, active, scorable = look.columns
    normal = _normal(look)
    sample = (look.row.features, y, look.row.weights)
    if not reducible(sample, normal):
        return None if look.axis is not None else logme_parts(look, route="rough")
    return Left(reduced(sample, normal), active, scorable)


def logme_finish(left: Left) -> dict[str, Array]:
    """The other half."""
    return _parts(*best(left.problem), left.active, left.scorable)


def logme_padded(left: Left, xp: Any) -> Left:
    """The same with more entries, so that most widths share one compilation."""
    p = left.problem
    size = max(_PADDED, 1 << (len(p.diagonal) - 1).bit_length())

    def long(part: Any) -> Any:
        return xp.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))

    parts = {name: long(getattr(p, name)) for name in ("diagonal", "below", "targets", "mean")}
    return left._replace(problem=p._replace(**parts))


def logme_passes(
    state: Moments, width: ArrayLike, *, variant: str = "paper", route: str = "sure"
) -> Passes:
    """The score of streamed samples: their moments are enough."""
    yield from ()
    return _score_moments(state, width, checks.choose("variant", variant, VARIANTS), route)


def _parts(evidence: Array, flags: Array, active: Array, scorable: Array) -> dict[str, Array]:
    bounded, moving, unsure, blurred, same = (flags > 0).any(axis=1)
    return {
        "score": _average(evidence, active, scorable),
        "bounded": bounded,
        "unconverged": moving,
        "unsure": unsure,
        "blurred": blurred,
        "constant": same,
    }


def _normal(look: Look) -> Normal | None:
    """The normal equations, where they keep the digits; else None: take the rows."""
    if look.axis is None and not (look.by_columns and look.row.features.dtype == jnp.float64):
        return None
    return _active_normal(look.moments, look.columns[1], look.unit)


def _active_normal(state: Moments, active: Array, unit: ArrayLike = 1) -> Normal:
    given = _evidence.normal_equations(state, unit)
    cross, square, y_mean = (
        only_active(part, active) for part in (given.cross, given.square, given.y_mean)
    )
    return given._replace(cross=cross, square=square, y_mean=y_mean)


def logme_from_moments(state: Moments, *, variant: str = "paper") -> Array:
    r"""LogME of samples that are known by their moments only.

    .. math:: \mathrm{LogME}\bigl(n_c,\ m_c,\ S_W\bigr) = \mathrm{LogME}(X, y)

    In float32 the moments square the condition number of the features: expect four digits. In
    either precision directions that are lost in rounding error count as none.

    Args:
        state: `jaxte.moments.Moments`, of labels or of float targets.
        variant: as in `logme`.

    Returns:
        Scalar, the score that `logme` gives to the samples themselves.

    Raises:
        InputError: for an unknown variant.

    Source: as `logme`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.logme_from_moments(state) - jaxte.metrics.logme(x, y)
        >>> bool(abs(gap) < 1e-3)
        True
    """
    checks.choose("variant", variant, VARIANTS)
    with state.precision:
        return _score_moments(state, state.means.shape[1], variant)["score"]


@partial(jax.jit, static_argnums=(2, 3))
def _score_moments(
    state: Moments, width: ArrayLike, variant: str, route: str = "sure"
) -> dict[str, Array]:
    given = _evidence.normal_equations(state)
    if state.targets is None:
        active = state.counts > 0
        scorable = state.valid & (active.sum() >= 2)
    else:
        active = given.square + given.n * given.y_mean**2 > 0
        scorable = state.valid & active.any()
    normal = _active_normal(state, active)
    width = jnp.asarray(width).astype(given.mean.dtype)
    evidence, flags = _of_normal(normal, width, variant, route)
    return _parts(evidence, flags, active, scorable)


@partial(jax.jit, static_argnums=(4, 5))
def _fit(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    num_classes: int | None,
    variant: str,
) -> LogMEFit:
    look = Look(
        features, targets, num_classes=num_classes, weights=weights, num_features=num_features
    )
    y, active, scorable = look.columns
    problem = problem_of((look.row.features, y, look.row.weights), _normal(look))
    if variant == "paper":
        fit = _evidence.maximise(problem)
    else:
        fit = _evidence.iterate_as_released(problem, look.row.width)
    return LogMEFit(
        score=_average(fit.evidence, active, scorable),
        evidence=jnp.where(active, fit.evidence, jnp.nan),
        alpha=jnp.where(active, fit.alpha, jnp.nan),
        beta=jnp.where(active, fit.beta, jnp.nan),
        mean=jnp.where(active[None], _evidence.posterior_mean(problem, fit.ratio), jnp.nan),
        steps=jnp.where(active, fit.steps, 0),
        converged=fit.converged | ~active,
        bounded=fit.bounded & active,
    )


def _average(evidence: Array, active: Array, scorable: Array) -> Array:
    mean = jnp.where(active, evidence, 0).sum() / jnp.maximum(active.sum(), 1).astype(
        evidence.dtype
    )
    return jnp.where(scorable & jnp.isfinite(mean), mean, jnp.nan)
