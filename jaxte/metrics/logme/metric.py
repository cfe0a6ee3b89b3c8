"""LogME: the log maximum evidence of a Bayesian linear model on the features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.logme import evidence
from jaxte.metrics.logme.maximum import is_constant, maximum_evidence, of_ridge, optimum
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.options import shortlist
from jaxte.metrics.registry import register
from jaxte.runtime.programs import all_digits
from jaxte.statistics import Moments, Sample, Statistics
from jaxte.statistics.ridge import Problem, decompose, leverage_inflation, problem_of, sharpen

__all__ = ["LOGME", "LogMEFit", "logme", "logme_fit", "logme_from_moments"]

VARIANTS = ("paper", "released")


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

    References: You et al., ICML 2021, arXiv 2102.11005, Eq. 2; JMLR 23(209), 2022, arXiv
    2110.10545, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.logme(better, y) > jaxte.metrics.logme(x, y))
        True
    """
    return LOGME.outputs(features, targets, num_classes, weights, num_features, variant=variant)[
        "score"
    ]


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

    References: as `logme`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> fit = jaxte.metrics.logme_fit(x, x[:, :2] @ jax.numpy.ones(2))
        >>> fit.mean.shape, bool(fit.converged.all())
        ((8, 1), True)
    """
    _check(variant=variant)
    *sample, classes = checks.check_arguments(
        features, targets, num_classes, weights, num_features, regression=True, renumber=False
    )
    return _fit(Sample(*sample), classes, variant)


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

    References: as `logme`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.logme_from_moments(state) - jaxte.metrics.logme(x, y)
        >>> bool(abs(gap) < 1e-3)
        True
    """
    return LOGME.outputs_from_moments(state, variant=variant)["score"]


def _check(*, variant: str = "paper") -> None:
    checks.choose("variant", variant, VARIANTS)


def _needs(*, variant: str) -> frozenset[str]:
    return frozenset({"ridge"} if variant == "paper" else {"rows", "measured"})


def _score(
    statistics: Statistics, completed: tuple[Completed, ...], *, variant: str = "paper"
) -> Outputs:
    """The score, and whether an optimum is bounded, unconverged, unsure, blurred or constant."""
    if variant == "released":
        values, flags = _released(statistics)
    elif statistics.route != "sure":
        ridge = statistics.ridge
        return _outputs(*of_ridge(ridge), ridge.present, ridge.valid)
    elif statistics.in_memory:
        rows, normal = statistics.rows, jax.tree.map(stop_gradient, statistics.normal)
        values, flags = maximum_evidence(
            statistics.route, rows.features, statistics.columns, rows.weights, normal
        )
    else:
        values, flags = optimum(statistics.route, None, statistics.normal)
    return _outputs(values, flags, statistics.present, statistics.valid)


def _outputs(values: Array, flags: Array, present: Array, valid: Array) -> Outputs:
    bounded, moving, unsure, blurred, constant = (flags > 0).any(axis=1)
    return {
        "score": _average(values, present, valid),
        "bounded": bounded,
        "unconverged": moving,
        "unsure": unsure,
        "blurred": blurred,
        "constant": constant,
    }


def _released(statistics: Statistics) -> tuple[Array, Array]:
    """The released fixed point; from the rows, whose decomposition has a derivative."""
    if not statistics.in_memory:
        problem = problem_of(None, statistics.normal)
        blurred = problem.blurred
    else:
        rows, y = statistics.rows, statistics.columns
        rough = decompose(rows, y)
        sharp = sharpen(rough, rows, y, dual=True)
        problem = jax.tree.map(lambda a, b: b + (a - stop_gradient(a)), rough, sharp)
        blurred = jnp.zeros_like(problem.blurred)
    values = evidence.iterate_as_released(problem, statistics.width).evidence
    flags = jnp.zeros(5, problem.lam.dtype).at[3:].set([blurred, is_constant(problem)])
    return values, flags[:, None]


@partial(jax.jit, static_argnums=(1, 2))
@all_digits
def _fit(sample: Sample, num_classes: int | None, variant: str) -> LogMEFit:
    statistics = Statistics(sample, num_classes=num_classes)
    present = statistics.present
    problem, fit = _optimum(statistics, variant)
    mean = evidence.posterior_mean(problem, fit.ratio)
    return LogMEFit(
        score=_average(fit.evidence, present, statistics.valid),
        evidence=jnp.where(present, fit.evidence, jnp.nan),
        alpha=jnp.where(present, fit.alpha, jnp.nan),
        beta=jnp.where(present, fit.beta, jnp.nan),
        mean=jnp.where(present[None], mean, jnp.nan),
        steps=jnp.where(present, fit.steps, 0),
        converged=fit.converged | ~present,
        bounded=fit.bounded & present,
    )


def _optimum(statistics: Statistics, variant: str) -> tuple[Problem, evidence.Fit]:
    rows = statistics.rows
    rows_of = rows.features, statistics.columns, rows.weights
    problem = problem_of(rows_of, statistics.normal)
    if variant == "paper":
        return problem, evidence.maximise(problem)
    return problem, evidence.iterate_as_released(problem, statistics.width)


def _inflation(statistics: Statistics, *, variant: str) -> Array:
    """That of the regressions with an interior maximum: exact fits leave no residuals to mend."""
    (problem, fit), rows = _optimum(statistics, variant), statistics.rows
    penalties = jnp.where(fit.bounded, jnp.inf, fit.ratio)
    penalties = jnp.where(statistics.present, penalties, jnp.nan)
    return leverage_inflation(rows.features / problem.unit, rows.weights, penalties)


def _average(values: Array, present: Array, valid: Array) -> Array:
    number = jnp.maximum(present.sum(), 1).astype(values.dtype)
    mean = jnp.where(present, values, 0).sum() / number
    return jnp.where(valid & jnp.isfinite(mean), mean, jnp.nan)


def _notes(outputs: Mapping[str, Mapping[str, float]], num_classes: int | None) -> list[str]:
    """What a user should read before trusting an order by LogME."""
    notes = []
    if edge := [name for name, own in outputs.items() if own.get("bounded")]:
        notes.append(
            f"for {shortlist(edge)} the evidence of some column has no interior maximum (an exact "
            "fit, which d >= n allows, or features without signal): its value at the bound is "
            "shown."
        )
    if lost := [name for name, own in outputs.items() if own.get("unconverged")]:
        notes.append(f"the iteration had not converged for {shortlist(lost)}.")
    if blurred := [name for name, own in outputs.items() if own.get("blurred")]:
        notes.append(
            f"the features of {shortlist(blurred)} are so nearly dependent that their moments do "
            "not tell all: directions lost in rounding are left out. Arrays in memory are scored "
            "exactly."
        )
    return notes


LOGME = register(
    Metric(
        name="logme",
        function=logme,
        score=_score,
        confirmed="released code",
        paper="You et al., ICML 2021 and JMLR 2022",
        tasks=("classification", "regression"),
        cost="2 n d k + O(k^3)",
        needs=_needs,
        check=_check,
        invariances=frozenset({"rotation", "scale"}),
        variants=VARIANTS,
        from_moments=logme_from_moments,
        inflation=_inflation,
        notes=_notes,
    )
)
