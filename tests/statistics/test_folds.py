"""Folds are stratified, even, and blind to padding and to the numbers of the classes."""

import jax
import numpy as np
import pytest

from jaxte.statistics.folds import fold_numbers

dealt = jax.jit(fold_numbers, static_argnums=2)
LABELS = np.random.default_rng(0).integers(0, 5, 67)


@pytest.mark.parametrize("seed", [None, 3])
def test_classes_are_spread_evenly_and_absent_rows_left_out(seed: int | None) -> None:
    key = None if seed is None else jax.random.key(seed)
    folds = np.asarray(dealt(LABELS, None, 4, key))
    table = np.zeros((5, 4), int)
    np.add.at(table, (LABELS, folds), 1)
    assert np.ptp(table, axis=1).max() <= 1
    assert np.ptp(table.sum(axis=0)) <= 1
    renumbered = np.array([7, -2, 5, 0, 9])[LABELS]
    np.testing.assert_array_equal(dealt(renumbered, None, 4, key), folds)
    padded = np.insert(LABELS, [0, 3, 30, 67], [1, -7, 4, 9])
    weights = np.insert(np.full(67, 0.5), [0, 3, 30, 67], 0.0)
    spread = np.asarray(dealt(padded, weights, 4, key))
    np.testing.assert_array_equal(spread[weights > 0], folds)
    assert (spread[weights == 0] == -1).all()


def test_a_key_deals_the_rows_of_a_class_at_random() -> None:
    assert np.asarray(dealt(np.zeros(6, int), None, 3)).tolist() == [0, 1, 2] * 2
    drawn = [dealt(LABELS, None, 4, jax.random.key(i)).tolist() for i in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
