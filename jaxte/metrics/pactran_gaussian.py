"""PACTran with a Gaussian prior: a PAC-Bayes bound on the loss of a linear head."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.intake import checks
from jaxte.metrics.metric import Completed, Metric, Outputs
from jaxte.metrics.registry import register
from jaxte.statistics import Statistics, softmax

__all__ = ["pactran_gaussian"]


def pactran_gaussian(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    lam: ArrayLike = 0.1,
    factor: ArrayLike = 1.0,
) -> Array:
    r"""Minus a PAC-Bayes bound on the loss of a linear head with a Gaussian prior.

    .. math::
        -\min_{W, b}\Bigl[\tfrac1n \sum_i \ell_i + \tfrac{|W|^2}{2 \lambda n}\Bigr]
        - \frac{f C}{2 \lambda n} \ln \frac{\lambda n}{d C} h, \qquad
        h = \sum_{ic} (|x_i|^2 + 1)\, p_{ic} (1 - p_{ic}) + \frac{d C}{\lambda n}

    with cross entropies :math:`\ell_i` and probabilities p of softmax regression on centred
    features, solved to convergence (the released code stops L-BFGS early). Once classes are
    separable, as always for d >= n, the second term decides, which grows with the scale of the
    features. The released code reports (lam, factor) = (0.1, 1 and 10), (1, 10 and 100) and
    (10, 100 and 1000).

    Args:
        features: [n, d].
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        num_classes: C; inferred from concrete labels, required under jit. Only those count that
            occur.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        lam: variance of the prior of W, which the sum of the losses is weighed against.
        factor: f, the variance of the posterior's prior over lam.

    Returns:
        Scalar, in nats. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Ding et al., ECCV 2022, arXiv 2203.05126, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.pactran_gaussian
        >>> bool(score(better, y) > score(x, y))
        True
    """
    return PACTRAN_GAUSSIAN.outputs(
        features, labels, num_classes, weights, num_features, lam=lam, factor=factor
    )["score"]


def _check(*, lam: Any, factor: Any) -> None:
    checks.check_positive("lam", lam)
    checks.check_positive("factor", factor)


def _score(
    statistics: Statistics, _: tuple[Completed, ...], *, lam: ArrayLike, factor: ArrayLike
) -> Outputs:
    w, n, d, unit = statistics.rows.weights, statistics.total, statistics.width, statistics.unit
    x = statistics.centred  # divided by the unit, so that W is multiplied by it
    y = jax.nn.one_hot(statistics.labels, len(statistics.counts), dtype=x.dtype, axis=0)
    lam = jnp.asarray(lam).astype(x.dtype)
    z = softmax.along_axes(x, w)
    model = softmax.fit(z, y, w, lam * unit * unit)
    problem = softmax.Regression(z, y, w, lam * unit * unit)
    p = problem.probabilities(model)
    uncertain = w * jnp.sum(p * (1 - p), axis=0)
    weights = d * (statistics.counts > 0).sum()  # of the head
    h = lam * unit * unit * (uncertain @ jnp.sum(x**2, axis=1)) + lam * uncertain.sum()
    sharpness = (h * n + weights) / weights + 1e-10
    loss = problem.value(model) / n
    bound = loss + weights / (2 * lam * n) * (factor / d) * jnp.log(sharpness)
    return {"score": jnp.where(statistics.valid, -bound, jnp.nan), "loss": loss}


PACTRAN_GAUSSIAN = register(
    Metric(
        name="pactran_gaussian",
        function=pactran_gaussian,
        score=_score,
        paper="Ding et al., ECCV 2022",
        confirmed="released code",
        cost="2 n d k + O(k^3) + steps * 4 n k C",
        needs=frozenset({"measured", "all_rows"}),
        check=_check,
        smooth=False,
        invariances=frozenset({"rotation", "shift"}),
    )
)
