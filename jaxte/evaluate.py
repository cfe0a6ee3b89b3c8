"""How well a metric's ranking agrees with what fine-tuning really reached."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxte.errors import InputError

__all__ = ["weighted_tau"]


def weighted_tau(scores: ArrayLike, accuracies: ArrayLike) -> float:
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
    s, g = np.asarray(scores), np.asarray(accuracies)
    if s.ndim != 1 or s.shape != g.shape:
        raise InputError(f"scores {s.shape} and accuracies {g.shape} must be vectors of one length")
    if np.isnan(s).any() or np.isnan(g).any():
        raise InputError("scores or accuracies contain NaN: leave failed models out of both")
    if len(s) < 2:
        return float("nan")
    from scipy.stats import weightedtau  # half a second, which `import jaxte` need not take

    return float(weightedtau(s, g).statistic)
