"""Rank agreement against SciPy."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxte import InputError
from jaxte.evaluate import weighted_tau

values = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9)


@given(values)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_weighted_tau_is_scipys_with_any_ties(pairs: list[tuple[int, int]]) -> None:
    scores, accuracies = np.array(pairs, float).T
    expected = scipy.stats.weightedtau(scores, accuracies).statistic
    found = weighted_tau(scores, accuracies)
    assert isinstance(found, float)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_weighted_tau_by_hand() -> None:
    """Three models, the best two swapped: pair weights 3/2, 4/3, 5/6; one pair disagrees."""
    expected = (-3 / 2 + 4 / 3 + 5 / 6) / (3 / 2 + 4 / 3 + 5 / 6)
    assert weighted_tau([2.0, 3.0, 1.0], [90.0, 80.0, 70.0]) == pytest.approx(expected, rel=1e-12)


def test_weighted_tau_extremes() -> None:
    assert weighted_tau([3.0, 1.0, 2.0], [0.9, 0.1, 0.4]) == pytest.approx(1)
    assert weighted_tau([3.0, 1.0, 2.0], [0.1, 0.9, 0.4]) == pytest.approx(-1)
    assert np.isnan(weighted_tau([1.0, 1.0, 1.0], [0.1, 0.9, 0.4]))


def test_weighted_tau_refuses_other_lengths() -> None:
    with pytest.raises(InputError, match=r"3.*2|2.*3"):
        weighted_tau([1.0, 2.0, 3.0], [1.0, 2.0])
