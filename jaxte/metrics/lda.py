"""Two classifiers of class means: linear discriminant analysis, and the nearest class mean."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.held_out import check_number, held_out, with_rows
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.registry import register
from jaxte.metrics.sfda.fisher import (
    TARGETS,
    Classifier,
    Settings,
    discriminants,
    fit,
    log_likelihood,
    logits,
    shrinkage_of,
    unseen,
)
from jaxte.statistics import Batch, Statistics

__all__ = ["LDA", "NEAREST_CLASS_MEAN", "lda", "nearest_class_mean"]


def lda(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    shrinkage: ArrayLike | None = None,
    shrink_target: str = "trace",
    log_score: bool = False,
    folds: int | None = None,
) -> Array:
    r"""Mean probability of the true class under linear discriminant analysis: SFDA's first stage.

    .. math::
        \delta_c(x) = m_c^\top \tilde S_W^{-1} x - \tfrac12 m_c^\top \tilde S_W^{-1} m_c + \ln p_c,
        \qquad S = \tfrac1n \sum_i \mathrm{softmax}(\delta(x_i))_{y_i}

    with :math:`\tilde S_W` and its shrinkage as in `sfda`. Fitted to the rows it is measured on, it
    rises with d / n, to 1 from about d = n on whatever the labels; with ``folds`` it does not.
    What ETran and the perturbation paper call LDA is `nearest_class_mean`.

    Args:
        features: [n, d]; the default shrinkage depends on their scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        shrinkage: as in `sfda`.
        shrink_target: "trace" or "identity", as in `sfda`.
        log_score: the mean of the log probability instead.
        folds: None, or k >= 2: fitted to k - 1 folds of the rows (stratified, dealt in their
            order) and measured on the one left out, in turn. A row of weight 2 is left out as one;
            classes of one row are not measured.

    Returns:
        Scalar in [0, 1], or in (-inf, 0] for the log. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Fisher, Annals of Eugenics 1936; Shao et al., ECCV 2022, arXiv 2207.03036, Eq. 2-4.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 80))
        >>> y = jax.numpy.arange(90) % 3
        >>> bool(jaxte.metrics.lda(x, y) > 0.8)
        True
        >>> bool(jaxte.metrics.lda(x, y, folds=5) < 0.5)
        True
    """
    return LDA.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        shrinkage=shrinkage,
        shrink_target=shrink_target,
        log_score=log_score,
        folds=folds,
    )["score"]


def nearest_class_mean(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    leave_one_out: bool = False,
    folds: int | None = None,
) -> Array:
    r"""Mean probability of the true class under Gaussian classes of unit covariance.

    .. math::
        \delta_c(x) = -\tfrac12 \lVert x - m_c \rVert^2 + \ln p_c, \qquad
        S = \tfrac1n \sum_i \mathrm{softmax}(\delta(x_i))_{y_i}

    What ETran's and the perturbation paper's code computes as "LDA": its symmetric eigensolver on a
    matrix that is not symmetric lets the scatter cancel. The true posterior is `lda`.

    Args:
        features: [n, d]; their scale decides how sure the classifier is.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice (and of such
            twins ``leave_one_out`` leaves out one at a time).
        num_features: true width when trailing columns are padding.
        leave_one_out: each row is judged by means and shares of all others, in closed form;
            classes of one row are not measured.
        folds: as in `lda`.

    Returns:
        Scalar in [0, 1]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Gholami et al., ICCV 2023, arXiv 2308.02027; Khoba et al., WACV 2025,
        arXiv 2502.16471; their released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> fitted = jaxte.metrics.nearest_class_mean(x, y)
        >>> bool(jaxte.metrics.nearest_class_mean(x, y, leave_one_out=True) < fitted)
        True
    """
    return NEAREST_CLASS_MEAN.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        leave_one_out=leave_one_out,
        folds=folds,
    )["score"]


# --- linear discriminant analysis -----------------------------------------------------------------


def _check(*, shrinkage: Any, shrink_target: str, folds: Any, **_: Any) -> None:
    checks.choose("shrink_target", shrink_target, TARGETS)
    if shrinkage is not None:
        checks.check_share("shrinkage", shrinkage)
    check_number(folds)


def _discriminants(statistics: Statistics, *_: Any, **options: Any) -> Classifier:
    shrinkage = options["shrinkage"]
    settings = Settings(
        identity=options["shrink_target"] == "identity",
        double_softmax=False,
        log_score=bool(options["log_score"]),
        fixed=shrinkage is not None,
    )
    return fit(statistics, shrinkage_of(shrinkage, statistics), settings)


def _judge(classifier: Classifier, batch: Batch, *, log_score: bool, **_: Any) -> Array:
    """What the rows of a batch add to the score."""
    gain = log_likelihood(classifier, batch)
    return batch.weights @ (gain if log_score else jnp.exp(gain))


def _score(statistics: Statistics, completed: tuple[Completed, ...], **options: Any) -> Outputs:
    quick = statistics.may_be_unsure

    def sure(classifier: Classifier, sums: Array) -> Array:
        """The sums; where classes have no spread they are left to the full route."""
        return jnp.where(classifier.certain, jnp.nan, sums) if quick else sums

    if options["folds"] is None:
        (classifier, result), total = completed[0], statistics.total
        result = sure(classifier, result)
    else:

        def judge(training: Statistics, left_out: Batch) -> Array:
            classifier = _discriminants(training, **options)
            return sure(classifier, _judge(unseen(classifier), left_out, **options))

        result, total = held_out(statistics, options["folds"], judge)
    score = jnp.where(statistics.valid, result / total, jnp.nan)
    return {"score": score, "unsure": quick & statistics.valid & jnp.isnan(score)}


LDA = register(
    Metric(
        name="lda",
        function=lda,
        score=_score,
        paper="Fisher, Annals of Eugenics 1936; Shao et al., ECCV 2022",
        confirmed="released code",
        range=(0.0, 1.0),
        cost="2 n d k + k^3 / 3",
        needs=lambda folds, **_: with_rows(frozenset({"measured", "scatter"}), folds),
        passes=lambda folds, **_: (Pass(_discriminants, _judge),) if folds is None else (),
        check=_check,
        invariances=frozenset({"shift"}),
        at_ceiling="LDA saturates when d is near or above n: use folds=5, or more samples.",
    )
)


# --- the nearest class mean -----------------------------------------------------------------------


def _check_means(*, folds: Any, leave_one_out: Any) -> None:
    check_number(folds)
    if leave_one_out and folds is not None:
        raise InputError("leave_one_out leaves out single rows and folds many: give one of them")


def _means(statistics: Statistics, *_: Any, **__: Any) -> tuple[Classifier, Array]:
    """The classifier, and the unit of its features squared."""
    state, unit = statistics.measured.moments, statistics.unit
    return discriminants(state, state.deviations.T * unit * unit), unit * unit


def _judge_means(
    constants: tuple[Classifier, Array], batch: Batch, *, leave_one_out: bool, **_: Any
) -> tuple[Array, Array]:
    """Sum of the probabilities of the true classes, and the weight of the rows judged."""
    classifier, unit = constants
    if not leave_one_out:
        return batch.weights @ jnp.exp(log_likelihood(classifier, batch)), batch.weights.sum()
    counts = jnp.take(classifier.counts, batch.labels, mode="clip")
    others = counts - 1
    known = others > 0
    share = jnp.where(known, others, 1) / jnp.where(known, counts, 1)
    # without the row itself its class mean is 1 / share times as far from it
    square = jnp.sum(batch.residuals**2, axis=1) * unit
    change = jnp.log(share) - 0.5 * square * (1 / share**2 - 1)
    own = jnp.arange(len(classifier.counts))[None] == batch.labels[:, None]
    values = logits(classifier, batch) + jnp.where(own, change[:, None], 0)
    top = jnp.max(values, axis=1, keepdims=True)
    weights = jnp.where(known, batch.weights, 0)
    mass = jnp.exp(values - top)
    return weights @ (jnp.sum(jnp.where(own, mass, 0), axis=1) / mass.sum(axis=1)), weights.sum()


def mean_probability(statistics: Statistics) -> Array:
    """The score of rows in memory, without a further pass."""
    result, total = _judge_means(_means(statistics), statistics.batch(), leave_one_out=False)
    return result / total


def _score_means(
    statistics: Statistics, completed: tuple[Completed, ...], **options: Any
) -> Outputs:
    if options["folds"] is None:
        result, total = completed[0].result
    else:

        def judge(training: Statistics, left_out: Batch) -> tuple[Array, Array]:
            return _judge_means(_means(training), left_out, **options)

        (result, total), _ = held_out(statistics, options["folds"], judge)
    return {"score": jnp.where(statistics.valid, result / total, jnp.nan)}


NEAREST_CLASS_MEAN = register(
    Metric(
        name="nearest_class_mean",
        function=nearest_class_mean,
        score=_score_means,
        paper="Gholami et al., ICCV 2023",
        confirmed="released code",
        range=(0.0, 1.0),
        cost="2 n d C",
        needs=lambda folds, **_: with_rows(frozenset({"measured"}), folds),
        passes=lambda folds, **_: (Pass(_means, _judge_means),) if folds is None else (),
        check=_check_means,
        invariances=frozenset({"rotation", "shift"}),
        at_ceiling="features of large norm make every row certain: scale them.",
    )
)
