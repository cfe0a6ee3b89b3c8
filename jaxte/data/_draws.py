"""Seeded draws that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np

from jaxte.errors import InputError


def keys(count: int, *seed: int) -> np.ndarray:
    """Random 64-bit numbers, whose order is the draw.

    NumPy promises the raw numbers of a bit generator for good, but not what its distributions
    and permutations make of them.
    """
    if min(seed) < 0:
        raise InputError(f"seed is {min(seed)}: it must be 0 or larger")
    return np.asarray(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count))


def rank_within(groups: np.ndarray, order_by: np.ndarray) -> np.ndarray:
    """For each row its place, from 0, among the rows of its group, by rising ``order_by``."""
    order = np.lexsort((order_by, groups))
    sizes = np.unique(groups, return_counts=True)[1]
    ends = np.cumsum(sizes)
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(ends - sizes, sizes)
    return rank


def quotas(counts: np.ndarray, n: int) -> np.ndarray:
    """Share n among groups of these sizes, in proportion, and at least 1 each if n allows.

    Largest remainders; where groups have to be lifted to 1, the others share what is left. A
    group never gets more than it has.
    """
    counts = np.asarray(counts, np.int64)
    share = np.zeros(len(counts), np.int64)
    if n < len(counts):  # the largest groups, the first of equal ones
        share[np.argsort(-counts, kind="stable")[:n]] = 1
        return share
    small = np.zeros(len(counts), bool)
    while (lifted := ~small & (counts * (n - small.sum()) < counts[~small].sum())).any():
        small |= lifted
    share[small] = 1
    left = n - int(small.sum())
    whole = int(counts[~small].sum())
    share[~small] = counts[~small] * left // whole
    rest = np.where(small, -1, counts * left % whole)
    share[np.argsort(-rest, kind="stable")[: n - int(share.sum())]] += 1
    return share


def stratified(classes: np.ndarray, n: int, order_by: np.ndarray) -> np.ndarray:
    """Rows of a draw that keeps the proportions of the classes, in rising order."""
    _, group, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return np.flatnonzero(rank_within(group, order_by) < quotas(counts, n)[group])
