"""``metrics``: each metric over sizes, against its rivals, at equal scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import child, contestants, problems, rivals, timing
from benchmarks.clones import MissingError
from benchmarks.settings import METRICS, Settings, wanted


def run(
    settings: Settings,
    ns: Sequence[int],
    ds: Sequence[int],
    classes: Sequence[int],
    dtypes: Sequence[str],
    metrics: Sequence[str],
) -> dict[str, Any]:
    """Measure all combinations; those with too few samples for their classes are left out."""
    rows: list[dict[str, Any]] = []
    cases = 0
    for n, d, c, dtype in itertools.product(ns, ds, classes, dtypes):
        if n < 2 * c:
            settings.skip([f"n={n} with {c} classes skipped: two samples per class needed"])
            continue
        for metric in metrics:
            case = {"metric": metric, "n": n, "d": d, "classes": c, "dtype": dtype}
            label = f"{metric} n={n} d={d} C={c} {dtype}"
            spec = {**settings.common(), **case}
            measured = settings.attempt(label, partial(child.run, "metric", spec))
            cases += 1
            with_memory = settings.memory_cases is None or cases <= settings.memory_cases
            for row in (measured or {}).get("rows", []):
                rows.append({**case, **row, "memory": None})
                if with_memory and row["run"]:
                    who = {**spec, "name": row["name"]}
                    what = f"memory of {row['name']}, {label}"
                    result = settings.attempt(what, partial(child.run, "memory", who))
                    rows[-1]["memory"] = result
    return {"rows": rows}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """One metric at one size: compile, run once, then repeat in turns with every rival."""
    import jax

    # rivals compute in float64 whatever they are given; jaxte and the limit in the dtype itself
    with jax.enable_x64(spec["dtype"] == "float64"):
        return _measure(spec)


def _measure(spec: dict[str, Any]) -> dict[str, Any]:
    import jax.numpy as jnp

    from jaxte.metrics import REGISTRY

    metric, classes = spec["metric"], spec["classes"]
    x, y = problems.of_metric(spec)
    device_x, device_y = jnp.asarray(x), jnp.asarray(y)
    runs: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    skipped: list[str] = []

    for options in rivals.references(metric) if metric in REGISTRY else ():
        name = contestants.own_name(options)
        made = contestants.own(metric, options, device_x, device_y, classes)
        runs[name] = made.run
        rows[name] = _row(name, "jaxte", trace=made.trace, compile=made.compile)
    for rival in rivals.of_metric(metric):
        if not wanted(rival.name, spec["rivals"]):
            continue
        try:
            score = rivals.loaded(rival, spec["clones"])
        except MissingError as error:
            skipped.append(f"{rival.name} ({metric}) skipped: {error}")
            continue
        runs[rival.name] = lambda score=score: score(x, y)
        note = [rival.note] if rival.note else []
        if rival.faulty and spec["d"] > spec["n"]:
            note.append(rivals.FAULT)
        reference = None if rival.reference is None else contestants.own_name(rival.reference)
        rows[rival.name] = _row(rival.name, "rival", reference=reference, note="; ".join(note))
    limit = contestants.gram(device_x)
    runs[contestants.GRAM] = limit.run
    rows[contestants.GRAM] = _row(
        contestants.GRAM, "limit", trace=limit.trace, compile=limit.compile
    )

    first: dict[str, float] = {}
    for name in list(runs):
        try:
            seconds, value = timing.once(runs[name])
            if rows[name]["role"] == "jaxte":  # the very first run still allocates
                seconds, value = timing.once(runs[name])
        except Exception as error:
            # a rival may fail on input that others can score, and that is a result too
            rows[name]["note"] = f"failed: {type(error).__name__}: {str(error).splitlines()[0]}"
            del runs[name]
            continue
        first[name] = seconds
        if rows[name]["role"] != "limit":
            rows[name]["score"] = float(value)
    for name, times in timing.interleaved(runs, first, spec["repeats"], spec["patience"]).items():
        rows[name]["run"] = times
    for row in rows.values():
        other = rows.get(row["reference"] or "", {}).get("score")
        if other is not None and row["score"] is not None:
            row["difference"] = row["score"] - other
    return {"rows": list(rows.values()), "skipped": skipped}


def _row(
    name: str,
    role: str,
    *,
    reference: str | None = None,
    note: str = "",
    trace: float | None = None,
    compile: float | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "reference": reference,
        "score": None,
        "difference": None,
        "trace": trace,
        "compile": compile,
        "run": [],
        "note": note,
    }


def chosen(metrics: Sequence[str] | None, clones: dict[str, str]) -> list[str]:
    """The metrics to measure; NCTI only as a time to compare with, where its clone is named.

    It needs 64 samples and columns, more than a quick run has.
    """
    return list(metrics or [*METRICS, *(["ncti"] if "ncti" in clones else [])])
