"""Neural collapse: NC1 as a score, and all four measures side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.collapse import (
    BALANCED,
    COLLAPSE,
    WEIGHTINGS,
    balanced_means,
    variance_collapse,
)
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import matmul, safe_root

__all__ = ["NeuralCollapse", "nc1", "nc1_from_moments", "neural_collapse"]


class NeuralCollapse(NamedTuple):
    """How far classes have collapsed, larger is more; 0 is full collapse but for ``nc4``.

    Attributes:
        nc1: minus the within-class scatter per between-class scatter, as `nc1`.
        nc2_norms: minus the coefficient of variation of the lengths of the class means.
        nc2_angles: minus the mean distance of their cosines from -1 / (C - 1).
        nc2_frame: minus the distance of their products from those of a simplex.
        nc3: minus the distance of the classifier from the class means; NaN without classifier.
        nc4: in [0, 1], weight of the rows that the classifier gives the class of the nearest class
            mean; NaN without classifier.
    """

    nc1: Array
    nc2_norms: Array
    nc2_angles: Array
    nc2_frame: Array
    nc3: Array
    nc4: Array


def nc1(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    weighting: str = BALANCED,
) -> Array:
    r"""Minus the within-class scatter per between-class scatter; 0 for classes that have collapsed.

    .. math:: -\tfrac1C \mathrm{tr}(\Sigma_W \Sigma_B^{+})

    Directions in which no two class means differ are left out. Two class means that nearly
    coincide decide it.

    Args:
        features: [n, d], any scale.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        weighting: "class_balanced", every class counts the same in both scatters, or
            "sample_weighted", every sample.

    Returns:
        Scalar <= 0. NaN when fewer than two classes occur or no two class means differ.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Papyan, Han, Donoho, PNAS 2020, arXiv 2008.08186.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y).at[:, 1].add(3.0 * (y == 1))
        >>> bool(jaxte.metrics.nc1(better, y) > jaxte.metrics.nc1(x, y))
        True
    """
    return NC1.outputs(features, labels, num_classes, weights, num_features, weighting=weighting)[
        "score"
    ]


def nc1_from_moments(state: Moments, *, weighting: str = BALANCED) -> Array:
    r"""NC1 of samples that are known by their moments only.

    .. math:: -\tfrac1C \mathrm{tr}(\Sigma_W \Sigma_B^{+})

    Args:
        state: `jaxte.moments.Moments` of labels; with ``class_counts`` (see `jaxte.moments.init`)
            unless classes are of one size or "sample_weighted".
        weighting: as in `nc1`.

    Returns:
        Scalar, the score that `nc1` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets, or without class counts.

    References: as `nc1`.

    Example:
        >>> import jax, jaxte
        >>> y = jax.numpy.arange(90) % 3
        >>> x = jax.random.normal(jax.random.key(0), (90, 8)).at[:, 0].add(y)
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.nc1_from_moments(state) / jaxte.metrics.nc1(x, y) - 1
        >>> bool(abs(gap) < 1e-3)
        True
    """
    return NC1.outputs_from_moments(state, weighting=weighting)["score"]


def neural_collapse(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    weighting: str = BALANCED,
    classifier: ArrayLike | None = None,
    bias: ArrayLike | None = None,
) -> NeuralCollapse:
    r"""The four measures of neural collapse, each so that larger is more of it.

    With M [C, d] the class means minus their mean, K = M M' and W the classifier:

    .. math:: \mathrm{NC1} = -\tfrac1C \mathrm{tr}(\Sigma_W \Sigma_B^{+}), \qquad
        \mathrm{NC2} = -\Bigl\| \frac{K}{\|K\|} - \frac{I - 11^\top / C}{\sqrt{C - 1}} \Bigr\|,
        \qquad
        \mathrm{NC3} = -\Bigl\| \frac{W}{\|W\|} - \frac{M}{\|M\|} \Bigr\|

    in Frobenius norms; NC4 is the share of the rows of which the largest entry of W x + b is the
    class of the nearest class mean.

    Args:
        features: as `nc1`, as are the next arguments.
        labels: [n].
        num_classes: C.
        weights: [n].
        num_features: true width.
        weighting: of NC1.
        classifier: [C, d] weights of a linear head on these features, a row for each class that
            occurs, in order of the classes.
        bias: [C] of the head; 0 unless given.

    Returns:
        `NeuralCollapse` of scalars.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: as `nc1`.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> y = jnp.arange(12) % 3
        >>> collapsed = jaxte.metrics.neural_collapse(jnp.eye(3)[y], y, classifier=jnp.eye(3))
        >>> round(float(collapsed.nc2_angles), 4) + 0, float(collapsed.nc4)
        (0.0, 1.0)
    """
    if bias is not None and classifier is None:
        raise InputError("there is a bias, but no classifier: give both, or classifier alone")
    named = {"classifier": classifier, "bias": bias}
    heads = {name: checks.optional_array(name, one) for name, one in named.items()}
    outputs = _ALL.outputs(
        features, labels, num_classes, weights, num_features, weighting=weighting, **heads
    )
    return NeuralCollapse(*(outputs[name] for name in NeuralCollapse._fields))


def _check(*, weighting: str, **_: Any) -> None:
    checks.choose("weighting", weighting, WEIGHTINGS)


def _score(statistics: Statistics, completed: tuple[Completed, ...], *, weighting: str) -> Outputs:
    return {"score": variance_collapse(statistics, completed[0].result)}


def _all(
    statistics: Statistics,
    completed: tuple[Completed, ...],
    *,
    weighting: str,
    classifier: Array | None,
    bias: Array | None,
) -> Outputs:
    first = variance_collapse(statistics, completed[0].result)
    frame = _frame(balanced_means(statistics), statistics.counts > 0)
    nc3 = nc4 = jnp.asarray(jnp.nan, first.dtype)
    if classifier is not None:
        nc3, nc4 = _head(statistics, classifier, bias)
    values = dict(zip(NeuralCollapse._fields, (first, *frame, nc3, nc4), strict=True))
    values = {name: jnp.where(statistics.valid, one, jnp.nan) for name, one in values.items()}
    return {"score": values["nc1"], **values}


def _frame(means: Array, present: Array) -> tuple[Array, Array, Array]:
    """Equal lengths, equal angles, and products as those of a simplex."""
    number = present.sum().astype(means.dtype)
    lengths = safe_root(jnp.sum(means**2, axis=1))
    mean = lengths.sum() / number
    spread = safe_root(jnp.sum(jnp.where(present, (lengths - mean) ** 2, 0)) / number)
    products = matmul(means, means.T)
    own = jnp.eye(len(means), dtype=bool)
    pairs = present[:, None] & present[None] & ~own
    sizes = jnp.where(pairs, lengths[:, None] * lengths[None], 1)
    cosines = products / jnp.where(sizes > 0, sizes, 1)
    angles = jnp.sum(jnp.where(pairs, jnp.abs(cosines + 1 / (number - 1)), 0)) / pairs.sum()
    simplex = jnp.where(present[:, None] & present[None], own - 1 / number, 0)
    simplex /= jnp.sqrt(number - 1)
    norm = safe_root(jnp.sum(products**2))
    gap = safe_root(jnp.sum((products / jnp.where(norm > 0, norm, jnp.nan) - simplex) ** 2))
    return -spread / jnp.where(mean > 0, mean, jnp.nan), -angles, -gap


def _head(statistics: Statistics, classifier: Array, bias: Array | None) -> tuple[Array, Array]:
    """NC3 and NC4."""
    state, present = statistics.measured.moments, statistics.counts > 0
    shape = state.means.shape
    if classifier.shape != shape or (bias is not None and bias.shape != shape[:1]):
        raise InputError(
            f"classifier has shape {classifier.shape}, but there are {shape[0]} classes and "
            f"{shape[1]} features: give a row for each class that occurs, and one bias each"
        )
    head = jnp.where(present[:, None], classifier.astype(state.means.dtype), 0)
    means = balanced_means(statistics)
    sizes = [safe_root(jnp.sum(part**2)) for part in (head, means)]
    unit_head, unit_means = (
        part / jnp.where(size > 0, size, jnp.nan)
        for part, size in zip((head, means), sizes, strict=True)
    )
    nc3 = -safe_root(jnp.sum((unit_head - unit_means) ** 2))
    x, centres, weights = statistics.centred, state.deviations, statistics.rows.weights
    mean = (state.origin + state.relative_mean)[None]
    offset = 0 if bias is None else bias.astype(x.dtype)[None]
    logits = matmul(x + mean, head.T) * statistics.unit + offset
    near = 2 * matmul(x, centres.T) - jnp.sum(centres**2, axis=1)[None]
    chosen, nearest = (
        jnp.argmax(jnp.where(present[None], part, -jnp.inf), axis=1) for part in (logits, near)
    )
    agree = statistics.all_reduce(jnp.sum(weights * (chosen == nearest)))
    sound = jnp.isfinite(head).all() & jnp.isfinite(offset).all()
    return jnp.where(sound, nc3, jnp.nan), jnp.where(sound, agree / statistics.total, jnp.nan)


NC1 = register(
    Metric(
        name="nc1",
        function=nc1,
        score=_score,
        paper="Papyan et al., PNAS 2020",
        confirmed="own replica",
        range=(float("-inf"), 0.0),
        cost="2 n d C",
        passes=(COLLAPSE,),
        check=_check,
        class_balanced=True,
        invariances=frozenset({"rotation", "shift", "scale"}),
        from_moments=nc1_from_moments,
    )
)
_ALL = Metric(
    name="neural_collapse",
    function=nc1,
    score=_all,
    needs=frozenset({"measured", "rows"}),
    passes=(COLLAPSE,),
    check=_check,
)
