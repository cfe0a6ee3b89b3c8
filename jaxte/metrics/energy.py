"""Energy, the label-free half of ETran: how large a model's features, or logits, are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.intake.checks import is_traced
from jaxte.metrics.metric import Completed, Metric, Outputs, Pass
from jaxte.metrics.registry import register
from jaxte.statistics import Batch, Statistics

__all__ = ["energy"]

_TAILS = ("bot", "top")
_OF = ("features", "logits")


def energy(
    features: ArrayLike | None,
    labels: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    fraction: float = 1.0,
    tail: str = "bot",
    of: str = "features",
) -> Array:
    r"""Mean log-sum-exp of the features over the samples where it is lowest, or highest.

    .. math:: \frac{1}{|T|} \sum_{i \in T} \ln \sum_j e^{x_{ij}}

    The released code takes the features, and the lowest half percent of the samples; others take
    the logits of the model's own head (``of="logits"``) and all samples. It depends on the scale
    of what it reads, and of features without sign is at least ln d.

    Args:
        features: [n, d], any scale; or with ``of="logits"`` logits [n, z], unless these are passed.
        labels: not read.
        logits: [n, z] of the model's own head, which are then read instead of the features.
        num_classes: not read.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        fraction: share of the samples in T, in tenths of a percent. As in the released code it is
            the samples below the cut whose number is rounded down; at least one is in T.
        tail: whether T are the samples of lowest ("bot") or highest ("top") energy.
        of: "features" or "logits", as `jaxte.rank` has to be told.

    Returns:
        Scalar.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    References: Gholami et al., ICCV 2023, arXiv 2308.02027, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> bool(jaxte.metrics.energy(x + 1) > jaxte.metrics.energy(x))
        True
    """
    return ENERGY.outputs(
        features,
        labels,
        num_classes,
        weights,
        num_features,
        logits=logits,
        fraction=fraction,
        tail=tail,
        of=of if logits is None else "logits",
    )["score"]


def _check(*, fraction: Any, tail: str, of: str) -> None:
    checks.check_positive("fraction", fraction)
    checks.check_share("fraction", fraction)
    checks.choose("tail", tail, _TAILS)
    checks.choose("of", of, _OF)


def _needs(*, fraction: Any, of: str, **_: Any) -> frozenset[str]:
    tail = is_traced(fraction) or fraction != 1
    read = {"logits"} if of == "logits" else {"rows"}
    return frozenset(read | {"all_rows"} if tail else read)


def _width(statistics: Statistics, *_: Any, **__: Any) -> Array:
    return statistics.width


def _energies(width: Array, batch: Batch, of: str) -> Array:
    if of == "logits":
        if batch.logits is None:
            raise InputError("the energy of probabilities is 0 for any model: give logits")
        return jax.nn.logsumexp(batch.logits, axis=1)
    assert batch.features is not None
    return energies(batch.features, width)


def _sum(width: Array, batch: Batch, *, of: str, **_: Any) -> Array:
    return batch.weights @ _energies(width, batch, of)


def energies(features: Array, width: Array) -> Array:
    """Log-sum-exp of each row [n], of its true columns."""
    inside = jnp.arange(features.shape[1]) < width
    return jax.nn.logsumexp(jnp.where(inside[None], features, -jnp.inf), axis=1)


def tail_mean(values: Array, weights: Array, fraction: ArrayLike, tail: str) -> Array:
    """Mean of the lowest ("bot") or highest share of the values, of one row at least."""
    total = weights.sum()
    key = jnp.where(weights > 0, values if tail == "bot" else -values, jnp.inf)
    order = jnp.argsort(key)
    values, own = values[order], weights[order]
    fraction = jnp.asarray(fraction).astype(total.dtype)
    lower = fraction if tail == "bot" else 1 - fraction
    # tenths of a percent, in spite of rounding; a weight of 2 counts as two samples
    rows = jnp.floor(jnp.floor(1000 * lower + 1e-3) * total / 1000)
    mass = jnp.minimum(jnp.maximum(rows if tail == "bot" else total - rows, 1), total)
    taken = jnp.clip(mass - (jnp.cumsum(own) - own), 0, own)
    everything = fraction >= 1
    taken, mass = jnp.where(everything, own, taken), jnp.where(everything, total, mass)
    return taken @ values / mass


def _score(
    statistics: Statistics,
    completed: tuple[Completed, ...],
    *,
    fraction: ArrayLike,
    tail: str,
    of: str,
) -> Outputs:
    total = statistics.total
    if not statistics.in_memory:  # then it is of all samples
        score = completed[0].result / total
        return {"score": jnp.where(statistics.valid, score, jnp.nan)}
    batch = statistics.batch()
    values, weights = _energies(statistics.width, batch, of), batch.weights
    score = tail_mean(values, weights, fraction, tail)
    return {"score": jnp.where(statistics.valid, score, jnp.nan)}


ENERGY = register(
    Metric(
        name="energy",
        function=energy,
        score=_score,
        paper="Gholami et al., ICCV 2023",
        confirmed="released code",
        label_free=True,
        tasks=("classification", "regression"),
        cost="n d",
        needs=_needs,
        passes=(Pass(_width, _sum),),
        check=_check,
    )
)
