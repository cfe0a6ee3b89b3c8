"""Trials that were made stay made: in memory, and in a journal that a kill leaves whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxte.errors import InputError, one_line
from jaxte.intake import disk
from jaxte.intake.lines import append_line, key_of, read_lines

__all__ = ["JOURNAL", "Memo", "TrialError"]

JOURNAL = "trials.jsonl"
_HEADER = "race"


class TrialError(Exception):
    """A trial that failed, in one line."""


class Memo:
    """A trial function that makes each trial once.

    Args:
        trial: (model, rung, seed) -> scores; what it raises becomes a `TrialError`.
        describe: (model, rung) -> what the scores depend on, in terms of JSON.
        directory: of the journal; None keeps it in memory.
        header: what all trials have in common; a journal with another one is refused.
        variant: of the trials, which one journal may hold several of.
    """

    def __init__(
        self,
        trial: Callable[[str, int, int], Any],
        describe: Callable[[str, int], Any],
        directory: Path | None,
        header: Mapping[str, Any],
        variant: int = 0,
    ) -> None:
        self._trial, self._describe, self._variant = trial, describe, variant
        self._path = None if directory is None else directory / JOURNAL
        self._known: dict[str, dict[str, Any]] = {}
        self.replayed = 0
        self._lock: Any = None
        if self._path is not None:
            try:
                self._open(self._path, json.loads(json.dumps(header)))
            except BaseException:
                self.close()
                raise

    def _open(self, path: Path, header: dict[str, Any]) -> None:
        if path.parent.exists() and not path.parent.is_dir():
            raise InputError(f"{path.parent} is a file: name a directory")
        self._take(path.parent)
        entries = read_lines(path)
        before = entries.pop(_HEADER, None)
        if before is None:
            if entries:
                raise InputError(f"{path} is no journal of a race: name another directory")
            append_line(path, {"key": _HEADER, **header})
        elif differing := [key for key, value in header.items() if before.get(key) != value]:
            raise InputError(
                f"{path.parent} holds a race of other {' and '.join(differing)}: give what it was "
                "begun with, or name another directory"
            )
        self._known = entries

    def _take(self, directory: Path) -> None:
        """Keep other processes out; the lock ends with this one."""
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = disk.lock(directory / ".lock")
        if self._lock is None:
            raise InputError(
                f"another race runs in {directory}: wait for it, or name another directory"
            )

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.release()

    def __call__(self, model: str, rung: int, seed: int) -> np.ndarray:
        """Scores of a trial, made now or before."""
        try:
            on = self._describe(model, rung)
        except Exception as error:  # a model that cannot be read, nor be tried
            raise TrialError(one_line(error)) from error
        key = key_of(model, rung, seed, self._variant)
        entry = self._known.get(key)
        if entry is not None and entry["on"] != on:
            raise InputError(
                f"{model} is not the model that its trials in {self._path} were made with: give "
                "that one, or name another directory"
            )
        if entry is None:
            entry = {"key": key, "model": model, "rung": rung, "seed": seed, "on": on}
            try:
                scores = np.asarray(self._trial(model, rung, seed), np.float64)
                entry["shape"], entry["scores"] = scores.shape, scores.ravel().tolist()
            except Exception as error:  # whatever a model raises, the others go on
                entry["failed"] = one_line(error)
            self._known[key] = entry
            if self._path is not None:
                append_line(self._path, entry)
        else:
            self.replayed += 1
        if "failed" in entry:
            raise TrialError(entry["failed"])
        return np.array(entry["scores"], np.float64).reshape(entry["shape"])
