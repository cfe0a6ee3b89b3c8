"""The tables of ``device``, from its lines alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import report
from benchmarks.device_run import Step

# How numbers are shown; all else as it is.
_SHOWN = {
    **dict.fromkeys(
        ("seconds", "compile", "floor", "first", "sent", "own", "took"), report.seconds
    ),
    **dict.fromkeys(("peak", "memory", "ram"), report.size),
    "rate": lambda value: f"{value / 1e9:.0f} G/s" if value else "–",
    "share": lambda value: f"{100 * value:.0f} %",
    "ratio": lambda value: f"{value:.3g}×",
    "images": lambda value: f"{value:.0f} /s",
    **dict.fromkeys(("error", "of the CPU", "difference"), lambda value: f"{value:.1e}"),
    **dict.fromkeys(("exponent", "score"), lambda value: f"{value:.4g}"),
}


def markdown(rows: Sequence[Mapping[str, Any]], steps: Sequence[Step]) -> str:
    """All steps that were taken."""
    parts = ["# Device", ""]
    failed = [row for row in rows if "failed" in row or row.get("wrong")]
    parts += [f"**Not right or failed: {len(failed)}**" if failed else "All right so far.", ""]
    for step in steps:
        own = [row for row in rows if row["step"] == step.name]
        if own:
            parts += [f"## {step.name}: {step.about}", "", *_of_step(own)]
    return "\n".join(parts).rstrip() + "\n"


def _of_step(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    lines = [
        {k: v for k, v in row.items() if k != "step" and v is not None and v is not False}
        for row in rows
    ]
    notes = [row for row in lines if {"skipped", "failed", "took"} & row.keys()]
    measured = [row for row in lines if row not in notes]
    if len(measured) == 1:
        yield from (f"- {key}: {_cell(key, value)}" for key, value in measured[0].items())
        yield ""
    elif measured:
        header = list(dict.fromkeys(key for row in measured for key in row))
        yield from report.table(
            header, [[_cell(key, row.get(key)) for key in header] for row in measured]
        )
    for row in notes:
        yield "- " + ", ".join(f"{key}: {_cell(key, value)}" for key, value in row.items())
    yield ""


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in _SHOWN and isinstance(value, int | float):
        return _SHOWN[key](value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {own}" for name, own in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
