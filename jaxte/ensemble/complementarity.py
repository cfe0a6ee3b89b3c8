"""SFDA's selection of an ensemble: models that score well and that see other things."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.ensemble.blocks import blocks_of
from jaxte.ensemble.result import Ensemble
from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.metrics.sfda.fisher import Settings, fit, shrinkage_of
from jaxte.metrics.sfda.metric import SFDA
from jaxte.runtime.precision import precision_context
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.linalg import matmul, noise, safe_root

__all__ = ["complementary"]

_FISHER = Settings(identity=False, double_softmax=True, log_score=False, fixed=False)


def complementary(
    features: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    size: int = 3,
    ratio: float = 0.5,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    precision: str = "auto",
) -> Ensemble:
    r"""The models of highest SFDA score and complementarity: SFDA's ensemble selection.

    .. math::
        T_m = r\, T^{\text{SFDA}}_m + (1 - r)\, T^{\text{com}}_m, \qquad
        T^{\text{com}}_m = \lVert F \rVert_* - \lVert F_{-m} \rVert_*

    with a row of F for each model, 0 in :math:`F_{-m}` for model m, and nuclear norms. **From the
    paper**: the two terms, r = 0.5 and Fisher space. **Reconstructed** here: how a model becomes a
    row, which the paper does not say and no code shows. Fisher coordinates Z [n, C - 1] have no
    signs and no rotation of their own, so the row of a model holds the products of all pairs of
    samples, :math:`\mathrm{vec}(Z Z^\top)`, divided by its length: 1 is then the most that a model
    can add, as it is of SFDA's probability. Norms come from the M x M products of rows,
    :math:`\lVert Z_a^\top Z_b \rVert_F^2`, and no row is made.

    Models that see nothing of the classes are unlike all others, too: on the zoo's targets r = 0.5
    selects hardly better than chance, and `greedy` much better (``benchmarks/ensembles.py``).

    Args:
        features: model name -> features [n, d] of the same samples.
        labels: [n] classes.
        size: how many models.
        ratio: r in [0, 1]; 1 is the order by SFDA of features scaled to a total variance of 1,
            in which models are compared here.
        num_classes: C, if not all classes occur.
        weights: [n] sample weights >= 0.
        precision: "auto" (float64 where it is fast), "float32" or "float64".

    Returns:
        `Ensemble`, whose ``scores`` are those of its members, T in [0, 1].

    Raises:
        InputError: for models that differ in rows, or that cannot be scored.

    References: Shao et al., ECCV 2022, arXiv 2207.03036, Eq. 8-9.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> a, b = x.at[:, 0].add(4.0 * (y == 0)), x.at[:, 1].add(4.0 * (y == 1))
        >>> models = {"a": a, "a2": 2 * a, "b": b}
        >>> "b" in jaxte.ensemble.complementary(models, y, size=2, ratio=0.1).members
        True
    """
    checks.check_share("ratio", ratio)
    size = checks.check_whole("size", size)
    blocks = blocks_of(features, labels, size, num_classes, weights, regression=False)
    assert blocks.num_classes is not None
    width = int(blocks.widths.max())
    with precision_context(precision):
        dtype = jnp.zeros(()).dtype
        padded = np.zeros((len(blocks.names), len(blocks.columns), width), dtype)
        for model, (start, end) in enumerate(zip(blocks.starts, blocks.starts[1:], strict=False)):
            padded[model, :, : end - start] = blocks.columns[:, start:end]
        scores, likeness = _measure(
            blocks.num_classes, padded, blocks.widths, jnp.asarray(blocks.targets), blocks.weights
        )
        total = ratio * scores + (1 - ratio) * added_norm(likeness)
        values = np.asarray(total, float)
    if not np.isfinite(values).all():
        names = [name for name, v in zip(blocks.names, values, strict=True) if not np.isfinite(v)]
        raise InputError(f"{', '.join(names)} cannot be scored by SFDA: leave them out")
    best = np.argsort(-values, kind="stable")[:size]
    return Ensemble(
        tuple(blocks.names[m] for m in best),
        tuple(float(values[m]) for m in best),
        (dict(zip(blocks.names, map(float, values), strict=True)),),
    )


@partial(jax.jit, static_argnums=0)
def _measure(
    num_classes: int, features: Array, widths: Array, labels: Array, weights: Array | None
) -> tuple[Array, Array]:
    """SFDA scores [M], and the products of the models' rows [M, M]."""

    def of_model(own: tuple[Array, Array]) -> tuple[Array, Array]:
        sample = Sample(own[0], labels, weights, own[1])
        statistics = Statistics(sample, num_classes=num_classes)
        score = SFDA.evaluate(statistics, SFDA.all_options({}))["score"]
        return score, fisher_coordinates(statistics)

    scores, z = lax.map(of_model, (features, widths))
    together = jnp.einsum("anc,bnd->abcd", z, z, precision=lax.Precision.HIGHEST)
    products = jnp.sum(together**2, axis=(2, 3))
    length = jnp.sqrt(jnp.diagonal(products))
    length = jnp.where(length > 0, length, 1)
    return scores, products / length[:, None] / length[None]


def fisher_coordinates(statistics: Statistics) -> Array:
    """Coordinates Z [n, C] in Fisher space, times the root of the weights; Z Z' is unique."""
    fisher = fit(statistics, shrinkage_of(None, statistics), _FISHER)
    means = jnp.where((fisher.counts > 0)[:, None], fisher.means, 0)
    values, axes = jnp.linalg.eigh(matmul(means, fisher.directions))
    kept = values > noise(values[-1], len(values))
    root = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
    along = matmul(statistics.centred, matmul(fisher.directions, axes * root[None]))
    return safe_root(statistics.rows.weights)[:, None] * along


def added_norm(likeness: Array) -> Array:
    """What each row [M] adds to the nuclear norm of the matrix of them, from their products."""
    number = len(likeness)

    def norm(kept: Array) -> Array:
        values = jnp.linalg.eigvalsh(likeness * kept[:, None] * kept[None])
        return jnp.sqrt(jnp.maximum(values, 0)).sum()

    others = 1 - jnp.eye(number, dtype=likeness.dtype)
    return norm(jnp.ones(number, likeness.dtype)) - lax.map(norm, others)
