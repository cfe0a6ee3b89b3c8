"""What is believed of the models before a race: from scores, from means, from other data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxte.errors import InputError
from jaxte.evaluate import accuracy_table
from jaxte.intake.checks import short
from jaxte.race.posterior import Prior

__all__ = ["LAYERS_TRUST", "prior_of"]

# Correlation at which a score is believed to follow the accuracy after fine-tuning: any, and the
# ridge probe on all layers, which on the targets that it was chosen on reached 0.5 to 0.95.
TRUST, LAYERS_TRUST = 0.5, 0.75


def prior_of(
    models: Sequence[str],
    prior: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None,
    history: Any,
    *,
    trust: float = TRUST,
) -> Prior:
    """The prior of `jaxte.race` for these models.

    Args:
        models: names.
        prior: model -> (mean, sd) in units of the scores; or model -> score, larger is better; or
            what makes one of them, called once the history is known to be in order.
        trust: correlation at which scores are believed to follow the outcome.
        history: table of `model, dataset, accuracy`, in any form that `jaxte.evaluate` takes.

    Example:
        >>> prior_of(["a", "b", "c"], {"a": 1.0, "b": 2.0, "c": 3.0}, None).mean.round(2).tolist()
        [-0.61, 0.0, 0.61]
    """
    elsewhere = _history(models, history)
    if callable(prior):
        prior = prior()
    elif prior is not None:
        _check_names(models, prior)
    means, precisions = np.zeros(len(models)), np.ones(len(models))  # standard normal
    if prior is not None and any(isinstance(one, tuple | list) for one in prior.values()):
        if history is not None:
            raise InputError(
                "prior has means and deviations already, which hold what history says: give one"
            )
        return _absolute(models, prior)
    scores = {} if prior is None else _finite(prior)
    for source in (_scores(models, scores, trust), elsewhere):
        if source is not None:
            mean, sd = source
            gained = 1 / sd**2 - 1
            means = (means * precisions + mean / sd**2) / (precisions + gained)
            precisions = precisions + gained
    return Prior(means, 1 / np.sqrt(precisions), True)


def _check_names(models: Sequence[str], prior: Any) -> None:
    if not isinstance(prior, Mapping):
        raise InputError(f"prior is {short(prior)}: give model -> score, or model -> (mean, sd)")
    if unknown := [name for name in map(str, prior) if name not in models]:
        raise InputError(
            f"prior names {', '.join(unknown[:8])}, which are none of the models "
            f"({', '.join(models[:8])}): use the same names"
        )


def _absolute(models: Sequence[str], prior: Mapping[str, Any]) -> Prior:
    missing = [name for name in models if name not in prior]
    if missing:
        raise InputError(f"prior has no (mean, sd) of {', '.join(missing)}")
    try:
        pairs = np.array([prior[name] for name in models], np.float64).reshape(len(models), 2)
    except (TypeError, ValueError) as error:
        raise InputError("prior must be (mean, sd) of every model, or a score of each") from error
    if not np.isfinite(pairs).all() or (pairs[:, 1] <= 0).any():
        raise InputError("prior has a mean or sd that is not finite, or a sd that is not positive")
    return Prior(pairs[:, 0], pairs[:, 1], False)


def _finite(prior: Mapping[str, Any]) -> dict[str, float]:
    """Scores of the models that have one."""
    try:
        scores = {str(name): float(score) for name, score in prior.items()}
    except (TypeError, ValueError) as error:
        raise InputError("prior must be (mean, sd) of every model, or a score of each") from error
    return {name: score for name, score in scores.items() if math.isfinite(score)}


def _scores(
    models: Sequence[str], scores: Mapping[str, float], trust: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Standardised scores, shrunk to what they are believed to tell."""
    known = [scores[name] for name in models if name in scores]
    if len(known) < 2 or np.std(known) == 0:
        return None
    mean, sd = np.zeros(len(models)), np.ones(len(models))
    for i, name in enumerate(models):
        if name in scores:
            mean[i] = trust * (scores[name] - np.mean(known)) / np.std(known)
            sd[i] = math.sqrt(1 - trust**2)
    return mean, sd


def _history(models: Sequence[str], history: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """What a model reached elsewhere, standardised on each data set and shrunk.

    One-way random effects: a model's mean over data sets (variance tau2), and what a data set
    changes of it (omega2), which sum to 1; a model seen on k others is expected at
    tau2 / (tau2 + omega2 / k) of its mean.
    """
    if history is None:
        return None
    by_model = _standardised(history)
    groups = [np.array(values) for values in by_model.values()]
    freedom = sum(len(group) - 1 for group in groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    omega2 = min(max(within / freedom, 0.05), 0.95) if freedom else 0.5
    tau2 = 1 - omega2
    mean, sd = np.zeros(len(models)), np.ones(len(models))
    for i, name in enumerate(models):
        if values := by_model.get(name):
            shrunk = tau2 / (tau2 + omega2 / len(values))
            mean[i] = shrunk * float(np.mean(values))
            sd[i] = math.sqrt(1 - shrunk * tau2)
    return mean, sd


def _standardised(history: Any) -> dict[str, list[float]]:
    """Model -> its accuracies, each in standard deviations over the models of the data set."""
    by_model: dict[str, list[float]] = {}
    for table in accuracy_table(history).values():
        means = {model: float(np.mean(values)) for model, values in table.items()}
        spread = float(np.std(list(means.values())))
        for model, mean in means.items() if spread > 0 else ():
            centred = mean - float(np.mean(list(means.values())))
            by_model.setdefault(model, []).append(centred / spread)
    return by_model
