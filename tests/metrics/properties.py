"""What a property is asked of: a metric with its options, a kind of problem, a precision."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from helpers import (
    SHAPES,
    Array,
    Case,
    Problem,
    compiled,
    padded_arrays,
    problem_of,
)

TOLERANCE: dict[str, dict[str, float]] = {
    "float64": {"rtol": 1e-8, "atol": 1e-9},
    "float32": {"rtol": 1e-3, "atol": 1e-4},
}
STEP = 1e-5
LANES = 5  # of a batch

Arguments = tuple[jax.Array, ...]


@cache
def batched(call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Under vmap and jit, the same object for the same function."""
    return jax.jit(jax.vmap(call))


class Setting(NamedTuple):
    """A metric with its options, a kind of problem, and a precision."""

    case: Case
    kind: str
    dtype: str

    @property
    def problem(self) -> Problem:
        return problem_of(self.kind)

    @property
    def classes(self) -> bool:
        return self.problem.num_classes is not None

    def score(self, features: Any = None, targets: Any = None, weights: Any = None) -> float:
        """Under jit, padded; of the kind's own features and targets unless others are given."""
        x, y = self.problem
        problem = Problem(x if features is None else features, y if targets is None else targets)
        (score,) = self.scores([padded_arrays(problem, self.kind, weights)])
        return score

    def scores(self, problems: Sequence[Arguments]) -> list[float]:
        """Scores of padded problems, where there is a batch beside other problems of a batch."""
        call = compiled(self.case, SHAPES[self.kind][2])
        if not self.in_batches:
            return [float(call(*arguments)) for arguments in problems]
        done: list[float] = []
        while len(done) < len(problems):
            own = problems[len(done) : len(done) + LANES]
            lanes = [*own, *[padded_arrays(self.problem, self.kind)] * (LANES - len(own))]
            stacked = (jnp.stack(part) for part in zip(*lanes, strict=True))
            done += map(float, batched(call)(*stacked)[: len(own)])
        return done

    @property
    def in_batches(self) -> bool:
        """Long problems in float64 are scored in batches, all others one by one."""
        return float64_not_wide(self)

    def filled_up(self, x: Array, y: Array) -> float:
        """Outside jit, in the shape of the problem: what is not of these says nothing."""
        n, d = self.problem.features.shape
        features, targets = np.full((n, d), np.nan), np.full(n, -1)
        features[: len(x)] = np.pad(x, ((0, 0), (0, d - x.shape[1])))
        targets[: len(x)] = y
        weights = np.arange(n) < len(x)
        return float(
            self.case.function(features, targets, weights=weights, num_features=x.shape[1])
        )

    def assert_score(self, other: Any, **how: Any) -> None:
        """The score of the problem itself is this number, up to rounding."""
        self.assert_equal(self.score(), other, **how)

    def assert_equal(self, a: Any, b: Any, rtol: float = 0) -> None:
        tolerance = TOLERANCE[self.dtype]
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, max(rtol, tolerance["rtol"]), tolerance["atol"])


PROPERTIES: dict[Callable[[Setting], None], Callable[[Setting], bool]] = {}


def each(where: Callable[[Setting], bool] = lambda _: True) -> Callable[..., Any]:
    """Put a property on the list, for the settings where it says something."""

    def listed(check: Callable[[Setting], None]) -> Callable[[Setting], None]:
        PROPERTIES[check] = where
        return check

    return listed


def claimed(invariance: str) -> Callable[[Setting], bool]:
    return lambda setting: setting.case.invariant(invariance)


def tall(setting: Setting) -> bool:
    return setting.kind == "tall"


def of_classes(setting: Setting) -> bool:
    return setting.classes


def not_wide(setting: Setting) -> bool:
    return setting.kind != "wide"


def float64(setting: Setting) -> bool:
    return setting.dtype == "float64"


def float64_not_wide(setting: Setting) -> bool:
    return float64(setting) and not_wide(setting)


def has_slopes(setting: Setting) -> bool:
    """Where they are asked for: they take the longest to compile."""
    if float64(setting):
        return not_wide(setting) or setting.case.default
    return tall(setting) and setting.case.default
