"""What else computes the same scores: one adapter per rival, features and labels in, score out."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import clones, oracles
from benchmarks.clones import MissingError
from benchmarks.released import RELEASED, Released

Score = Callable[[NDArray[Any], NDArray[Any]], float]
Load = Callable[[Mapping[str, str]], Score]

FAULT = "d > n: the released evidence counts ln alpha d times; the released variant does so too"


@dataclass(frozen=True)
class Rival:
    """One rival.

    Attributes:
        name: as in the tables.
        metric: jaxte's name of what it computes.
        reference: options of jaxte's call that must give the same score; None if none does.
        load: imports what is needed, or raises `MissingError`.
        note: why scores may differ.
        faulty: whether its LogME has the fault for d > n.
    """

    name: str
    metric: str
    reference: Mapping[str, Any] | None
    load: Load
    note: str = ""
    faulty: bool = False


def _oracle(function: Score) -> Load:
    def load(_: Mapping[str, str]) -> Score:
        _module("scipy")
        return function

    return load


def _module(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MissingError(f'{missing} is not installed: pip install ".[bench]"') from None


def _quiet(function: Callable[[], Any]) -> Any:
    """Released code prints as it goes and warns on purpose."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


def _thuml(folders: Mapping[str, str]) -> Score:
    module = clones.load("logme", folders)
    return lambda x, y: float(_quiet(lambda: module.LogME().fit(x, y)))


def _tllib(folders: Mapping[str, str]) -> Score:
    module = clones.load("tllib", folders)
    return lambda x, y: float(_quiet(lambda: module.log_maximum_evidence(x, y)))


def _released_sfda(folders: Mapping[str, str]) -> Score:
    module = clones.load("sfda", folders)
    # it mixes the features in place
    return lambda x, y: float(_quiet(lambda: module.SFDA_Score(x.copy(), y)))


def _ncti(folders: Mapping[str, str]) -> Score:
    module = clones.load("ncti", folders)

    def score(x: NDArray[Any], y: NDArray[Any]) -> float:
        whole, confidence, per_class = _quiet(lambda: module.NCTI_Score(x, y))
        # its script min-max scales each over the pool before adding them
        return float(whole + confidence - per_class)

    return score


def _transformer_ranker(_: Mapping[str, str]) -> Score:
    torch = _module("torch")
    estimator = _module("transformer_ranker.estimators").LogME
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def score(x: NDArray[Any], y: NDArray[Any]) -> float:
        embeddings = torch.from_numpy(np.ascontiguousarray(x)).to(device)
        labels = torch.from_numpy(np.asarray(y, np.int64)).to(device)
        return float(estimator().fit(embeddings, labels))

    return score


def _sklearn(_: Mapping[str, str]) -> Score:
    classifier = _module("sklearn.discriminant_analysis").LinearDiscriminantAnalysis

    def stage(x: NDArray[Any], y: NDArray[Any], lam: float) -> NDArray[np.float64]:
        fitted = classifier(solver="eigen", shrinkage=lam).fit(x, y)
        probabilities: NDArray[np.float64] = fitted.predict_proba(x)
        return probabilities

    def score(x: NDArray[Any], y: NDArray[Any]) -> float:
        rows = np.asarray(x, np.float64)
        group = np.unique(y, return_inverse=True)[1]
        means = oracles.class_means(rows, group)
        lam = oracles.shrinkage(oracles.within_scatter(rows, group, means))
        mixed = oracles.confmix(rows, group, stage(rows, group, lam), means)
        return float(stage(mixed, group, lam)[np.arange(len(rows)), group].mean())

    return score


def _released(one: Released) -> Load:
    def load(folders: Mapping[str, str]) -> Score:
        score = one.load(folders)
        return lambda x, y: _quiet(lambda: score(x, y))

    return load


PAPER, AS_RELEASED = {"variant": "paper"}, {"variant": "released"}
RIVALS = (
    Rival("numpy oracle", "logme", PAPER, _oracle(oracles.logme)),
    Rival("thuml/LogME", "logme", AS_RELEASED, _thuml, faulty=True),
    Rival(
        "transformer-ranker",
        "logme",
        AS_RELEASED,
        _transformer_ranker,
        "starts every class from the precisions of the class before, so that its early stop "
        "leaves a slightly different evidence",
        faulty=True,
    ),
    Rival(
        "tllib",
        "logme",
        PAPER,
        _tllib,
        "stops once alpha / beta moves by less than 1 %, short of the maximum",
    ),
    Rival("numpy oracle", "sfda", AS_RELEASED, _oracle(oracles.sfda)),
    Rival(
        "scikit-learn LDA, twice",
        "sfda",
        AS_RELEASED,
        _sklearn,
        "LinearDiscriminantAnalysis(solver='eigen') for both stages; shrinkage and mixing are ours",
    ),
    Rival("TencentARC/SFDA", "sfda", AS_RELEASED, _released_sfda),
    Rival("numpy oracle", "face", {}, _oracle(oracles.face)),
    Rival("BUserName/NCTI", "ncti", None, _ncti, "its three terms added unscaled"),
    *(Rival(one.name, one.metric, one.options, _released(one), one.note) for one in RELEASED),
)


def references(metric: str) -> list[Mapping[str, Any]]:
    """The options with which jaxte's metric is measured: those that its rivals compute."""
    chosen: list[Mapping[str, Any]] = []
    for rival in of_metric(metric):
        if rival.reference is not None and rival.reference not in chosen:
            chosen.append(rival.reference)
    return chosen or [{}]


def of_metric(metric: str) -> list[Rival]:
    """The rivals that compute a metric."""
    return [rival for rival in RIVALS if rival.metric == metric]


def loaded(rival: Rival, folders: Mapping[str, str]) -> Score:
    """The rival's score, past whatever it compiles on first use."""
    score = rival.load(folders)
    rng = np.random.default_rng(0)
    # 64 components are what NCTI cuts to
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score(rng.standard_normal((200, 70)), np.arange(200) % 3)
    return score
