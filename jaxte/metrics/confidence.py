"""How sure a model's own head is on the target data, which needs no labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import as_features, checks
from jaxte.intake.checks import is_traced
from jaxte.intake.outputs import SourceOutputs, check_outputs
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.passes import head_width, mean_of_last
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics

__all__ = ["atc", "msp", "nll", "norm_entropy"]

_CONFIDENCES = ("entropy", "maximum")


def msp(
    features: ArrayLike | None,
    labels: ArrayLike | None = None,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Mean of the largest probability that a model's own head gives.

    .. math:: \frac1n \sum_i \max_z q_{iz}

    Args:
        features: q itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None.
        labels: not read.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which q is the softmax.
        num_classes: not read.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of q as the first argument are padding.

    Returns:
        Scalar in [1/z, 1].

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Hendrycks and Gimpel, ICLR 2017, arXiv 1610.02136.

    Example:
        >>> import jax, jaxte
        >>> q = jax.nn.softmax(jax.random.normal(jax.random.key(0), (90, 5)))
        >>> bool(0.2 < jaxte.metrics.msp(q) < 1)
        True
    """
    return _score_of(MSP, features, num_classes, weights, num_features, probabilities, logits)


def nll(
    features: ArrayLike | None,
    labels: ArrayLike | None = None,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Mean log-probability of the class that a model's own head takes for the most likely.

    .. math:: \frac1n \sum_i \ln \max_z q_{iz}

    Args:
        features: q itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None.
        labels: not read.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which q is the softmax.
        num_classes: not read.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of q as the first argument are padding.

    Returns:
        Scalar in [-ln z, 0], in nats.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: "Ranked from Within", ICML 2025.

    Example:
        >>> import jax, jaxte
        >>> q = jax.nn.softmax(jax.random.normal(jax.random.key(0), (90, 5)))
        >>> bool(-1.61 < jaxte.metrics.nll(q) < 0)
        True
    """
    return _score_of(NLL, features, num_classes, weights, num_features, probabilities, logits)


def norm_entropy(
    features: ArrayLike | None,
    labels: ArrayLike | None = None,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
) -> Array:
    r"""Minus the mean entropy of what a model's own head predicts, as a share of the most it can.

    .. math:: \frac1n \sum_i \sum_z \frac{q_{iz} \ln q_{iz}}{\ln Z}

    Args:
        features: q itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None.
        labels: not read.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which q is the softmax.
        num_classes: not read.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of q as the first argument are padding.

    Returns:
        Scalar in [-1, 0]. NaN for a head of one class.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: "Ranked from Within", ICML 2025.

    Example:
        >>> import jax, jaxte
        >>> q = jax.nn.softmax(jax.random.normal(jax.random.key(0), (90, 5)))
        >>> bool(-1 < jaxte.metrics.norm_entropy(q) < 0)
        True
    """
    return _score_of(
        NORM_ENTROPY, features, num_classes, weights, num_features, probabilities, logits
    )


def atc(
    features: ArrayLike | None,
    labels: ArrayLike | None = None,
    *,
    probabilities: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    source_logits: Any = None,
    source_accuracy: ArrayLike | None = None,
    confidence: str = "entropy",
) -> Array:
    r"""Share of samples of which a model's own head is surer than a threshold from its source.

    .. math:: \frac1n \,|\{i : s(q_i) \ge t\}|, \quad
        \frac1m \,|\{j : s(q^{\mathrm{source}}_j) < t\}| = 1 - \text{source accuracy}

    with s minus the entropy, or the largest probability. Without ``source_logits`` there is no
    threshold, and the score is the mean of the largest probability, which is `msp`. `jaxte.rank`
    has one threshold for all models of a call, and says so in its notes: the threshold belongs to
    the head that gave ``source_logits``, so rank models that share a head, or call this function
    with the source logits of each.

    Args:
        features: q itself, [n, z], where neither ``probabilities`` nor ``logits`` are passed;
            otherwise anything of n rows, or None.
        labels: not read.
        probabilities: [n, z], rows that sum to 1.
        logits: [n, z], of which q is the softmax.
        num_classes: not read.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true z when trailing columns of q as the first argument are padding.
        source_logits: [m, z] of the head on samples of its own task that it was not trained on.
        source_accuracy: the head's accuracy there, in [0, 1].
        confidence: s: "entropy", which its authors found to be better, or "maximum".

    Returns:
        Scalar in [0, 1], an estimate of the accuracy where the target has the source's classes.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Garg et al., ICLR 2022, arXiv 2201.04234.

    Example:
        >>> import jax, jaxte
        >>> z = 3 * jax.random.normal(jax.random.key(0), (90, 5))
        >>> source = {"source_logits": z, "source_accuracy": 0.8}
        >>> round(float(jaxte.metrics.atc(None, logits=z, **source)), 4)
        0.8
    """
    if source_logits is not None and not is_traced(source_logits):
        source_logits = np.asarray(source_logits)
    options = {
        "source_logits": source_logits,
        "source_accuracy": source_accuracy,
        "confidence": confidence,
    }
    return _score_of(
        ATC, features, num_classes, weights, num_features, probabilities, logits, **options
    )


def _score_of(
    metric: Metric,
    features: ArrayLike | None,
    num_classes: int | None,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    probabilities: ArrayLike | None,
    logits: ArrayLike | None,
    **options: Any,
) -> Array:
    options |= {"probabilities": probabilities, "logits": logits}
    return metric.outputs(features, None, num_classes, weights, num_features, **options)["score"]


def _negative_entropy(q: Array) -> Array:
    return jnp.sum(q * jnp.log(jnp.where(q == 0, 1, q)), axis=1)


def _largest(q: Array) -> Array:
    return q.max(axis=1)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _sum_largest(_: None, batch: Batch, **__: Any) -> Array:
    assert batch.probabilities is not None
    return batch.weights @ _largest(batch.probabilities)


def _sum_log_largest(_: None, batch: Batch, **__: Any) -> Array:
    assert batch.probabilities is not None
    return batch.weights @ jnp.log(_largest(batch.probabilities))


def _sum_share(width: Array | None, batch: Batch, **__: Any) -> Array:
    q = batch.probabilities
    assert q is not None
    most = jnp.log(jnp.asarray(q.shape[1] if width is None else width, q.dtype))
    share = _negative_entropy(q) / jnp.where(most > 0, most, jnp.nan)
    return batch.weights @ jnp.maximum(share, -1)  # but for rounding it is no less


def _threshold(
    statistics: Statistics,
    _: tuple[Completed, ...],
    *,
    source_logits: Array | None,
    source_accuracy: Array | None,
    confidence: str,
) -> Array | None:
    if source_logits is None or source_accuracy is None:
        return None
    source = jax.nn.softmax(jnp.asarray(source_logits, statistics.total.dtype), axis=1)
    scores = jnp.sort(_CONFIDENCE[confidence](source))
    wrong = jnp.round((1 - jnp.asarray(source_accuracy)) * len(scores)).astype(int)
    return jnp.take(scores, wrong, mode="fill", fill_value=jnp.inf)


def _sum_surer(threshold: Array | None, batch: Batch, *, confidence: str, **_: Any) -> Array:
    q = batch.probabilities
    assert q is not None
    if threshold is None:
        return batch.weights @ _largest(q)
    scores = _CONFIDENCE[confidence](q)
    return batch.weights @ jnp.where(jnp.isnan(scores), jnp.nan, scores >= threshold)


def _check_atc(*, source_logits: Any, source_accuracy: Any, confidence: str) -> None:
    checks.choose("confidence", confidence, _CONFIDENCES)
    if (source_logits is None) != (source_accuracy is None):
        raise InputError("give source_logits and source_accuracy both, or neither")
    if source_logits is not None:
        checks.check_share("source_accuracy", source_accuracy)
        if not is_traced(source_logits):
            source_logits = as_features(source_logits, "source_logits")
        check_outputs(SourceOutputs(source_logits), (np.shape(source_logits) or (0,))[0])


def _with_threshold(statistics: Statistics, completed: tuple[Completed, ...], **_: Any) -> Outputs:
    threshold = completed[0].constants
    own = {} if threshold is None else {"threshold": threshold}
    return {**mean_of_last(statistics, completed), **own}


def _notes_on_thresholds(
    outputs: Mapping[str, Mapping[str, float]], num_classes: int | None
) -> list[str]:
    for one in outputs.values():
        if "threshold" in one:
            return [
                f"one threshold, {one['threshold']:.4g}, for all models, from source_logits and "
                "source_accuracy: a model with another head needs its own, by a call of its own."
            ]
        return ["there are no source_logits and so no threshold: the score is that of msp."]
    return []


_CONFIDENCE = {"entropy": _negative_entropy, "maximum": _largest}
_FACTS: dict[str, Any] = {
    "score": mean_of_last,
    "confirmed": "own replica",
    "label_free": True,
    "tasks": ("classification", "regression"),
    "cost": "n z",
    "needs": frozenset({"probabilities"}),
}
MSP = register(
    Metric(
        name="msp",
        function=msp,
        paper="Hendrycks and Gimpel, ICLR 2017",
        range=(0.0, 1.0),
        passes=(Pass(_nothing, _sum_largest),),
        **_FACTS,
    )
)
NLL = register(
    Metric(
        name="nll",
        function=nll,
        paper="Ranked from Within, ICML 2025",
        range=(float("-inf"), 0.0),
        passes=(Pass(_nothing, _sum_log_largest),),
        **_FACTS,
    )
)
NORM_ENTROPY = register(
    Metric(
        name="norm_entropy",
        function=norm_entropy,
        paper="Ranked from Within, ICML 2025",
        range=(-1.0, 0.0),
        passes=(Pass(head_width, _sum_share),),
        **_FACTS,
    )
)
ATC = register(
    Metric(
        name="atc",
        function=atc,
        paper="Garg et al., ICLR 2022",
        range=(0.0, 1.0),
        passes=(Pass(_threshold, _sum_surer),),
        check=_check_atc,
        notes=_notes_on_thresholds,
        **(_FACTS | {"score": _with_threshold}),
    )
)
