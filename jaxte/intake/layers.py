"""Features of several layers of one model, joined so that one score can read them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake.arrays import as_features

__all__ = ["join_layers"]


def join_layers(
    layers: Mapping[str, ArrayLike] | Sequence[ArrayLike], weights: ArrayLike | None = None
) -> np.ndarray:
    r"""Features of several layers side by side, each centred and of total variance 1.

    .. math:: X = \left[ \frac{X_1 - \bar X_1}{s_1}, \dots, \frac{X_L - \bar X_L}{s_L} \right],
        \qquad s_l^2 = \frac1n \lVert X_l - \bar X_l \rVert_F^2

    Fine-tuning can use what the earlier layers of a model know, of which its last layer may keep
    nothing; so a score of all layers predicts it better. A layer that does not vary is left out,
    and one that is but a multiple of another, as maps and their mean are once they are pooled.

    Args:
        layers: the layers of one model, each [n, d_l], by name or in order.
        weights: [n] sample weights >= 0; rows of weight 0 may hold anything.

    Returns:
        Array [n, d_1 + ... + d_L], float32 unless a layer is float64.

    Raises:
        InputError: for a layer that is no matrix of finite numbers, or of another number of rows;
            where none varies.

    References: Evci et al., "Head2Toe", ICML 2022, arXiv 2201.03529, which selects among them.

    Example:
        >>> import jax, jaxte
        >>> early, late = jax.random.normal(jax.random.key(0), (2, 90, 8))
        >>> jaxte.join_layers({"early": early, "late": 100 * late[:, :3]}).shape
        (90, 11)
    """
    named = layers if isinstance(layers, Mapping) else dict(enumerate(layers))
    if not named:
        raise InputError("there are no layers to join")
    joined: list[np.ndarray] = []
    w: np.ndarray | None = None if weights is None else np.asarray(weights, np.float64)
    rows = None
    for name, values in named.items():
        x: Any = np.asarray(as_features(values, f"layer {name}"))
        if x.ndim != 2:
            raise InputError(f"layer {name} has shape {x.shape}: give [samples, features]")
        rows = len(x) if rows is None else rows
        if len(x) != rows:
            raise InputError(f"layer {name} has {len(x)} rows, the first layer has {rows}")
        if w is not None and w.shape != (rows,):
            raise InputError(f"weights have shape {w.shape}, the layers have {rows} rows")
        own = _standardised(x, w, name)
        if not any(_is_same(own, one) for one in joined):
            joined.append(own)
    if not any(one.shape[1] for one in joined):
        raise InputError("no layer varies over the samples")
    return np.concatenate(joined, axis=1, dtype=np.result_type(np.float32, *joined))


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two layers are one and the same, which a few rows mostly tell."""
    return a.shape == b.shape and all(
        np.allclose(a[:rows], b[:rows], 1e-4, 1e-6) for rows in (64, len(a))
    )


def _standardised(x: np.ndarray, weights: np.ndarray | None, name: Any) -> np.ndarray:
    counted = np.ones(len(x), bool) if weights is None else weights > 0
    kept = x[counted].astype(np.float64)
    if not np.isfinite(kept).all():
        row = int(np.flatnonzero(counted)[np.argmax(~np.isfinite(kept).all(axis=1))])
        raise InputError(f"layer {name} contains NaN or infinity, first in row {row}")
    share = None if weights is None else weights[counted]
    mean = np.average(kept, axis=0, weights=share)
    squares = np.average((kept - mean) ** 2, axis=0, weights=share)
    rounding = len(kept) * np.finfo(np.float64).eps * np.abs(mean)
    scale = np.sqrt(squares[squares > rounding**2].sum())
    if not scale > 0:
        return np.zeros((len(x), 0), np.float32)
    out = np.zeros(x.shape, x.dtype if x.dtype == np.float64 else np.float32)
    out[counted] = (kept - mean) / scale
    return out
