"""EMMS: how well features predict several embeddings of the labels, jointly weighed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Moments, Statistics
from jaxte.statistics.linalg import matmul, noise
from jaxte.statistics.measure import divisors

__all__ = ["emms", "emms_from_moments"]

_VARIANTS = ("paper", "released")
_ALTERNATIONS = 50


def emms(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    label_embeddings: Array | np.ndarray | None = None,
    variant: str = "paper",
) -> Array:
    r"""Minus the mean squared error of a linear fit to a joint embedding of the labels.

    .. math:: -\min_{w,\,\lambda} \frac{1}{n D_2} \Bigl\| X w - \sum_k \lambda_k Y_k \Bigr\|^2,
        \qquad \lambda_k \ge 0, \quad \sum_k \lambda_k = 1

    with columns of X and Y standardised, by alternation: least squares for w, then for the weights
    of the embeddings, which are projected on the simplex. Labels enter by class, so that nothing
    but products of class means is read.

    Args:
        features: [n, d], any scale; no invertible linear map of them changes the score.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        label_embeddings: [C, D2, K] what K encoders (of texts, for instance) make of the names of
            the classes that occur, in order of the classes. Unless given, the one-hot labels: the
            score then is the mean R^2 of least squares, minus 1.
        variant: "paper" alternates 50 times. "released" does it once, compares the fit to the old
            weights with the new weights, and multiplies by D2 where it should divide.

    Returns:
        Scalar <= 0; D2 counts the columns that vary. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored; for embeddings of other classes.

    References: Meng et al., NeurIPS 2023, arXiv 2308.06262.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> texts = jax.random.normal(jax.random.key(1), (3, 5, 2))
        >>> better = x.at[:, :3].add(3 * jax.nn.one_hot(y, 3))
        >>> score = lambda x: jaxte.metrics.emms(x, y, label_embeddings=texts)
        >>> bool(score(better) > score(x))
        True
    """
    return EMMS.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        label_embeddings=checks.optional_array("label_embeddings", label_embeddings),
        variant=variant,
    )["score"]


def emms_from_moments(
    state: Moments, *, label_embeddings: Array | np.ndarray | None = None, variant: str = "paper"
) -> Array:
    r"""EMMS of samples that are known by their moments only.

    .. math:: -\frac{1}{n D_2} \, \lambda^\top (Q - S) \lambda

    with the products of the embeddings Q, and S of what the features explain of them.

    Args:
        state: `jaxte.moments.Moments` of labels.
        label_embeddings: as in `emms`.
        variant: as in `emms`.

    Returns:
        Scalar, the score that `emms` gives to the samples themselves.

    Raises:
        InputError: for moments of float targets, or embeddings of other classes.

    References: as `emms`.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> state = jaxte.moments.update(jaxte.moments.init(8, num_classes=3), x, y)
        >>> gap = jaxte.metrics.emms_from_moments(state) - jaxte.metrics.emms(x, y)
        >>> bool(abs(gap) < 1e-4)
        True
    """
    return EMMS.outputs_from_moments(state, label_embeddings=label_embeddings, variant=variant)[
        "score"
    ]


def _check(*, label_embeddings: Any, variant: str) -> None:
    checks.choose("variant", variant, _VARIANTS)
    if label_embeddings is not None and len(getattr(label_embeddings, "shape", ())) != 3:
        raise InputError(
            f"label_embeddings are {checks.short(label_embeddings)}: give an array [C, D2, K], the "
            "D2 numbers that each of K encoders makes of each of C classes"
        )


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, label_embeddings: Any, variant: str
) -> Outputs:
    counts = statistics.counts
    columns, width = _standardised(label_embeddings, counts)
    roots = jnp.sqrt(counts)[:, None, None] * columns
    explained = jnp.einsum("adk,ab,bdl->kl", roots, statistics.target_products, roots)
    every = jnp.einsum("adk,adl->kl", roots, roots)
    inverse = jnp.linalg.pinv(every, hermitian=True)

    def alternate(_: Any, share: Array) -> Array:
        return onto_simplex(matmul(inverse, matmul(explained, share)))

    number = len(every)
    share = jnp.full(number, 1 / number, every.dtype)
    if variant == "released":
        new = alternate(0, share)
        error = share @ explained @ share - 2 * (share @ explained @ new) + new @ every @ new
        score = -error / statistics.total * width
    else:
        share = lax.fori_loop(0, _ALTERNATIONS, alternate, share)
        error = share @ (every - explained) @ share
        score = -error / statistics.total / jnp.maximum(width, 1)
    return {"score": jnp.where(statistics.valid, jnp.minimum(score, 0), jnp.nan)}


def _standardised(embeddings: Any, counts: Array) -> tuple[Array, Array]:
    """Columns of mean 0 and variance 1 over the rows [C, D2, K], and how many of D2 vary."""
    if embeddings is None:
        embeddings = jnp.eye(len(counts))[:, :, None]
    columns = jnp.asarray(embeddings).astype(counts.dtype)
    if columns.shape[0] != len(counts):
        raise InputError(
            f"label_embeddings are of {columns.shape[0]} classes, but {len(counts)} occur: give "
            "one entry for each class that occurs, in order of the classes"
        )
    share = (counts / divisors(counts.sum()))[:, None, None]
    rounding = noise(jnp.abs(columns).max(axis=0)) ** 2
    columns = columns - jnp.sum(share * columns, axis=0)[None]
    variance = jnp.sum(share * columns**2, axis=0)
    varies = variance > rounding
    columns = columns / jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 1)[None]
    return columns, varies.any(axis=1).sum().astype(counts.dtype)


def onto_simplex(point: Array) -> Array:
    """The nearest point with entries >= 0 that sum to 1."""
    ordered = -jnp.sort(-point)
    rank = jnp.arange(1, len(point) + 1).astype(point.dtype)
    excess = (jnp.cumsum(ordered) - 1) / rank
    kept = jnp.sum(ordered > excess)
    return jnp.maximum(point - excess[jnp.maximum(kept, 1) - 1], 0)


EMMS = register(
    Metric(
        name="emms",
        function=emms,
        score=_score,
        paper="Meng et al., NeurIPS 2023",
        confirmed="own replica",
        range=(float("-inf"), 0.0),
        cost="2 n d k + O(k^3) + C^2 D2 K",
        needs=frozenset({"measured", "target_products"}),
        check=_check,
        invariances=frozenset({"rotation", "shift", "scale"}),
        variants=_VARIANTS,
        from_moments=emms_from_moments,
    )
)
