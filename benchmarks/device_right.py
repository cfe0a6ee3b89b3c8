"""Whether the device is right: golden values, and pools against the scores of the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import account, golden, problems
from benchmarks.device_run import Row, Run, Step
from jaxte.errors import said

_AT_ONCE = 8  # programs that are compiled side by side
# Relative errors above which a row is wrong; the CPU's float64 is what is compared with.
_MOST = {"float64": 1e-6, "float32": 1e-3}
_CLASSES = 3
_SAME = 1e-8  # of the same score from rows in another order
_LEAST = 0.1  # size beside which an error counts: near 0, where LogME passes, none is relative
# Steps of ranks, neighbours and random starts: rounding of another kind gives other ones.
_UNEVEN = ("itm", "knn", "parc", "tmi", "nleep", "linear_probe", "qda", "nearest_centroid_accuracy")


@contextlib.contextmanager
def as_accelerator() -> Iterator[None]:
    """On a CPU: routes, stacks and programs as an accelerator takes them; else nothing."""
    import jax

    from jaxte.ranking import pool
    from jaxte.runtime.devices import platform_of
    from jaxte.statistics import ridge

    if platform_of() != "cpu":
        yield
        return
    with (
        mock.patch.object(pool, "platform_of", return_value="gpu"),
        mock.patch.object(jax.lax, "platform_dependent", _default),
        mock.patch.object(ridge, "_REDUCED", 1),  # of small problems, too
    ):
        yield


def _default(*arguments: Any, default: Any, **_: Any) -> Any:
    return default(*arguments)


def goal_metrics(run: Run) -> Iterator[Row]:
    """The metrics of the goal, of long and of wide features, in both precisions."""
    n, widths = (60, run.sizes.widths) if run.quick else (600, (100, 256, 1000))
    for dtype in ("float64", "float32"):
        yield from _against_cpu(account.GOAL, n, widths, dtype)


def all_metrics(run: Run) -> Iterator[Row]:
    """Every metric that needs no head of the model's own."""
    from jaxte.metrics import REGISTRY

    names = [
        name
        for name, metric in REGISTRY.items()
        if not metric.needed({}) & {"probabilities", "logits"} and name not in account.GOAL
    ]
    if run.quick:
        names = ["lda", "rankme", "knn"]
    n, widths = (60, run.sizes.widths) if run.quick else (600, (100, 120, 128))
    yield from _against_cpu(names, n, widths, "float64")


def _against_cpu(
    metrics: Sequence[str], n: int, widths: Sequence[int], dtype: str
) -> Iterator[Row]:
    import jax

    import jaxte

    y = problems.labels(n, _CLASSES, 0)
    models = {f"{d}": problems.features(y, d, _CLASSES, seed=d) for d in widths}
    with jax.default_device(jax.devices("cpu")[0]):
        expected = jaxte.rank(models, y, metrics=metrics, precision="float64")
        own = expected if dtype == "float64" else jaxte.rank(models, y, metrics=metrics,
                                                             precision=dtype)  # fmt: skip
    with as_accelerator():
        ranking = jaxte.rank(models, y, metrics=metrics, precision=dtype)
    for metric in metrics:
        error, on_cpu = (
            max(
                abs(one.score(m, metric) - expected.score(m, metric))
                / max(abs(expected.score(m, metric)), _LEAST)
                for m in models
            )
            for one in (ranking, own)
        )
        # where float32 does not do, the CPU's does not either
        row = _row("pool against the CPU", metric, dtype, error, max(_MOST[dtype], 2 * on_cpu))
        yield {**row, "of the CPU": on_cpu, "n": n, "widths": list(widths)}


def _row(what: str, metric: str, dtype: str, error: float, most: float) -> Row:
    wrong = metric not in _UNEVEN and not error <= most
    return {"what": what, "metric": metric, "dtype": dtype, "error": error, "wrong": wrong}


def golden_values(run: Run) -> Iterator[Row]:
    """Values of released code, metric by metric, float64 first."""
    only = run.sizes.golden
    checks = [one for one in golden.checks() if only is None or one.leaf.metric in only]
    for dtype in ("float64", "float32"):
        by_metric: dict[str, list[golden.Check]] = {}
        for check in checks:
            by_metric.setdefault(check.leaf.metric, []).append(check)
        golden.forget()
        with as_accelerator(), ThreadPoolExecutor(_AT_ONCE) as threads:
            jobs = [threads.submit(_golden, run, own, dtype) for own in by_metric.values()]
            yield from (row for job in jobs if (row := job.result()) is not None)
        golden.forget()


def _golden(run: Run, checks: Sequence[golden.Check], dtype: str) -> Row | None:
    """The largest error of a metric, as far as there is time; None if there was none at all."""
    metric = checks[0].leaf.metric
    errors = []
    for check in checks:
        if not run.has(20):
            break
        try:
            errors.append((golden.error(check, dtype), check.case))
        except Exception as error:  # a program that this device cannot run is a result, too
            errors.append((float("inf"), f"{check.case}: {said(error)}"))
    if not errors:
        return None
    worst, case = max(errors)
    row = _row("golden values", metric, dtype, worst, _MOST[dtype])
    return {**row, "values": len(errors), "worst": case}


def properties(run: Run) -> Iterator[Row]:
    """Three properties in float64: rows in another order, absent rows, zero columns."""
    import jax

    from jaxte.metrics import REGISTRY

    n, d, classes = 48, 10, 4
    x, y = problems.problem(n, d, classes, seed=0, dtype="float64")
    order = np.random.default_rng(0).permutation(n)
    garbage = np.concatenate([x, np.full((6, d), np.nan)])
    more = np.concatenate([y, np.zeros(6, y.dtype)])
    variants: Mapping[str, tuple[Any, Any, Any, int]] = {
        "itself": (garbage, more, np.arange(n + 6) < n, d),
        "order of rows": (
            np.concatenate([x[order], garbage[n:]]),
            np.concatenate([y[order], more[n:]]),
            np.arange(n + 6) < n,
            d,
        ),
        "absent rows first": (garbage[::-1], more[::-1], np.arange(n + 6) >= 6, d),
    }
    names = ("face", "hscore") if run.quick else (*account.GOAL, "ridge_probe", "lda", "rankme")
    with jax.enable_x64(True), as_accelerator():
        for metric in names:
            call = jax.jit(REGISTRY[metric].function, static_argnames="num_classes")
            scores = {}
            for name, (features, labels, weights, width) in variants.items():
                padded = np.pad(features, ((0, 0), (0, 2)))
                score = call(padded, labels, num_classes=classes, weights=weights.astype(float),
                             num_features=np.int32(width))  # fmt: skip
                scores[name] = float(score)
            plain = float(REGISTRY[metric].function(x, y, num_classes=classes))
            gaps = {name: abs(s - plain) / max(abs(plain), _LEAST) for name, s in scores.items()}
            worst = max(gaps, key=lambda name: gaps[name])
            row = _row("properties", metric, "float64", gaps[worst], _SAME)
            yield {**row, "values": len(gaps), "worst": worst}


STEPS = (
    Step("goal metrics", 30, goal_metrics, "a pool of mixed widths against the CPU"),
    Step("golden", 90, golden_values, "values of released code"),
    Step("properties", 40, properties, "rows in another order, absent, zero columns"),
    Step("all metrics", 90, all_metrics, "every other metric against the CPU"),
)
