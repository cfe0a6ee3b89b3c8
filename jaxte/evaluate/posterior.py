"""What noisy observations say of unknown means, if both are normal: who is best, and how surely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jaxte.intake.checks import check_share

__all__ = ["Mixture", "Prior", "best_chances", "conditioned", "credible", "of_scores"]

_DRAWS = 4000
_RATIOS = np.logspace(-2, 8, 31)  # of the variance of true scores to that of noise, averaged over
_LEAST = 1e-8  # variance of the noise, so that what ties does so but for rounding


class Prior(NamedTuple):
    """A joint normal of unknowns z [m] and of what is observed of them, y [N], but for noise.

    Attributes:
        mean: [m] of z.
        cov: [m, m] of z.
        mean_observed: [N] of y.
        cov_observed: [N, N] of y.
        cross: [m, N] of z with y.
    """

    mean: np.ndarray
    cov: np.ndarray
    mean_observed: np.ndarray
    cov_observed: np.ndarray
    cross: np.ndarray


class Mixture(NamedTuple):
    """A posterior of z: normals, weighted by how likely they made what was observed.

    Attributes:
        weights: [g], of sum 1.
        means: [g, m].
        covs: [g, m, m].
    """

    weights: np.ndarray
    means: np.ndarray
    covs: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Of all of them, [m]."""
        return self.weights @ self.means

    @property
    def cov(self) -> np.ndarray:
        """Of all of them, [m, m]."""
        apart = self.means - self.mean
        within = np.einsum("g,gij->ij", self.weights, self.covs)
        return within + (apart.T * self.weights) @ apart

    def draws(self, seed: int) -> np.ndarray:
        """Values of z, about 4,000, [draws, m]."""
        rng = np.random.default_rng(seed)
        drawn = []
        for weight, mean, cov in zip(*self, strict=True):
            values, vectors = np.linalg.eigh(cov)
            root = vectors * np.sqrt(np.maximum(values, 0))
            noise = rng.normal(size=(round(weight * _DRAWS), len(mean)))
            drawn.append(mean + noise @ root.T)
        return np.concatenate(drawn)


def conditioned(y: np.ndarray, noise: np.ndarray, priors: Iterable[Prior]) -> Mixture:
    """The posterior of z under each prior, from y [N] with noise of covariance [N, N]."""
    from scipy.linalg import solve_triangular  # 0.1 s that few need

    evidence, means, covs = [], [], []
    for prior in priors:
        lower = np.linalg.cholesky(prior.cov_observed + noise)
        known = np.column_stack([y - prior.mean_observed, prior.cross.T])
        solved = solve_triangular(lower, known, lower=True)
        rest, gain = solved[:, 0], solved[:, 1:]
        evidence.append(-0.5 * rest @ rest - np.log(np.diag(lower)).sum())
        means.append(prior.mean + gain.T @ rest)
        covs.append(prior.cov - gain.T @ gain)
    weights = np.exp(np.array(evidence) - max(evidence))
    return Mixture(weights / weights.sum(), np.array(means), np.array(covs))


def of_scores(scores: np.ndarray, cov: np.ndarray) -> Mixture:
    r"""The posterior of true scores [m], of which noisy ones are known, with their covariance.

    .. math:: z \sim N(\mu 1, \tau \Sigma), \quad y \mid z \sim N(z, \Sigma), \qquad
        z \mid y, \tau \sim N\bigl(\mu 1 + \tfrac{\tau}{1 + \tau} (y - \mu 1),
        \tfrac{\tau}{1 + \tau} \Sigma\bigr)

    How far true scores lie apart, in units of the noise, is unknown; so the best of many that
    differ little is expected to be less far ahead than it seems. That they vary as the noise does
    leaves directions alone: rows that favour all good models at once move scores along the order.

    References: Zellner, 1986, for such a prior; Satterthwaite, 1946, for the degrees of freedom.
    """
    if (m := len(scores)) == 1:
        return Mixture(np.ones(1), scores[None], cov[None])
    unit = max(float(np.std(scores)), 1e-12)
    centred = cov - cov.mean(0) - cov.mean(1)[:, None] + cov.mean()
    least = _LEAST * unit**2  # added apart: beside noise that all share it would be rounded away
    centred, cov = centred + least * (np.eye(m) - 1 / m), cov + least * np.eye(m)
    noise = np.trace(centred)
    freedom = noise**2 / (centred**2).sum()
    ratio = ((scores - scores.mean()) ** 2).sum() / noise
    evidence = -0.5 * freedom * (np.log1p(_RATIOS) + ratio / (1 + _RATIOS))
    weights = np.exp(evidence - evidence.max())
    kept = _RATIOS / (1 + _RATIOS)
    means = scores.mean() + kept[:, None] * (scores - scores.mean())
    return Mixture(weights / weights.sum(), means, kept[:, None, None] * cov)


def best_chances(draws: np.ndarray) -> np.ndarray:
    """How often each column is the largest of its row, which ties share; -inf and NaN never are."""
    known = np.where(np.isnan(draws), -np.inf, draws)
    best = known == known.max(1, keepdims=True)
    return np.asarray((best / best.sum(1, keepdims=True)).mean(0))


def credible(chances: Mapping[str, float], confidence: float, *, first: str) -> list[str]:
    """One, and the likeliest others until the best is among them with this confidence."""
    check_share("confidence", confidence)
    chosen = [first]
    for name in sorted(chances, key=lambda name: -chances[name]):
        if sum(chances[one] for one in chosen) >= confidence:
            break
        if name != first:
            chosen.append(name)
    return chosen
