"""SFDA: self-challenging Fisher discriminant analysis."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxte import _inputs
from jaxte._inputs import Classes, Rows
from jaxte.linalg import matmul, ridge_solve

__all__ = ["sfda"]

_FLOOR = 1e-10  # of the shrinkage, in the released code
_VARIANTS = ("released", "paper")
_TARGETS = ("trace", "identity")


def sfda(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    num_features: ArrayLike | None = None,
    variant: str = "released",
    shrinkage: ArrayLike | None = None,
    shrink_target: str = "trace",
    double_softmax: bool | None = None,
    log_score: bool | None = None,
) -> Array:
    r"""How well a regularised Fisher discriminant still tells the classes apart once challenged.

    .. math::
        \tilde S_W = (1-\lambda) S_W + \lambda \frac{\mathrm{tr} S_W}{d} I, \quad
        \delta_c(x) = m_c^\top \tilde S_W^{-1} x - \tfrac12 m_c^\top \tilde S_W^{-1} m_c + \ln p_c

    Stage 1 gives :math:`p = \mathrm{softmax}(\delta)`. ConfMix pulls each sample toward the mean
    of the other classes' means, :math:`\tilde x = p'_y x + (1-p'_y)\,\bar m_{\ne y}`, by its own
    confidence: :math:`p' = p` in the paper, :math:`\mathrm{softmax}(p)` in the released code.
    Stage 2 refits on :math:`\tilde x` with the same :math:`\lambda` and the score is the mean
    over samples of :math:`\tilde p_y` (released) or :math:`\ln \tilde p_y` (paper).

    ``variant="released"`` is the default because the published tables come from it. It saturates:
    once d exceeds n almost any labels are separable and scores tie at 1 (`jaxte.rank` notes it).
    Where the within-class scatter is exactly zero, the limit of vanishing scatter is returned.

    Args:
        features: [n, d], any scale; the released shrinkage depends on that scale.
        labels: [n] integer classes 0..C-1.
        num_classes: C; inferred from concrete labels, required under jit.
        weights: [n] sample weights >= 0; 0 = absent row, 2 = row written twice.
        num_features: true width when trailing columns are padding.
        variant: "released" (double softmax, mean probability) or "paper" (single, mean log).
        shrinkage: lambda in [0, 1]; None takes max(exp(-5 s), 1e-10) with s the released power
            estimate of the largest eigenvalue of S_W. The paper states lambda in three
            inconsistent ways, so both variants use this one.
        shrink_target: "trace" shrinks toward the mean eigenvalue (released), "identity" toward I
            (paper, Eq. 2).
        double_softmax: overrides the variant's ConfMix.
        log_score: overrides the variant's score.

    Returns:
        Scalar: in [0, 1] for mean probability, in (-inf, 0] for mean log probability. NaN when
        fewer than two classes occur or S_W is singular and ``shrinkage`` is 0.

    Raises:
        InputError: outside jit, for input that cannot be scored.

    Source: Shao et al., ECCV 2022, arXiv 2207.03036, Eq. 2-7, and its released code.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> better = x.at[:, 0].add(3.0 * y)
        >>> bool(jaxte.metrics.sfda(better, y) > jaxte.metrics.sfda(x, y))
        True
    """
    paper = _inputs.choose("variant", variant, _VARIANTS) == "paper"
    _inputs.choose("shrink_target", shrink_target, _TARGETS)
    n = _inputs.check_features(features, weights, num_features)
    num_classes = _inputs.check_labels(labels, n, num_classes, weights)
    if shrinkage is not None:
        _inputs.check_share("shrinkage", shrinkage)
    return _sfda(
        features,
        labels,
        weights,
        num_features,
        shrinkage,
        num_classes=num_classes,
        identity=shrink_target == "identity",
        double_softmax=not paper if double_softmax is None else bool(double_softmax),
        log_score=paper if log_score is None else bool(log_score),
    )


@partial(jax.jit, static_argnames=("num_classes", "identity", "double_softmax", "log_score"))
def _sfda(
    features: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None,
    num_features: ArrayLike | None,
    shrinkage: ArrayLike | None,
    *,
    num_classes: int,
    identity: bool,
    double_softmax: bool,
    log_score: bool,
) -> Array:
    row = _inputs.rows(features, weights, num_features)
    group = _inputs.classes(labels, num_classes, row)
    # the classifier does not see a common offset, but rounding does
    x, _ = _inputs.centre(row.features, row)
    means = _inputs.class_means(x, row.weights, group)
    residuals = x - _inputs.of_row(means, group)
    if shrinkage is None:
        lam = jnp.maximum(jnp.exp(-5 * _largest_eigenvalue(residuals, row)), _FLOOR)
    else:
        lam = jnp.asarray(shrinkage).astype(x.dtype)

    logits = _discriminant(x, residuals, means, lam, row, group, identity)
    confidence = jax.nn.softmax(logits)
    if double_softmax:
        confidence = jax.nn.softmax(jnp.where(group.present[None], confidence, -jnp.inf))
    own = jnp.sum(confidence * group.one_hot, axis=1)[:, None]
    others = (means.sum(axis=0)[None] - means) / jnp.maximum(group.number - 1, 1)
    mixed = own * x + (1 - own) * _inputs.of_row(others, group)

    means = _inputs.class_means(mixed, row.weights, group)
    residuals = mixed - _inputs.of_row(means, group)
    logits = _discriminant(mixed, residuals, means, lam, row, group, identity)
    own = (group.one_hot > 0) & group.present[None]
    log_p = jnp.sum(jnp.where(own, jax.nn.log_softmax(logits), 0), axis=1)
    score = row.weights @ (log_p if log_score else jnp.exp(log_p)) / row.total
    return jnp.where(group.scorable, score, jnp.nan)


def _largest_eigenvalue(residuals: Array, row: Rows) -> Array:
    """The released estimate: three double power steps on S_W from its row sums."""

    def scatter(v: Array) -> Array:
        return matmul(residuals.T, row.weights * matmul(residuals, v)) / row.total

    def unit(v: Array) -> Array:
        square = v @ v
        return jnp.where(square > 0, v / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    v = scatter(jnp.ones(residuals.shape[1], residuals.dtype))
    # row sums can vanish without S_W doing so (released: NaN); its diagonal cannot
    diagonal = row.weights @ residuals**2 / row.total
    v = jnp.where(v @ v > 0, v, diagonal)
    for _ in range(3):
        u = unit(scatter(v))
        v = unit(scatter(u))
    return v @ scatter(u)


def _discriminant(
    x: Array, residuals: Array, means: Array, lam: Array, row: Rows, group: Classes, identity: bool
) -> Array:
    """Logits [n, C] of regularised Fisher discriminant analysis; -inf for classes without rows."""
    within = (row.weights @ residuals**2).sum() / row.total
    spread = (row.weights @ x**2).sum() / row.total
    ridge = lam if identity else lam * within / row.width
    # vanishing within-class scatter: the limit, from a ridge far below every other one
    lowest = jnp.finfo(x.dtype).eps ** 2 * spread / row.width
    ridge = jnp.where(spread > 0, jnp.maximum(ridge, lowest), 1)
    directions = ridge_solve(residuals, row.weights / row.total, 1 - lam, ridge, means.T)
    offsets = -0.5 * jnp.sum(means.T * directions, axis=0)
    prior = jnp.log(jnp.where(group.present, group.counts / row.total, 1))
    logits = matmul(x, directions) + (offsets + prior)[None]
    return jnp.where(group.present[None], logits, -jnp.inf)
