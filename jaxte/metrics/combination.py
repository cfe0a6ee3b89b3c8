"""Scores that are defined over a pool: terms brought to one scale, then added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks

__all__ = ["MEANS", "NORMALISATIONS", "combine"]

NORMALISATIONS = ("sum", "minmax", "zscore", "rank")
MEANS = ("sum", "geometric")
_GEOMETRIC = 1e-6  # added before the logarithm, as TVT's code has it


def combine(
    terms: Mapping[str, ArrayLike] | Sequence[ArrayLike] | ArrayLike,
    weights: Mapping[str, float] | Sequence[float] | None = None,
    *,
    normalise: str = "minmax",
    mean: str = "sum",
    valid: ArrayLike | None = None,
    rounding: float = 0.0,
) -> Any:
    r"""One score for each model of a pool, from several terms on scales of their own.

    .. math:: s_m = \sum_t w_t\, z_{tm}, \qquad
        z_{tm} = \frac{v_{tm} - \min_j v_{tj}}{\max_j v_{tj} - \min_j v_{tj}}

    over the valid models j, or with "zscore" and "rank" what their names say. A term that is the
    same for all models but for rounding says nothing and counts as 0.

    Such a score is no property of a model: **one more model changes those of the others.** With
    "minmax" it does so where it is the best or the worst in a term, and an outlier squeezes all
    others together, so that the other terms decide between them; with "zscore" it moves and
    stretches every term, less so the larger the pool; with "rank" it can only move models by a
    place a term. Any of them can turn the order of two models that were there before. A model that
    failed changes nothing.

    Args:
        terms: name -> values [m] of m models, or [t, m].
        weights: by name, or [t]; 1 by default. Negative where less is better.
        normalise: "sum" (as they are), "minmax" to [0, 1], "zscore" (standard deviations from the
            mean) or "rank" (share of the others that are below, ties shared, in [0, 1]).
        mean: "sum", or "geometric" of terms in [0, 1]: exp(sum w ln(z + 1e-6) / sum w) - 1e-6,
            which is low where any term is.
        valid: [m], which models count; by default those whose terms are all finite.
        rounding: up to which models differ in a term by rounding alone; a share of 1e-9 (float64)
            or 1e-6 of the term is so in any case.

    Returns:
        [m], NaN for models that do not count; of JAX if any term is, also under jit.

    Raises:
        InputError: for terms and weights that do not go together, or an unknown option.

    References: the papers of the scores that are made of it: `ncti`, `etran`, `tvt`.

    Example:
        >>> import jaxte
        >>> terms = {"fit": [0.0, 0.5, 1.0], "cost": [3.0, 1.0, 1.0]}
        >>> [float(s) for s in jaxte.metrics.combine(terms, {"fit": 1, "cost": -0.5})]
        [-0.5, 0.5, 1.0]
    """
    checks.choose("normalise", normalise, NORMALISATIONS)
    checks.choose("mean", mean, MEANS)
    if mean == "geometric" and normalise not in ("minmax", "rank"):
        raise InputError("a geometric mean needs terms in [0, 1]: normalise='minmax' or 'rank'")
    values, factors = _aligned(terms, weights)
    if valid is not None and np.shape(valid) != np.shape(values[0]):
        raise InputError(
            f"valid has shape {np.shape(valid)}, terms {np.shape(values[0])}: say it of each model"
        )
    xp: Any = jnp if any(isinstance(one, jax.Array) for one in (*values, valid)) else np
    table = xp.stack([xp.asarray(one) for one in values])
    if not xp.issubdtype(table.dtype, xp.floating):
        table = table.astype(float)
    counts = xp.isfinite(table).all(axis=0)
    if valid is not None:
        counts = counts & xp.asarray(valid).astype(bool)
    table = xp.where(counts[None], table, 0)
    tolerances = rounding, tolerance_of(str(table.dtype))
    table = table.astype(np.float64) if xp is np else table
    scaled = xp.stack([_normalised(xp, one, counts, normalise, tolerances) for one in table])
    weight = xp.asarray(factors, table.dtype)[:, None]
    if mean == "geometric":
        logs = (weight * xp.log(scaled + _GEOMETRIC)).sum(axis=0)
        if not checks.is_traced(weight) and not weight.sum() > 0:
            raise InputError("a geometric mean needs weights whose sum is positive")
        score = xp.exp(logs / weight.sum()) - _GEOMETRIC
    else:
        score = (weight * scaled).sum(axis=0)
    return xp.where(counts, score, xp.nan)


def tolerance_of(precision: str) -> float:
    """The share of scores, or of terms of them, that is rounding, in "float64" or not."""
    return 1e-9 if precision == "float64" else 1e-6


def of_one_model(
    terms: Mapping[str, Array], weights: Mapping[str, float], valid: Array
) -> dict[str, Array]:
    """Outputs of a metric: its terms, and as its score their plain sum; NaN unless valid."""
    outputs = {name: jnp.where(valid, term, jnp.nan) for name, term in terms.items()}
    parts = jnp.stack([weight * outputs[name] for name, weight in weights.items()])
    return {"score": parts.sum(), **outputs}


def _aligned(terms: Any, weights: Any) -> tuple[list[Any], list[Any]]:
    """Values and weights of the terms, in one order."""
    if getattr(terms, "ndim", None) == 2:
        terms = list(terms)
    if not isinstance(terms, Mapping | Sequence) or isinstance(terms, str):
        raise InputError(f"terms are {checks.short(terms)}: give name -> scores of the models")
    names = list(terms) if isinstance(terms, Mapping) else list(range(len(terms)))
    if not names:
        raise InputError("there are no terms: give at least one")
    values = [terms[name] for name in names]
    shapes = {np.shape(one) for one in values}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or (0,) in shapes:
        shown = ", ".join(map(str, sorted(shapes)))
        raise InputError(f"terms have shapes {shown}: each needs one number for every model")
    for name, one in zip(names, values, strict=True):
        if not checks.is_traced(one) and np.asarray(one).dtype.kind not in "biuf":
            raise InputError(
                f"term {name!r} is {checks.short(one)}: give one number for each model"
            )
    if weights is None:
        return values, [1.0] * len(names)
    if not isinstance(weights, Mapping) and np.ndim(weights) != 1:
        raise InputError(f"weights are {checks.short(weights)}: give one for each term")
    known = list(weights) if isinstance(weights, Mapping) else list(range(len(weights)))
    if set(known) != set(names):
        raise InputError(
            f"weights are for {', '.join(map(str, known))}, terms are "
            f"{', '.join(map(str, names))}: give one weight for each term"
        )
    for name in names:
        if not checks.is_traced(weights[name]) and not np.isfinite(checks.number(weights[name])):
            raise InputError(
                f"weight of {name!r} is {checks.short(weights[name])}: it must be a finite number"
            )
    return values, [weights[name] for name in names]


def _normalised(
    xp: Any, values: Any, counts: Any, how: str, tolerances: tuple[float, float]
) -> Any:
    """One term on its new scale, 0 where it is the same for all models but for rounding."""
    if how == "sum":
        return values
    number = xp.maximum(counts.sum(), 1).astype(values.dtype)
    low = xp.where(counts, values, xp.inf).min()
    high = xp.where(counts, values, -xp.inf).max()
    least, share = tolerances
    tied = high - low <= xp.maximum(least, share * xp.maximum(abs(low), abs(high)))
    tied = tied | ~(high > low)
    if how == "rank":
        below = counts[None] & (values[None] < values[:, None])
        same = counts[None] & (values[None] == values[:, None])
        place = below.sum(axis=1) + 0.5 * (same.sum(axis=1) - 1)
        scaled = (place / xp.maximum(number - 1, 1)).astype(values.dtype)
    elif how == "minmax":
        scaled = (values - low) / xp.where(tied, 1, high - low)
    else:
        centre = values.sum() / number
        spread = xp.sqrt(xp.where(counts, (values - centre) ** 2, 0).sum() / number)
        scaled = (values - centre) / xp.where(tied, 1, spread)
    return xp.where(tied | ~counts, 0, scaled)
