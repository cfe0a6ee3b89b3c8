"""The tables of `jaxte extract` and `jaxte run`: what was done, would be done, cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxte.cli._extraction import FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxte.cli._extraction import Outcome
    from jaxte.data import Dataset
    from jaxte.extraction.plan import Plan
    from jaxte.report import Table

__all__ = ["damaged_rows", "is_usable", "outcomes", "plans"]


def outcomes(models: Sequence[Outcome]) -> Table:
    """What became of every model; why one failed was said when it did."""
    rows = [
        (m.name, m.status, *map(_number, (m.rows, m.width)), f"{m.seconds:.1f}", _bytes(m.size))
        for m in models
    ]
    notes = [f"{m.name}: {text}" for m in models for text in m.notes]
    return _table(("model", "status", "rows", "width", "seconds", "size"), rows, notes)


def damaged_rows(dataset: Dataset, damaged: Mapping[int, str]) -> Table | str:
    """What of a data set cannot be read."""
    if not damaged:
        return f"All {len(dataset)} examples of {dataset.name} can be read."
    rows = [(str(row), why) for row, why in damaged.items()]
    text = f"{len(damaged)} of {len(dataset)} examples of {dataset.name} cannot be read"
    return _table(("row", "why"), rows, [text])


def plans(models: Sequence[tuple[str, Plan | str]]) -> Table:
    """What would become of every model."""
    rows, notes = [], []
    for name, one in models:
        if isinstance(one, str):
            rows.append((name, FAILED, *["–"] * 4))
            notes.append(f"{name}: {one}")
            continue
        sizes = (one.examples, one.rows, one.width)
        rows.append((name, one.state, *map(_number, sizes), _bytes(one.size)))
        if one.reason:
            notes.append(f"{name}: {one.reason}")
    return _table(("model", "would", "examples", "rows", "width", "size"), rows, notes)


def _table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], notes: Sequence[str]
) -> Table:
    from jaxte.report import Cell, Table

    return Table(
        columns=columns,
        align="<<" + ">" * (len(columns) - 2),
        blocks=tuple((i,) for i in range(len(columns))),
        rows=tuple(tuple(Cell(text, faint=row[1] == FAILED) for text in row) for row in rows),
        footer=(),
        failures=(),
        notes=tuple(notes),
    )


def _number(value: int | None) -> str:
    return "–" if value is None else str(value)


def _bytes(size: int | None) -> str:
    """In the unit that leaves one to three digits before the point."""
    if size is None:
        return "–"
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def is_usable(plan: Plan | str) -> bool:
    """Whether an extraction would begin, or is not needed."""
    return not isinstance(plan, str) and plan.state != "refused"
