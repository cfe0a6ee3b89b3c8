"""NLEEP: LEEP of a Gaussian mixture of the features instead of a source head."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics import mixture as mixtures
from jaxte.statistics.folds import check_folds, check_key, cross_fit, key_of
from jaxte.statistics.kmeans import kmeans
from jaxte.statistics.linalg import gram, matmul
from jaxte.statistics.measure import divisors
from jaxte.statistics.mixture import Mixture, best_of
from jaxte.statistics.rows import class_sums
from jaxte.statistics.spectrum import spectrum
from jaxte.statistics.tiles import at_width

__all__ = ["nleep"]

_STARTS = ("kmeans++", "classes")
_PER_CLASS, _ROWS = 5, 4  # components of each class at most; rows of each component at least


def nleep(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    num_components: int | None = None,
    variance_share: ArrayLike = 0.8,
    covariance: str = "full",
    start: str = "kmeans++",
    restarts: int = 1,
    reg_covar: ArrayLike = 1e-6,
    tol: ArrayLike = 1e-3,
    max_iter: int = 100,
    mean_probability: bool = False,
    folds: int | ArrayLike | None = None,
    key: int | Array | None = None,
) -> Array:
    r"""How well the components of a Gaussian mixture, fitted without labels, predict the classes.

    .. math::
        P(c \mid v) = \frac{\sum_{i: y_i = c} r_{iv}}{\sum_i r_{iv}}, \qquad
        \frac1n \sum_i \ln \sum_v P(y_i \mid v)\, r_{iv}

    with responsibilities :math:`r_{iv}` of the V components of a mixture of the leading principal
    components. It is not invariant to scale, since ``reg_covar`` is absolute. With V close to n
    every row is a component of its own and the score is at its upper end whatever the labels:
    ``folds`` scores rows that the mixture has not seen.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        num_components: V; None takes 5 C, or where n < 20 C the largest multiple of C that leaves
            four rows to a component on average, at least C but always fewer than n.
        variance_share: as many principal components are kept as have this share of the variance.
        covariance: "full", "diagonal" or "spherical".
        start: "kmeans++" (with Lloyd's rounds, as released), or "classes": one component for each
            class, from the class means and the pooled covariance, without any randomness.
        restarts: fits from other draws, of which the one of largest likelihood counts.
        reg_covar: added to all variances, in squared feature units.
        tol: EM stops when the mean log likelihood rises by less.
        max_iter: iterations of EM at most.
        mean_probability: whether the score is the mean probability, as in most released code,
            and not the mean of its logarithm.
        folds: into so many parts, stratified, or as the numbers [n] say, the rows are cut; each
            is scored by a mixture of the others, with one row of the class frequencies added to
            :math:`P(c \mid v)`.
        key: of ``jax.random``, or a seed; ``jax.random.key(0)`` unless given.

    Returns:
        Scalar in (-inf, 0], or in [0, 1] for a mean probability. NaN when fewer than two classes
        occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Li et al., CVPR 2021, arXiv 2011.11200; released code of Shao et al., ECCV 2022.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, :2].add(6.0 * jax.nn.one_hot(y, 2))
        >>> bool(jaxte.metrics.nleep(better, y) > jaxte.metrics.nleep(x, y))
        True
    """
    return NLEEP.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        num_components=num_components,
        variance_share=variance_share,
        covariance=covariance,
        start=start,
        restarts=restarts,
        reg_covar=reg_covar,
        tol=tol,
        max_iter=max_iter,
        mean_probability=mean_probability,
        folds=folds,
        key=key,
    )["score"]


def _check(**options: Any) -> None:
    checks.choose("covariance", options["covariance"], mixtures.COVARIANCES)
    checks.choose("start", options["start"], _STARTS)
    for name in ("restarts", "max_iter"):
        checks.check_whole(name, options[name])
    checks.check_share("variance_share", options["variance_share"])
    for name in ("reg_covar", "tol"):
        checks.check_positive(name, options[name])
    check_key(options["key"])
    if options["folds"] is not None:
        check_folds(options["folds"])
    if options["num_components"] is not None:
        checks.check_whole("num_components", options["num_components"])
        if options["start"] == "classes":
            raise InputError(
                "start='classes' makes one component for each class: leave num_components away"
            )


class _Model(NamedTuple):
    """What one fit says of all rows: the probability of their class, and how it came to it."""

    own: Array  # [n]
    mixture: Mixture
    pca_dim: Array


def _score(statistics: Statistics, completed: tuple[Completed, ...], **options: Any) -> Outputs:
    rows = statistics.rows
    y, w, n = statistics.labels, rows.weights, rows.total
    outputs: dict[str, Array] = {}
    if options["folds"] is None:
        own, mixture, width = _fit(statistics, w, options)
        # the features were divided by the unit, and a density multiplied by it
        bound = mixture.lower_bound - width * jnp.log(statistics.unit)
        outputs |= {"pca_dim": width, "n_iter": mixture.n_iter, "lower_bound": bound}
    else:
        size = rows.features.size * len(statistics.counts)  # one mixture at a time, unless small
        own, _ = cross_fit(
            lambda fitted: _fit(statistics, fitted, options).own,
            options["folds"], y, w, size=size, key=options["key"],
        )  # fmt: skip
    own = jnp.where(w > 0, jnp.minimum(own, 1), 1)  # of rounding
    outputs["mean_probability"] = w @ own / n
    outputs["log_probability"] = w @ jnp.log(own) / n
    score = outputs["mean_probability" if options["mean_probability"] else "log_probability"]
    return {"score": jnp.where(statistics.valid, score, jnp.nan), **outputs}


def _fit(statistics: Statistics, fitted: Array, options: dict[str, Any]) -> _Model:
    """A mixture of the rows of these weights, and what it says of all."""
    y, counts = statistics.labels, statistics.counts
    z, width = _principal(statistics.centred, fitted, options["variance_share"])
    floor = jnp.asarray(options["reg_covar"]).astype(z.dtype) / statistics.unit / statistics.unit
    kind = options["covariance"]

    def em(start: Array) -> Mixture:
        limits = {"tol": options["tol"], "max_iter": options["max_iter"]}
        return mixtures.fit(z, fitted, start, width, floor, kind, **limits)

    if options["start"] == "classes":
        mixture = em(_of_classes(z, fitted, y, len(counts), width, floor))
    else:
        most, number = _number_of_components(statistics, fitted, options["num_components"])

        def from_draws(key: Array) -> Mixture:
            def clusters(z: Array, fitted: Array, number: Array, key: Array) -> Array:
                return kmeans(z, fitted, number, most, key)

            drawn = at_width(clusters, width, *lax.stop_gradient((z, fitted)), number, key)
            return em(mixtures.of_clusters(z, fitted, drawn, most, width, floor, kind))

        key = 0 if options["key"] is None else options["key"]
        keys = jax.random.split(key_of(key), options["restarts"])
        mixture = best_of(lax.map(from_draws, keys)) if len(keys) > 1 else from_draws(keys[0])
    shares = mixture.responsibilities
    joint = class_sums(fitted[:, None] * shares, y, len(counts))
    if options["folds"] is not None:
        joint += counts[:, None] / counts.sum()
    conditional = joint / divisors(joint.sum(axis=0))[None]
    return _Model(
        jnp.sum(jnp.take(conditional, y, axis=0, mode="clip") * shares, axis=1), mixture, width
    )


def _principal(x: Array, weights: Array, share: ArrayLike) -> tuple[Array, Array]:
    """Principal components [n, r] with this share of the variance, 0 beyond, and how many."""
    x = x - (weights @ x / weights.sum())[None]
    values, axes, *_ = spectrum(x, weights)
    explained = jnp.cumsum(values) / values.sum()
    width = jnp.minimum(jnp.sum(explained <= share) + 1, len(values)).astype(x.dtype)
    z = matmul(x, axes)
    return jnp.where((jnp.arange(len(values)) < width)[None], z, 0), width


def _number_of_components(
    statistics: Statistics, fitted: Array, number: int | None
) -> tuple[int, Array]:
    """Components at most, known while tracing, and how many there are: fewer than rows."""
    if number is not None:
        return number, jnp.asarray(number)
    classes, n = (statistics.counts > 0).sum(), jnp.ceil(fitted.sum()).astype(jnp.int32)
    per_class = jnp.clip(n // (_ROWS * jnp.maximum(classes, 1)), 1, _PER_CLASS)
    most = _PER_CLASS * len(statistics.counts)
    if statistics.rows.unweighted:
        most = min(most, max(len(fitted) - 1, 1))
    return most, jnp.clip(per_class * classes, 1, jnp.clip(n - 1, 1, most))


def _of_classes(
    z: Array, weights: Array, labels: Array, number: int, width: Array, floor: Array
) -> Array:
    """Start from the frequencies and means of the classes and the pooled covariance."""
    counts = class_sums(weights, labels, number)
    means = class_sums(weights[:, None] * z, labels, number) / divisors(counts)[:, None]
    gap = z - jnp.take(means, labels, axis=0, mode="clip")
    inside = jnp.arange(z.shape[1]) < width
    pooled = gram(gap, weights) / weights.sum() + jnp.diag(jnp.where(inside, floor, 1))
    return mixtures.of_parameters(z, counts / weights.sum(), means, pooled, width)


NLEEP = register(
    Metric(
        name="nleep",
        function=nleep,
        score=_score,
        confirmed="own replica",
        paper="Li et al., CVPR 2021",
        range=(float("-inf"), 0.0),
        cost="2 n d k + O(k^3) + steps * 4 n V q^2 for q principal components",
        needs=frozenset({"measured", "all_rows"}),
        check=_check,
        invariances=frozenset({"rotation", "shift"}),
    )
)
