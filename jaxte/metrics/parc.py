"""PARC: do samples whose features are alike have the same label?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.components import leading_components
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics
from jaxte.statistics.linalg import matmul
from jaxte.statistics.pairs import Block, Pairs, unit_rows
from jaxte.statistics.rows import Rows
from jaxte.statistics.spectrum import Spectrum, spectrum, spectrum_of_rows

__all__ = ["parc"]

_CELLS = 1 << 20  # that distances, 0 to 2, are sorted into where they are too many to rank
_CLEAR = 1e-6  # share of the largest eigenvalue above which products of the rows tell all of one
_STEPS, _TIE = 1 << 50, 16  # of float64; distances so few steps apart differ by rounding


def parc(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    num_components: int | None = 32,
) -> Array:
    r"""Spearman correlation, over pairs of samples, of feature distance and label distance.

    .. math::
        \rho = \frac{\sqrt{pq}}{\sigma} \Bigl(\mathrm{AUC} - \tfrac12\Bigr), \qquad
        \mathrm{AUC} = P(D_\text{different} > D_\text{same}) + \tfrac12 P(D_\text{different} =
        D_\text{same})

    with a share q of the M pairs of different classes, p = 1 - q, and :math:`\sigma` the standard
    deviation of the ranks of D over M, whose square is :math:`(1 - M^{-2}) / 12` without ties; D is
    1 minus the correlation of two rows of standardised features. This is Spearman's coefficient
    exactly, as label distances have two values. (The released code computes them with rounding
    errors, by which it then ranks what should be ties; its numbers differ by that.) Without ties
    no score exceeds :math:`100 \sqrt{3pq}`: compare models on the same samples only.

    Up to 1024 samples pairs are ranked exactly, distances equal to 1e-14 (float32: 2e-6) being
    ties. Beyond that they are counted in 2^20 cells, distances within 2e-6 of each other being
    ties; memory does not grow with the number of pairs.

    Args:
        features: [n, d]; shifts and a common scale do not matter.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; a pair weighs the product.
        num_features: true width when trailing columns are padding.
        num_components: k of the exact PCA before it, as many as there are where those are fewer
            (the released code fails there); None: no PCA, and the scale of no column matters.

    Returns:
        Scalar in [-100, 100]. NaN when fewer than two classes occur or all samples differ in class.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Bolya et al., NeurIPS 2021, arXiv 2111.06977, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.parc(better, y) > jaxte.metrics.parc(x, y))
        True
    """
    return PARC.outputs(
        features, labels, num_classes, weights, num_features, num_components=num_components
    )["score"]


def _check(*, num_components: int | None) -> None:
    if num_components is not None:
        checks.check_whole("num_components", num_components)


def _needs(*, num_components: int | None) -> frozenset[str]:
    of_components = set() if num_components is None else {"scatter", "reduced"}
    return frozenset({"all_rows", "measured"} | of_components)


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, num_components: int | None
) -> Outputs:
    rows, y = statistics.rows, statistics.labels
    units = lax.stop_gradient(_standardised(statistics, num_components))
    pairs = Pairs.of(units, rows.weights)
    labels = pairs.filled(y)
    if pairs.blocks == 1:
        same, different = _ranked(pairs, labels)
    else:
        same, different = pairs.sum(lambda block: _counted(block, labels), once=True)
    alike, apart = same.sum(), different.sum()
    possible = statistics.valid & (alike > 0) & (apart > 0)
    alike, apart = jnp.where(possible, alike, 1), jnp.where(possible, apart, 1)
    above = (apart - jnp.cumsum(different) + different / 2) / apart
    auc = (same / alike) @ above
    share = (same + different) / (alike + apart)
    rank = jnp.cumsum(share) - share / 2  # as a share of all, 1/2 in the mean
    variance = share @ (rank - 0.5) ** 2
    product = alike / (alike + apart) * apart / (alike + apart)
    rho = (auc - 0.5) * jnp.sqrt(product / jnp.where(variance > 0, variance, 1))
    return {"score": jnp.where(possible, 100 * rho, jnp.nan)}


def _standardised(statistics: Statistics, num_components: int | None) -> Array:
    """Unit rows of standardised features or principal components."""
    rows, x = statistics.rows, statistics.centred
    if num_components is None:
        square = matmul(rows.weights, x**2)
        varies, width = square > statistics.measured.moments.rounding, rows.width
    else:
        square, axes = _components(statistics, x, num_components)
        x = matmul(x, axes)
        varies = square > 0
        width = varies.sum().astype(x.dtype)
    deviation = jnp.sqrt(jnp.where(varies, square, 1) / rows.total)
    x = jnp.where(varies[None], x / deviation[None], 0)
    return unit_rows(Rows(x, rows.weights, rows.total, width), about_mean=True, width=width)


def _components(statistics: Statistics, x: Array, number: int) -> tuple[Array, Array]:
    """Largest eigenvalues of the scatter of centred rows, and their axes.

    Standardised, the least of them counts as much as the largest. Where it may be lost to the
    rounding error of a product of the rows, they are of the rows themselves.
    """

    def leading(spectral: Spectrum) -> tuple[Array, Array]:
        return spectral.values[:number], spectral.axes[:, :number]

    @sequential_vmap  # or both sides of the condition would be computed
    def choose(x: Array, weights: Array, components: tuple[Array, Array]) -> tuple[Array, Array]:
        clear = components[0][-1] > _CLEAR * components[0][0]
        return lax.cond(clear, lambda: components, lambda: leading(spectrum_of_rows(x, weights)))

    weights = statistics.rows.weights
    if x.dtype == jnp.float32 or min(x.shape) <= number:
        return leading(spectrum_of_rows(x, weights))
    columns = statistics.by_columns
    components = (
        leading_components(statistics, number) if columns else leading(spectrum(x, weights))
    )
    return choose(*lax.stop_gradient((x, weights, components)))


def _ranked(pairs: Pairs, labels: Array) -> tuple[Array, Array]:
    """Weight of the pairs of one class, and of two, at each distance in order."""
    block = pairs.block(jnp.zeros((), int))
    n = len(labels)
    steps = jnp.arange(n // 2 + 1)  # around the circle of rows, which meets each pair once
    columns = (jnp.arange(n)[:, None] + steps[None]) % n
    twice = jnp.where((steps == 0) | (2 * steps == n), 1, 2)  # but these, which it meets twice
    distance, other, alike = (
        jnp.take_along_axis(part, columns, axis=1).ravel()
        for part in (block.squares / 2, block.others, labels[:, None] == labels[None])
    )
    single = distance.dtype == jnp.float32
    resolution, tie = (_CELLS / 2, 0) if single else (_STEPS, _TIE)
    # as integers: CPUs sort those alone several times faster than anything else
    distance = jnp.round(distance * resolution).astype(int)
    weight = (block.weights[:, None] * twice[None].astype(other.dtype)).ravel() * other
    ordered = jnp.sort(distance)
    ranks = jnp.cumsum(jnp.append(jnp.zeros(1, int), jnp.diff(ordered) > tie))
    ranks = ranks[jnp.searchsorted(ordered, distance)]
    return _sums(ranks, weight, alike, len(ranks))


def _counted(block: Block, labels: Array) -> tuple[Array, Array]:
    """As `_ranked`, of the rows of a block, at each of the cells."""
    cells = jnp.minimum(jnp.round(block.squares * (_CELLS / 4)).astype(int), _CELLS)
    alike = labels[block.rows][:, None] == labels[block.columns][None]
    weight = block.weights[:, None] * block.others
    return _sums(cells.ravel(), weight.ravel(), alike.ravel(), _CELLS + 1)


def _sums(cells: Array, weight: Array, alike: Array, number: int) -> tuple[Array, Array]:
    sums = jax.ops.segment_sum(weight, cells + number * alike, 2 * number)
    return sums[number:], sums[:number]


PARC = register(
    Metric(
        name="parc",
        function=parc,
        score=_score,
        paper="Bolya et al., NeurIPS 2021",
        confirmed="own replica",
        range=(-100.0, 100.0),
        cost="2 n^2 k",
        needs=_needs,
        check=_check,
        invariances=frozenset({"shift", "scale"}),
    )
)
