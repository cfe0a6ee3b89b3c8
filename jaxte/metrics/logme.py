"""LogME: the log maximum evidence of a Bayesian linear model on the features."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient
from jax.typing import ArrayLike

from jaxte import _inputs
from jaxte._inputs import Rows, centre
from jaxte.linalg import matmul
from jaxte.metrics import _evidence
from jaxte.metrics._evidence import Fit, Problem

__all__ = ["LogMEFit", "logme", "logme_fit"]

_VARIANTS = ("paper", "released")
_SMALL = 1e-30  # keeps the logarithm of an all-zero feature matrix finite


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
    return _fit(*_checked(features, targets, num_classes, weights, num_features, variant))


def _checked(
    features: ArrayLike,
    targets: ArrayLike,
    num_classes: int | None,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    variant: str,
) -> tuple[Any, ...]:
    _inputs.choose("variant", variant, _VARIANTS)
    n = _inputs.check_features(features, weights, num_features)
    num_classes = _inputs.check_targets(targets, n, num_classes, weights)
    return features, targets, weights, num_features, num_classes, variant


def _columns(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    num_classes: int | None,
) -> tuple[Rows, Array, Array, Array]:
    """Rows, target columns [n, k], which of them count, and whether a score exists."""
    row = _inputs.rows(features, weights, num_features)
    if num_classes is not None:
        group = _inputs.classes(targets, num_classes, row)
        y, active, scorable = group.one_hot, group.present, group.scorable
    else:
        y = jnp.asarray(targets).astype(row.features.dtype)
        y = y[:, None] if y.ndim == 1 else y
        y = jnp.where((row.weights == 0)[:, None] & ~jnp.isfinite(y), 0, y)
        active = matmul(row.weights, y**2) > 0
        scorable = active.any() & row.finite
    # a column that does not count must have finite derivatives all the same: copy one that does
    copied = jnp.take(y, jnp.argmax(active), axis=1)[:, None]
    return row, jnp.where(active[None], y, copied), active, scorable


@partial(jax.jit, static_argnums=(4, 5))
def _score(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    num_classes: int | None,
    variant: str,
) -> Array:
    row, y, active, scorable = _columns(features, targets, weights, num_features, num_classes)
    if variant == "paper":
        evidence = _maximum_evidence(row.features, y, row.weights)
    else:
        evidence = _evidence.iterate_as_released(_evidence.decompose(row, y), row.width).evidence
    return _average(evidence, active, scorable)


@partial(jax.jit, static_argnums=(4, 5))
def _fit(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    num_classes: int | None,
    variant: str,
) -> LogMEFit:
    row, y, active, scorable = _columns(features, targets, weights, num_features, num_classes)
    problem = _evidence.decompose(row, y)
    if variant == "paper":
        fit = _evidence.maximise(problem)
    else:
        fit = _evidence.iterate_as_released(problem, row.width)
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


@jax.custom_jvp
def _maximum_evidence(features: Array, y: Array, weights: Array) -> Array:
    """Maximum log evidence per sample of each column of y [n, k]."""
    return _evidence.maximise(_problem(features, y, weights)).evidence


def _problem(features: Array, y: Array, weights: Array) -> Problem:
    width = jnp.asarray(features.shape[1], features.dtype)
    return _evidence.decompose(Rows(features, weights, weights.sum(), width), y)


@_maximum_evidence.defjvp
def _maximum_evidence_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """At a maximum the precisions and the posterior mean may be held fixed (envelope theorem)."""
    problem = _problem(*primals)
    fit = _evidence.maximise(problem)
    held = partial(_evidence_at, problem, fit)
    return fit.evidence, jax.jvp(held, primals, tangents)[1]


def _evidence_at(problem: Problem, fit: Fit, features: Array, y: Array, weights: Array) -> Array:
    """A function of (features, y, weights) with the derivative of the maximised evidence.

    The log determinant's derivative, tr((tI + G)^-1 dG), is taken in centred coordinates as
    tr(D dA) + d ln(1 + n p) with D = (tI + A)^-1 and p = m' D m, D held fixed throughout.
    """
    p, t = problem, fit.ratio
    row = Rows(features / p.unit, weights, weights.sum(), p.n)
    x, mean = centre(row.features, row)
    n, axes = row.total, p.spec.axes
    counted = weights[:, None] > 0

    def square(held: Array, moving: Array) -> Array:
        """Column sums of weights * moving**2, its value and half its derivative from held."""
        cross = jnp.sum(stop_gradient(weights)[:, None] * held * moving, axis=0)
        return matmul(weights, held**2) + 2 * (cross - stop_gradient(cross))

    # products that are zero but for rounding are held at zero, since 1 / t may be 1e20
    scores = matmul(x, axes)
    held = stop_gradient(jnp.where(counted & (p.lam == 0)[None], 0, scores))
    inverse = 1 / (t[None] + p.lam[:, None])
    trace = matmul(square(held, scores), inverse)
    beyond = stop_gradient(jnp.where(counted, 0, x - matmul(scores, axes.T)))
    trace += jnp.where(p.off_square > 0, weights @ jnp.sum(beyond**2, axis=1), 0) / t

    coefficients = p.mu[:, None] * inverse
    direction = matmul(axes, coefficients) + p.off[:, None] / t[None]  # D m
    along = matmul(x, direction)
    held = stop_gradient(jnp.where(counted, matmul(held, coefficients), along))
    leverage = p.mu**2 @ inverse + p.off_square / t
    change = 2 * matmul(mean, direction) - square(held, along)
    logdet = trace + (p.n * change + n * leverage) / (1 + p.n * leverage)

    held = _evidence.residuals(p, row._replace(features=features), y, t)
    residual = y - matmul(row.features, _evidence.posterior_mean(p, t) * p.unit)
    moving = n * jnp.log(fit.beta / (2 * jnp.pi)) - logdet
    moving -= fit.beta * square(stop_gradient(held), residual)
    # at a bound the slope does not vanish, and the bound moves with tr G
    slope = jnp.where(fit.bounded, _evidence.slope(p, jnp.log(t)), 0)
    moving += slope * jnp.log(jnp.maximum(weights @ jnp.sum(row.features**2, axis=1), _SMALL))
    # the part that does not move makes the value right, which d(1/n) multiplies
    fixed = stop_gradient(2 * p.n * fit.evidence - moving)
    return (moving + fixed) / (2 * n)
