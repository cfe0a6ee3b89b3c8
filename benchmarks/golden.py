"""Every metric against the values that released implementations give: metric x case x variant.

One table, `LEAVES`, says which value of ``tests/golden/golden.json`` a call must give; the tests
run all of it, and ``python -m benchmarks golden`` prints the relative errors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import say

FOLDER = Path(__file__).parents[1] / "tests" / "golden"


class Leaf(NamedTuple):
    """One value that a metric must give on every case that has it.

    Attributes:
        metric: its name in the registry, or that of a function of `jaxte.metrics`.
        path: the keys of the value in golden.json, with dots.
        options: of the call.
        factor: the golden value is multiplied by it: -1 where published smaller is better, 0.01
            for percentages.
        output: which output of the metric, if not its score.
        source: whether the metric reads the probabilities of the source head.
    """

    metric: str
    path: str
    options: Mapping[str, Any] = {}
    factor: float = 1.0
    output: str = "score"
    source: bool = False


LEAVES: tuple[Leaf, ...] = (
    # --- LogME, SFDA, FaCe ---
    Leaf("sfda", "sfda"),
    Leaf("face", "face.spherical.sum_C_F"),
    Leaf("face", "face.diagonal.sum_C_F", {"covariance": "diagonal"}),
    # --- source outputs ---
    # --- mixtures and probes ---
    # --- discriminants ---
    Leaf("hscore", "hscore"),
    # --- separability ---
    # --- pairs of rows ---
    *(Leaf("knn", f"knn.plain_loo_accuracy_k{k}", {"k": k}) for k in (1, 3, 5)),
    Leaf("parc", "parc.n_dims_none_exact_ties", {"num_components": None}),
    Leaf("parc", "parc.n_dims_32_exact_pca_exact_ties"),
    Leaf("knn", "knn.transformer_ranker_k3_pearson_col0", {"k": 3, "measure": "pearson"}),
    # --- perturbation ---
    # --- label-free ---
)


class Check(NamedTuple):
    """A leaf on one case: what is expected, and what jaxte gives."""

    leaf: Leaf
    case: str
    expected: float

    def score(self, dtype: str = "float64") -> float:
        """What jaxte gives; 64-bit types have to be enabled for float64."""
        from jaxte import metrics

        data = case(self.case)
        x, y = data["features"].astype(dtype), data["labels"]
        options = dict(self.leaf.options)
        if self.leaf.source:
            options["probabilities"] = data["source_probs"].astype(dtype)
        if self.leaf.output == "score":
            return float(getattr(metrics, self.leaf.metric)(x, y, **options))
        outputs = metrics.REGISTRY[self.leaf.metric].outputs(x, y, None, None, None, **options)
        return float(outputs[self.leaf.output])


@cache
def values() -> dict[str, Any]:
    """All golden values, by case."""
    return dict(json.loads((FOLDER / "golden.json").read_text()))


@cache
def case(name: str) -> Mapping[str, NDArray[Any]]:
    """Features, labels and, of some cases, probabilities of a source head."""
    with np.load(FOLDER / f"{name}.npz") as data:
        return dict(data)


def checks() -> Iterator[Check]:
    """Every leaf on every case that has its value; a value that is an error is none."""
    for leaf in LEAVES:
        for name, value in values().items():
            for key in leaf.path.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, int | float):
                yield Check(leaf, name, leaf.factor * value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", metavar="FILE", help="also write the table, as CSV")


def run(given: argparse.Namespace) -> int:
    """Print, and write, the relative error of every value in both precisions."""
    import jax

    lines = ["metric,options,golden value,case,expected,error float64,error float32"]
    for check in checks():
        errors = []
        for dtype in ("float64", "float32"):
            with jax.enable_x64(dtype == "float64"):
                gap = abs(check.score(dtype) - check.expected)
            errors.append(f"{gap / max(abs(check.expected), 1e-12):.1e}")
        options = " ".join(f"{name}={value}" for name, value in check.leaf.options.items())
        about = (check.leaf.metric, options, check.leaf.path, check.case)
        lines.append(",".join([*about, f"{check.expected:.10g}", *errors]))
        say(lines[-1])
    if given.out:
        Path(given.out).write_text("\n".join(lines) + "\n")
    return 0
