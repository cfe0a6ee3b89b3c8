"""A linear probe in closed form: ridge regression, judged on rows that it was not fitted to."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.linalg import gram, matmul, safe_root, trace
from jaxte.statistics.measure import divisors
from jaxte.statistics.normal import normal_equations
from jaxte.statistics.ridge import Problem, is_tridiagonal, problem_of, tridiagonal_of
from jaxte.statistics.rows import centre
from jaxte.statistics.shifted import Shifted
from jaxte.statistics.tiles import map_tiles
from jaxte.statistics.tridiagonal import Tridiagonal, sweep

__all__ = ["ridge_probe"]

_MEASURES = ("log_likelihood", "accuracy")
# Range of the log penalty relative to the scatter's trace: what the digits of a Gram matrix bear.
_LOWEST, _LOWEST_SINGLE, _HIGHEST, _GRID = -20.0, -14.0, 5.0, 51
_BETWEEN, _ROUNDS = 8, 5  # the grid's 0.5 becomes 2e-5, of which a line leaves 1e-10
_STEP, _SHARPNESS = 0.5, tuple(0.5 * i for i in range(-4, 13))  # log of a, what f is multiplied by


def ridge_probe(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    measure: str = "log_likelihood",
) -> Array:
    r"""How well ridge regression predicts each row from all others, in closed form.

    .. math::
        f_i = y_i - \frac{y_i - \hat y_i}{1 - h_i}, \qquad
        h_i = \tfrac1n + x_i^\top (X^\top X + tI)^{-1} x_i

    with centred features X, an intercept, and the penalty t of largest evidence (restricted
    likelihood, one noise level a column). Classes: :math:`f` predicts 0/1 columns, and the score
    is the mean of :math:`\ln p_{i,y_i}`, where :math:`p_i = \mathrm{softmax}(a (f_i - \pi) +
    \ln\pi)` with class frequencies :math:`\pi` and the one number a >= 0 that suits best.
    Features without signal score minus the entropy of the classes, in expectation.

    Scores that are fitted to the rows they are measured on (LogME, SFDA, H-score) rise with the
    width of any features; this one does not.

    Args:
        features: [n, d]; rotations, shifts and one common scale do not matter.
        targets: [n] classes, or floats [n] or [n, k] for regression.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice (and of such
            twins one is left out at a time).
        num_features: true width when trailing columns are padding.
        measure: "log_likelihood" or, of classes, "accuracy".

    Returns:
        Scalar: nats per sample in (-inf, 0], accuracy in [0, 1], or for regression R2 in
        (-inf, 1], the mean over targets that vary. NaN when fewer than two classes occur, or no
        target varies.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Allen, Technometrics 1974 (leave-one-out); Hoerl and Kennard, Technometrics 1970.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.ridge_probe(better, y) > jaxte.metrics.ridge_probe(x, y))
        True
    """
    return RIDGE_PROBE.outputs(
        features, targets, num_classes, weights, num_features, measure=measure
    )["score"]


def _check(*, measure: str) -> None:
    checks.choose("measure", measure, _MEASURES)


# --- the penalty ----------------------------------------------------------------------------------


def _log_penalty(statistics: Statistics) -> Array:
    """Log of the penalty of largest evidence over the scatter's trace; without a derivative."""
    best = partial(_best, statistics.varying, statistics.total)
    if statistics.route != "sure" and statistics.sample is not None:
        return lax.stop_gradient(best(statistics.ridge.form))
    rows = None
    if statistics.in_memory:
        rows = statistics.rows.features, statistics.columns, statistics.rows.weights
    rows, normal = lax.stop_gradient((rows, statistics.normal))
    if not is_tridiagonal(rows, normal):
        return best(problem_of(rows, normal, sharp=False))
    return lax.platform_dependent(
        cpu=lambda: best(tridiagonal_of(rows, normal)),
        default=lambda: best(problem_of(rows, normal, sharp=False)),
    )


def _best(present: Array, n: Array, form: Tridiagonal | Shifted | Problem) -> Array:
    """The best point of a grid, then the root of the slope between its neighbours.

    NaN where that is not within the window of a `Shifted`.
    """
    evidence = partial(_evidence_of_form, form, present, n)
    dtype = form.n.dtype
    low: Any = _LOWEST if dtype == jnp.float64 else _LOWEST_SINGLE
    high: Any = _HIGHEST
    if isinstance(form, Shifted):
        low, high = (end - jnp.log(divisors(form.size)) for end in (form.low, form.high))
    points: Array = jnp.linspace(low, high, _GRID, dtype=dtype)
    best = jnp.argmax(evidence(points))
    known = jnp.ones((), bool)
    if isinstance(form, Shifted):
        known = jnp.all(form.sure | ~present) & (best > 1) & (best < _GRID - 2)

    def slope(u: Array) -> Array:
        return jax.jvp(evidence, (u,), (jnp.ones_like(u),))[1]

    def closer(_: Array, bracket: Array) -> Array:
        inner = jnp.linspace(bracket[0], bracket[1], _BETWEEN + 1)
        rising = jnp.cumprod(slope(inner[1:-1]) > 0).sum()
        return lax.dynamic_slice(inner, (rising,), (2,))

    around = jnp.clip(jnp.stack([best - 1, best + 1]), 0, _GRID - 1)
    ends = lax.fori_loop(0, _ROUNDS, closer, points[around])
    left, right = slope(ends)
    share = left / jnp.where(left > right, left - right, 1)
    return jnp.where(known, ends[0] + (ends[1] - ends[0]) * jnp.clip(share, 0, 1), jnp.nan)


def _evidence_of_form(
    form: Tridiagonal | Shifted | Problem, present: Array, n: Array, u: Array
) -> Array:
    """The evidence at ln t = u [j]."""
    if isinstance(form, Shifted):
        u = (u + jnp.log(divisors(form.size)))[:, None]
        logdet, own, *_ = form.at(u)
        misfit = form.square[None] - own if form.length is None else jnp.exp(u) * own
        return _evidence(misfit, logdet[:, 0], present, n)
    if isinstance(form, Tridiagonal):
        t = jnp.exp(u) * divisors(form.diagonal.sum())
        logdet, own, *_ = sweep(form, t[:, None])
        misfit = form.square[None] - own if form.length is None else t[:, None] * own
        return _evidence(misfit, logdet[:, 0], present, n)
    t = jnp.exp(u) * divisors(form.lam.sum())
    shrunk = t[:, None] / (t[:, None] + form.lam[None])
    misfit = form.rest[None] + matmul(shrunk, form.xi**2)
    return _evidence(misfit, -jnp.log(shrunk).sum(axis=1), present, n)


def _evidence(misfit: Array, logdet: Array, present: Array, n: Array) -> Array:
    """Log restricted likelihood, maximised over the noise of each column, but for constants."""
    counted = jnp.broadcast_to(present, misfit.shape) & (misfit > 0)
    fit = jnp.where(counted, jnp.log(jnp.where(counted, misfit, 1)), 0).sum(axis=-1)
    return -0.5 * ((n - 1) * fit + present.sum() * logdet)


class System(NamedTuple):
    """S [m, m] and right sides [m, k]: X'X and X'Y, or if ``square`` is None XX' and Y."""

    matrix: Array
    rhs: Array
    square: Array | None
    present: Array
    n: Array

    def penalty(self, u: Array) -> Array:
        """The penalty t."""
        return jnp.exp(u) * divisors(trace(self.matrix))

    def factor(self, t: Array) -> Array:
        """L with S + tI = L L'."""
        return jnp.linalg.cholesky(self.matrix + t * jnp.eye(len(self.matrix), dtype=t.dtype))

    def evidence(self, u: Array) -> Array:
        """That of `_evidence`, with a derivative."""
        t = self.penalty(u)
        lower = self.factor(t)
        explained = jnp.sum(solve_triangular(lower, self.rhs, lower=True) ** 2, axis=0)
        misfit = t * explained if self.square is None else self.square - explained
        logdet = jnp.sum(2 * jnp.log(jnp.diagonal(lower)) - jnp.log(t))
        return _evidence(misfit, logdet, self.present, self.n)


@jax.custom_jvp
def _stationary(u: Array, system: System) -> Array:
    """u, which maximises the evidence of the system, and moves with it."""
    return u


@_stationary.defjvp
def _stationary_jvp(
    primals: tuple[Array, System], tangents: tuple[Array, System]
) -> tuple[Array, Array]:
    u, system = _stationary(*primals), primals[1]  # of which second derivatives are right, too

    def slope(u: Array, system: System) -> Array:
        return jax.jvp(system.evidence, (u,), (jnp.ones_like(u),))[1]

    def along(system: System) -> Array:
        return slope(u, system)

    moved = jax.jvp(along, (system,), (tangents[1],))[1]
    bend = jax.jvp(lambda u: slope(u, system), (u,), (jnp.ones_like(u),))[1]
    lowest = _LOWEST if u.dtype == jnp.float64 else _LOWEST_SINGLE
    inside = (u > lowest) & (u < _HIGHEST) & (bend < 0)
    return u, jnp.where(inside, -moved / jnp.where(inside, bend, 1), 0)


# --- predictions ----------------------------------------------------------------------------------


class Fit(NamedTuple):
    """Ridge regression; predictions for centred features x are y_mean + (x R) (R'X'Y).

    Attributes:
        root: R [d, d] with R R' = (X'X + tI)^-1; None where all rows are predicted already.
        along: R'X'Y [d, k]; or for all rows the predictions by the others [n, k].
        y_mean: [k], 0 for a class that does not occur.
        n: sum of the weights.
        deviations: class means minus the mean [C, d].
        whole: whether a row is left out with all its weight, not one twin of it at a time.
    """

    root: Array | None
    along: Array
    y_mean: Array
    n: Array
    deviations: Array
    whole: bool | Array


def _fit(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Fit:
    u, n, present = _log_penalty(statistics), statistics.total, statistics.present
    state, whole = statistics.measured.moments, statistics.whole_rows
    if not statistics.by_columns:
        predictions, y_mean = _from_products_of_rows(statistics, u)
        return Fit(None, predictions, jnp.where(present, y_mean, 0), n, state.deviations, whole)
    normal = normal_equations(statistics.moments, present, statistics.unit)
    system = System(normal.scatter, normal.cross, normal.square, statistics.varying, n)
    lower = system.factor(system.penalty(_stationary(u, system)))
    inverse = solve_triangular(lower, jnp.eye(len(lower), dtype=lower.dtype), lower=True)
    y_mean = jnp.where(present, normal.y_mean, 0)
    return Fit(inverse.T, matmul(inverse, normal.cross), y_mean, n, state.deviations, whole)


def _from_products_of_rows(statistics: Statistics, u: Array) -> tuple[Array, Array]:
    """Predictions of each row by the others [n, k], and the mean of the targets, for n < d."""
    rows = statistics.rows
    root = safe_root(rows.weights)[:, None]
    x = root * statistics.centred
    y, y_mean = centre(statistics.columns, rows)
    system = System(gram(x.T), root * y, None, statistics.varying, rows.total)
    t = system.penalty(_stationary(u, system))
    # the constant direction is taken out, or it would hide how little of a row is left
    constant = root / jnp.sqrt(rows.total)
    size = t + divisors(trace(system.matrix))
    system = system._replace(matrix=system.matrix + size * constant * constant.T)
    lower = system.factor(t)
    eye = jnp.eye(len(lower), dtype=lower.dtype)
    inverse = solve_triangular(lower, eye, lower=True)
    residuals = t * matmul(inverse.T, matmul(inverse, system.rhs))
    left = t * jnp.sum(inverse**2, axis=0) - t / (t + size) * constant[:, 0] ** 2
    if not statistics.whole_rows:
        left = (rows.weights - 1 + left) / jnp.where(rows.weights > 0, rows.weights, 1)
    safe = jnp.where(root > 0, root, 1)
    return statistics.columns - residuals / safe / divisors(left)[:, None], y_mean


def _predict(fit: Fit, batch: Batch, y: Array) -> Array:
    """Each row predicted by all others [b, k]."""
    if fit.root is None:
        return fit.along
    along = matmul(batch.centred(fit.deviations), fit.root)
    left = 1 - jnp.where(fit.whole, batch.weights, 1) * (1 / fit.n + jnp.sum(along**2, axis=1))
    residuals = y - fit.y_mean[None] - matmul(along, fit.along)
    return y - residuals / divisors(left)[:, None]


# --- what they are worth --------------------------------------------------------------------------


def _judge(fit: Fit, batch: Batch, **_: Any) -> tuple[Array, ...]:
    """Sums over the rows of a batch: errors, or right answers and likelihoods by sharpness."""
    if batch.labels.ndim == 2:
        errors = batch.labels - _predict(fit, batch, batch.labels)
        trivial = (batch.labels - fit.y_mean[None]) * fit.n / (fit.n - 1)
        return matmul(batch.weights, errors**2), matmul(batch.weights, trivial**2)
    number = len(fit.y_mean)
    y = jax.nn.one_hot(batch.labels, number, dtype=fit.y_mean.dtype)
    predicted = _predict(fit, batch, y)
    occurs = fit.y_mean > 0
    prior = jnp.where(occurs, jnp.log(jnp.where(occurs, fit.y_mean, 1)), -jnp.inf)
    relative = jnp.where(occurs[None], predicted - fit.y_mean[None], 0)
    right = jnp.argmax(jnp.where(occurs[None], predicted, -jnp.inf), axis=1) == batch.labels
    own = jnp.sum(y * relative, axis=1)
    own_prior = jnp.take(jnp.where(occurs, prior, 0), batch.labels, mode="clip")

    def at(log_sharpness: Array) -> Array:
        """Log likelihood and its first two derivatives with respect to the log of sharpness."""
        a = jnp.exp(log_sharpness)
        logits = a * relative + prior[None]
        p = jax.nn.softmax(logits)
        mean = jnp.sum(p * relative, axis=1)
        spread = jnp.sum(p * (relative - mean[:, None]) ** 2, axis=1)
        value = a * own + own_prior - jax.nn.logsumexp(logits, axis=1)
        rise = a * (own - mean)
        return matmul(jnp.stack([value, rise, rise - a**2 * spread]), batch.weights)

    return matmul(batch.weights, right.astype(y.dtype)), map_tiles(
        at, jnp.array(_SHARPNESS, y.dtype), y.size
    )


def _score(statistics: Statistics, completed: tuple[Completed, ...], *, measure: str) -> Outputs:
    fit, sums = completed[0]
    lost = statistics.may_be_unsure & statistics.valid & jnp.isnan(jnp.sum(fit.along))
    if statistics.measured.moments.targets is not None:
        errors, trivial = sums
        varies = statistics.varying
        shares = jnp.where(varies, 1 - errors / jnp.where(varies, trivial, 1), 0)
        r2 = shares.sum() / varies.sum()  # NaN where no target varies
        gain = -fit.n / 2 * jnp.log1p(-jnp.clip(r2, 0, 1 - jnp.finfo(r2.dtype).eps))
        return {"score": jnp.where(statistics.valid, r2, jnp.nan), "unsure": lost, "gain": gain}
    right, likelihoods = sums
    accuracy, best = right / fit.n, _highest(likelihoods / fit.n)
    # 0 sharpness: the prior alone
    prior = fit.y_mean * jnp.log(divisors(fit.y_mean))
    outputs = {"accuracy": accuracy, "log_likelihood": jnp.maximum(best, prior.sum())}
    score = jnp.where(statistics.valid, outputs[measure], jnp.nan)
    gain = fit.n * (outputs["log_likelihood"] - prior.sum())
    return {"score": score, "unsure": lost, "gain": gain, **outputs}


def _highest(table: Array) -> Array:
    """The maximum of a function known at the points of `_SHARPNESS`, with two derivatives [j, 3].

    Quintic between the points.
    """
    best = jnp.clip(jnp.argmax(table[:, 0]), 1, len(table) - 2)
    three = lax.dynamic_slice(table, (best - 1, 0), (3, 3)) * jnp.array(
        [[1, _STEP, _STEP**2]], table.dtype
    )
    x = jnp.linspace(0, 1, 65, dtype=table.dtype)

    def part(x: Array, values: Array, sign: int) -> Array:
        basis = jnp.stack(
            [
                1 - 10 * x**3 + 15 * x**4 - 6 * x**5,
                sign * (x - 6 * x**3 + 8 * x**4 - 3 * x**5),
                0.5 * (x**2 - 3 * x**3 + 3 * x**4 - x**5),
            ]
        )
        return matmul(values, basis)

    pieces = [part(x, three[i], 1) + part(1 - x, three[i + 1], -1) for i in range(2)]
    return jnp.concatenate(pieces).max()


RIDGE_PROBE = register(
    Metric(
        name="ridge_probe",
        function=ridge_probe,
        score=_score,
        confirmed="own replica",
        paper="ours: leave-one-out ridge regression",
        tasks=("classification", "regression"),
        range=(float("-inf"), 1.0),
        cost="4 n d k + O(k^3)",
        needs=frozenset({"measured", "scatter", "ridge"}),
        passes=(Pass(_fit, _judge),),
        check=_check,
        invariances=frozenset({"rotation", "shift", "scale"}),
        joins_layers=True,
        second_order=True,
    )
)
