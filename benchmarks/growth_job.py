"""One point of ``growth``, alone in its process."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import memory, problems, timing

_KEPT = 4  # batches that a stream goes round, so that making them costs no time


class UnavailableError(Exception):
    """This jaxte does not have what the mode needs."""


class _Stream(NamedTuple):
    batches: list[tuple[Any, Any]]
    lengths: list[int]

    def features(self) -> Iterator[Any]:
        for (x, _), length in zip(itertools.cycle(self.batches), self.lengths, strict=False):
            yield x[:length]

    def labels(self) -> Iterator[Any]:
        for (_, y), length in zip(itertools.cycle(self.batches), self.lengths, strict=False):
            yield y[:length]


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Score once (compilation included), then repeat; memory is that of the first."""
    make = {"array": _array, "streamed": _streamed, "moments": _moments}[spec["mode"]]
    try:
        run = make(spec)
        watch = memory.Watch()
        first, score = timing.once(run)
    except UnavailableError as error:
        return {"missing": True, "skipped": [str(error)]}
    used = watch.read(with_device=True)
    warm = timing.interleaved({"run": run}, {"run": first}, spec["repeats"], spec["patience"])
    # the first run compiled, so that it must not stand for a warm one
    runs = warm["run"] if first <= spec["patience"] else [timing.once(run)[0]]
    return {"first": first, "warm": runs, "memory": used, "score": score}


def _array(spec: dict[str, Any]) -> Callable[[], float]:
    from jaxte import rank

    streams = [_stream(spec, index) for index in range(spec["models"])]
    features = {f"model-{i}": np.concatenate(list(s.features())) for i, s in enumerate(streams)}
    y = np.concatenate(list(streams[0].labels()))

    def run() -> float:
        return rank(features, y, metrics=spec["metric"]).score("model-0", spec["metric"])

    return run


def _streamed(spec: dict[str, Any]) -> Callable[[], float]:
    from jaxte import InputError, rank

    streams = [_stream(spec, index) for index in range(spec["models"])]
    features: dict[str, Any] = {f"model-{i}": s.features for i, s in enumerate(streams)}
    targets = np.concatenate(list(streams[0].labels()))

    def run() -> float:
        try:
            ranking = rank(features, targets, metrics=spec["metric"])
        except InputError as error:
            if "dtype object" in str(error):  # the callable was taken for an array
                line = "streamed growth skipped: this jaxte ranks whole arrays only"
                raise UnavailableError(line) from None
            raise
        return ranking.score("model-0", spec["metric"])

    return run


def _moments(spec: dict[str, Any]) -> Callable[[], float]:
    """`jaxte.moments` by hand, for a metric that needs nothing else."""
    import jax

    from jaxte import metrics

    try:
        moments = importlib.import_module("jaxte.moments")
        final = getattr(metrics, f"{spec['metric']}_from_moments")
    except (ImportError, AttributeError) as error:
        raise UnavailableError(f"growth of moments skipped: {error}") from None
    stream = _stream(spec, 0)
    known = {}
    if spec["metric"] == "face":  # every class weighs the same: their sizes come first
        whole = np.concatenate(list(stream.labels()))
        known["class_counts"] = np.bincount(whole, minlength=spec["classes"])

    def run() -> float:
        with jax.enable_x64(True):
            state = moments.init(spec["d"], num_classes=spec["classes"], **known)
            for x, y in zip(stream.features(), stream.labels(), strict=True):
                state = moments.update(state, x, y)
            return float(final(state))

    return run


def _stream(spec: dict[str, Any], index: int) -> _Stream:
    """The same rows whatever the mode, so that scores can be compared."""
    n, size = spec["n"], min(spec["batch"], spec["n"])
    y = problems.labels(min(n, _KEPT * size), spec["classes"], spec["seed"])
    x = problems.features(
        y, spec["d"], spec["classes"], seed=spec["seed"] + index, kind=spec["kind"]
    )
    kept = [(x[i : i + size], y[i : i + size]) for i in range(0, len(y), size)]
    lengths = [min(size, n - start) for start in range(0, n, size)]
    return _Stream(kept, lengths)
