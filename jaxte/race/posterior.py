r"""What is known of every model's final score: a normal model of all trials so far.

.. math::
    y_{mr} = z_m - g_r - a_m h_r - w_{mr} + e_{mr}

The mean score y of model m on rung r is its final score z, less what all models still gain after
that rung (g, unknown), less what this model gains more or less than the others: a, how trainable it
is, for each of the h doublings of the training that are still to come, and a random walk w over
them; plus the error of the examples that were judged. So who gains most from the first epochs is
expected to go on, and z is extrapolated. Errors are paired: their covariance is that of the scores
of the same examples, over models and rungs, so that what is hard for every model cancels. The
deviations of z, a and w are averaged over a grid, each weighed by how likely it makes the trials;
where the first rung is of frozen features, that of w is what it was on other targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxte.evaluate.posterior import Prior as NormalPrior
from jaxte.evaluate.posterior import best_chances, conditioned

__all__ = ["FROZEN_WALKS", "WALKS", "Knowledge", "Observation", "Prior", "observed"]

# Standard deviations in units of the spread of the first rung's means, or of all there are:
_LEVEL = 10.0  # the common level of z, as good as unknown
_GAIN = 3.0  # the common gain of a rung
_SPREADS = (0.2, 0.35, 0.5, 0.7, 1.0, 1.4)  # z
_TRENDS = (0.05, 0.3, 0.6, 1.0)  # what trainability makes of the first rung
WALKS = (0.1, 0.2, 0.4)  # what the random walk makes of the first rung
# The same of frozen features: of 0.2 to 1.5 one by which the best of 30 models are likeliest, on 13
# targets (`python -m benchmarks race calibrate`). Trials cannot tell it: what they and the features
# agree on need not be what fine-tuning makes of them.
FROZEN_WALKS = (1.2,)


class Prior(NamedTuple):
    """What is believed of z before the race.

    Attributes:
        mean: [m], of standardised scores, or in units of the scores.
        sd: [m], likewise.
        standard: whether both are in units of the spread of z, which the race learns.
    """

    mean: np.ndarray
    sd: np.ndarray
    standard: bool


class Observation(NamedTuple):
    """One trial.

    Attributes:
        model: its number.
        rung: its number, from 0; each has a common gain.
        doublings: of the training that are still to come after it, of the full one.
        rows: numbers of the examples that were judged.
        scores: of each of them.
    """

    model: int
    rung: int
    doublings: float
    rows: np.ndarray
    scores: np.ndarray


class Knowledge(NamedTuple):
    """Posterior of z, and chances.

    Attributes:
        mean: [m], of the final scores, up to a level that all share.
        cov: [m, m].
        p_best: [m] chance of each to be the best of all, which sum to 1.
    """

    mean: np.ndarray
    cov: np.ndarray
    p_best: np.ndarray


def _errors(trials: Sequence[Observation], examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Deviations [N, examples] over the number of rows, whose Gram matrix is the covariance."""
    deviations = np.zeros((len(trials), examples))
    for line, trial in zip(deviations, trials, strict=True):
        line[trial.rows] = (trial.scores - trial.scores.mean()) / len(trial.rows)
    return deviations, np.array([trial.scores.mean() for trial in trials])


class _Sizes(NamedTuple):
    """Standard deviations: of z, of a trend and a walk per doubling, and the unit of all."""

    spread: float
    trend: float
    walk: float
    unit: float

    def own(self, prior: Prior) -> np.ndarray:
        """Standard deviation [m] of z before any trial."""
        return prior.sd * (self.spread if prior.standard else 1.0)

    def means(self, prior: Prior) -> np.ndarray:
        """Mean [m] of z before any trial."""
        return prior.mean * (self.spread if prior.standard else 1.0)

    def of_trials(self, trials: Sequence[Observation], prior: Prior) -> np.ndarray:
        """Covariance [N, N] of the means of trials, errors left out."""
        model, rung = _numbers(trials)
        left = np.array([trial.doublings for trial in trials])
        own = self.own(prior)[model] ** 2 + np.outer(left, left) * self.trend**2
        own = own + np.minimum.outer(left, left) * self.walk**2
        gain = (_GAIN * self.unit) ** 2 * (rung[:, None] == rung)
        return (_LEVEL * self.unit) ** 2 + own * (model[:, None] == model) + gain

    def with_z(self, trials: Sequence[Observation], prior: Prior) -> np.ndarray:
        """Covariance [m, N] of z with the means of trials."""
        own = self.own(prior)
        same = np.arange(len(own))[:, None] == _numbers(trials)[0]
        return (_LEVEL * self.unit) ** 2 + own[:, None] ** 2 * same

    def of_z(self, prior: Prior) -> np.ndarray:
        """Covariance [m, m] of z before any trial."""
        return (_LEVEL * self.unit) ** 2 + np.diag(self.own(prior) ** 2)


def _numbers(trials: Sequence[Observation]) -> tuple[np.ndarray, np.ndarray]:
    """Models and rungs of trials."""
    return np.array([t.model for t in trials]), np.array([t.rung for t in trials])


def _least(means: np.ndarray, trials: Sequence[Observation]) -> float:
    """How far models lie apart at least, whatever the unit of the scores and where they begin."""
    among_examples = max(float(np.std(trial.scores)) for trial in trials)
    return max(2e-3 * among_examples, 1e-12 * float(abs(means).max()), 1e-100)


def _grid(means: np.ndarray, trials: Sequence[Observation], walks: Sequence[float]) -> list[_Sizes]:
    """Sizes to average over."""
    unit = max(float(np.std(means[_numbers(trials)[1] == 0])), _least(means, trials))
    most = max(trial.doublings for trial in trials)
    trends, walks = (_TRENDS, walks) if most else ((0.0,), (0.0,))
    return [
        _Sizes(s * unit, t * unit / max(most, 1.0), w * unit / max(most, 1.0) ** 0.5, unit)
        for s in _SPREADS
        for t in trends
        for w in walks
    ]


def observed(
    trials: Sequence[Observation],
    prior: Prior,
    examples: int,
    *,
    alive: np.ndarray | None = None,
    walks: Sequence[float],
    seed: int = 0,
) -> Knowledge:
    """Condition on the trials.

    Args:
        trials: at least one.
        prior: of every model, tried or not.
        examples: how many there are in all.
        alive: [m] models that may be the best; all by default.
        walks: what the random walk may make of the first rung, in units of its spread.
        seed: of the draws by which chances are counted.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> hard, rows = rng.normal(size=200), np.arange(200)
        >>> scores = [0.1 * m + hard + rng.normal(0, 0.1, 200) for m in range(3)]
        >>> trials = [Observation(m, 0, 0.0, rows, s) for m, s in enumerate(scores)]
        >>> flat = Prior(np.zeros(3), np.ones(3), True)
        >>> observed(trials, flat, 200, walks=WALKS).p_best.round(2).tolist()
        [0.0, 0.0, 1.0]
    """
    deviations, y = _errors(trials, examples)
    noise = deviations @ deviations.T + 1e-9 * np.eye(len(y)) * max(y.var(), _least(y, trials) ** 2)
    models = _numbers(trials)[0]
    priors = []
    for sizes in _grid(y, trials, walks):
        mean = y.mean() + sizes.means(prior)
        priors.append(
            NormalPrior(
                mean, sizes.of_z(prior), mean[models], sizes.of_trials(trials, prior),
                sizes.with_z(trials, prior),
            )
        )  # fmt: skip
    posterior = conditioned(y, noise, priors)
    drawn = posterior.draws(seed)
    if alive is not None:
        drawn[:, ~alive] = -np.inf
    return Knowledge(posterior.mean, posterior.cov, best_chances(drawn))
