"""Measures of how well scores agree with accuracies, on the host and inside jit.

Every measure takes one vector of scores and one of accuracies and drops the models that `where`
excludes. Concrete input (lists, NumPy or JAX arrays) gives a float, by SciPy where it has the
measure, and NaN among it is an `InputError`. Inside jit, vmap or grad the same function gives a
JAX scalar, from sign matrices of M² entries; NaN makes it NaN. One vmap with `where` so serves
pools of several sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jax import Array
from jax import numpy as jnp

from jaxte.errors import InputError
from jaxte.evaluate import formulas
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
    return _measured(formulas.weighted_tau, scores, accuracies, where, scipy="weightedtau")


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
    return _measured(formulas.kendall_tau, scores, accuracies, where, scipy="kendalltau")


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
    return _measured(formulas.pearson, scores, accuracies, where)


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
    return _measured(formulas.spearman, scores, accuracies, where)


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
    return _measured(formulas.weighted_pearson, scores, accuracies, where)


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
    return _measured(formulas.gap_fidelity, scores, accuracies, where)


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

    return _measured(partial(formulas.rel_at_k, k=k), scores, accuracies, where)


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

    return _measured(partial(formulas.recall_at_k, k=k), scores, accuracies, where)


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

    return _measured(partial(formulas.best_in_top_k, k=k), scores, accuracies, where)


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
    return _measured(formulas.top1_regret, scores, accuracies, where)


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
