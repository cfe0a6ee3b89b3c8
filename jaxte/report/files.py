"""Rankings and records as files: CSV and JSON, which `Ranking.from_csv` and `from_json` read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxte.report.provenance import PROVENANCE, columns_of

if TYPE_CHECKING:
    from jaxte.ranking import Ranking

__all__ = ["csv_text", "json_text", "to_csv", "to_json", "written"]


def written(text: str, path: str | PathLike[str] | None) -> str:
    """The text, written to a file too where there is a path."""
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="")
    return text


def csv_text(records: Sequence[Mapping[str, Any]], *, last: Sequence[str] = ()) -> str:
    """Records as CSV: a column for every key that occurs, an empty field where there is none."""
    occurring = dict.fromkeys(key for record in records for key in record)
    fields = [*(key for key in occurring if key not in last), *(k for k in last if k in occurring)]
    rows = [{key: _plain(value) for key, value in record.items()} for record in records]
    # before Python 3.13 the module leaves a lone "\r" unquoted, which ends the line for a reader
    lone = any("\r" in text for row in rows for text in row.values() if isinstance(text, str))
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, fields, lineterminator="\n",
        quoting=csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL,
    )  # fmt: skip
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def json_text(content: Any) -> str:
    """Strict JSON: what is not finite becomes null, arrays become lists."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value in types of Python; NaN and infinity as None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def to_csv(ranking: Ranking, *, problems: Mapping[str, str] | None = None) -> str:
    """One line per model and metric: `model,metric,score,rank,status`, its terms, and its source.

    The last columns say where the score comes from: data set, rows, width (of layers of which the
    best or the mean counts as JSON, layer -> width), options, version, date; and with a history
    the chance to lead the recommended order.
    """
    return csv_text(
        [
            {**record, **columns_of(ranking.meta, record["model"], record["metric"])}
            for record in _records(ranking, problems)
        ],
        last=PROVENANCE,
    )


def to_json(ranking: Ranking, *, problems: Mapping[str, str] | None = None) -> str:
    """An object with `models`, `metrics`, `notes`, `meta` and the `records` of the CSV form."""
    return json_text(
        {
            "models": (*ranking.models, *(problems or {})),
            "metrics": ranking.metrics,
            "notes": ranking.notes,
            "meta": ranking.meta,
            "records": _records(ranking, problems),
        }
    )


def _records(ranking: Ranking, problems: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """The ranking's records, and the like for models that never reached it."""
    lost = [
        {"model": model, "metric": metric, "score": math.nan, "rank": None, "status": reason}
        for model, reason in (problems or {}).items()
        for metric in ranking.metrics
    ]
    return [*ranking.to_records(), *lost]
