"""The log evidence of ridge regression as a function of the penalty t, from quadratic forms."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

__all__ = ["NEAR_EXACT", "Forms", "profile"]

NEAR_EXACT = 1e-8  # share of the targets left unexplained below which a difference lacks digits


class Forms(NamedTuple):
    """What the evidence is made of at some penalties: A is that of the features, v of their mean.

    Attributes:
        logdet: ln |I + A/t|.
        own: y'(A + t)^-1 y of each target column.
        across: v'(A + t)^-1 y.
        mean: v'(A + t)^-1 v.
    """

    logdet: Array
    own: Array
    across: Array
    mean: Array


def profile(p: Any, u: Array, forms: Forms) -> tuple[Array, Array]:
    """-n ln Q - ln |I + G/t| at ln t = u, and Q = y' (I + XX'/t)^-1 y of each column.

    ``p`` has the lengths of targets and mean: a `Tridiagonal` or the like.
    """
    logdet, own, across, mean = forms
    t = jnp.exp(u)
    square, y_mean = (part[None] if own.ndim == 2 else part for part in (p.square, p.y_mean))
    if p.length is None:
        centred, gap, leverage = square - own, y_mean - across, mean
    else:
        centred, gap, leverage = t * own, y_mean - across, (p.length - mean) / t
    share = 1 / (1 + p.n * leverage)
    quadratic = centred + p.n * gap**2 * share
    quadratic = jnp.maximum(quadratic, jnp.finfo(u.dtype).tiny)
    return -p.n * jnp.log(quadratic) - logdet + jnp.log(share), quadratic
