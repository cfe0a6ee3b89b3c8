"""The dry account of work: against what XLA counts in the compiled programs."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import account, cli, report
from jaxte.metrics import REGISTRY
from jaxte.statistics import Sample, Statistics

N, D, C = 800, 256, 20  # one block of pairs, as what a loop repeats is counted once
# Programs count what the account leaves out as not needed: refinement, checks of conditions.
MOST = 1.5


def flops(metric: str) -> float:
    """Operations of the compiled program by XLA, which does not see into LAPACK."""
    record = REGISTRY[metric]

    def score(x: Any, y: Any) -> Any:
        labels, classes = (jnp.ones(N), None) if record.label_free else (y, C)
        statistics = Statistics(Sample(x, labels), num_classes=classes, route="quick")
        return record.evaluate(statistics, record.all_options({}))["score"]

    x, y = jax.ShapeDtypeStruct((N, D), "float64"), jax.ShapeDtypeStruct((N,), "int32")
    analysis: Any = jax.jit(score).lower(x, y).compile().cost_analysis()
    return float(analysis["flops"])


@pytest.mark.parametrize("metric", [*account.GOAL, "rankme", "lda", "ridge_probe", "knn", "parc"])
def test_products_are_those_of_the_program(metric: str, x64: None) -> None:
    ratio = flops(metric) / account.of(metric, N, D, C).products
    assert 0.9 < ratio < MOST


def test_the_floor_is_the_larger_of_two() -> None:
    work = account.Work(products=6.0, factors=4.0, bytes=30.0)
    assert work.floor(rate=10.0, bandwidth=10.0) == 3.0
    assert work.floor(rate=1.0, bandwidth=10.0) == 10.0
    # C, columns and rows each cost; no more columns count than there are rows
    one = account.of("logme", 100, 50, 3)
    for more in (dict(n=200), dict(d=60), dict(classes=9)):
        assert account.of("logme", **{**dict(n=100, d=50, classes=3), **more}) > one
    assert account.of("logme", 100, 500, 3) == account.of("logme", 100, 100, 3)
    halves = account.of("face", 100, 50, 3, entry=2)
    assert 2 * halves.bytes == account.of("face", 100, 50, 3, entry=4).bytes


def test_the_account_of_every_metric_is_written(tmp_path: Path) -> None:
    arguments = ["account", "--n", "10", "--rate", "1e9", "--bandwidth", "1e9", "--link", "1e9"]
    out = tmp_path / "account.md"
    assert cli.main([*arguments, "--d", "10", "--classes", "2", "--out", str(out)]) == 0
    text = out.read_text()
    assert set(account.ACCOUNTS) <= set(REGISTRY)
    assert all(f"| {metric} |" in text for metric in account.ACCOUNTS)
    # 400 operations on moments, 80 on distances of two means, 400 bytes of features
    work = account.of("gbc", 10, 10, 2)
    assert work == (480, 0, 400)
    assert "| gbc | 0.0 | 0.0 | 0 | 0.48 µs | arithmetic |" in text
    floors = sum(account.of(m, 10, 10, 2).floor(1e9, 1e9) for m in account.GOAL)
    assert f"{report.seconds(33 * floors)} one metric after the other" in text
    by = partial(account.of, "hscore", 10, 10, 2)
    assert by().operations == by().products + by().factors
