"""Features of a pool side by side, each model a block of columns of one size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxte.errors import InputError, said
from jaxte.intake import checks, join_layers
from jaxte.ranking.options import check_names

__all__ = ["Blocks", "blocks_of"]


class Blocks(NamedTuple):
    """All models.

    Attributes:
        names: of the models.
        columns: [n, D] all features, each model's centred and of total variance 1.
        starts: [M + 1] where each model's columns begin, and where the last end.
        targets: [n] class numbers, or floats.
        weights: [n] or None.
        num_classes: C, or None for regression.
    """

    names: tuple[str, ...]
    columns: np.ndarray
    starts: np.ndarray
    targets: Any
    weights: Any
    num_classes: int | None

    @property
    def widths(self) -> np.ndarray:
        """Of the models [M]."""
        return np.diff(self.starts)

    def places(self, models: tuple[int, ...], width: int) -> np.ndarray:
        """Numbers of the columns of these models [width], D where there are no more."""
        own = [np.arange(self.starts[m], self.starts[m + 1]) for m in models]
        joined = np.concatenate(own)
        return np.append(joined, np.full(width - len(joined), self.columns.shape[1]))


def blocks_of(
    features: Mapping[str, ArrayLike],
    targets: ArrayLike,
    size: int,
    num_classes: int | None,
    weights: ArrayLike | None,
    *,
    regression: bool,
) -> Blocks:
    """Clean what a user gave; raise `InputError` for what cannot be selected from."""
    check_names(features)
    if len(features) < size:
        raise InputError(f"there are {len(features)} models: an ensemble of {size} needs as many")
    blocks = []
    for name, values in features.items():
        try:
            own, weights = checks.check_features(values, weights)
            blocks.append(join_layers([own], weights))
        except InputError as error:
            raise InputError(f"{name}: {said(error)}") from error
        if len(blocks[-1]) != len(blocks[0]):
            raise InputError(f"{name} has {len(blocks[-1])} rows, the others {len(blocks[0])}")
    columns = np.concatenate(blocks, axis=1)
    clean = checks.check_arguments(
        columns, targets, num_classes, weights, None, regression=regression
    )
    starts = np.cumsum([0, *(block.shape[1] for block in blocks)])
    names = tuple(map(str, features))
    return Blocks(names, columns, starts, clean.targets, clean.weights, clean.num_classes)
