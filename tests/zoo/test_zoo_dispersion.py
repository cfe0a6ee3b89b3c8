"""What the benchmark pool can tell: spread, noise ceiling, static ranking."""

import numpy as np
import pytest

from jaxte.zoo import benchmark
from jaxte.zoo.benchmark.records import Result


def result(model: str, target: str, *seeds: float) -> Result:
    """One result of fine-tuning alone."""
    return Result(model, target, seeds, (), (), (), {})


def test_summary() -> None:
    """Seeds that agree have a ceiling of 1; the static ranking comes from the other targets."""
    actual = [
        result(model, target, value, value, value)
        for target, values in {
            "one": {"a": 0.9, "b": 0.8, "c": 0.5},
            "two": {"a": 0.7, "b": 0.6, "c": 0.1},
            "odd": {"a": 0.2, "b": 0.3, "c": 0.6},
        }.items()
        for model, value in values.items()
    ]
    rows = {row["target"]: row for row in benchmark.summary(actual)}
    assert [row["best"] for row in rows.values()] == ["a", "a", "c"]
    for row in rows.values():
        assert row["ceiling"] == pytest.approx(1)
        assert row["seed_sd"] == pytest.approx(0)
    assert rows["one"]["spread"] == pytest.approx(0.4)
    assert rows["odd"]["static"] == pytest.approx(-1)
    assert rows["odd"]["static_regret"] == pytest.approx(0.4)


def test_summary_of_noise_and_of_gaps() -> None:
    """Seeds that disagree lower the ceiling; what diverged or is not measured is left out."""
    actual = [
        result("a", "one", 0.9, 0.1, 0.5), result("b", "one", 0.1, 0.9, 0.5),
        result("c", "one", 0.5, 0.5, 0.4), result("d", "one", 0.9, float("nan"), 0.9),
        result("a", "two", 0.9, 0.8, 0.9),
    ]  # fmt: skip
    (row,) = benchmark.summary(actual)
    assert row["models"] == 3
    assert row["ceiling"] < 0.5
    assert np.isnan(row["static"])
