"""SFDA: self-challenging Fisher discriminant analysis."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.held_out import check_number, held_out, with_rows
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.registry import register
from jaxte.metrics.sfda.fisher import (
    TARGETS,
    Classifier,
    Settings,
    confidence,
    fit,
    log_likelihood,
    mix,
    mix_unseen,
    shrinkage_of,
    unseen,
)
from jaxte.statistics import Batch, Statistics

__all__ = ["SFDA", "sfda"]

_VARIANTS = ("released", "paper")


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
    folds: int | None = None,
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
        folds: None, or k >= 2: both stages are fitted to k - 1 folds of the rows (stratified, dealt
            in their order) and measured on the one left out, in turn. The class of such a row must
            not move it: ConfMix takes its mean over what stage 1 takes the row for. A row of
            weight 2 is left out as one; classes of one row are not measured.

    Returns:
        Scalar: in [0, 1] for mean probability, in (-inf, 0] for mean log probability. NaN when
        fewer than two classes occur or S_W is singular and ``shrinkage`` is 0.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Shao et al., ECCV 2022, arXiv 2207.03036, Eq. 2-7, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.sfda(better, y) > jaxte.metrics.sfda(x, y))
        True
    """
    return SFDA.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        variant=variant,
        shrinkage=shrinkage,
        shrink_target=shrink_target,
        double_softmax=double_softmax,
        log_score=log_score,
        folds=folds,
    )["score"]


def _check(
    *,
    variant: str,
    shrinkage: Any,
    shrink_target: str,
    double_softmax: Any,
    log_score: Any,
    folds: Any,
) -> None:
    check_number(folds)
    for name, flag in {"double_softmax": double_softmax, "log_score": log_score}.items():
        if flag is not None:
            checks.check_flag(name, flag)
    checks.choose("variant", variant, _VARIANTS)
    checks.choose("shrink_target", shrink_target, TARGETS)
    if shrinkage is not None:
        checks.check_share("shrinkage", shrinkage)


def _settings(options: dict[str, Any]) -> Settings:
    paper = options["variant"] == "paper"
    double_softmax, log_score = options["double_softmax"], options["log_score"]
    return Settings(
        identity=options["shrink_target"] == "identity",
        double_softmax=not paper if double_softmax is None else bool(double_softmax),
        log_score=paper if log_score is None else bool(log_score),
        fixed=options["shrinkage"] is not None,
    )


def _fit_first(statistics: Statistics, _: Any, **options: Any) -> tuple[Classifier, Array]:
    """Stage 1, and its shrinkage, which stage 2 shares."""
    shrinkage = shrinkage_of(options["shrinkage"], statistics)
    return fit(statistics, shrinkage, _settings(options)), shrinkage


def _mix(constants: tuple[Classifier, Array], batch: Batch, **options: Any) -> Array:
    """ConfMix: rows pulled toward the other classes, the more the less sure stage 1 is of them."""
    own = confidence(constants[0], batch, _settings(options))
    return mix(own[:, None], constants[0], batch)


def _fit_second(mixed: Statistics, completed: tuple[Completed, ...], **options: Any) -> Classifier:
    _, shrinkage = completed[0].constants
    return fit(mixed, shrinkage, _settings(options))


def _gain(second: Classifier, batch: Batch, **options: Any) -> Array:
    """What the rows of a batch add to the score."""
    gain = log_likelihood(second, batch)
    return batch.weights @ (gain if _settings(options).log_score else jnp.exp(gain))


def _held_out(statistics: Statistics, **options: Any) -> Array:
    """The score on rows that neither stage was fitted to."""
    settings = _settings(options)

    def judge(training: Statistics, left_out: Batch) -> Array:
        first, shrinkage = _fit_first(training, (), **options)
        rows = training.batch()
        own = confidence(first, rows, settings)
        mixed = training.transformed(mix(own[:, None], first, rows))
        second = fit(mixed, shrinkage, settings)
        state = mixed.measured.moments
        centres = jnp.take(state.means, left_out.labels, axis=0, mode="clip")
        moved = mix_unseen(first, left_out, settings) - state.origin[None] - centres
        gain = _gain(unseen(second), left_out._replace(residuals=moved), **options)
        unsure = statistics.may_be_unsure & (first.certain | second.certain)
        return jnp.where(unsure, jnp.nan, gain)

    gain, total = held_out(statistics, options["folds"], judge)
    return gain / total


def _score(statistics: Statistics, completed: tuple[Completed, ...], **options: Any) -> Outputs:
    quick = statistics.may_be_unsure
    if options["folds"] is not None:
        score = jnp.where(statistics.valid, _held_out(statistics, **options), jnp.nan)
        return {"score": score, "unsure": quick & statistics.valid & jnp.isnan(score)}
    (first, _lam), second = completed[0].constants, completed[1].constants
    score = jnp.where(statistics.valid, completed[1].result / statistics.total, jnp.nan)
    if quick:  # classes without spread are left to the full route
        score = jnp.where(first.certain | second.certain, jnp.nan, score)
    return {
        "score": score,
        "coincident": jnp.all(first.owners == jnp.argmax(statistics.counts > 0)),
        "unsure": quick & statistics.valid & jnp.isnan(score),
    }


_PASSES = Pass(_fit_first, _mix, transform=True), Pass(_fit_second, _gain)

SFDA = register(
    Metric(
        name="sfda",
        function=sfda,
        score=_score,
        confirmed="released code",
        paper="Shao et al., ECCV 2022",
        range=(0.0, 1.0),
        cost="4 n d k + 2 k^3 / 3",
        needs=lambda folds, **_: with_rows(frozenset({"measured", "scatter"}), folds),
        passes=lambda folds, **_: _PASSES if folds is None else (),
        check=_check,
        invariances=frozenset({"shift"}),
        variants=_VARIANTS,
        any_axes=True,
        second_order=True,
        at_ceiling="SFDA saturates when d is near or above n: use folds=5, or more samples.",
    )
)
