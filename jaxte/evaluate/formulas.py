"""The measures' formulas, written once for NumPy and for tracers of JAX.

Each takes a namespace (`numpy` or `jax.numpy`), scores [m], accuracies [m] and which models count;
what does not count is finite and changes nothing. What is not defined is NaN.
"""

from __future__ import annotations

from typing import Any


def _signs(xp: Any, v: Any, keep: Any) -> Any:
    """[m, m] sign of v_i - v_j, infinities included; 0 for pairs that do not count."""
    sign = (_column(v) > _row(v)).astype(v.dtype) - (_column(v) < _row(v)).astype(v.dtype)
    return xp.where(_column(keep) & _row(keep), sign, 0)


def _column(v: Any) -> Any:
    return v[:, None]


def _row(v: Any) -> Any:
    return v[None, :]


def _count(xp: Any, relation: Any, keep: Any, dtype: Any) -> Any:
    """[m] for each model j how many others i stand in a relation [i, j] to it."""
    return xp.where(_column(keep), relation, False).sum(axis=0).astype(dtype)


def kendall_tau(xp: Any, s: Any, g: Any, keep: Any, weights: Any = 1.0) -> Any:
    """Kendall tau-b, of pairs that weigh alike or as [m, m] weights say."""
    first, second = _signs(xp, s, keep), _signs(xp, g, keep)
    norms = (weights * first**2).sum(), (weights * second**2).sum()
    return (weights * first * second).sum() / xp.sqrt(norms[0] * norms[1])


def weighted_tau(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """The mean of the weighted taus ranked by (s, g) and by (g, s)."""
    index = xp.arange(len(s))

    def ranked_by(a: Any, b: Any) -> Any:
        a, b = _column(a) - _row(a), _column(b) - _row(b)
        after = _column(index) < _row(index)  # of equal models any order will do
        ahead = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & after)))
        weight = 1 / (_count(xp, ahead, keep, s.dtype) + 1)
        return kendall_tau(xp, s, g, keep, _column(weight) + _row(weight))

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


def pearson(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """Pearson correlation."""
    return _correlation(xp, s, g, keep.astype(s.dtype))


def spearman(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """Pearson correlation of the mean ranks."""
    ranks = [_mean_rank(xp, v, keep) for v in (s, g)]
    return _correlation(xp, ranks[0], ranks[1], keep.astype(s.dtype))


def weighted_pearson(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """Pearson correlation weighted by the mean rank of the scores."""
    return _correlation(xp, s, g, _mean_rank(xp, s, keep))


def gap_fidelity(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """Correlation of gaps over the pairs in which i is more accurate than j."""
    pairs = (_signs(xp, g, keep) > 0).astype(s.dtype)
    return _correlation(xp, _column(s) - _row(s), _column(g) - _row(g), pairs)


def _highest(xp: Any, v: Any, among: Any) -> Any:
    return xp.max(xp.where(among, v, -xp.inf), initial=-xp.inf)


def _position(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """[m] 0 for the highest score; of equal scores the less accurate stands first."""
    tied = _column(s) == _row(s)
    ahead = (_column(s) > _row(s)) | (tied & (_column(g) < _row(g)))
    return _count(xp, ahead, keep, s.dtype)


def top1_regret(xp: Any, s: Any, g: Any, keep: Any) -> Any:
    """Best accuracy less that of the first choice."""
    chosen = keep & (_position(xp, s, g, keep) == 0)
    return _highest(xp, g, keep) - _highest(xp, g, chosen)


def rel_at_k(xp: Any, s: Any, g: Any, keep: Any, k: int) -> Any:
    """Best accuracy among the first k, relative to the best."""
    best = _highest(xp, g, keep)
    chosen = keep & (_position(xp, s, g, keep) < k)
    return xp.where(best > 0, _highest(xp, g, chosen) / best, xp.nan)


def recall_at_k(xp: Any, s: Any, g: Any, keep: Any, k: int) -> Any:
    """1 if fewer than k models are more accurate than the first choice."""
    better = _count(xp, _column(g) > _row(g), keep, g.dtype)
    chosen = keep & (_position(xp, s, g, keep) == 0)
    return xp.where(_highest(xp, better, chosen) < k, 1.0, 0.0)


def best_in_top_k(xp: Any, s: Any, g: Any, keep: Any, k: int) -> Any:
    """1 if a most accurate model stands among the first k."""
    best = keep & (g == _highest(xp, g, keep))
    first = -_highest(xp, -_position(xp, s, g, keep), best)
    return xp.where(first < k, 1.0, 0.0)
