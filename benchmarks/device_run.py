"""What the steps of ``device`` share: sizes, the time that is left, and what was measured."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.account import GOAL
from benchmarks.problems import WIDTHS
from benchmarks.settings import say

LINES = "device.jsonl"
Row = dict[str, Any]


class Sizes(NamedTuple):
    """What is measured, at which sizes.

    Attributes:
        case: n, d and C of the metrics.
        pools: models, n and C of each pool of ragged widths.
        goal: models, n, d and C of the pool of the goal.
        widths: of the ragged pools.
        product: rows and columns of the product of the ceilings.
        copied: bytes of the copy.
        solved: sizes d of the solvers.
        many: how many systems are solved as a batch.
        growth: axis -> points.
        base: n, d and C of the others meanwhile.
        images: of the extraction, their batch and the networks (family, width).
        metrics: of the goal that are measured alone.
        golden: metrics whose values are compared; None for all.
        repeats: timed runs of each, at most.
    """

    case: tuple[int, int, int]
    pools: tuple[tuple[int, int, int], ...]
    goal: tuple[int, int, int, int]
    widths: tuple[int, ...]
    product: int
    copied: int
    solved: tuple[int, ...]
    many: int
    growth: Mapping[str, tuple[int, ...]]
    base: tuple[int, int, int]
    images: tuple[int, int, tuple[tuple[str, int], ...]]
    metrics: tuple[str, ...]
    golden: tuple[str, ...] | None
    repeats: int


FULL = Sizes(
    case=(10_000, 2048, 100),
    pools=((16, 5000, 100), (33, 5000, 100), (200, 2000, 10)),
    goal=(33, 10_000, 2048, 100),
    widths=WIDTHS,
    product=8192,
    copied=1 << 31,
    solved=(512, 1024, 2048),
    many=8,
    growth={"n": (2500, 10_000, 40_000, 160_000), "d": (256, 512, 1024, 2048, 4096)},
    base=(10_000, 512, 100),
    images=(8192, 512, (("resnet", 256), ("vit", 256))),
    metrics=GOAL,
    golden=None,
    repeats=5,
)
QUICK = Sizes(
    case=(60, 12, 3),
    pools=((3, 60, 3),),
    goal=(3, 60, 80, 3),  # padded as the others, so that all are the same programs
    widths=(12, 20, 80),
    product=64,
    copied=1 << 16,
    solved=(16,),
    many=1,
    growth={"n": (60, 90)},
    base=(60, 12, 3),
    images=(64, 32, (("mlp", 32),)),
    metrics=("face", "hscore"),
    golden=("hscore",),
    repeats=1,
)


@dataclass
class Run:
    """One run of the command.

    Attributes:
        folder: where results go.
        quick: tiny sizes, to see whether all still runs.
        end: by the clock of `time.monotonic`.
        sizes: of everything.
        zoo: folder of the zoo's benchmark pool, if there is one.
        rows: all that was written so far.
        ceilings: name -> operations or bytes a second, once they are measured.
    """

    folder: Path
    quick: bool
    end: float
    sizes: Sizes
    zoo: Path | None = None
    rows: list[Row] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def has(self, seconds: float) -> bool:
        """Whether there is time for so much more."""
        return self.quick or self.left > seconds

    def write(self, step: str, row: Mapping[str, Any]) -> None:
        """Add a line of results, at once."""
        line: Row = {"step": step, **{key: _plain(value) for key, value in row.items()}}
        self.rows.append(line)
        with (self.folder / LINES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        say(f"{self.left:6.0f} s left: " + json.dumps(line)[:200])


class Step(NamedTuple):
    """One step.

    Attributes:
        name: in results.
        seconds: that it takes on a data-centre card, compilation included; it is not begun with
            less time left.
        rows: makes its rows, one by one.
        about: what it measures.
    """

    name: str
    seconds: float
    rows: Callable[[Run], Iterator[Row]]
    about: str


def _plain(value: Any) -> Any:
    """Null for what is not finite, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
