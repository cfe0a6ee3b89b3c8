"""Reading and writing what was measured: a file of one JSON object a line.

Beside accuracies.jsonl lies random-head.jsonl: the first thirty pairs, fine-tuned from a random
head, which fell up to 19 points below the probe and was given up for the probe's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxte.intake.lines import read_lines
from jaxte.zoo import catalog
from jaxte.zoo.artefacts import read_json

HERE = Path(__file__).parent
SHIPPED = HERE / "accuracies.jsonl"


@dataclass(frozen=True)
class Result:
    """What one model reached on one target: accuracy, or R2 of a regression.

    `finetune` and `probe` hold the value of each seed on the target's own test part, the `shifted`
    ones on its second test part; empty where it has none, or that was not measured. `card` is the
    line as measured: learning rates tried and chosen, whether the best lay inside the grid, losses,
    budget and seconds.
    """

    model: str
    target: str
    finetune: tuple[float, ...]
    probe: tuple[float, ...]
    finetune_shifted: tuple[float, ...]
    probe_shifted: tuple[float, ...]
    card: Mapping[str, Any] = field(repr=False)


def roots() -> tuple[Path, Path]:
    """Return the two directories that the pool's models ship in, for `jaxte.zoo.load`."""
    return catalog.PACKAGE, HERE


def models(*, root: Path | None = None) -> dict[str, Path]:
    """Return the root directory of every model of the pool, by name, sorted.

    Args:
        root: a directory with more of them, written by the build.

    Examples:
        >>> from jaxte import zoo
        >>> from jaxte.zoo import benchmark
        >>> zoo.load("resnet-cifar", root=benchmark.models()["resnet-cifar"]).name
        'resnet-cifar'
    """
    folders = (*roots(), *(() if root is None else (root,)))
    return dict(sorted((name, where) for where in folders for name in catalog.names(root=where)))


def targets() -> dict[str, dict[str, Any]]:
    """Return the card of every target, by name: kind, task, sizes, source, licence, overlap.

    Examples:
        >>> from jaxte.zoo import benchmark
        >>> benchmark.targets()["sprites-scale"]["task"]
        'regression'
    """
    folder = HERE / "targets"
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}


def results(path: Path | None = None) -> list[Result]:
    """Return what was measured, in the order of measurement; the last of a pair counts.

    Args:
        path: a file written by the build; the one that ships by default.

    Raises:
        InputError: if the file is damaged.

    Examples:
        >>> from jaxte.zoo import benchmark
        >>> all(len(result.finetune) >= 5 for result in benchmark.results())
        True
    """
    by_pair: dict[tuple[str, str], Result] = {}
    for entry in read_lines(SHIPPED if path is None else path).values():
        tuned, probed = entry.get("finetune", {}), entry["probe"]
        by_pair[entry["model"], entry["target"]] = Result(
            entry["model"],
            entry["target"],
            _values(tuned.get("test", ())),
            _values(probed["test"]),
            _values(tuned.get("shifted", ())),
            _values(probed.get("shifted", ())),
            entry,
        )
    return list(by_pair.values())


def _values(seeds: Any) -> tuple[float, ...]:
    """Values of the seeds; a run that diverged, null on disk, is not a number."""
    return tuple(float("nan") if value is None else float(value) for value in seeds)
