"""Every value of released implementations that a metric must give, from one table.

The sets are padded to two shapes, so that a metric compiles for these and not for each set.
"""

from typing import Any

import jax
import pytest
from helpers import QUICK

from benchmarks.golden import LEAVES, Check, checks, values

TOLERANCE = {"float64": (1e-6, 1e-12), "float32": (1e-3, 1e-4)}  # relative, absolute
ALL = list(checks())


def parameters() -> list[Any]:
    """All values in float64, and in float32 where it hurts; what is not quick is marked slow."""
    return [
        pytest.param(
            check,
            dtype,
            id="-".join(
                [check.leaf.metric, *map(str, check.leaf.options.values()), check.case, dtype]
            ),
            marks=() if check.case in QUICK[dtype] or check.leaf.source else pytest.mark.slow,
        )
        for check in ALL
        for dtype in TOLERANCE
        if dtype == "float64" or check.case in QUICK[dtype] or check.leaf.source
    ]


@pytest.mark.parametrize(("check", "dtype"), parameters())
def test_golden_value(check: Check, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        assert check.score(dtype) == pytest.approx(check.expected, *TOLERANCE[dtype])


def test_every_line_of_the_table_says_something() -> None:
    """A path that is misspelt would be compared with nothing."""
    assert {check.leaf.path for check in ALL} == {leaf.path for leaf in LEAVES}
    assert len(values()) == 11
