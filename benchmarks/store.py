"""Results on disk: one JSON, the Markdown and the pictures made from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.settings import say

RESULTS, TABLES = "results.json", "results.md"
# scores of tiny problems agree to this where both compute in float64
_CLOSE = 1e-6


class UnusableError(Exception):
    """A folder without results, or results that cannot be read."""


def save(folder: Path, command: str, section: dict[str, Any]) -> None:
    """Put the results of one command beside those of the others."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = load(folder) if (folder / RESULTS).is_file() else {}
    whole[command] = section
    text = json.dumps(_plain(whole), indent=1, allow_nan=False)
    (folder / RESULTS).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """The same with null for what is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(folder: Path) -> dict[str, Any]:
    """All results in a folder.

    Raises:
        UnusableError: if there are none.
    """
    try:
        whole: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableError(f"{folder} holds no readable {RESULTS}: {error}") from None
    return whole


def render(folder: Path) -> None:
    """Write Markdown and pictures from the JSON."""
    whole = load(folder)
    (folder / TABLES).write_text(report.markdown(whole), encoding="utf-8")
    try:
        from benchmarks import plots

        plots.save(whole, folder)
    except ImportError as error:
        say(f'pictures skipped: {error.name} is not installed: pip install ".[bench]"')


def check(folder: Path, commands: Sequence[str]) -> int:
    """Whether everything was written, is finite and agrees: 0, or 1 with lines that say what not.

    Nothing is asked of the times.
    """
    problems = list(_faults(load(folder), commands))
    text = (folder / TABLES).read_text(encoding="utf-8")
    problems += [f"no table of {name}" for name in commands if f"## {name}" not in text]
    for problem in problems:
        say(f"fault: {problem}")
    return 1 if problems else 0


def _modes(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Growth: whichever way the same rows reach a metric, the score is the same."""
    keys = ("metric", "n", "d", "classes", "models")
    seen: dict[tuple[Any, ...], tuple[str, float]] = {}
    for row in rows:
        if row["score"] is not None:
            point = tuple(row[key] for key in keys)
            mode, score = seen.setdefault(point, (row["mode"], row["score"]))
            if abs(score - row["score"]) > _CLOSE * max(1.0, abs(score)):
                yield f"growth, {point}: {mode} gives {score}, {row['mode']} {row['score']}"


def _faults(whole: dict[str, Any], commands: Sequence[str]) -> Iterator[str]:
    for command in commands:
        section = whole.get(command, {})
        if not section.get("rows"):
            yield f"{command} has no rows"
        yield from (line for line in section.get("skipped", []) if " failed: " in line)
        if command == "growth":
            yield from _modes(section.get("rows", []))
        for row in section.get("rows", []):
            who = f"{command}, {row.get('metric', '')} {row.get('name', '')}".strip()
            if str(row.get("note", "")).startswith("failed"):
                yield f"{who}: {row['note']}"
            for key in ("run", "cold", "warm"):
                if key in row and (not row[key] or None in row[key]):
                    yield f"{who}: {key} is {row[key]}"
            if "score" in row and row["score"] is None and row.get("role") != "limit":
                yield f"{who}: no finite score"
            differences = {"": row.get("difference")}
            differences |= {m: a["difference"] for m, a in row.get("agreement", {}).items()}
            for metric, value in differences.items():
                # those with a note about their scores are known to differ
                loose = 1e-2 if row.get("note") or "transformer-ranker" in who else _CLOSE
                if value is not None and abs(value) > loose:
                    yield f"{who} {metric}: scores differ by {value}"
