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

from jaxte import perturb
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


# The pairs that run without `-m slow`: every kind of difficulty once, float32 where it hurts.
QUICK = {
    "float64": {
        *("breast_cancer_raw", "diabetes_regression", "synthetic_collapsed", "synthetic_offset"),
        *("synthetic_rank_deficient", "synthetic_wide", "wine_standardised"),
    },
    "float32": {"breast_cancer_raw", "diabetes_regression", "synthetic_offset", "synthetic_wide"},
}


def golden_pairs(names: Iterable[str], quick: Collection[str] = ()) -> list[Any]:
    """Parameters (name, dtype) for every set in both precisions; the rest are marked slow."""
    return [
        pytest.param(
            name,
            dtype,
            id=f"{name}-{dtype}",
            marks=()
            if name in QUICK[dtype] and name in (quick or QUICK[dtype])
            else pytest.mark.slow,
        )
        for name in names
        for dtype in QUICK
    ]


class Case(NamedTuple):
    """A registered kernel, its options, and maybe a perturbation before it."""

    metric: str
    options: Mapping[str, Any] = {}
    perturbation: str | None = None
    perturb_options: Mapping[str, Any] = {}

    @property
    def label(self) -> str:
        """Readable test id."""
        parts = [self.metric, *map(str, self.options.values())]
        if self.perturbation:
            parts += [self.perturbation, *map(str, self.perturb_options.values())]
        return "-".join(parts)

    @property
    def function(self) -> Callable[..., jax.Array]:
        """The kernel with its options bound."""
        function: Callable[..., jax.Array] = REGISTRY[self.metric].function
        if self.perturbation:
            move = getattr(perturb, self.perturbation)
            function = perturb.with_perturbation(function, move, **self.perturb_options)
        return partial(function, **self.options)

    def invariant(self, name: str) -> bool:
        """Whether the kernel claims this invariance, as it does for its default options only.

        Perturbations keep a rotation or a shift, but the force of a spread has a scale.
        """
        metric = REGISTRY[self.metric]
        default = all(v == metric.default_variant for v in self.options.values())
        return (
            default and name in metric.invariances and not (self.perturbation and name == "scale")
        )


PLAIN_CASES = [
    *(Case(name, {"variant": v}) for name in REGISTRY for v in REGISTRY[name].variants),
    *(Case(name) for name in REGISTRY if not REGISTRY[name].variants),
    Case("face", {"covariance": "diagonal"}),
    Case("face", {"covariance": "full", "variance_floor": 1e-3}),
]
PERTURBATIONS: list[tuple[str, dict[str, Any]]] = [
    ("spread", {}),
    ("attract", {"alpha": 0.05}),
    ("attract", {"alpha": 0.05, "variant": "released"}),
    ("pca", {"num_components": 5}),
    ("spread_attract", {"num_components": 5}),
    ("spread_attract", {"num_components": 5, "variant": "released", "gate": False}),
]
PERTURBED_CASES = [Case(name, {}, p, options) for name in REGISTRY for p, options in PERTURBATIONS]


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


def score(
    case: Case,
    problem: Problem,
    *,
    weights: Array | None = None,
    rows: int = 0,
    width: int = 0,
    classes: int | None = None,
) -> float:
    """Score under jit, padded to ``rows`` (garbage of weight 0) and ``width`` (zeros)."""
    x, y = problem
    n, d = x.shape
    extra, columns = max(rows - n, 0), max(width - d, 0)
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    x = np.concatenate([np.pad(x, ((0, 0), (0, columns))), np.full((extra, d + columns), np.nan)])
    filler = -7 if y.dtype.kind == "i" else np.nan
    y = np.concatenate([y, np.full((extra, *y.shape[1:]), filler, y.dtype)])
    w = np.concatenate([w, np.zeros(extra)])
    dtype = jnp.result_type(float)
    return float(
        compiled(case, classes or problem.num_classes)(
            jnp.asarray(x, dtype),
            jnp.asarray(y, jnp.int32 if y.dtype.kind == "i" else dtype),
            jnp.asarray(w, dtype),
            jnp.asarray(d, jnp.int32),
        )
    )


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


def padded(case: Case, problem: Problem, kind: str, weights: Array | None = None) -> float:
    """Score at the one shape that problems of this kind are compiled for."""
    rows, width, classes = SHAPES[kind]
    return score(case, problem, weights=weights, rows=rows, width=width, classes=classes)


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
