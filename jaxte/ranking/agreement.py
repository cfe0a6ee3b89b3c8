"""Several processes that rank the same models take the same steps, each with its own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from jaxte.intake import Labels
from jaxte.ranking.inputs import Resolved
from jaxte.runtime.mesh import Layout, sync_processes

__all__ = ["agreed"]


def agreed(layout: Layout, names: Sequence[str], resolved: Resolved) -> Mapping[str, int]:
    """Keep the candidates that every process can score, with classes numbered alike.

    Returns:
        Rows of a model that the processes are to fill up to.
    """
    own = {candidate.name: candidate for candidate in resolved.candidates}
    shapes = [np.shape(own[name].features) if name in own else (0, 0) for name in names]
    classes = {
        name: None if labels.classes is None else list(labels.classes)
        for name, labels in resolved.labels.items()
    }
    agreement = sync_processes(names, [n for n, _ in shapes], [d for _, d in shapes], classes)
    for name, process in zip(names, agreement.failed_on, strict=True):
        if process is not None:
            reason = f"process {process} cannot score it: see its own ranking"
            resolved.problems.setdefault(name, reason)
    for name, union in agreement.classes.items():
        labels = resolved.labels.get(name)
        if labels is None or labels.classes is None or list(labels.classes) == union:
            continue
        numbers = {one: number for number, one in enumerate(union)}
        places = np.array([numbers[one] for one in labels.classes], np.int32)
        resolved.labels[name] = Labels(places[labels.values], union)
        if name in own:
            own[name] = replace(own[name], targets=resolved.labels[name].values)
    kept = {name: n for name, n in zip(names, agreement.rows, strict=True) if n}
    resolved.candidates = [own[name] for name in kept]
    return {name: layout.padded(n) for name, n in kept.items()}
