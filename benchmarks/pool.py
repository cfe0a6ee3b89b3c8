"""``pool``: a ragged pool of models, cold and warm, against loops of what is released."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import child, problems
from benchmarks.settings import METRICS, Settings, wanted

RELEASED: dict[str, dict[str, str]] = {"logme": {"variant": "released"}}


class Contestant(NamedTuple):
    """Who ranks the pool, by which metrics, and whom its scores are compared with."""

    name: str
    rival: str | None
    metrics: tuple[str, ...]
    options: dict[str, dict[str, str]]
    reference: str | None = None


# A rival stands against jaxte on the same metrics and variants: the same work, the same scores.
CONTESTANTS = (
    Contestant("jaxte: logme, sfda, face", None, METRICS, {}),
    Contestant(
        "numpy oracles: logme, sfda, face", "oracle", METRICS, {}, "jaxte: logme, sfda, face"
    ),
    Contestant(
        "jaxte of another commit: logme, sfda, face",
        "jaxte",
        METRICS,
        {},
        "jaxte: logme, sfda, face",
    ),
    Contestant("jaxte: released logme, sfda", None, ("logme", "sfda"), RELEASED),
    Contestant(
        "released code: logme, sfda",
        "released",
        ("logme", "sfda"),
        {},
        "jaxte: released logme, sfda",
    ),
    Contestant("jaxte: released logme", None, ("logme",), RELEASED),
    Contestant(
        "transformer-ranker: logme",
        "transformer-ranker",
        ("logme",),
        {},
        "jaxte: released logme",
    ),
)


def run(
    settings: Settings,
    sizes: Sequence[int],
    n: int,
    classes: Sequence[int],
    widths: Sequence[int],
    precision: str,
) -> dict[str, Any]:
    """Measure every pool, the contestants taking turns."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for c in classes:
            with tempfile.TemporaryDirectory() as folder:
                ragged = problems.pool_widths(size, widths)
                models = _write(Path(folder), ragged, n, c, settings)
                case = {"models": size, "n": n, "classes": c, "widths": ragged}
                rows += _pool(settings, Path(folder), models, case, precision)
    return {"rows": rows}


def _write(
    folder: Path, widths: Sequence[int], n: int, classes: int, settings: Settings
) -> list[str]:
    """Features as files, so that no process inherits another's memory."""
    y = problems.labels(n, classes, settings.seed)
    np.save(folder / "labels.npy", y)
    names = []
    for index, d in enumerate(widths):
        names.append(f"model-{index:02d}-{d}")
        x = problems.features(y, d, classes, seed=settings.seed + index, kind=settings.kind)
        np.save(folder / f"{names[-1]}.npy", x)
    return names


def _pool(
    settings: Settings, folder: Path, models: list[str], case: dict[str, Any], precision: str
) -> list[dict[str, Any]]:
    results: dict[str, list[dict[str, Any]]] = {}
    out: set[str] = set()
    for turn in range(settings.repeats):
        for contestant in CONTESTANTS:
            if contestant.name in out:
                continue
            if contestant.rival and not wanted(contestant.name, settings.rivals):
                continue
            before = results.get(contestant.name, [])
            if sum(r["cold"] for r in before) > settings.patience:
                continue
            label = f"pool of {len(models)}, C={case['classes']}: {contestant.name}, turn {turn}"
            fresh = partial(_fresh, contestant, folder, models, settings, precision)
            result = settings.attempt(label, fresh)
            if result is None or result.get("missing"):
                out.add(contestant.name)
            else:
                results.setdefault(contestant.name, []).append(result)
    return [
        _row(contestant, case, results[contestant.name], results.get(contestant.reference or ""))
        for contestant in CONTESTANTS
        if contestant.name in results
    ]


def _fresh(
    contestant: Contestant, folder: Path, models: list[str], settings: Settings, precision: str
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as empty:
        spec = {
            "name": contestant.name,
            "rival": contestant.rival,
            "metrics": contestant.metrics,
            "options": contestant.options,
            "precision": precision,
            "folder": str(folder),
            "models": models,
            **settings.common(),
        }
        return child.run("pool", spec, {"JAX_COMPILATION_CACHE_DIR": empty})


def _row(
    contestant: Contestant,
    case: dict[str, Any],
    results: list[dict[str, Any]],
    reference: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        **case,
        "name": contestant.name,
        "role": "jaxte" if contestant.rival is None else "rival",
        "reference": contestant.reference,
        "metrics": list(contestant.metrics),
        "memory": max((r["memory"] for r in results), key=lambda m: float(m["peak"])),
        "scores": results[0]["scores"],
        "agreement": agreement(results[0]["scores"], reference[0]["scores"]) if reference else {},
    }
    for part in ("cold", "import", "load", "first", "warm"):
        row[part] = [r[part] for r in results]
    return row


def agreement(
    scores: dict[str, dict[str, float]], others: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Per metric: the largest difference over the pool, and how many pairs change their order."""
    result = {}
    for metric, own in scores.items():
        if metric not in others:
            continue
        a = np.array([own[name] for name in own])
        b = np.array([others[metric][name] for name in own])
        known = np.isfinite(a) & np.isfinite(b)
        a, b = a[known], b[known]
        swapped = (np.sign(a[:, None] - a) * np.sign(b[:, None] - b) < 0).sum() // 2
        largest = float(np.abs(a - b).max()) if len(a) else math.nan
        result[metric] = {"difference": largest, "swapped": int(swapped), "models": len(a)}
    return result
