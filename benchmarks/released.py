"""Released code of the other metrics, as rivals: one line each.

A score takes features (or, for metrics of source outputs, probabilities) and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import clones

_LEEP = "log_expected_empirical_prediction"
Score = Callable[[NDArray[Any], NDArray[Any]], float]


class Released(NamedTuple):
    """One score of a clone.

    Attributes:
        name: as in the tables.
        metric: jaxte's name of what it computes.
        clone: its name on the command line.
        file: of the clone.
        score: the loaded module -> score.
        options: of jaxte's call that gives the same; None where there is none.
        note: why scores may differ.
    """

    name: str
    metric: str
    clone: str
    file: str
    score: Callable[[Any], Score]
    options: Mapping[str, Any] | None = {}
    note: str = ""

    def load(self, folders: Mapping[str, str]) -> Score:
        """The score; raises `MissingError` without the clone or what it imports."""
        return self.score(clones.load(self.clone, folders, self.file))


def _function(name: str, factor: float = 1.0, *arguments: Any) -> Callable[[Any], Score]:
    """A function (features, labels, ...), with a copy to write into, as some do."""

    def of(module: Any) -> Score:
        function = getattr(module, name)
        return lambda x, y: factor * float(function(np.array(x), y, *arguments))

    return of


def _method(name: str, factor: float = 1.0, **settings: Any) -> Callable[[Any], Score]:
    """A class of the PARC repository."""

    def of(module: Any) -> Score:
        method = getattr(module, name)(**settings)

        def score(x: NDArray[Any], y: NDArray[Any]) -> float:
            module.constants.num_classes = {"target": int(y.max()) + 1}
            return factor * float(method(x, None, y, "", "target", "", None))

        return score

    return of


def _nce(module: Any) -> Score:
    return lambda x, y: float(module.negative_conditional_entropy(np.argmax(x, axis=1), y))


def _energy(module: Any) -> Score:
    return lambda x, _: float(module.Energy_Score(x, 100, "bot"))


def _pactran(name: str) -> Callable[[Any], Score]:
    """Of probabilities, which take the place of the mixture that the script fits first."""

    def of(module: Any) -> Score:
        def score(x: NDArray[Any], y: NDArray[Any]) -> float:
            module.gmm_estimator = lambda *_: (x, None)
            return -float(getattr(module, name)(x, y))

        return score

    return of


def _pactran_gaussian(module: Any) -> Score:
    def score(x: NDArray[Any], y: NDArray[Any]) -> float:
        np.random.seed(0)  # noqa: NPY002 - what the released code draws from
        results, _ = module.calculate_pac_gauss(np.array(x), y, 0.1)
        return -float([value for name, value in results if name.startswith("pac_gauss")][-1])

    return score


_RELEASED = {"variant": "released"}
_HSCORE, _ETRAN, _EMMS = "tllib/ranking/hscore.py", "mgholamikn/ETran", "OpenGVLab/EMMS"
RELEASED = (
    Released("tllib", "hscore", "tllib", _HSCORE, _function("h_score")),
    Released("tllib", "hscore_shrinkage", "tllib", _HSCORE, _function("regularized_h_score")),
    Released("tllib", "transrate", "tllib", "tllib/ranking/transrate.py", _function("transrate")),
    Released("tllib", "leep", "tllib", "tllib/ranking/leep.py", _function(_LEEP)),
    Released("tllib", "nce", "tllib", "tllib/ranking/nce.py", _nce),
    Released(_ETRAN, "nearest_class_mean", "etran", "metrics.py", _function("LDA_Score")),
    Released(_ETRAN, "energy", "etran", "metrics.py", _energy),
    Released(_EMMS, "transrate", "emms", "metrics.py", _function("Transrate")),
    Released(_EMMS, "pactran_dirichlet", "emms", "metrics.py", _pactran("calculate_pac_dir")),
    Released(_EMMS, "pactran_gamma", "emms", "metrics.py", _pactran("calculate_pac_gamma")),
    Released(
        *(_EMMS, "pactran_gaussian", "emms", "metrics.py", _pactran_gaussian),
        note="stops after 100 steps, short of the minimum",
    ),
    Released(
        *("dbolya/parc", "parc", "parc", "methods.py", _method("PARC", n_dims=32)),
        note="a randomised PCA, and ties that rounding splits",
    ),
    Released("dbolya/parc", "knn", "parc", "methods.py", _method("kNN", 0.01, k=1), {"k": 1}),
    Released(
        *("TencentARC/SFDA", "nleep", "sfda", "metrics.py", _function("NLEEP"), None),
        note="a random start, and no logarithm",
    ),
    Released("snudatalab/TMI", "tmi", "tmi", "src/trf_measurement.py", _function("TMI"), _RELEASED),
)
