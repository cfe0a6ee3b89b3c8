"""The report of `jaxte run`: of all models that lie in its directory, earlier ones included."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxte.cli import _common

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from jaxte.cli._jobs import Outcome
    from jaxte.data import Dataset
    from jaxte.ranking import Ranking

__all__ = ["Earlier", "earlier", "stored", "write"]

_JSON = "ranking.json"


class Earlier(NamedTuple):
    """What a directory has a report of: a data set, and the models that have scores."""

    directory: Path
    models: tuple[str, ...]

    def check(self, names: Collection[str]) -> None:
        """Raise `InputError` if models would not be in the next report."""
        from jaxte.errors import InputError

        lost = [
            model
            for model in self.models
            if not any(model == name or model.startswith(f"{name}@") for name in names)
        ]
        if lost:
            raise InputError(
                f"{self.directory} has a report with scores of {', '.join(lost)}, which are not "
                "stored and would be lost: name another --out, or these models too"
            )


def earlier(out: Path, dataset: Dataset) -> Earlier:
    """The report that a directory has, if any.

    Raises:
        InputError: if it is of another data set, or nobody knows of which.
    """
    from jaxte.errors import InputError
    from jaxte.intake import disk

    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out} is no directory: name one for the report")
    path = out / _JSON
    if not os.path.lexists(path):
        return Earlier(out, ())
    try:
        content: Any = json.loads(disk.read_bytes(path, "JSON"))
        data = content["meta"]["data"]
        scored = [r["model"] for r in content["records"] if r["score"] is not None]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is not known as a report on {dataset.name}: name another --out, or move it "
            "away"
        ) from error
    if data != dataset.name:
        raise InputError(f"{out} has a report on {data}, not on {dataset.name}: name another --out")
    return Earlier(out, tuple(dict.fromkeys(map(str, scored))))


def stored(root: Path, folder: str, dataset: Dataset, taken: Collection[str]) -> list[Outcome]:
    """The models whose features of a data set lie in a directory, but those of some names."""
    from jaxte.cli._jobs import FAILED, Outcome, size_of
    from jaxte.errors import InputError
    from jaxte.extraction._reader import facts
    from jaxte.intake import disk
    from jaxte.store import FeatureStore, is_store
    from jaxte.store.manifest import differing, plain

    kept: list[Outcome] = []
    now = plain(facts(dataset, None), "data")
    for place in disk.listing(root) if root.is_dir() else ():
        if not is_store(place / folder):
            continue
        name = place.name
        try:
            store = FeatureStore.open(place / folder)
            name = store.name or name
            if name in taken:
                continue
            if different := differing(store.manifest["data"], now):
                raise InputError(f"it was made of other data ({different[0]}): extract it again")
            width = sum(store[layer].shape[1] for layer in store.layers)
            size = size_of(place / folder)
            made = Outcome(name, "stored", store.rows, width, 0.0, size, {name: store})
        except (InputError, OSError) as error:
            if name in taken:
                continue
            made = Outcome(name, FAILED, None, None, 0.0, None, {}, str(error))
        kept.append(made)
    return kept


def write(
    ranking: Ranking, outcomes: Sequence[Outcome], problems: Mapping[str, str], before: Earlier,
    data: str,
) -> None:  # fmt: skip
    """Show the ranking and, unless models of an earlier one are missing, write it to files."""
    from jaxte import report
    from jaxte.cli import _summary
    from jaxte.intake import disk

    out = before.directory
    replaces = (out / _JSON).exists()
    ranking = dataclasses.replace(ranking, meta=MappingProxyType({**ranking.meta, "data": data}))
    table = report.table(ranking, problems=problems)
    made = _summary.summary(outcomes)._replace(notes=())  # which the ranking has
    _common.write_page([table, made], None)
    before.check([one.name for one in outcomes])
    files = {
        "ranking.csv": report.to_csv(ranking, problems=problems),
        _JSON: report.to_json(ranking, problems=problems),
        "ranking.md": f"{report.to_markdown(table)}\n{report.to_markdown(made)}",
        "ranking.html": _common.as_html([table, made]),
    }
    for name, text in files.items():
        disk.replace(out / name, text)
    if importlib.util.find_spec("matplotlib") is not None:
        ranking.plot(out / "ranking.png")
    _common.warn(f"wrote {out}" + (", in place of an earlier report" if replaces else ""))
