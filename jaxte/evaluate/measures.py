"""Measures of how well scores agree with accuracies, on the host and inside jit.

Every measure takes one vector of scores and one of accuracies and drops the models that `where`
excludes. Concrete input (lists, NumPy or JAX arrays) gives a float, by SciPy where it has the
measure, and NaN among it is an `InputError`. Inside jit, vmap or grad the same function gives a
JAX scalar, from sign matrices of M² entries; NaN makes it NaN. One vmap with `where` so serves
pools of several sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jax import Array
from jax import numpy as jnp

from jaxte.errors import InputError
from jaxte.intake.checks import check_whole, is_traced

__all__ = [
    "MEASURES",
    "Measure",
    "best_in_top_k",
    "gap_fidelity",
    "kendall_tau",
    "pearson",
    "recall_at_k",
    "rel_at_k",
    "spearman",
    "top1_regret",
    "weighted_pearson",
    "weighted_tau",
]

ArrayLike = npt.ArrayLike | Array
_Formula = Callable[[Any, Any, Any, Any], Any]  # (numpy or jax.numpy, scores, accuracies, keep)


def weighted_tau(
    scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None
) -> Any:
    r"""Weighted Kendall tau: rank agreement in which the best models count most.

    .. math::
        \tau = \frac{\sum_{i<j} W_{ij}\, \mathrm{sgn}(s_i - s_j)\, \mathrm{sgn}(g_i - g_j)}
                    {\sqrt{\sum W_{ij}\, \mathrm{sgn}(s_i - s_j)^2
                           \sum W_{ij}\, \mathrm{sgn}(g_i - g_j)^2}},
        \quad W_{ij} = \frac1{r_i + 1} + \frac1{r_j + 1}

    with r = 0 for the best model; once ranked by (s, g) and once by (g, s), and averaged. Ties
    count 0. Symmetric in its arguments; calculated by `scipy.stats.weightedtau`. With around ten
    models it is noisy: swapping the two best of eleven costs 0.10.

    Args:
        scores: [m] a metric's score of each model, larger is better; not NaN.
        accuracies: [m] what each model reached, in any unit.
        where: [m] which models count, by default all; the others may be NaN.

    Returns:
        A number in [-1, 1]; NaN for fewer than two models or constant input.

    Raises:
        InputError: if the lengths differ or a value is NaN (leave failed models out of both).

    References:
        Vigna, "A weighted correlation index for rankings with ties", WWW 2015.

    Example:
        >>> import jaxte
        >>> jaxte.evaluate.weighted_tau([0.1, 0.2, 0.3], [70.0, 80.0, 90.0])
        1.0
    """
    return _measured(_weighted_tau, scores, accuracies, where, scipy="weightedtau")


def kendall_tau(scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None) -> Any:
    r"""Kendall's tau-b: pairs of models in the same order less pairs in the other.

    .. math::
        \tau_b = \frac{\sum_{i<j} \mathrm{sgn}(s_i - s_j)\, \mathrm{sgn}(g_i - g_j)}
                      {\sqrt{\sum \mathrm{sgn}(s_i - s_j)^2 \sum \mathrm{sgn}(g_i - g_j)^2}}

    Arguments and errors are those of `weighted_tau`; calculated by `scipy.stats.kendalltau`.

    Returns:
        A number in [-1, 1]; NaN for fewer than two models or constant input.

    References:
        Kendall, "The treatment of ties in ranking problems", Biometrika 1945.

    Example:
        >>> import jax, jaxte
        >>> jaxte.evaluate.kendall_tau([1, 2, 3, 4], [1, 2, 4, 3])  # one pair of six is turned
        0.666...
        >>> pool = jax.numpy.array([[1.0, 2, 3, 4], [4, 3, 2, 1]])  # the same inside vmap
        >>> jax.vmap(jaxte.evaluate.kendall_tau)(pool, pool[:, ::-1]).round().tolist()
        [-1.0, -1.0]
    """
    return _measured(_kendall_tau, scores, accuracies, where, scipy="kendalltau")


def pearson(scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None) -> Any:
    r"""Pearson correlation of scores and accuracies.

    .. math::
        \rho = \frac{\sum_i (s_i - \bar s)(g_i - \bar g)}
                    {\sqrt{\sum_i (s_i - \bar s)^2 \sum_i (g_i - \bar g)^2}}

    Arguments and errors are those of `weighted_tau`.

    Returns:
        A number in [-1, 1]; NaN for fewer than two models, constant or infinite input.

    Example:
        >>> import jaxte
        >>> round(jaxte.evaluate.pearson([1, 2, 3], [1, 2, 4]), 3)
        0.982
    """
    return _measured(_pearson, scores, accuracies, where)


def spearman(scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None) -> Any:
    r"""Spearman correlation: Pearson's of the ranks, ties sharing the mean of their ranks.

    Arguments and errors are those of `weighted_tau`.

    Returns:
        A number in [-1, 1]; NaN for fewer than two models or constant input.

    Example:
        >>> import jaxte
        >>> round(jaxte.evaluate.spearman([1, 2, 300], [0.1, 0.3, 0.2]), 3)
        0.5
    """
    return _measured(_spearman, scores, accuracies, where)


def weighted_pearson(
    scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None
) -> Any:
    r"""Pearson correlation in which the model of the highest score weighs M, the lowest 1.

    .. math::
        \rho_w = \frac{\sum_i w_i (s_i - \bar s_w)(g_i - \bar g_w)}
                      {\sqrt{\sum_i w_i (s_i - \bar s_w)^2 \sum_i w_i (g_i - \bar g_w)^2}},
        \quad \bar x_w = \frac{\sum_i w_i x_i}{\sum_i w_i}

    The weight is the rank of the score, so that no order of the input matters; equal scores share
    the mean of their ranks. Not symmetric: the scores' order weighs, not the accuracies'.
    Arguments and errors are those of `weighted_tau`.

    Returns:
        A number in [-1, 1]; NaN for fewer than two models, constant or infinite input.

    Example:
        >>> import jaxte
        >>> round(jaxte.evaluate.weighted_pearson([1, 2, 3], [0.5, 0.6, 0.8]), 3)
        0.983
    """
    return _measured(_weighted_pearson, scores, accuracies, where)


def gap_fidelity(
    scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None
) -> Any:
    r"""Whether gaps of the scores follow gaps of the accuracies, with their sign.

    .. math::
        \mathrm{corr}\{(s_i - s_j,\; g_i - g_j) : g_i > g_j\}

    the Pearson correlation over all pairs of models, each taken as the more accurate model less
    the other: 1 if score differences are proportional to accuracy differences up to a constant, 0
    if a large gap in accuracy has no larger gap in score, negative if it has the wrong sign. Pairs
    of equal accuracy say nothing and are left out. Arguments and errors are those of
    `weighted_tau`.

    Returns:
        A number in [-1, 1]; NaN for fewer than three models, or where all gaps are equal.

    References:
        Singh, Hess, Vanschoren, arXiv 2510.06448, ICLR 2026, asks for this correlation.

    Example:
        >>> import jaxte
        >>> round(jaxte.evaluate.gap_fidelity([0.0, 0.1, 0.9], [50, 51, 59]), 3)
        1.0
        >>> round(jaxte.evaluate.gap_fidelity([0.0, 0.8, 0.9], [50, 51, 59]), 3)  # only the order
        -0.289
    """
    return _measured(_gap_fidelity, scores, accuracies, where)


def rel_at_k(
    scores: ArrayLike, accuracies: ArrayLike, k: int = 1, *, where: ArrayLike | None = None
) -> Any:
    """The best accuracy among the k models of the highest scores, relative to the best of all.

    Of models with equal scores the less accurate counts as chosen: a tie is no choice. Arguments
    and errors are those of `weighted_tau`.

    Returns:
        A number up to 1; NaN without models, or if no accuracy is positive.

    Example:
        >>> import jaxte
        >>> jaxte.evaluate.rel_at_k([1, 3, 2], [100, 80, 90], k=2)
        0.9
    """
    check_whole("k", k)

    def formula(xp: Any, s: Any, g: Any, keep: Any) -> Any:
        best = _highest(xp, g, keep)
        chosen = keep & (_position(xp, s, g, keep) < k)
        return xp.where(best > 0, _highest(xp, g, chosen) / best, xp.nan)

    return _measured(formula, scores, accuracies, where)


def recall_at_k(
    scores: ArrayLike, accuracies: ArrayLike, k: int = 3, *, where: ArrayLike | None = None
) -> Any:
    """Whether the model of the highest score is one of the k most accurate: 1 or 0.

    This is the recall of the SFDA family and of TE-Bench; averaged over data sets it is a share.
    A model is among the k best if fewer than k are more accurate; of models with equal scores the
    less accurate counts as chosen. Arguments and errors are those of `weighted_tau`.

    Returns:
        0 or 1; NaN without models.

    Example:
        >>> import jaxte
        >>> jaxte.evaluate.recall_at_k([1, 3, 2], [100, 80, 90], k=3)
        1.0
    """
    check_whole("k", k)

    def formula(xp: Any, s: Any, g: Any, keep: Any) -> Any:
        better = _count(xp, _column(g) > _row(g), keep, g.dtype)
        chosen = keep & (_position(xp, s, g, keep) == 0)
        return xp.where(_highest(xp, better, chosen) < k, 1.0, 0.0)

    return _measured(formula, scores, accuracies, where)


def best_in_top_k(
    scores: ArrayLike, accuracies: ArrayLike, k: int = 3, *, where: ArrayLike | None = None
) -> Any:
    """Whether the most accurate model is one of the k with the highest scores: 1 or 0.

    The reverse of `recall_at_k`: what fine-tuning the first k would find. Of several most accurate
    models one is enough; of models with equal scores the less accurate count first. Arguments and
    errors are those of `weighted_tau`.

    Returns:
        0 or 1; NaN without models.

    Example:
        >>> import jaxte
        >>> jaxte.evaluate.best_in_top_k([1, 3, 2], [100, 80, 90], k=2)
        0.0
    """
    check_whole("k", k)

    def formula(xp: Any, s: Any, g: Any, keep: Any) -> Any:
        best = keep & (g == _highest(xp, g, keep))
        first = -_highest(xp, -_position(xp, s, g, keep), best)
        return xp.where(first < k, 1.0, 0.0)

    return _measured(formula, scores, accuracies, where)


def top1_regret(scores: ArrayLike, accuracies: ArrayLike, *, where: ArrayLike | None = None) -> Any:
    """Best accuracy less that of the model with the highest score, in the accuracies' unit.

    Of models with equal scores the less accurate counts as chosen. Arguments and errors are those
    of `weighted_tau`.

    Returns:
        A number from 0 on, smaller is better; NaN without models.

    Example:
        >>> import jaxte
        >>> jaxte.evaluate.top1_regret([1, 3, 2], [100, 80, 90])
        20.0
    """
    return _measured(_regret, scores, accuracies, where)


class Measure(NamedTuple):
    """A measure as `evaluate` reports it: its function, its heading, and how to read it."""

    function: Callable[..., Any]
    heading: str
    larger_is_better: bool = True
    is_correlation: bool = True  # smooth enough over models for a jackknife; in [-1, 1]


def _at(function: Callable[..., Any], k: int) -> Callable[..., Any]:
    return lambda scores, accuracies, *, where=None: function(scores, accuracies, k, where=where)


MEASURES = {
    "weighted_tau": Measure(weighted_tau, "weighted tau"),
    "kendall_tau": Measure(kendall_tau, "Kendall"),
    "pearson": Measure(pearson, "Pearson"),
    "spearman": Measure(spearman, "Spearman"),
    "weighted_pearson": Measure(weighted_pearson, "weighted Pearson"),
    "gap_fidelity": Measure(gap_fidelity, "gaps"),
    "rel_at_1": Measure(_at(rel_at_k, 1), "rel@1", is_correlation=False),
    "recall_at_3": Measure(_at(recall_at_k, 3), "recall@3", is_correlation=False),
    "best_in_top_3": Measure(_at(best_in_top_k, 3), "best in 3", is_correlation=False),
    "top1_regret": Measure(top1_regret, "regret", larger_is_better=False, is_correlation=False),
}


def _measured(
    formula: _Formula, scores: Any, accuracies: Any, where: Any, scipy: str | None = None
) -> Any:
    """The one check of all measures, and then SciPy's function or the formula."""
    traced = any(map(is_traced, (scores, accuracies, where)))
    xp: Any = jnp if traced else np
    try:
        s, g = (xp.asarray(v) if traced else np.asarray(v, float) for v in (scores, accuracies))
    except (TypeError, ValueError) as error:
        raise InputError(f"scores and accuracies must be numbers ({error})") from None
    if s.ndim != 1 or s.shape != g.shape:
        raise InputError(f"scores {s.shape} and accuracies {g.shape} must be vectors of one length")
    keep = xp.ones(s.shape, bool) if where is None else xp.asarray(where).astype(bool)
    if keep.shape != s.shape:
        raise InputError(f"where {keep.shape} must have one value a model, as scores {s.shape}")
    if traced:
        return _traced(formula, s, g, keep)
    s, g = s[keep], g[keep]
    if np.isnan(s).any() or np.isnan(g).any():
        raise InputError("scores or accuracies contain NaN: leave failed models out of both")
    if len(s) < (2 if scipy else 1):
        return float("nan")
    with np.errstate(all="ignore"):
        if scipy:
            from scipy import stats  # half a second, which `import jaxte` need not take

            return float(getattr(stats, scipy)(s, g).statistic)
        return float(formula(np, s, g, np.ones(s.shape, bool)))


def _traced(formula: _Formula, s: Any, g: Any, keep: Any) -> Array:
    """The formula with the excluded models out of the way; NaN if a value or all models are."""
    dtype = jnp.promote_types(*(jnp.promote_types(v.dtype, float) for v in (s, g)))
    s, g = (jnp.where(keep, v.astype(dtype), 0) for v in (s, g))
    invalid = (jnp.isnan(s) | jnp.isnan(g)).any() | ~keep.any()
    return jnp.where(invalid, jnp.nan, formula(jnp, s, g, keep))


def _signs(xp: Any, v: Any, keep: Any) -> Any:
    """[m, m] sign of v_i - v_j, infinities included; 0 for pairs that do not count."""
    signs = (_column(v) > _row(v)).astype(v.dtype) - (_column(v) < _row(v)).astype(v.dtype)
    return xp.where(_column(keep) & _row(keep), signs, 0)


def _column(v: Any) -> Any:
    return v[:, None]


def _row(v: Any) -> Any:
    return v[None, :]


def _count(xp: Any, relation: Any, keep: Any, dtype: Any) -> Any:
    """[m] for each model j how many others i stand in a relation [i, j] to it."""
    return xp.where(_column(keep), relation, False).sum(axis=0).astype(dtype)


def _kendall_tau(xp: Any, s: Any, g: Any, keep: Any, weights: Any = 1.0) -> Any:
    first, second = _signs(xp, s, keep), _signs(xp, g, keep)
    norms = (weights * first**2).sum(), (weights * second**2).sum()
    return (weights * first * second).sum() / xp.sqrt(norms[0] * norms[1])


def _weighted_tau(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    index = xp.arange(len(s))

    def ranked_by(a: Any, b: Any) -> Any:
        a, b = _column(a) - _row(a), _column(b) - _row(b)
        after = _column(index) < _row(
            index
        )  # equal models have equal signs: any order of them will do
        ahead = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & after)))
        weight = 1 / (_count(xp, ahead, keep, s.dtype) + 1)
        return _kendall_tau(xp, s, g, keep, _column(weight) + _row(weight))

    places = [_count(xp, _column(v) < _row(v), keep, v.dtype) for v in (s, g)]  # of infinities too
    return (ranked_by(*places) + ranked_by(*reversed(places))) / 2


def _correlation(xp: Any, x: Any, y: Any, weights: Any) -> Any:
    """Weighted Pearson correlation; NaN where one side does not vary over positive weights."""

    def centred(v: Any) -> Any:
        low, high = -_highest(xp, -v, weights > 0), _highest(xp, v, weights > 0)
        v = xp.where(weights > 0, (v - low) / (high - low), 0)
        return xp.where(weights > 0, v - (weights * v).sum() / weights.sum(), 0)

    x, y = centred(x), centred(y)
    norms = xp.sqrt((weights * x**2).sum()), xp.sqrt((weights * y**2).sum())
    return xp.clip((weights * x * y).sum() / (norms[0] * norms[1]), -1, 1)


def _mean_rank(xp: Any, v: Any, keep: Any) -> Any:
    """[m] 1 for the lowest; ties share the mean of their ranks, which is 0 where excluded."""
    below = _count(xp, _column(v) < _row(v), keep, v.dtype)
    equal = _count(xp, _column(v) == _row(v), keep, v.dtype)
    return xp.where(keep, below + (equal + 1) / 2, 0)


def _pearson(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    return _correlation(xp, s, g, keep.astype(s.dtype))


def _spearman(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    ranks = [_mean_rank(xp, v, keep) for v in (s, g)]
    return _correlation(xp, ranks[0], ranks[1], keep.astype(s.dtype))


def _weighted_pearson(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    return _correlation(xp, s, g, _mean_rank(xp, s, keep))


def _gap_fidelity(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    pairs = (_signs(xp, g, keep) > 0).astype(s.dtype)
    return _correlation(xp, _column(s) - _row(s), _column(g) - _row(g), pairs)


def _highest(xp: Any, v: Any, among: Any) -> Any:
    return xp.max(xp.where(among, v, -xp.inf), initial=-xp.inf)


def _position(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """[m] 0 for the highest score; of equal scores the less accurate stands first."""
    tied = _column(s) == _row(s)
    ahead = (_column(s) > _row(s)) | (tied & (_column(g) < _row(g)))
    return _count(xp, ahead, keep, s.dtype)


def _regret(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    chosen = keep & (_position(xp, s, g, keep) == 0)
    return _highest(xp, g, keep) - _highest(xp, g, chosen)
