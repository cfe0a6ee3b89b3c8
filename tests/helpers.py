"""Problems, cases and counters shared by the test files."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from jaxte.metrics import REGISTRY

Array = NDArray[Any]
GOLDEN_DIR = Path(__file__).parent / "golden"
GOLDEN: dict[str, dict[str, Any]] = json.loads((GOLDEN_DIR / "golden.json").read_text())
CLASSIFICATION = [name for name, case in GOLDEN.items() if case["meta"]["task"] == "classification"]


class Problem(NamedTuple):
    """Features and targets of one made-up or stored data set."""

    features: Array
    targets: Array

    @property
    def num_classes(self) -> int | None:
        """One more than the largest label; None for real targets."""
        return int(self.targets.max()) + 1 if self.targets.dtype.kind == "i" else None


@cache
def golden_set(name: str) -> Problem:
    """A stored feature set, labels as int32, read-only."""
    with np.load(GOLDEN_DIR / f"{name}.npz") as data:
        features, targets = data["features"], data["labels"]
    targets = targets.astype(np.int32) if targets.dtype.kind == "i" else targets
    features.setflags(write=False)
    return Problem(features, targets)


def blobs(
    n: int, d: int, *, classes: int = 4, separation: float = 2.0, offset: float = 0.3, seed: int = 0
) -> Problem:
    """Gaussian classes of unequal size and unequal shape, float64."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    rng.shuffle(labels)
    means = separation * rng.normal(size=(classes, d)) / np.sqrt(d)
    scales = rng.uniform(0.3, 1.2, size=(classes, d)) / np.sqrt(d)
    features = offset + means[labels] + scales[labels] * rng.normal(size=(n, d))
    return Problem(features, labels.astype(np.int32))


def regression(n: int, d: int, *, outputs: int = 0, noise: float = 0.3, seed: int = 0) -> Problem:
    """Linear targets with noise, 1-D when ``outputs`` is 0."""
    rng = np.random.default_rng(seed)
    features = 0.3 + rng.normal(size=(n, d)) * np.linspace(1.5, 0.2, d)
    targets = features @ rng.normal(size=(d, max(outputs, 1))) / np.sqrt(d)
    targets += noise * rng.normal(size=targets.shape)
    return Problem(features, targets if outputs else targets[:, 0])


# The pairs that run without `-m slow`: every kind of difficulty once; float32 where it hurts.
QUICK = {
    "float64": {
        *("breast_cancer_raw", "diabetes_regression", "synthetic_collapsed", "synthetic_offset"),
        *("synthetic_rank_deficient", "synthetic_wide", "wine_standardised"),
    },
    "float32": {"breast_cancer_raw", "diabetes_regression", "synthetic_offset", "synthetic_wide"},
}


def golden_pairs(names: Iterable[str], only: Collection[str] = ()) -> list[Any]:
    """Parameters (name, dtype): float64 for every set, or for these only, and float32 if quick.

    What is not quick is marked slow.
    """
    return [
        pytest.param(
            name,
            dtype,
            id=f"{name}-{dtype}",
            marks=() if name in QUICK[dtype] else pytest.mark.slow,
        )
        for name in names
        for dtype in QUICK
        if name in (only or names) and (dtype == "float64" or name in QUICK[dtype])
    ]


class Case(NamedTuple):
    """A registered kernel and its options."""

    metric: str
    options: Mapping[str, Any] = {}

    @property
    def label(self) -> str:
        """Readable test id."""
        return "-".join([self.metric, *map(str, self.options.values())])

    @property
    def function(self) -> Callable[..., jax.Array]:
        """The kernel with its options bound."""
        return partial(REGISTRY[self.metric].function, **self.options)

    @property
    def default(self) -> bool:
        """Whether the record speaks of this case: of all options it knows their default only."""
        return set(self.options.values()) <= set(REGISTRY[self.metric].variants[:1])

    @property
    def range(self) -> tuple[float, float]:
        """What the record says of the default, and nothing of other options."""
        return REGISTRY[self.metric].range if self.default else (-np.inf, np.inf)

    def invariant(self, change: str) -> bool:
        """Whether the record claims that this change of the features changes no score."""
        return self.default and change in REGISTRY[self.metric].invariances

    def does(self, task: str) -> bool:
        """Whether it scores such targets."""
        return task in REGISTRY[self.metric].tasks


# Options that take other routes than the variants do.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "face": [{"covariance": "diagonal"}, {"covariance": "full", "variance_floor": 1e-3}],
    "nearest_class_mean": [{"leave_one_out": True}],
}
CASES = [
    Case(name, options)
    for name, metric in REGISTRY.items()
    for options in [
        *([{"variant": variant} for variant in metric.variants] or [{}]),
        *OPTIONS.get(name, []),
    ]
]


# What a metric by its definition does not have: metric -> {name of a property: why}.
EXEMPT: dict[str, dict[str, str]] = {
    "hscore_shrinkage": {
        "larger_for_better_features": "noise that is alike in all directions is shrunk to a "
        "multiple of I, a = 1, and then the score is 0 by its factor 1 - a: two copies tie",
    },
}


_BY_LABEL: dict[str, Case] = {}  # cases hold dicts, which a cache cannot hash


@cache
def _compiled(label: str, num_classes: int | None) -> Callable[..., jax.Array]:
    case = _BY_LABEL[label]

    def call(
        features: jax.Array, targets: jax.Array, weights: jax.Array, num_features: jax.Array
    ) -> jax.Array:
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return case.function(
            features, targets, weights=weights, num_features=num_features, **classes
        )

    return jax.jit(call)


def compiled(case: Case, num_classes: int | None) -> Callable[..., jax.Array]:
    """The case under jit, the same object every time so that tests share its compilations."""
    assert _BY_LABEL.setdefault(case.label, case) == case
    return _compiled(case.label, num_classes)


# One problem of each kind, and the one shape (rows, columns, classes) that the kind is padded to.
SHAPES: dict[str, tuple[int, int, int | None]] = {
    "tall": (48, 16, 6),
    "wide": (18, 30, 6),
    "regression": (48, 16, None),
}


@cache
def problem_of(kind: str) -> Problem:
    """The problem of this kind."""
    if kind == "tall":
        return blobs(36, 10, separation=1.0)
    if kind == "wide":
        return blobs(12, 24, classes=3, separation=1.0)
    return regression(36, 10, outputs=2)


def padded_arrays(
    problem: Problem, kind: str, weights: Array | None = None
) -> tuple[jax.Array, ...]:
    """What `compiled` takes, in the one shape of this kind: garbage rows, zero columns."""
    (x, y), (rows, width, _) = problem, SHAPES[kind]
    n, d = x.shape
    features = np.full((rows, width), np.nan)
    features[:n] = np.pad(x, ((0, 0), (0, width - d)))
    classes = y.dtype.kind == "i"
    targets = np.full((rows, *y.shape[1:]), -7 if classes else np.nan, y.dtype)
    targets[:n] = y
    w = np.zeros(rows)
    w[:n] = 1 if weights is None else weights
    dtype = jnp.result_type(float)
    return (
        jnp.asarray(features, dtype),
        jnp.asarray(targets, jnp.int32 if classes else dtype),
        jnp.asarray(w, dtype),
        jnp.asarray(d, jnp.int32),
    )


def padded(case: Case, problem: Problem, kind: str, weights: Array | None = None) -> float:
    """Score at the one shape that problems of this kind are compiled for."""
    return float(compiled(case, SHAPES[kind][2])(*padded_arrays(problem, kind, weights)))


@contextmanager
def counted_compilations() -> Iterator[list[str]]:
    """Names of the functions that the backend compiled inside the block."""
    names: list[str] = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
