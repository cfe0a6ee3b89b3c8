"""Problems, cases and counters shared by the test files."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import golden
from jaxte.metrics import REGISTRY

Array = NDArray[Any]
GOLDEN: dict[str, dict[str, Any]] = golden.values()
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
    case = golden.case(name)
    features, targets = case["features"], case["labels"]
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


def regression(n: int, d: int, *, outputs: int = 0, noise: float = 0.3) -> Problem:
    """Linear targets with noise, 1-D when ``outputs`` is 0."""
    rng = np.random.default_rng(0)
    features = 0.3 + rng.normal(size=(n, d)) * np.linspace(1.5, 0.2, d)
    targets = features @ rng.normal(size=(d, max(outputs, 1))) / np.sqrt(d)
    targets += noise * rng.normal(size=targets.shape)
    return Problem(features, targets if outputs else targets[:, 0])


def golden_arrays(name: str) -> tuple[tuple[jax.Array, ...], int | None]:
    """A stored set as arguments for jit, and C: in one of two shapes if it has classes."""
    problem = golden_set(name)
    rows, width, classes = golden.padded_shape(*problem)
    return padded_to((rows, width), problem), classes


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

    def does(self, kind: str) -> bool:
        """Whether it scores problems of this kind."""
        metric = REGISTRY[self.metric]
        if metric.needed(self.options) & {"logits", "probabilities"}:
            return kind == "source"
        task = "regression" if kind == "regression" else "classification"
        return kind != "source" and task in metric.tasks


# Options that take other routes than the variants do.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "face": [{"covariance": "diagonal"}, {"covariance": "full", "variance_floor": 1e-3}],
    "nleep": [{"start": "classes", "covariance": "spherical"}],
    "gbc": [{"covariance": "diagonal", "variant": "released"}, {"covariance": "full"}],
    "nc1": [{"weighting": "sample_weighted"}],
    "rankme": [{"centred": True}],
    "effective_rank": [{"measure": "participation_ratio"}],
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
_UNLABELLED = {
    "larger_for_better_features": "reads no targets, so that it cannot know what is better",
}
_DEALT = {
    "order_of_rows": "rows are dealt to the folds in their order",
    "weight_2_is_a_row_written_twice": "a row and its copy are dealt to two folds",
}
EXEMPT: dict[str, dict[str, str]] = {
    "linear_probe": _DEALT,
    "itm": {
        "order_of_rows": "rows are drawn for the validation part by their number",
        "weight_2_is_a_row_written_twice": "a row and its copy are drawn one by one",
        "larger_for_better_features": "an accuracy of ten rows, which soon is 1",
        "vmap_is_a_loop_and_a_failed_model_stays_alone": "accuracies of eight rows tie; "
        "tests/metrics/test_itm.py has a larger problem",
        "near_the_score_in_double_precision": "rounding grows in five hundred steps, until one row "
        "of eight is told otherwise",
    },
    "qda": _DEALT,
    "hscore_shrinkage": {
        "larger_for_better_features": "noise that is alike in all directions is shrunk to a "
        "multiple of I, a = 1, and then the score is 0 by its factor 1 - a: two copies tie",
    },
    "energy": _UNLABELLED,
    "tmi_variance": {
        "larger_for_better_features": "the distance between classes does not enter",
    },
    "rankme": _UNLABELLED,
    "effective_rank": _UNLABELLED,
    "stable_rank": _UNLABELLED,
    "alpha_req": _UNLABELLED,
    "parc": {"slopes_are_central_differences": "ranks of distances are steps"},
    "tmi": {
        "larger_for_better_features": "within its class a sample's neighbours stay where they are",
    },
}


_CONSTANT = {
    edge: "of features that do not vary it has no value" for edge in ("all-zero", "equal-rows")
}
_FEW = "too few directions or views for a value"
_ALONE = "no other row of its class"
_SPREADLESS = "no spread within classes to divide by"
_MEANLESS = "coinciding class means leave the between-class scatter without an inverse"
# Where it has no score: metric, or label of a case -> {name of one of `edges.EDGES`: why}.
UNDEFINED: dict[str, dict[str, str]] = {
    "logme-released": {
        "all-zero": "its fixed point has alpha = 0, of which it takes the logarithm"
    },
    "sfda": {
        edge: _SPREADLESS
        for edge in ("exact-collapse", "all-zero", "equal-rows", "every-row-its-class", "two-rows")
    }
    | {"equal-means": _MEANLESS},
    "face": {edge: _MEANLESS for edge in ("all-zero", "equal-rows", "equal-means")},
    **{metric: _CONSTANT for metric in ("rankme", "effective_rank", "stable_rank", "disco", "lfc")},
    "alpha_req": _CONSTANT
    | {
        edge: _FEW
        for edge in ("one-column-left", "rank-one", "equal-means", "two-rows", "one-column")
    },
    "lidar": _CONSTANT | {"equal-means": _MEANLESS, "every-row-its-class": _FEW, "two-rows": _FEW},
    **{metric: _CONSTANT | {"equal-means": _MEANLESS} for metric in ("vci", "cdnv", "nc1")},
    **{
        metric: {edge: _ALONE for edge in ("every-row-its-class", "two-rows")}
        for metric in ("tvt", "nearest_class_mean-True")
    },
    "tmi": {
        edge: "no class has more than three samples"
        for edge in ("d-far-above-n", "every-row-its-class", "two-rows")
    },
    "parc": {edge: "no two samples of one class" for edge in ("every-row-its-class", "two-rows")},
    "norm_entropy": {"one-column": "of one source class the entropy is 0 and ln Z too"},
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
    "source": (48, 16, 6),
}


@cache
def problem_of(kind: str) -> Problem:
    """The problem of this kind."""
    if kind == "tall":
        return blobs(36, 10, separation=1.0)
    if kind == "wide":
        return blobs(12, 24, classes=3, separation=1.0)
    if kind == "source":  # features that are probabilities of a source head
        logits, y = blobs(36, 10, separation=1.0)
        return Problem(as_kind(kind, np.exp(2 * logits)), y)
    return regression(36, 10, outputs=2)


def as_kind(kind: str, features: Array) -> Array:
    """Features as problems of this kind have them: probabilities sum to 1."""
    return features / features.sum(axis=1, keepdims=True) if kind == "source" else features


def padded_arrays(
    problem: Problem, kind: str, weights: Array | None = None
) -> tuple[jax.Array, ...]:
    """What `compiled` takes, in the one shape of this kind: garbage rows, zero columns."""
    return padded_to(SHAPES[kind][:2], problem, weights)


def padded_to(
    shape: tuple[int, int], problem: Problem, weights: Array | None = None
) -> tuple[jax.Array, ...]:
    """Features, targets, weights and true width, in rows and columns of this shape."""
    (x, y), (rows, width) = problem, shape
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
