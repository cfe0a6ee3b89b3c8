"""LEEP and NCE: what the classes of a model's own head say about the target classes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.passes import mean_of_last
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics
from jaxte.statistics.rows import class_sums, first_largest

__all__ = ["leep", "nce"]


def leep(
    features: ArrayLike | None,
    labels: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    mean_probability: bool = False,
) -> Array:
    r"""Mean log-probability of the labels, predicted from the classes of the model's own head.

    .. math::
        P(c, z) = \tfrac1n \sum_{i: y_i = c} q_{iz}, \quad P(c \mid z) = \frac{P(c, z)}{P(z)},
        \quad \mathrm{LEEP} = \frac1n \sum_i \ln \sum_z P(y_i \mid z)\, q_{iz}

    with q the head's probabilities on the target data. Head classes without any mass say nothing.
    Probabilities are taken as they are, never normalised anew; sigmoid outputs have to be first.

    Args:
        features: q itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which q is the softmax.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of q as the first argument are padding.
        mean_probability: leave out the logarithm, as the code of SFDA, NCTI and ETran does.

    Returns:
        Scalar in (-inf, 0], in nats per sample: minus the entropy of the labels where q says
        nothing; or a mean probability in [0, 1]. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Nguyen et al., ICML 2020, arXiv 2002.12462.

    Example:
        >>> import jax, jaxte
        >>> z = jax.random.normal(jax.random.key(0), (90, 5))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = z.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.leep
        >>> bool(score(None, y, logits=better) > score(None, y, logits=z))
        True
    """
    return LEEP.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        probabilities=probabilities,
        logits=logits,
        mean_probability=mean_probability,
    )["score"]


def nce(
    features: ArrayLike | None,
    labels: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the entropy of the labels given the most likely class of the model's own head.

    .. math:: \mathrm{NCE} = \sum_{c,z} P(c, z) \ln \frac{P(c, z)}{P(z)}

    with P the frequencies of label c and :math:`z = \arg\max_z q_{iz}`, the first of equals.
    It is too high where n is not much larger than the number of pairs (c, z) that can occur.

    Args:
        features: q itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None.
        labels: [n] classes: integers (0..C-1 under jit), booleans or texts.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which q is the softmax.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of q as the first argument are padding.

    Returns:
        Scalar in [-ln C, 0], in nats per sample. NaN when fewer than two classes occur.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Tran et al., ICCV 2019, arXiv 1908.08142.

    Example:
        >>> import jax, jaxte
        >>> z = jax.random.normal(jax.random.key(0), (90, 5))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = z.at[:, 0].add(3.0 * y)
        >>> score = jaxte.metrics.nce
        >>> bool(score(None, y, logits=better) > score(None, y, logits=z))
        True
    """
    return NCE.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        probabilities=probabilities,
        logits=logits,
    )["score"]


def classes_of(statistics: Statistics, _: tuple[Completed, ...], **__: Any) -> Array:
    """How many classes there are, as the length of an array."""
    return jnp.zeros(len(statistics.counts), statistics.total.dtype)


def class_mass(like: Array, batch: Batch, **_: Any) -> Array:
    """Mass of each pair of classes [C, z]."""
    assert batch.probabilities is not None
    return class_sums(batch.weights[:, None] * batch.probabilities, batch.labels, len(like))


def _conditional(_: Statistics, completed: tuple[Completed, ...], **__: Any) -> Array:
    joint = completed[0].result
    mass = joint.sum(axis=0)
    return joint / jnp.where(mass != 0, mass, 1)[None]


def _likelihood(conditional: Array, batch: Batch, *, mean_probability: bool) -> Array:
    assert batch.probabilities is not None
    own = jnp.take(conditional, batch.labels, axis=0, mode="clip")
    expected = jnp.sum(own * batch.probabilities, axis=1)
    if mean_probability:
        return batch.weights @ expected
    counted = batch.weights > 0  # of a class that is absent, nothing is expected
    return batch.weights @ jnp.log(jnp.where(counted | (expected > 0), expected, 1))


def _counts(like: Array, batch: Batch, **_: Any) -> Array:
    """Mass of each pair of a class and the head's most likely one [C, z]."""
    values = batch.probabilities if batch.logits is None else batch.logits
    assert values is not None
    joint = jnp.zeros((len(like), values.shape[1]), like.dtype)
    return joint.at[batch.labels, first_largest(values)].add(batch.weights, mode="drop")


def _entropy(statistics: Statistics, completed: tuple[Completed, ...], **_: Any) -> Outputs:
    joint = completed[0].result
    mass = jnp.broadcast_to(joint.sum(axis=0), joint.shape)
    occurs = joint != 0
    ratio = jnp.where(occurs, joint, 1) / jnp.where(occurs, mass, 1)
    score = jnp.sum(joint * jnp.log(ratio)) / statistics.total
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


LEEP = register(
    Metric(
        name="leep",
        function=leep,
        score=mean_of_last,
        paper="Nguyen et al., ICML 2020",
        confirmed="released code",
        range=(float("-inf"), 0.0),
        cost="4 n z",
        needs=frozenset({"probabilities"}),
        passes=(Pass(classes_of, class_mass), Pass(_conditional, _likelihood)),
    )
)
NCE = register(
    Metric(
        name="nce",
        function=nce,
        score=_entropy,
        paper="Tran et al., ICCV 2019",
        confirmed="released code",
        range=(float("-inf"), 0.0),
        cost="n z + C z",
        needs=frozenset({"probabilities"}),
        passes=(Pass(classes_of, _counts),),
    )
)
