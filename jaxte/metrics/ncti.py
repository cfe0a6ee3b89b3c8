"""NCTI: how near the features are to neural collapse, in three terms over a pool."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.combination import of_one_model
from jaxte.metrics.components import Components, principal_components
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.registry import register
from jaxte.metrics.sfda.fisher import Classifier, discriminants, logits
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.class_grams import class_grams
from jaxte.statistics.linalg import gram, matmul, noise, trace
from jaxte.statistics.spectrum import root_sum, scaled_eigh, spectrum
from jaxte.statistics.tiles import map_tiles

__all__ = ["NCTI", "NctiTerms", "ncti", "ncti_terms"]

_FLOOR = 1e-10  # of the shrinkage, where the released code takes another solver
_SUMMED = 32  # components whose variances decide the shrinkage
_CUT = 1e-4  # of singular values, in the solver without shrinkage


class NctiTerms(NamedTuple):
    """The three terms of NCTI.

    Attributes:
        feature_nuc: nuclear norm of the centred discriminant coordinates; larger is better.
        cls_conf: mean probability of the true class, in [0, 1]; larger is better.
        log_class_pred_nuc: log of the sum, over classes, of the nuclear norm of the predictions of
            their rows; smaller is better.
    """

    feature_nuc: Array
    cls_conf: Array
    log_class_pred_nuc: Array


def ncti(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    num_components: int = 64,
) -> Array:
    r"""Neural collapse informed score: a sum of three terms, each min-max normalised over a pool.

    .. math:: S = \mathrm{SELI} + \mathrm{NCC} - \mathrm{VC}

    The terms are of different sizes, and only a pool says how to weigh them: `jaxte.rank` and
    `jaxte.metrics.score_pool` ("ncti", of features [m, n, d]) bring each to [0, 1] over the models
    first. One model alone, as here, has the plain sum, which compares with nothing.

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        num_components: principal components kept first, exactly; fewer where there are fewer.

    Returns:
        Scalar. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Wang et al., ICCV 2023, "How Far Pre-trained Models Are from Neural Collapse on the
        Target Dataset Informs their Transferability", and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
        >>> jaxte.rank(models, y, metrics="ncti").best("ncti")
        'sighted'
    """
    return NCTI.outputs(
        features, labels, num_classes, weights, num_features, num_components=num_components
    )["score"]


def ncti_terms(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    num_components: int = 64,
) -> NctiTerms:
    r"""The three terms of NCTI apart.

    .. math::
        \mathrm{SELI} = \lVert Z \rVert_*, \quad
        \mathrm{NCC} = \tfrac1n \sum_i P_{i, y_i}, \quad
        \mathrm{VC} = \ln \sum_c \lVert P_c \rVert_*

    with Z the discriminant coordinates and P the posteriors of a linear discriminant analysis of
    the leading principal components, and :math:`P_c` the rows of class c. Its shrinkage is
    max(exp(-sum of the 32 largest variances), 1e-10); at 1e-10, as in the released code, there is
    none, and directions of no spread within classes are left out. So the terms depend on the scale
    of the features, and models on both sides of that switch compare badly.

    Args:
        features: as `ncti`, as are all other arguments.
        labels: [n].
        num_classes: C.
        weights: [n].
        num_features: true width.
        num_components: k.

    Returns:
        `NctiTerms`, three scalars.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: as `ncti`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> terms = jaxte.metrics.ncti_terms(x, jax.numpy.arange(90) % 3)
        >>> bool(0 < terms.cls_conf < 1)
        True
    """
    outputs = NCTI.outputs(
        features, labels, num_classes, weights, num_features, num_components=num_components
    )
    return NctiTerms(*(outputs[name] for name in NctiTerms._fields))


def _check(*, num_components: Any) -> None:
    checks.check_whole("num_components", num_components)


class Fit(NamedTuple):
    """The classifier, and the nuclear norm of the coordinates that it has of the rows."""

    classifier: Classifier
    feature_nuc: Array


def _fit(statistics: Statistics, _: Any, *, num_components: int) -> Fit:
    state, n = statistics.measured.moments, statistics.total
    parts = principal_components(statistics, num_components)
    number = jnp.maximum(parts.counted.sum(), 1).astype(n.dtype)
    within = parts.within(statistics) / n
    between = gram(parts.deviations, state.counts / n)
    variance = parts.scatter[:_SUMMED].sum() * statistics.unit**2 / jnp.maximum(n - 1, 1)
    shrinkage = jnp.maximum(jnp.exp(-variance), _FLOOR)
    plain = shrinkage <= _FLOOR
    share = jnp.where(plain, 0, shrinkage)
    size = trace(within)
    shrunk = _whitening(within, jnp.where(plain, 0.5, shrinkage), size / number, parts)
    white = jnp.where(plain, _whitening_plain(within, statistics), shrunk)
    # discriminants: axes of the scatter between classes, shrunk too, where the other is I
    added = share * trace(between) / number
    rows = jnp.concatenate([matmul(parts.deviations, white), white])
    shares = jnp.concatenate([(1 - share) * state.counts / n, added * parts.counted])
    spec = spectrum(rows, shares)
    place = jnp.arange(len(spec.values))
    classes = (state.counts > 0).sum()
    kept = place < jnp.minimum(classes - 1, number)
    kept &= ~plain | (spec.values > _CUT**2 * spec.values[0])
    turned = matmul(white, spec.axes)
    coordinates = jnp.where(kept[None], turned, 0)
    nuclear = root_sum(n * matmul(coordinates.T, matmul(within + between, coordinates)))
    used = jnp.where(plain, coordinates, white)
    along = matmul(used, matmul(used.T, parts.deviations.T))
    return Fit(discriminants(state, matmul(parts.axes, along)), nuclear)


def _whitening(within: Array, shrinkage: Array, mean: Array, parts: Components) -> Array:
    """T with T T' = ((1 - a) S_W + a * mean * I)^-1, on the components that there are."""
    mean = jnp.where(mean > 0, mean, 1)
    diagonal = jnp.where(parts.counted, shrinkage * mean, mean)
    lower = jnp.linalg.cholesky((1 - shrinkage) * within + jnp.diag(diagonal))
    inverse = solve_triangular(lower, jnp.eye(len(within), dtype=within.dtype), lower=True)
    return jnp.where(parts.counted[None], inverse.T, 0)


def _whitening_plain(within: Array, statistics: Statistics) -> Array:
    """T with T T' = S_W^+, without directions of hardly any spread beside that of the columns."""
    fixed = lax.stop_gradient(within)
    values, axes, scale = scaled_eigh(fixed, statistics.measured.moments.samples)
    kept = values > jnp.maximum(_CUT**2, noise(values[-1], len(within)))
    root = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
    white = scale[:, None] * axes * root[None]
    # where the rank stays the same, so does T'S_W T: its first-order change
    change = matmul(white.T, matmul(within - fixed, white))
    return white - 0.5 * matmul(white, change)


def _predictions(fit: Fit, batch: Batch, **_: Any) -> tuple[Array, Array]:
    """Sums of the probabilities of the true classes, and of the products of all by class."""
    classifier = fit.classifier
    p = jax.nn.softmax(logits(classifier, batch))
    number = len(classifier.counts)
    own = jax.nn.one_hot(batch.labels, number, dtype=p.dtype)
    return batch.weights @ jnp.sum(p * own, axis=1), class_grams(
        p, batch.weights, batch.labels, number
    )


def _score(statistics: Statistics, completed: tuple[Completed, ...], **_: Any) -> Outputs:
    fit, (confidence, products) = completed[0]
    nuclear = map_tiles(root_sum, products, products[0].size).sum()
    terms = {
        "feature_nuc": fit.feature_nuc,
        "cls_conf": confidence / statistics.total,
        "log_class_pred_nuc": jnp.log(jnp.where(nuclear > 0, nuclear, 1)),
    }
    return of_one_model(terms, _WEIGHTS, statistics.valid)


_WEIGHTS = {"feature_nuc": 1.0, "cls_conf": 1.0, "log_class_pred_nuc": -1.0}

NCTI = register(
    Metric(
        name="ncti",
        function=ncti,
        score=_score,
        paper="Wang et al., ICCV 2023",
        confirmed="released code",
        cost="2 n d^2 + O(d^3) + n C^2 + O(C^4)",
        needs=frozenset({"measured", "scatter", "reduced"}),
        passes=(Pass(_fit, _predictions),),
        check=_check,
        terms=_WEIGHTS,
        normalise="minmax",
        invariances=frozenset({"rotation", "shift"}),
    )
)
