"""One pass of one contestant over a pool, alone in its process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import memory, rivals, timing
from benchmarks.clones import MissingError

Scores = dict[str, dict[str, float]]


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Import, load, score once (cold) and once more (warm).

    ``cold`` counts from before the interpreter started. Imports, reading the features and the
    first pass are also given apart.
    """
    begun = time.perf_counter()
    rival = spec["rival"]
    try:
        run = _jaxte(spec) if rival in (None, "jaxte") else _rivals(rival, spec)
    except MissingError as error:
        return {"missing": True, "skipped": [f"{spec['name']} skipped: {error}"]}
    imported = time.perf_counter()
    folder = Path(spec["folder"])
    features = {name: np.load(folder / f"{name}.npy") for name in spec["models"]}
    labels = np.load(folder / "labels.npy")
    loaded = time.perf_counter()

    watch = memory.Watch()
    first, scores = timing.once(lambda: run(features, labels))
    cold = time.time() - spec["launched"]
    used = watch.read(with_device=rival is None)
    warm, _ = timing.once(lambda: run(features, labels))
    return {
        "import": imported - begun,
        "load": loaded - imported,
        "first": first,
        "cold": cold,
        "warm": warm,
        "scores": scores,
        "memory": used,
    }


def _jaxte(spec: Mapping[str, Any]) -> Callable[[Any, Any], Scores]:
    if spec["rival"] == "jaxte":
        if "jaxte" not in spec["clones"]:
            raise MissingError("no other commit of jaxte was named: --clone jaxte=PATH")
        sys.path.insert(0, spec["clones"]["jaxte"])
    import jaxte

    if spec["rival"] == "jaxte":
        assert Path(jaxte.__file__).is_relative_to(spec["clones"]["jaxte"]), jaxte.__file__
    rank = jaxte.rank

    def run(features: dict[str, Any], labels: Any) -> Scores:
        ranking = rank(
            features,
            labels,
            metrics=spec["metrics"],
            precision=spec["precision"],
            options=spec["options"],
        )
        return {m: {name: ranking.score(name, m) for name in features} for m in spec["metrics"]}

    return run


def _rivals(chosen: str, spec: Mapping[str, Any]) -> Callable[[Any, Any], Scores]:
    """A loop over models and metrics, as the rivals' own scripts run."""
    scores = {}
    for metric in spec["metrics"]:
        fits = [r for r in rivals.of_metric(metric) if r.name in _MEMBERS[chosen]]
        scores[metric] = fits[0].load(spec["clones"])

    def run(features: dict[str, Any], labels: Any) -> Scores:
        return {
            metric: {name: score(x, labels) for name, x in features.items()}
            for metric, score in scores.items()
        }

    return run


_MEMBERS = {
    "released": ("thuml/LogME", "TencentARC/SFDA"),
    "transformer-ranker": ("transformer-ranker",),
    "oracle": ("numpy oracle",),
}
