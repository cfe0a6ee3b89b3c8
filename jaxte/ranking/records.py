"""Records of a ranking as its files have them, read back."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxte.errors import InputError
from jaxte.ranking.chance import CHANCE, Chance
from jaxte.ranking.intervals import INTERVAL, Interval
from jaxte.report.provenance import PROVENANCE

__all__ = ["column_of", "parts_of", "reading"]

# The other columns are terms; one that is called as one of these has a word before its name.
_TERM = "term "
_COLUMNS = (
    "dataset", "model", "metric", "score", "rank", "status", "accuracy",
    *CHANCE, *INTERVAL, *PROVENANCE,
)  # fmt: skip


def column_of(term: str) -> str:
    """Under which name a term stands in records: its own, unless another column has it."""
    return f"{_TERM}{term}" if term in _COLUMNS else term


def _term_of(column: str) -> str:
    own = column.removeprefix(_TERM)
    return own if own in _COLUMNS else column


@contextmanager
def reading(source: str | Path) -> Iterator[str]:
    """The text of a file, or text itself; what goes wrong with it is an `InputError`."""
    is_text = isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{"))
    where = "the text" if is_text else str(source)
    try:
        if is_text:
            yield str(source)
        else:
            with open(source, encoding="utf-8-sig", newline="") as file:
                text = file.read()
            yield text
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror or error}") from None
    except (csv.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where} is no ranking that to_csv or to_json wrote ({type(error).__name__}: {error})"
        ) from None


def parts_of(records: Iterable[Mapping[str, Any]]) -> tuple[dict[tuple[str, str], Any], ...]:
    """Scores, statuses, terms, chances and intervals, as the fields of a `Ranking`."""
    scores, statuses, terms, chances, intervals = {}, {}, {}, {}, {}
    sets: set[Any] = set()
    for record in records:
        key = str(record["model"]), str(record["metric"])
        sets.add(record.get("dataset"))
        if len(sets) > 1:
            raise ValueError("it has rankings of several data sets")
        if key in scores:
            raise ValueError(f"{key[0]} has two records of {key[1]}")
        scores[key] = _number(record.get("score"))
        statuses[key] = str(record["status"])
        own = {_term_of(c): _number(value) for c, value in record.items() if c not in _COLUMNS}
        if own:
            terms[key] = own
        if record.get("p_value") is not None:
            mean, sd, z, p_value, saturated = (record.get(name) for name in CHANCE)
            full = str(saturated).lower() == "true"
            mean, sd, p_value = map(_number, (mean, sd, p_value))
            z = math.copysign(math.inf, scores[key] - mean) if z is None else _number(z)
            chances[key] = Chance(mean, sd, z, p_value, full)
        if record.get("lo") is not None:
            intervals[key] = Interval(*(_number(record.get(name)) for name in INTERVAL))
    if not scores:
        raise ValueError("it has no records")
    return scores, statuses, terms, chances, intervals


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
