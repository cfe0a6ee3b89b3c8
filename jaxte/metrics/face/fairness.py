"""How evenly the classes of FaCe overlap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def class_fairness(logits: Array, present: Array) -> Array:
    """Mean entropy of each present class's softmax over the other present classes."""
    own = jnp.eye(len(logits), dtype=bool)
    others = present[:, None] & present[None] & ~own
    # a row of -inf alone would give NaN: an absent class compares with itself and is left out
    shown = others | (own & ~present[None])
    log_p = jax.nn.log_softmax(jnp.where(shown, logits, -jnp.inf), axis=1)
    entropy = -jnp.sum(jnp.exp(log_p) * jnp.where(shown, log_p, 0), axis=1)
    number = jnp.maximum(present.sum(), 1).astype(logits.dtype)
    return jnp.where(present, entropy, 0).sum() / number
