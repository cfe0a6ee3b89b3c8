"""Which of these pre-trained models should I fine-tune on my data?

jaxte computes transferability metrics (LogME, SFDA, FaCe, feature perturbation) as pure JAX
functions and scores many models at once. Every public name is loaded on first use, so that
``import jaxte`` (and ``jaxte --help``) stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxte import (
        baselines,
        data,
        ensemble,
        evaluate,
        extraction,
        metrics,
        moments,
        perturb,
        store,
        zoo,
    )
    from jaxte.errors import InputError
    from jaxte.extraction import extract, stream
    from jaxte.intake import join_layers
    from jaxte.race.race import race
    from jaxte.ranking import Ranking
    from jaxte.ranking.curve import score_curve
    from jaxte.ranking.rank import rank
    from jaxte.ranking.shortlist import shortlist
    from jaxte.store import FeatureStore

__version__ = "0.1.0"
__all__ = [
    "FeatureStore",
    "InputError",
    "Ranking",
    "__version__",
    "baselines",
    "data",
    "ensemble",
    "evaluate",
    "extract",
    "extraction",
    "join_layers",
    "metrics",
    "moments",
    "perturb",
    "race",
    "rank",
    "score_curve",
    "shortlist",
    "store",
    "stream",
    "zoo",
]

_HOMES = {
    "FeatureStore": "jaxte.store",
    "InputError": "jaxte.errors",
    "Ranking": "jaxte.ranking",
    "rank": "jaxte.ranking.rank",
    "extract": "jaxte.extraction",
    "join_layers": "jaxte.intake",
    "score_curve": "jaxte.ranking.curve",
    "shortlist": "jaxte.ranking.shortlist",
    "stream": "jaxte.extraction",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'jaxte' has no attribute {name!r}")
    home = _HOMES.get(name)
    value = (
        getattr(importlib.import_module(home), name)
        if home
        else importlib.import_module(f"jaxte.{name}")
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
