"""What every command is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import child

METRICS = ("logme", "sfda", "face")


@dataclass
class Settings:
    """Options shared by the commands.

    Attributes:
        repeats: timed runs of everything.
        patience: seconds after which one contestant of a comparison is repeated no more.
        seed: of the inputs.
        kind: of the inputs, see `benchmarks.problems.KINDS`.
        clones: name -> folder of released code.
        rivals: parts of the names of the rivals wanted, None for all.
        threads: cores and threads that every child may use, None for what the system gives.
        memory_cases: in how many cases of ``metrics`` to measure memory, which takes a process
            for every contestant; None for all.
        skipped: lines that say what was left out and why, each once.
    """

    repeats: int = 5
    patience: float = 60.0
    seed: int = 0
    kind: str = "structured"
    clones: dict[str, str] = field(default_factory=dict)
    rivals: list[str] | None = None
    threads: int | None = None
    memory_cases: int | None = None
    skipped: list[str] = field(default_factory=list)

    def common(self) -> dict[str, Any]:
        """The part that children need."""
        keys = ("repeats", "patience", "seed", "kind", "clones", "rivals", "threads")
        return {key: getattr(self, key) for key in keys}

    def skip(self, lines: Iterable[str]) -> None:
        """Say, once, what is left out."""
        for line in lines:
            if line not in self.skipped:
                self.skipped.append(line)
                say(line)

    def attempt(self, what: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """A child's result; None, and a line that says why, if it ended without one."""
        say(what)
        try:
            result = run()
        except child.FailedError as error:
            self.skip([f"{what} failed: {error}"])
            return None
        self.skip(result.pop("skipped", []))
        return result


def wanted(name: str, chosen: Iterable[str] | None) -> bool:
    """Whether a rival is among the chosen ones, each a part of a name."""
    return chosen is None or any(part.lower() in name.lower() for part in chosen)


def say(line: str) -> None:
    """Progress, beside the results."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
