"""PACTran: PAC-Bayes bounds on the loss of a head that is put on a model's own outputs."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike

from jaxte.metrics.leep import class_mass, classes_of
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.passes import head_width
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.rows import class_sums

__all__ = ["pactran_dirichlet", "pactran_gamma"]

_ROUNDS, _LEAST = 10, 1e-10  # as in the released code


def pactran_dirichlet(
    features: ArrayLike | None,
    labels: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the PAC-Bayes bound of label probabilities with a Dirichlet prior.

    .. math::
        A_{cz} = a_c + \sum_{i: y_i = c} q_{iz}, \quad
        q_{iz} \propto s_{iz}\, e^{\psi(A_{y_i z}) - \psi(\sum_c A_{cz})}
    .. math::
        \frac1{nC} \sum_z \Bigl[\ln B(a) - \ln B(A_{\cdot z})
        - \sum_i q_{iz} \ln \frac{q_{iz}}{s_{iz}}\Bigr], \quad
        \ln B(a) = \ln \Gamma\bigl(\textstyle\sum_c a_c\bigr) - \sum_c \ln \Gamma(a_c)

    with s the head's probabilities on the target data, class frequencies a, and ten rounds that
    begin with q = s. As in the released code the sum is divided by C, too, and A is that of the
    round before the last q. Classes that do not occur are left out.

    Args:
        features: s itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None. Responsibilities of a mixture will do as well.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which s is the softmax.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of s as the first argument are padding.

    Returns:
        Scalar; the published value, of which smaller is better, with its sign turned. NaN when
        fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Ding et al., ECCV 2022, arXiv 2203.05126, and its released code.

    Example:
        >>> import jax, jaxte
        >>> z = jax.random.normal(jax.random.key(0), (90, 5))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = z.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.pactran_dirichlet
        >>> bool(score(None, y, logits=better) > score(None, y, logits=z))
        True
    """
    head = {"probabilities": probabilities, "logits": logits}
    outputs = PACTRAN_DIRICHLET.outputs(
        features, labels, num_classes, weights, num_features, **head
    )
    return outputs["score"]


def pactran_gamma(
    features: ArrayLike | None,
    labels: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the PAC-Bayes bound of label intensities with a Gamma prior.

    .. math::
        A_{cz} = a_c + \sum_{i: y_i = c} q_{iz}, \quad q_{iz} \propto s_{iz}\, e^{\psi(A_{y_i z})}
    .. math::
        \frac1{nC} \Bigl[\sum_{cz} \ln \frac{\Gamma(A_{cz})}{\Gamma(a_c)} - \sum_i \Bigl(
        \sum_z q_{iz} \ln \frac{q_{iz}}{s_{iz}} + \ln \sum_{cz} s_{iz} A_{cz} - 1\Bigr)\Bigr] - 1

    with s, a, the rounds and the divisor of `pactran_dirichlet`.

    Args:
        features: s itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None. Responsibilities of a mixture will do as well.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which s is the softmax.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of s as the first argument are padding.

    Returns:
        Scalar; the published value, of which smaller is better, with its sign turned. NaN when
        fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Ding et al., ECCV 2022, arXiv 2203.05126, and its released code.

    Example:
        >>> import jax, jaxte
        >>> z = jax.random.normal(jax.random.key(0), (90, 5))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = z.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.pactran_gamma
        >>> bool(score(None, y, logits=better) > score(None, y, logits=z))
        True
    """
    head = {"probabilities": probabilities, "logits": logits}
    outputs = PACTRAN_GAMMA.outputs(features, labels, num_classes, weights, num_features, **head)
    return outputs["score"]


class Round(NamedTuple):
    """What a round knows of those before it.

    Attributes:
        pull: [C, z] what is added to ln s.
        mass: [z] sum of A over the classes.
        width: true z where columns are padding, or None.
    """

    pull: Array
    mass: Array
    width: Array | None


def _prior(statistics: Statistics) -> Array:
    """The pseudo-counts a [C, 1]; 1 for a class that does not occur, of which nothing is made."""
    share = statistics.counts / statistics.total + _LEAST
    return jnp.where(statistics.present, share, 1)[:, None]


def _posterior(statistics: Statistics, sums: Array) -> tuple[Array, Array]:
    """A [C, z], and its sum over the classes that occur [z]."""
    posterior = _prior(statistics) + sums
    return posterior, jnp.where(statistics.present[:, None], posterior, 0).sum(axis=0)


def _dirichlet_round(statistics: Statistics, completed: tuple[Completed, ...], **_: Any) -> Round:
    posterior, mass = _posterior(statistics, completed[-1].result)
    psi = digamma(jnp.concatenate([posterior, mass[None]]))  # together: it takes long to compile
    return Round(psi[:-1] - psi[-1:], mass, head_width(statistics))


def _gamma_round(statistics: Statistics, completed: tuple[Completed, ...], **_: Any) -> Round:
    posterior, mass = _posterior(statistics, completed[-1].result)
    return Round(digamma(posterior), mass, head_width(statistics))


def _assigned(now: Round, batch: Batch) -> tuple[Array, Array]:
    """Ln q [b, z], and ln s without infinities."""
    s = batch.probabilities
    assert s is not None
    log_s = jnp.log(s + _LEAST)
    tilted = log_s + jnp.take(now.pull, batch.labels, axis=0, mode="clip")
    if now.width is not None:
        tilted = jnp.where((jnp.arange(s.shape[1]) < now.width)[None], tilted, -jnp.inf)
    return jax.nn.log_softmax(tilted, axis=1), log_s


def _sums(now: Round, batch: Batch, **_: Any) -> Array:
    log_q, _log_s = _assigned(now, batch)
    return class_sums(batch.weights[:, None] * jnp.exp(log_q), batch.labels, len(now.pull))


def _divergence(now: Round, batch: Batch, **_: Any) -> Array:
    log_q, log_s = _assigned(now, batch)
    q = jnp.exp(log_q)
    gain = jnp.where(q > 0, log_q, 0) - jnp.where(q > 0, log_s, 0)
    return jnp.sum(q * gain, axis=1)


def _dirichlet_loss(now: Round, batch: Batch, **_: Any) -> Array:
    return batch.weights @ _divergence(now, batch)


def _gamma_loss(now: Round, batch: Batch, **_: Any) -> Array:
    assert batch.probabilities is not None
    rate = jnp.sum(batch.probabilities * now.mass[None], axis=1)
    return batch.weights @ (_divergence(now, batch) + jnp.log(rate) - 1)


def _evidence(
    statistics: Statistics, completed: tuple[Completed, ...], *, dirichlet: bool
) -> Array:
    """Sum over the source classes of ln Gamma(A) - ln Gamma(a), of all classes, less the totals."""
    posterior, mass = _posterior(statistics, completed[-2].result)
    prior, present = _prior(statistics), statistics.present[:, None]
    start = jnp.where(present, prior, 0).sum(axis=0)
    values = gammaln(jnp.concatenate([posterior.ravel(), prior[:, 0], mass, start]))
    count, z = posterior.shape
    of_posterior, of_prior, of_mass = jnp.split(values[:-1], [count * z, count * z + count])
    rise = jnp.where(present, of_posterior.reshape(count, z) - of_prior[:, None], 0).sum()
    return rise - jnp.sum(of_mass - values[-1]) if dirichlet else rise


def _score(
    statistics: Statistics, completed: tuple[Completed, ...], *, dirichlet: bool, **_: Any
) -> Outputs:
    gain = _evidence(statistics, completed, dirichlet=dirichlet) - completed[-1].result
    score = gain / (statistics.total * statistics.present.sum())
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


def _gamma_score(*arguments: Any, **_: Any) -> Outputs:
    return {"score": _score(*arguments, dirichlet=False)["score"] - 1}


_FACTS: dict[str, Any] = {
    "paper": "Ding et al., ECCV 2022",
    "confirmed": "released code",
    "cost": "11 n z",
    "needs": frozenset({"probabilities"}),
}
_FIRST = Pass(classes_of, class_mass)
PACTRAN_DIRICHLET = register(
    Metric(
        name="pactran_dirichlet",
        function=pactran_dirichlet,
        score=partial(_score, dirichlet=True),
        passes=(
            _FIRST,
            Pass(_dirichlet_round, _sums, repeat=_ROUNDS - 1),
            Pass(_dirichlet_round, _dirichlet_loss),
        ),
        **_FACTS,
    )
)
PACTRAN_GAMMA = register(
    Metric(
        name="pactran_gamma",
        function=pactran_gamma,
        score=_gamma_score,
        passes=(
            _FIRST,
            Pass(_gamma_round, _sums, repeat=_ROUNDS - 1),
            Pass(_gamma_round, _gamma_loss),
        ),
        **_FACTS,
    )
)
