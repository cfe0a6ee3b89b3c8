"""The regularised Fisher discriminant analysis inside SFDA."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike

from jaxte.statistics import Batch, Moments, Statistics
from jaxte.statistics.linalg import matmul, noise
from jaxte.statistics.measure import divisors
from jaxte.statistics.spectrum import rank_of_scatter
from jaxte.statistics.tiles import map_tiles

TARGETS = ("trace", "identity")  # what the scatter is shrunk toward
_FLOOR = 1e-10  # of the shrinkage, in the released code


class Settings(NamedTuple):
    """The readings of SFDA, as they are known while tracing."""

    identity: bool
    double_softmax: bool
    log_score: bool
    fixed: bool  # the shrinkage is the caller's, and may be 0


def shrinkage_of(shrinkage: ArrayLike | None, statistics: Statistics) -> Array:
    """The shrinkage asked for, or what the released code makes of the features."""
    if shrinkage is not None:
        return jnp.asarray(shrinkage).astype(statistics.width.dtype)
    largest = _largest_eigenvalue(statistics) * statistics.unit * statistics.unit
    return jnp.maximum(jnp.exp(-5 * largest), _FLOOR)


def _largest_eigenvalue(statistics: Statistics) -> Array:
    """The released estimate: three double power steps on S_W from its row sums."""
    squares, total = statistics.within_diagonal, _within(statistics)
    scale = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)  # of S_W / tr S_W

    def within(v: Array) -> Array:
        return statistics.within_times(v, scale)

    def unit(v: Array) -> Array:
        square = v @ v
        return jnp.where(square > 0, v / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def twice(v: Array) -> tuple[Array, Array]:
        u = unit(within(v))
        return u, unit(within(u))

    d = len(squares)
    v = within(statistics.ones)
    # where rows sum to a constant the row sums vanish (released: NaN or noise); S_W's diagonal
    # cannot
    rounding = noise(jnp.ones((), v.dtype), statistics.moments.samples + d)
    v = jnp.where(v @ v > rounding**2, v, scale * squares)
    # a loop: unrolled, SFDA takes a seventh longer to compile
    u, v = lax.fori_loop(0, 3, lambda _, uv: twice(uv[1]), (v, v))
    return (v @ within(u)) * total / statistics.total


def _within(statistics: Statistics) -> Array:
    """Trace of the within-class scatter, without columns that vary only by rounding."""
    squares = statistics.within_diagonal
    return jnp.where(squares <= statistics.moments.rounding, 0, squares).sum()  # keeps NaN


class Classifier(NamedTuple):
    """Linear discriminants of features measured from the mean of all samples.

    Where no class has any spread, and nothing is added to it, they are ``certain``: samples of
    classes whose means coincide are one and the same, and no others are taken for them. ConfMix
    moves such classes as one. ``owners`` are the first class of each mean; None where they are not
    certain, or that leaves the score unsure.
    """

    means: Array  # [C, d]
    directions: Array  # [d, C]
    priors: Array  # [C] their logarithms; 0 for classes without rows
    offsets: Array  # [C]; -inf for classes without rows
    owners: Array | None  # [C]
    counts: Array  # [C]
    certain: Array


def fit(statistics: Statistics, shrinkage: Array, settings: Settings) -> Classifier:
    """Fisher discriminant analysis with (scale * S_W + ridge * I)^-1, unless it is certain."""
    width, unit = statistics.width, statistics.unit
    within = _within(statistics) / statistics.total
    ridge = shrinkage * within / width
    if settings.identity:
        ridge = jnp.minimum(shrinkage / unit / unit, jnp.finfo(width.dtype).max / 1e8)
    lowest = noise(jnp.sqrt(within)) ** 2 / width  # less would be lost in S_W
    certain = (within <= 0) & (ridge <= 0)
    ridge = jnp.where(certain, 1, jnp.maximum(ridge, lowest))
    state = statistics.moments
    means, owners = state.deviations, None
    if not statistics.may_be_unsure:
        means, owners = _distinct(state, certain)
    scale = jnp.where(within > 0, 1 - shrinkage, 0)
    directions = statistics.solve_within(scale, ridge, means.T)
    if settings.fixed:
        directions = _unless_singular(directions, state, width, shrinkage)
    return discriminants(state, directions, means)._replace(owners=owners, certain=certain)


def discriminants(state: Moments, directions: Array, means: Array | None = None) -> Classifier:
    """The classifier of directions [d, C], which are S^-1 times the class means, for any S."""
    means = state.deviations if means is None else means
    present = state.counts > 0
    prior = jnp.log(jnp.where(present, state.counts / state.total, 1))
    offsets = prior - 0.5 * jnp.sum(means.T * directions, axis=0)
    offsets = jnp.where(present, offsets, -jnp.inf)
    return Classifier(means, directions, prior, offsets, None, state.counts, jnp.zeros((), bool))


def _unless_singular(directions: Array, state: Moments, width: Array, shrinkage: Array) -> Array:
    """NaN where nothing is added to a singular S_W."""

    @sequential_vmap
    def singular(shrinkage: Array, scatter: Array, samples: Array, width: Array) -> Array:
        return lax.cond(
            shrinkage > 0,
            lambda: jnp.zeros((), bool),
            lambda: rank_of_scatter(scatter, samples) < width,
        )

    constants = lax.stop_gradient((shrinkage, state.scatter, state.samples, width))
    return jnp.where(singular(*constants), jnp.nan, directions)


def _distinct(state: Moments, certain: Array) -> tuple[Array, Array]:
    """Class means from the mean of all, and the first class of the same mean.

    Where that is certain, means that coincide but for rounding are made the same.
    """
    means, own = state.deviations, jnp.arange(len(state.counts))
    tolerance = 2 * jnp.sqrt(state.rounding / state.total)

    @sequential_vmap
    def owners(certain: Array, means: Array, tolerance: Array, present: Array, own: Array) -> Array:
        def first(one: Array) -> Array:
            same = jnp.all(jnp.abs(means - one[None]) <= tolerance[None], axis=1)
            return jnp.argmax(same & present)

        return lax.cond(certain, lambda: map_tiles(first, means, means.size), lambda: own)

    constants = lax.stop_gradient((certain, means, tolerance, state.counts > 0, own))
    owner = jnp.where(state.counts > 0, owners(*constants), own)
    return jnp.take(means, owner, axis=0), owner


def logits(classifier: Classifier, batch: Batch) -> Array:
    """Logits [b, C] of rows, which are their class mean and their residual."""
    along = matmul(batch.residuals, classifier.directions)
    if classifier.owners is not None:
        along = jnp.where(classifier.certain, 0, along)
    return along + jnp.take(_logits_of_means(classifier), batch.labels, axis=0, mode="clip")


def _logits_of_means(classifier: Classifier) -> Array:
    """Logits of the class means [C, C]."""
    own = matmul(classifier.means, classifier.directions) + classifier.offsets[None]
    if classifier.owners is None:
        return own
    same = classifier.owners[:, None] == classifier.owners[None]
    apart = jnp.where(same, classifier.priors[None], -jnp.inf)
    return jnp.where(classifier.certain, apart, own)


def confidence(classifier: Classifier, batch: Batch, settings: Settings) -> Array:
    """How sure stage 1 is of each row's own class [b]."""
    counts, number = classifier.counts, len(classifier.counts)

    def of(values: Array) -> Array:
        p = jax.nn.softmax(values)
        if settings.double_softmax:
            p = jax.nn.softmax(jnp.where((counts > 0)[None], p, -jnp.inf))
        return p

    own = jnp.sum(of(logits(classifier, batch)) * _one_hot(classifier, batch), axis=1)
    if classifier.owners is None:
        return own
    alone = counts * jnp.diagonal(of(_logits_of_means(classifier)))
    sums = (jax.ops.segment_sum(part, classifier.owners, number) for part in (alone, counts))
    together = jnp.take(jnp.divide(*map(divisors, sums)), classifier.owners, axis=0)
    return jnp.where(classifier.certain, jnp.take(together, batch.labels, axis=0, mode="clip"), own)


def _one_hot(classifier: Classifier, batch: Batch) -> Array:
    return jax.nn.one_hot(batch.labels, len(classifier.counts), dtype=batch.weights.dtype)


def _others(classifier: Classifier) -> Array:
    """Mean of the other class means [C, d]."""
    means = classifier.means
    number = (classifier.counts > 0).sum().astype(means.dtype)
    return (means.sum(axis=0)[None] - means) / jnp.maximum(number - 1, 1)


def mix(own: Array, first: Classifier, batch: Batch) -> Array:
    """ConfMix: rows, from the mean of all, pulled toward the other classes [b, d]."""
    parts = first.means, _others(first)
    toward, away = (jnp.take(part, batch.labels, axis=0, mode="clip") for part in parts)
    return own * (batch.residuals + toward) + (1 - own) * away


def mix_unseen(first: Classifier, batch: Batch, settings: Settings) -> Array:
    """ConfMix of rows whose class is not known: its mean over what stage 1 takes it for [b, d]."""
    first = unseen(first)
    p = jax.nn.softmax(logits(first, batch))
    sure = p
    if settings.double_softmax:
        sure = jax.nn.softmax(jnp.where((first.counts > 0)[None], p, -jnp.inf))
    own = jnp.sum(p * sure, axis=1)
    return own[:, None] * batch.centred(first.means) + matmul(p * (1 - sure), _others(first))


def unseen(classifier: Classifier) -> Classifier:
    """The classifier for other rows than it was fitted to, which need not lie on class means.

    Where it is certain of its own rows, those go to the nearest of the means.
    """
    means = classifier.means
    size = jnp.sum(means**2, axis=1).max()
    steep = 1 / (noise(jnp.ones_like(size)) * jnp.where(size > 0, size, 1))
    directions = jnp.where(classifier.certain, means.T * steep, classifier.directions)
    offsets = classifier.priors - 0.5 * jnp.sum(means.T * directions, axis=0)
    return classifier._replace(
        directions=directions,
        offsets=jnp.where(classifier.counts > 0, offsets, -jnp.inf),
        owners=None,
        certain=jnp.zeros((), bool),
    )


def log_likelihood(classifier: Classifier, batch: Batch) -> Array:
    """Log probability of each row's own class [b]."""
    own = (_one_hot(classifier, batch) > 0) & (classifier.counts > 0)[None]
    return jnp.sum(jnp.where(own, jax.nn.log_softmax(logits(classifier, batch)), 0), axis=1)
