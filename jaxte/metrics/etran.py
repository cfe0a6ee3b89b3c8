"""ETran: energy, and how well the targets are fitted, min-max normalised over a pool."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.combination import of_one_model
from jaxte.metrics.energy import energies, tail_mean
from jaxte.metrics.lda import mean_probability
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.linalg import matmul
from jaxte.statistics.spectrum import spectrum

__all__ = ["ETRAN", "etran"]

_TAILS = ("bot", "top")
_WEIGHTS = {"energy": 0.15, "fit": 0.85}


def etran(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    fraction: ArrayLike = 0.005,
    tail: str = "bot",
) -> Array:
    r"""Energy of the features plus how well they fit the targets, over a pool.

    .. math:: S = 0.15\, \mathrm{minmax}(E) + 0.85\, \mathrm{minmax}(F)

    E is the mean of :math:`\ln \sum_j e^{x_j}` over the rows where it is lowest. F is for classes
    `nearest_class_mean`, which is what the released code computes as LDA; for regression
    :math:`-\tfrac{1}{nk} (\lVert T \rVert^2 - \lVert U^\top T \rVert^2)`, U from the SVD of X:
    minus the mean squared residual of least squares without intercept (as it is meant: that part
    of the released code does not run, and no weights for it are published; these are the same).

    `jaxte.rank` and `jaxte.metrics.score_pool` bring the terms to [0, 1] over the models. One model
    alone, as here, has the weighted sum of its plain terms, which compares with nothing.

    Args:
        features: [n, d]; their scale decides.
        targets: [n] classes, or floats [n] or [n, k] for regression.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        fraction: share of the rows of the energy's tail, rounded down, at least one row.
        tail: "bot" for the lowest energies, "top" for the highest.

    Returns:
        Scalar. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Gholami et al., ICCV 2023, arXiv 2308.02027, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
        >>> jaxte.rank(models, y, metrics="etran").best("etran")
        'sighted'
    """
    return ETRAN.outputs(
        features, targets, num_classes, weights, num_features, fraction=fraction, tail=tail
    )["score"]


def _check(*, fraction: Any, tail: str) -> None:
    checks.check_share("fraction", fraction)
    checks.choose("tail", tail, _TAILS)


def _residual(statistics: Statistics) -> Array:
    """Mean squared residual of the targets, by least squares on the features as they are."""
    rows, targets = statistics.rows, statistics.columns
    spec = spectrum(rows.features / statistics.unit, rows.weights)
    explained = jnp.sum(matmul(spec.dual.T, targets) ** 2, axis=0)
    square = matmul(rows.weights, targets**2)
    present = statistics.present
    rest = jnp.where(present, jnp.maximum(square - explained, 0), 0).sum()
    return rest / (rows.total * len(present))


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, fraction: Any, tail: str
) -> Outputs:
    rows = statistics.rows
    classes = statistics.num_classes is not None
    terms = {
        "energy": tail_mean(energies(rows.features, rows.width), rows.weights, fraction, tail),
        "fit": mean_probability(statistics) if classes else -_residual(statistics),
    }
    return of_one_model(terms, _WEIGHTS, statistics.valid)


ETRAN = register(
    Metric(
        name="etran",
        function=etran,
        score=_score,
        paper="Gholami et al., ICCV 2023",
        confirmed="released code",
        tasks=("classification", "regression"),
        cost="2 n d C, or 4 n d k + O(k^3) for regression",
        needs=frozenset({"measured", "rows", "all_rows"}),
        check=_check,
        smooth=False,
        terms=_WEIGHTS,
        normalise="minmax",
    )
)
