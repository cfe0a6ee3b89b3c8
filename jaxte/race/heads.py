"""Linear heads on frozen features, fitted on all folds at once: logistic regression, or ridge."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Heads", "fit_heads"]

# Penalties on standardised features, of the mean loss: from hardly any to one that leaves little.
_PENALTIES = (3e-4, 3e-3, 3e-2, 3e-1)
_CONSTANT = 10.0  # the bias is a weight of this constant, so that it is hardly penalised
_LEAST_SPREAD = 0.05  # of the mean standard deviation: features that are all but dead stay small


class Heads(NamedTuple):
    """Heads of the folds, and a last one of all rows.

    Attributes:
        kernels: [folds + 1, d, C].
        biases: [folds + 1, C].
        outputs: [n, C], of each row by the head of the fold that left it out.
        penalty: the one of the grid whose held-out loss is least.
    """

    kernels: np.ndarray
    biases: np.ndarray
    outputs: np.ndarray
    penalty: float


def fit_heads(
    features: np.ndarray, targets: np.ndarray, fold: np.ndarray, *, regression: bool
) -> Heads:
    """Fit a head to the rows outside of each fold, and one to all rows.

    Minimises mean loss + penalty / 2 |kernel|^2 on standardised features, by the penalty whose
    held-out loss is least: cross-entropy, or half the squared error.

    Args:
        features: [n, d].
        targets: [n, C], one-hot rows or standardised numbers.
        fold: [n] the fold of each row, from 0.
        regression: whether targets are numbers.

    References:
        Böhning, "Multinomial logistic regression algorithm", AISM 1992: the bound of the Hessian
        by which the steps are scaled.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(60) % 3
        >>> x = rng.normal(size=(60, 5)) + 2 * np.eye(3, 5)[y]
        >>> heads = fit_heads(x, np.eye(3)[y], y * 0 + np.arange(60) // 15, regression=False)
        >>> heads.kernels.shape, bool((heads.outputs.argmax(1) == y).mean() > 0.8)
        ((5, 5, 3), True)
    """
    x = np.asarray(features, np.float64)
    mean, std = x.mean(0), x.std(0)
    std = np.maximum(std, max(_LEAST_SPREAD * std.mean(), 1e-12))
    x = (x - mean) / std
    basis = None
    if x.shape[1] > len(x):  # in the rows' own space, of which the penalty is the same
        values, vectors = np.linalg.eigh(x @ x.T)
        root = np.sqrt(np.maximum(values, 1e-9 * values.max()))
        basis, x = (x.T @ vectors) / root, vectors * root
    x = np.column_stack([x, np.full(len(x), _CONSTANT)])
    folds = int(fold.max()) + 1
    weights = np.vstack([fold != np.arange(folds)[:, None], np.ones((1, len(x)), bool)])
    fit = _ridge if regression else _logistic
    kernels = np.asarray(
        fit(
            jnp.asarray(x, jnp.float32),
            jnp.asarray(targets, jnp.float32),
            jnp.asarray(weights, jnp.float32),
            jnp.asarray(_PENALTIES, jnp.float32),
        ),
        np.float64,
    )  # fmt: skip  [folds + 1, penalties, d + 1, C]
    outputs = np.stack([x[i] @ kernels[fold[i]] for i in range(len(x))], axis=1)
    best = int(np.argmin(_losses(outputs, targets, regression)))
    chosen = kernels[:, best]
    inner = chosen[:, :-1] if basis is None else basis @ chosen[:, :-1]
    inner = inner / std[:, None]
    biases = _CONSTANT * chosen[:, -1] - mean @ inner
    return Heads(
        inner.astype(np.float32), biases.astype(np.float32), outputs[best].astype(np.float32),
        _PENALTIES[best],
    )  # fmt: skip


def _losses(outputs: np.ndarray, targets: np.ndarray, regression: bool) -> np.ndarray:
    """Mean loss of outputs [penalties, n, C]."""
    if regression:
        squared: np.ndarray = ((outputs - targets) ** 2).mean((1, 2))
        return squared
    top = outputs.max(2, keepdims=True)
    total = np.log(np.exp(outputs - top).sum(2)) + top[..., 0]
    crossed: np.ndarray = (total - (outputs * targets).sum(2)).mean(1)
    return crossed


@jax.jit
def _ridge(x: jax.Array, targets: jax.Array, weights: jax.Array, penalties: jax.Array) -> jax.Array:
    def of_fold(rows: jax.Array) -> jax.Array:
        scatter = (x * rows[:, None]).T @ x / rows.sum()
        cross = (x * rows[:, None]).T @ targets / rows.sum()
        eye = jnp.eye(x.shape[1])
        return jax.vmap(lambda p: jnp.linalg.solve(scatter + p * eye, cross))(penalties)

    return jax.lax.map(of_fold, weights)


@jax.jit
def _logistic(
    x: jax.Array, targets: jax.Array, weights: jax.Array, penalties: jax.Array
) -> jax.Array:
    """Accelerated gradient steps in coordinates in which the loss curves by 1 at most."""

    def of_fold(rows: jax.Array) -> jax.Array:
        share = (rows / rows.sum())[:, None]
        values, vectors = jnp.linalg.eigh((x * share).T @ x)
        rotated = x @ vectors

        def of_penalty(penalty: jax.Array) -> jax.Array:
            scale = 1 / jnp.sqrt(jnp.maximum(values, 0) / 2 + penalty)
            scaled = rotated * scale

            def gradient(v: jax.Array) -> jax.Array:
                error = (jax.nn.softmax(scaled @ v) - targets) * share
                return scaled.T @ error + penalty * (scale**2)[:, None] * v

            def step(carry: Any, _: None) -> tuple[Any, None]:
                now, ahead, age = carry
                slope = gradient(ahead)
                after = ahead - slope
                age = jnp.where((slope * (after - now)).sum() > 0, 0.0, age + 1)  # restart uphill
                return (after, after + age / (age + 3) * (after - now), age), None

            start = jnp.zeros((x.shape[1], targets.shape[1]), x.dtype)
            (v, _, _), _ = jax.lax.scan(step, (start, start, jnp.zeros(())), None, length=150)
            return vectors @ (scale[:, None] * v)

        return jax.vmap(of_penalty)(penalties)

    return jax.lax.map(of_fold, weights)
