"""Rankings beside what fine-tuning reached, for `jaxte rank --accuracies` and `jaxte evaluate`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxte.cli._errors import warn
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jaxte.evaluate import Evaluation
    from jaxte.ranking import Ranking

__all__ = ["Truth", "accuracies_of", "csv_of", "draw", "json_of"]

_PUBLISHED = "published:"


def accuracies_of(text: str) -> Any:
    """The path of a file or directory, or published accuracies."""
    if not text.startswith(_PUBLISHED):
        return Path(text)
    from jaxte.evaluate import published

    pool, _, regime = text.removeprefix(_PUBLISHED).partition("/")
    return published(pool, regime or "full")


class Truth(NamedTuple):
    """Accuracies of one or more data sets, as an option names them."""

    source: Any
    datasets: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Truth:
        """Read them once, so that a bad file is refused before any work."""
        from jaxte.evaluate import read_accuracies

        source = accuracies_of(text)
        names = dict.fromkeys(one.dataset for one in read_accuracies(source))
        return cls(source, tuple(name for name in names if name is not None))

    def directories(self, directory: str) -> list[Path]:
        """The directories in this one that are named as data sets."""
        return [Path(directory, name) for name in self.datasets if Path(directory, name).is_dir()]

    def dataset(self, directory: str, chosen: str | None) -> str | None:
        """Of which data set the features in a directory are."""
        own = chosen or Path(directory).resolve().name
        if chosen is None and own not in self.datasets and len(self.datasets) > 1:
            raise InputError(
                f"{directory} is named as none of the data sets with accuracies "
                f"({', '.join(self.datasets)}): choose with --dataset"
            )
        return own if own in self.datasets else chosen

    def compare(
        self, rankings: Ranking | Mapping[str, Ranking], dataset: str | None
    ) -> Evaluation | None:
        """The evaluation of one ranking, or of one for each data set; None with a warning why."""
        from jaxte.evaluate import evaluate

        try:
            return evaluate(rankings, self.source, dataset=dataset)
        except InputError as error:  # the rankings are to be had without
            warn(f"no comparison with accuracies: {error}")
            return None


def csv_of(text: str, evaluation: Evaluation | None, dataset: str) -> list[dict[str, Any]]:
    """The records of a ranking's CSV, with the data set before and the accuracy, if any, behind."""
    records = csv.DictReader(io.StringIO(text, newline=""))
    return [{"dataset": dataset, **r} for r in _with_accuracy(records, evaluation, dataset)]


def json_of(texts: Mapping[str, str], evaluation: Evaluation | None) -> str:
    """The rankings' JSON by data set, likewise, and the evaluation."""
    from jaxte import report

    rankings = {name: json.loads(text) for name, text in texts.items()}
    for name, one in rankings.items():
        one["records"] = _with_accuracy(one["records"], evaluation, name)
    also = {} if evaluation is None else {"evaluation": evaluation.content()}
    return report.json_text({"rankings": rankings, **also})


def _with_accuracy(
    records: Iterable[Mapping[str, Any]], evaluation: Evaluation | None, dataset: str
) -> list[dict[str, Any]]:
    if evaluation is None or dataset not in evaluation.datasets:
        return list(map(dict, records))
    measured = evaluation.accuracies(dataset)
    return [{**record, "accuracy": measured.get(record["model"])} for record in records]


def draw(shown: Ranking | Evaluation, evaluation: Evaluation | None, plot: Path | None) -> None:
    """A ranking or its measures, and beside them the scores against the accuracies, if any."""
    if plot is None:
        return
    shown.plot(plot)
    warn(f"wrote {plot}")
    if evaluation is not None:
        beside = plot.with_stem(f"{plot.stem}-scores")
        evaluation.plot_scores(beside)
        warn(f"wrote {beside}")
