"""``coverage``: what it counts, and that intervals of a small population cover its mean score."""

import numpy as np
import pytest

from benchmarks import coverage


def test_chances_are_counted_by_tenths() -> None:
    chances, right = np.array([0.02, 0.08, 0.55, 1.0]), np.array([False, True, True, True])
    tenths = np.array(coverage.by_tenth(chances, right))
    expected = [(0.0, 2, 0.05, 0.5), (0.5, 1, 0.55, 1.0), (0.9, 1, 1.0, 1.0)]
    np.testing.assert_allclose(tenths, expected)


def test_intervals_cover_and_p_values_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "METRICS", ("hscore",))
    (line,) = coverage.intervals(80, 6, 30, 0, ("hscore",))
    assert 0.75 < line.covered <= 1
    assert 0.6 < line.error_ratio < 1.6
    values = coverage.p_values(60, 4, 20, 19, 0)["hscore"]
    assert 0.2 < values.mean() < 0.8
